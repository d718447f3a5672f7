//! A target in a directory.
//!
//! Invariant: a file is written beside its name, synced, renamed, and its directory synced. Only its
//! owner may read it.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, BufWriter, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::manifest::{MANIFEST, MANIFEST_BYTES_MAX, is_of_others};
use crate::names::{DIRS, UNFINISHED, is_of_backup, is_of_system};
use crate::target::{Draft, LockOutcome, Seen, Target};

/// The file whose lock is the right to write.
const LOCK: &str = "lock";
/// Bytes that are gathered before they are written.
const BUFFER_BYTES: usize = 1 << 18;

/// A target in a directory.
#[derive(Debug, Clone)]
pub struct DirectoryTarget {
    dir: PathBuf,
}

impl DirectoryTarget {
    /// The target in a directory, which is made when it is first written to.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Whether there is a backup, or what one has become: its manifest stands beside its files, or is
    /// at least no other program's.
    fn has_backup(&self) -> io::Result<bool> {
        if self.bytes(MANIFEST)?.is_none() {
            return Ok(false);
        }
        if DIRS.iter().any(|dir| self.path(dir).is_dir()) {
            return Ok(true);
        }
        let mut bytes = Vec::new();
        let mut manifest = self.open(MANIFEST)?.take(MANIFEST_BYTES_MAX);
        manifest.read_to_end(&mut bytes)?;
        Ok(!is_of_others(&bytes))
    }

    /// Whether a name at the top is what a backup that was broken off left, or the system has.
    fn is_free_of(&self, name: &str) -> bool {
        if DIRS.contains(&name) {
            return self.path(name).is_dir();
        }
        let is_draft = name.strip_suffix(UNFINISHED) == Some(MANIFEST);
        is_of_system(name) || ((name == LOCK || is_draft) && self.path(name).is_file())
    }
}

/// Makes a directory and those above it, durably.
pub(crate) fn make_dirs(dir: &Path) -> io::Result<()> {
    if dir.as_os_str().is_empty() || dir.is_dir() {
        return Ok(());
    }
    let parent = dir.parent().unwrap_or(dir);
    make_dirs(parent)?;
    match DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    sync_dir(parent)
}

/// Makes the names in a directory durable.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    let here = Path::new(".");
    File::open(if dir.as_os_str().is_empty() {
        here
    } else {
        dir
    })?
    .sync_all()
}

/// Renames, durably where both names are in directories that stay.
#[allow(clippy::disallowed_methods)] // the one home of renames in backups
pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    to.parent().map_or(Ok(()), sync_dir)
}

/// Takes the lock on a file, which is made when it is not there.
pub(crate) fn lock_file(path: &Path) -> io::Result<LockOutcome> {
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true).create(true).truncate(false);
    let mut file = options.mode(0o600).open(path)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // What it says is a courtesy; that it is held is the answer.
            let _ = Read::by_ref(&mut file).take(64).read_to_string(&mut holder);
            let holder = holder.trim().to_owned();
            return Ok(LockOutcome::Held { holder });
        }
        Err(TryLockError::Error(error)) => return Err(error),
    }
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())?;
    Ok(LockOutcome::Acquired(Box::new(file)))
}

impl Target for DirectoryTarget {
    fn told(&self) -> String {
        self.dir.display().to_string()
    }

    fn of_others(&self) -> io::Result<Option<String>> {
        if self.has_backup()? {
            return Ok(None);
        }
        let entries = match fs::read_dir(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            entries => entries?,
        };
        let mut names = Vec::new();
        for entry in entries {
            // A name that is not text is not ours.
            let name = entry?.file_name().to_string_lossy().into_owned();
            if !self.is_free_of(&name) {
                names.push(name);
            }
        }
        for dir in DIRS.iter().filter(|dir| self.path(dir).is_dir()) {
            let below = self.list(dir)?.into_iter();
            names.extend(below.filter(|name| !is_of_backup(name)));
        }
        Ok(names.into_iter().min())
    }

