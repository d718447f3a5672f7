//! Putting what was brought back in its place: in one step, or not at all.
//!
//! Invariant: until all is there and durable it stands below a name that no command takes for data.
//! What is in the way is never replaced.

use std::fs;
use std::io;
use std::path::Path;

use stemma_content_store::Options as ContentOptions;
use stemma_domain::value::TenantName;

use crate::Tell;
use crate::backup::TenantTold;
use crate::directory::{lock_file, make_dirs, rename, sync_dir};
use crate::error::RestoreError;
use crate::log_restore::{self, at};
use crate::manifest::{FileCopy, Manifest, TenantCopy};
use crate::names::RESTORING;
use crate::restore::{self, Bringing, Restored};
use crate::target::{LockOutcome, Target};

/// In there: what is complete is being put in its place.
const PLACING: &str = "placing";
/// What the directory of a tenant is called before it is complete.
const IMPORTING: &str = ".importing-";
/// The lock of a directory; for a tenant it is the one that it has later on.
const LOCK: &str = "lock";
/// What may stand in a directory that is restored into.
const NO_DATA: [&str; 3] = [RESTORING, "stemma.toml", "lost+found"];

/// Whether a restore into a data directory was broken off, or is under way.
pub fn is_half_restored(dir: &Path) -> bool {
    dir.join(RESTORING).is_dir() && !dir.join("tenants").exists()
}

/// Restores a data directory: all tenants of the backup, and its tokens.
///
/// # Errors
/// [`RestoreError`]; nothing is there then that would be taken for data.
pub fn restore_all(
    target: &dyn Target,
    dir: &Path,
    content: &ContentOptions,
    tell: Tell<'_>,
) -> Result<Restored, RestoreError> {
    let manifest = restore::manifest(target)?;
    make_dirs(dir).map_err(at("make", dir))?;
    let staging = dir.join(RESTORING);
    let was_begun = staging.is_dir();
    is_empty(dir, was_begun)?;
    let _lock = begin(&staging)?;
    // The tokens are put in place before the tenants: they are of what was broken off.
    if was_begun && staging.join(PLACING).exists() {
        remove(&dir.join("access"))?;
    }
    is_empty(dir, false)?;
    clear(&staging)?;
    let files = manifest.body.files();
    let mut bringing = Bringing::of(&files, target, content, tell);
    let restored = bring_all(&manifest, &staging, &mut bringing);
    let placed = restored.and_then(|restored| {
        place_all(dir, &staging)?;
        Ok(restored)
    });
    if placed.is_err() && !staging.join(PLACING).exists() {
        // What cannot be removed means nothing to anybody.
        let _ = fs::remove_dir_all(&staging);
    }
    placed
}

/// Whether there is nothing in a directory that a restore would be in the way of.
fn is_empty(dir: &Path, may_have_tokens: bool) -> Result<(), RestoreError> {
    for entry in fs::read_dir(dir).map_err(at("read", dir))? {
        let name = entry.map_err(at("read", dir))?.file_name();
        let is_left = may_have_tokens && name == "access" && is_half_restored(dir);
        if !is_left && !NO_DATA.iter().any(|other| name == *other) {
            return Err(RestoreError::NotEmpty {
                place: dir.display().to_string(),
            });
        }
    }
    Ok(())
}

fn bring_all(
    manifest: &Manifest,
    staging: &Path,
    bringing: &mut Bringing<'_>,
) -> Result<Restored, RestoreError> {
    if let Some(log) = &manifest.body.access {
        let access = staging.join("access");
        log_restore::bring(log, &access, bringing, &mut |_| {})?;
    }
    let tenants = staging.join("tenants");
    make_dirs(&tenants).map_err(at("make", &tenants))?;
    for copy in &manifest.body.tenants {
        restore::tenant(copy, &tenants.join(&copy.name), bringing)?;
    }
    sync_dir(&tenants).map_err(at("sync", &tenants))?;
    sync_dir(staging).map_err(at("sync", staging))?;
    Ok(Restored {
        made_at: manifest.body.made_at.clone(),
        tenants: manifest.body.tenants.iter().map(TenantTold::of).collect(),
        bytes: bringing.done_bytes,
    })
}

