//! Which tenants there are, as their directories say: made, listed, marked and deleted.
//!
//! Invariant: what was done is on disk when it is told, and a tenant that is gone is gone whole: its
//! directory gets a name that no tenant can have before the first of its files is removed.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use stemma_api::TenantError;
use stemma_domain::value::TenantName;

/// Marks a tenant that may have work that goes on without anybody asking.
pub(crate) const UNFINISHED: &str = "unfinished";
/// Marks a tenant that is to be deleted once nobody uses it.
const LEAVING: &str = "leaving";
/// What the directory of a tenant that is gone is called: no tenant can be called so.
const DELETED: &str = ".deleted-";
/// Most directories of tenants of one name that are gone and not removed yet.
const DELETED_MAX: usize = 10_000;

fn failed(error: &io::Error) -> TenantError {
    TenantError::Failed(error.to_string())
}

/// The tenants whose directories are in one, by name; not those that are to be deleted.
pub(crate) fn names(dir: &Path) -> io::Result<Vec<TenantName>> {
    let mut names = all(dir)?;
    names.retain(|name| !is_leaving(&dir.join(name.as_str())));
    Ok(names)
}

fn all(dir: &Path) -> io::Result<Vec<TenantName>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            let name = entry.file_name();
            names.extend(name.to_str().and_then(|name| TenantName::new(name).ok()));
        }
    }
    names.sort();
    Ok(names)
}

/// Whether there is a tenant that is not to be deleted.
pub(crate) fn is_there(dir: &Path, name: &TenantName) -> bool {
    let place = dir.join(name.as_str());
    place.is_dir() && !is_leaving(&place)
}

/// Makes the directory of a tenant.
pub(crate) fn create(dir: &Path, name: &TenantName) -> Result<(), TenantError> {
    crate::wiring::make_durably(dir).map_err(|error| failed(&error))?;
    let place = dir.join(name.as_str());
    match std::fs::create_dir(&place) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(if is_leaving(&place) {
            TenantError::Leaving
        } else {
            TenantError::Exists
        }),
        Err(error) => Err(failed(&error)),
        Ok(()) => sync_dir(dir).map_err(|error| failed(&error)),
    }
}

/// Deletes a tenant that is not open: it is gone at once. What is [left](gone) of it is to be
/// removed from where this says that it is.
pub(crate) fn delete(dir: &Path, name: &TenantName) -> Result<PathBuf, TenantError> {
    let place = dir.join(name.as_str());
    for count in 0..DELETED_MAX {
        let gone = dir.join(format!("{DELETED}{name}-{count}"));
        // An empty directory gives way to another; one that is made here is nobody else's.
        match std::fs::create_dir(&gone) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => continue,
            made => made.map_err(|error| failed(&error))?,
        }
        if let Err(error) = rename(&place, &gone) {
            // It holds nothing.
            let _ = std::fs::remove_dir(&gone);
            return Err(match error.kind() {
                ErrorKind::NotFound => TenantError::NotFound,
                _ => failed(&error),
            });
        }
        sync_dir(dir).map_err(|error| failed(&error))?;
        return Ok(gone);
    }
    let why = format!("{DELETED_MAX} tenants of this name are deleted and not removed yet");
    Err(TenantError::Failed(why))
}

/// The directories of all tenants that are gone and of which something is left.
pub(crate) fn gone(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(dir) {
        // There never was a tenant.
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let paths = entries.map(|entry| entry.map(|entry| entry.path()));
    let is_gone =
        |path: &io::Result<PathBuf>| path.as_ref().map_or(true, |path| of_gone(path).is_some());
    paths.filter(is_gone).collect()
}

/// The tenant whose directory this was, of one that is gone.
pub(crate) fn of_gone(place: &Path) -> Option<TenantName> {
    let name = place.file_name()?.to_str()?.strip_prefix(DELETED)?;
    let (name, _) = name.rsplit_once('-')?;
    TenantName::new(name).ok()
}

/// Marks a tenant as one that may have work left.
pub(crate) fn mark_unfinished(place: &Path) -> io::Result<()> {
    mark(place, UNFINISHED)
}

/// Takes that mark away, if there is one.
pub(crate) fn unmark_unfinished(place: &Path) -> io::Result<()> {
    match std::fs::remove_file(place.join(UNFINISHED)) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => sync_dir(place),
    }
}

/// The tenants that may have work left.
pub(crate) fn unfinished(dir: &Path) -> io::Result<Vec<TenantName>> {
    let mut names = names(dir)?;
    names.retain(|name| dir.join(name.as_str()).join(UNFINISHED).is_file());
    Ok(names)
}

/// Marks a tenant as one to be deleted.
pub(crate) fn mark_leaving(place: &Path) -> io::Result<()> {
    mark(place, LEAVING)
}

/// Whether a tenant is to be deleted.
pub(crate) fn is_leaving(place: &Path) -> bool {
    place.join(LEAVING).exists()
}

/// The tenants that are to be deleted.
pub(crate) fn leaving(dir: &Path) -> io::Result<Vec<TenantName>> {
    let mut names = all(dir)?;
    names.retain(|name| is_leaving(&dir.join(name.as_str())));
    Ok(names)
}

fn mark(place: &Path, name: &str) -> io::Result<()> {
    File::create(place.join(name))?.sync_all()?;
    sync_dir(place)
}

#[allow(clippy::disallowed_methods)] // the directory above is synced behind it
fn rename(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::rename(from, to)
}

pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn north() -> TenantName {
        TenantName::new("north").unwrap()
    }

    /// The second one failed when the files of the first were still there.
    #[test]
    fn tenants_of_one_name_are_deleted_one_behind_another_before_any_file_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let mut gone = Vec::new();
        for _ in 0..3 {
            create(dir.path(), &north()).unwrap();
            mark_unfinished(&dir.path().join("north")).unwrap();
            gone.push(delete(dir.path(), &north()).unwrap());
        }
        let again = delete(dir.path(), &north());
        assert_eq!(again, Err(TenantError::NotFound));
        assert!(gone.iter().all(|place| place.join(UNFINISHED).is_file()));
        assert!(crate::gone::remove_all(dir.path(), None, &|| true));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_tenant_that_is_to_be_deleted_is_not_there_and_keeps_its_name() {
        let dir = tempfile::tempdir().unwrap();
        create(dir.path(), &north()).unwrap();
        assert_eq!(create(dir.path(), &north()), Err(TenantError::Exists));
        mark_leaving(&dir.path().join("north")).unwrap();
        assert!(!is_there(dir.path(), &north()));
        assert_eq!(names(dir.path()).unwrap(), []);
        assert_eq!(leaving(dir.path()).unwrap(), [north()]);
        assert_eq!(create(dir.path(), &north()), Err(TenantError::Leaving));
    }

    #[test]
    fn a_mark_may_be_taken_away_twice() {
        let dir = tempfile::tempdir().unwrap();
        create(dir.path(), &north()).unwrap();
        let place = dir.path().join("north");
        mark_unfinished(&place).unwrap();
        assert_eq!(unfinished(dir.path()).unwrap(), [north()]);
        unmark_unfinished(&place).unwrap();
        unmark_unfinished(&place).unwrap();
        assert_eq!(unfinished(dir.path()).unwrap(), []);
    }
}