    fn lock(&self) -> io::Result<LockOutcome> {
        make_dirs(&self.dir)?;
        lock_file(&self.path(LOCK))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(File::open(self.path(name))?))
    }

    fn bytes(&self, name: &str) -> io::Result<Option<u64>> {
        match fs::metadata(self.path(name)) {
            Ok(found) => Ok(found.is_file().then_some(found.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn begin(&self, name: &str) -> io::Result<Box<dyn Draft>> {
        let path = self.path(name);
        make_dirs(path.parent().unwrap_or(&self.dir))?;
        let draft = self.path(&format!("{name}{UNFINISHED}"));
        let mut options = OpenOptions::new();
        let options = options.write(true).create(true).truncate(true);
        let file = options.mode(0o600).open(&draft)?;
        Ok(Box::new(DirectoryDraft {
            file: BufWriter::with_capacity(BUFFER_BYTES, file),
            draft,
            path,
        }))
    }

    // The kernel's lock is lost with its process alone: nobody else can have written.
    fn seen(&self, _: &str) -> io::Result<Seen> {
        Ok(Seen::default())
    }

    fn replace(&self, name: &str, _: &Seen) -> io::Result<Box<dyn Draft>> {
        self.begin(name)
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        let mut dirs = vec![dir.to_owned()];
        while let Some(dir) = dirs.pop() {
            let found = match fs::read_dir(self.path(&dir)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                found => found?,
            };
            for entry in found {
                let entry = entry?;
                // A name that is not text is not ours.
                let Ok(name) = entry.file_name().into_string() else {
                    continue;
                };
                let name = format!("{dir}/{name}");
                if entry.file_type()?.is_dir() {
                    dirs.push(name);
                } else {
                    names.push(name);
                }
            }
        }
        Ok(names)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.path(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // The directories that it leaves empty; one that is not empty stays.
        let mut parent = Path::new(name).parent();
        while let Some(dir) = parent.filter(|dir| !dir.as_os_str().is_empty()) {
            if fs::remove_dir(self.dir.join(dir)).is_err() {
                break;
            }
            parent = dir.parent();
        }
        Ok(())
    }
}

struct DirectoryDraft {
    file: BufWriter<File>,
    draft: PathBuf,
    path: PathBuf,
}

impl Write for DirectoryDraft {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Draft for DirectoryDraft {
    fn finish(mut self: Box<Self>) -> io::Result<()> {
        self.file.flush()?;
        self.file.get_ref().sync_all()?;
        rename(&self.draft, &self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_its_name_once_it_is_finished_and_not_before() {
        let dir = tempfile::tempdir().unwrap();
        let target = DirectoryTarget::new(dir.path().join("new/target"));
        let mut draft = target.begin("a/b/c.part").unwrap();
        draft.write_all(b"Tycho").unwrap();
        assert_eq!(target.bytes("a/b/c.part").unwrap(), None);
        draft.finish().unwrap();
        assert_eq!(target.bytes("a/b/c.part").unwrap(), Some(5));
        let mut text = String::new();
        target
            .open("a/b/c.part")
            .unwrap()
            .read_to_string(&mut text)
            .unwrap();
        assert_eq!(text, "Tycho");
    }

    #[test]
    fn what_is_left_unfinished_is_listed_and_goes_with_its_directories() {
        let dir = tempfile::tempdir().unwrap();
        let target = DirectoryTarget::new(dir.path());
        drop(target.begin("a/b/c.part").unwrap());
        assert_eq!(target.list("a").unwrap(), ["a/b/c.part.new"]);
        target.remove("a/b/c.part.new").unwrap();
        assert!(!dir.path().join("a").exists());
        assert!(target.list("a").unwrap().is_empty());
    }

    #[test]
    fn what_others_have_in_a_directory_is_told_before_anything_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let target = DirectoryTarget::new(dir.path().join("target"));
        assert_eq!(target.of_others().unwrap(), None);
        assert!(!target.path("").exists());
        let path = |name: &str| target.path(name);
        fs::create_dir(path("")).unwrap();
        fs::create_dir(path("lost+found")).unwrap();
        fs::write(path(".DS_Store"), "of a desktop").unwrap();
        // What a first backup leaves that is killed.
        drop(target.lock().unwrap());
        let id = "00112233445566778899aabbccddeeff";
        drop(target.begin(&format!("tenants/default/{id}/0000000001.blobs")));
        drop(target.begin(MANIFEST).unwrap());
        assert_eq!(target.of_others().unwrap(), None);
        for name in ["tenants/notes.txt", "report.pdf", "photos/", "access"] {
            match name.strip_suffix('/') {
                Some(name) => fs::create_dir(path(name)).unwrap(),
                None => fs::write(path(name), "of others").unwrap(),
            }
            let found = target.of_others().unwrap();
            assert_eq!(found.as_deref(), name.strip_suffix('/').or(Some(name)));
            let _ = fs::remove_file(path(name)).or_else(|_| fs::remove_dir(path(name)));
        }
        // Beside a backup others may have theirs, whatever has become of it.
        fs::write(path("report.pdf"), "of others").unwrap();
        for manifest in ["{}", "{\"format\": 1", ""] {
            fs::write(path(MANIFEST), manifest).unwrap();
            assert_eq!(target.of_others().unwrap(), None, "{manifest}");
        }
    }

    #[test]
    fn another_programs_manifest_is_none_of_a_backup() {
        let dir = tempfile::tempdir().unwrap();
        let target = DirectoryTarget::new(dir.path());
        for (manifest, expected) in [
            ("{\"name\": \"an application\"}", Some(MANIFEST)),
            ("{\"format\": 2, \"parts\": []}", None),
            ("{\"format\": 1, \"digest\": \"blake3:", None),
            ("", None),
        ] {
            fs::write(target.path(MANIFEST), manifest).unwrap();
            let found = target.of_others().unwrap();
            assert_eq!(found.as_deref(), expected, "{manifest}");
        }
    }

    #[test]
    fn one_writes_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let target = DirectoryTarget::new(dir.path());
        let held = target.lock().unwrap();
        assert!(matches!(held, LockOutcome::Acquired(_)));
        let LockOutcome::Held { holder } = target.lock().unwrap() else {
            panic!("two hold it");
        };
        assert_eq!(holder, std::process::id().to_string());
    }
}