fn place_all(dir: &Path, staging: &Path) -> Result<(), RestoreError> {
    let placing = staging.join(PLACING);
    let marked = fs::File::create(&placing).and_then(|file| file.sync_all());
    let marked = marked.and_then(|()| sync_dir(staging));
    marked.map_err(at("write", &placing))?;
    for name in ["access", "tenants"] {
        let (from, to) = (staging.join(name), dir.join(name));
        if from.exists() {
            rename(&from, &to).map_err(at("make", &to))?;
        }
    }
    // From here on it is data.
    remove(staging)?;
    sync_dir(dir).map_err(at("sync", dir))
}

/// Restores one tenant beside others, also while a server serves them: the only one of the backup,
/// the one that it calls `from`, or else `name`; under `name`, or else the name that it had.
///
/// # Errors
/// [`RestoreError`]; there is no such tenant then.
pub fn restore_tenant(
    target: &dyn Target,
    tenants: &Path,
    from: Option<&TenantName>,
    name: Option<&TenantName>,
    content: &ContentOptions,
    tell: Tell<'_>,
) -> Result<Restored, RestoreError> {
    let manifest = restore::manifest(target)?;
    let copy = choose(&manifest, from, name)?;
    let name = name.map_or(copy.name.as_str(), TenantName::as_str);
    make_dirs(tenants).map_err(at("make", tenants))?;
    let place = tenants.join(name);
    must_not_exist(&place, name)?;
    let staging = tenants.join(format!("{IMPORTING}{name}"));
    let _lock = begin(&staging)?;
    clear(&staging)?;
    let files: Vec<&FileCopy> = copy.files();
    let mut bringing = Bringing::of(&files, target, content, tell);
    let placed = restore::tenant(copy, &staging, &mut bringing).and_then(|()| {
        must_not_exist(&place, name)?;
        rename(&staging, &place).map_err(at("make", &place))
    });
    if let Err(error) = placed {
        // What cannot be removed means nothing to anybody.
        let _ = fs::remove_dir_all(&staging);
        return Err(error);
    }
    let mut told = TenantTold::of(copy);
    name.clone_into(&mut told.name);
    Ok(Restored {
        made_at: manifest.body.made_at.clone(),
        tenants: vec![told],
        bytes: bringing.done_bytes,
    })
}

/// The tenant of a backup that is meant.
fn choose<'a>(
    manifest: &'a Manifest,
    from: Option<&TenantName>,
    name: Option<&TenantName>,
) -> Result<&'a TenantCopy, RestoreError> {
    let all = manifest.body.tenants.as_slice();
    let names = || {
        let names: Vec<&str> = all.iter().map(|tenant| tenant.name.as_str()).collect();
        names.join(", ")
    };
    match (from, all) {
        (Some(from), _) => {
            let found = manifest.tenant(from.as_str());
            found.ok_or_else(|| RestoreError::NotInBackup {
                name: from.to_string(),
                names: names(),
            })
        }
        (None, [only]) => Ok(only),
        (None, _) => name
            .and_then(|name| manifest.tenant(name.as_str()))
            .ok_or_else(|| RestoreError::Ambiguous { names: names() }),
    }
}

fn must_not_exist(place: &Path, name: &str) -> Result<(), RestoreError> {
    if fs::symlink_metadata(place).is_ok() {
        let name = name.to_owned();
        return Err(RestoreError::Exists { name });
    }
    Ok(())
}

/// Makes a directory to restore in, or takes over one that was left behind.
fn begin(staging: &Path) -> Result<Box<dyn Send + Sync>, RestoreError> {
    make_dirs(staging).map_err(at("make", staging))?;
    let lock = staging.join(LOCK);
    match lock_file(&lock).map_err(at("lock", &lock))? {
        LockOutcome::Acquired(guard) => Ok(guard),
        LockOutcome::Held { holder } => Err(RestoreError::Locked {
            place: staging.display().to_string(),
            holder,
        }),
    }
}

/// Removes what a restore left that was broken off; the lock stays.
fn clear(staging: &Path) -> Result<(), RestoreError> {
    for entry in fs::read_dir(staging).map_err(at("read", staging))? {
        let entry = entry.map_err(at("read", staging))?;
        if entry.file_name() != LOCK {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

/// Removes a file or a directory with all below it; none need be there.
fn remove(path: &Path) -> Result<(), RestoreError> {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at("remove", path)(error)),
        _ => Ok(()),
    }
}
