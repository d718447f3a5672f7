//! The log's directory on a real disk.
//!
//! Invariant: a directory is synced by its own handle; a rename alone proves nothing. The handle is
//! open before a name is changed, so that no sync is refused for want of one.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Access, LockOutcome, Storage, StorageFile, StoredFile};

const INDEX_DIR: &str = "index";

/// Files of one directory.
#[derive(Debug, Clone)]
pub struct FileStorage {
    dir: PathBuf,
    /// The directory itself, open from [`Storage::create_dirs`] on. What a sync would have to open
    /// first could be refused where too many files are open, and nobody could tell that from a sync
    /// that failed.
    opened: Arc<Mutex<Option<Arc<File>>>>,
}

impl FileStorage {
    /// Files of `dir`, which need not exist yet.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            opened: Arc::default(),
        }
    }

    fn opened(&self) -> MutexGuard<'_, Option<Arc<File>>> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn list_dir(dir: &Path, prefix: &str, files: &mut Vec<StoredFile>) -> io::Result<()> {
        let entries = match fs::read_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            let metadata = match entry.metadata() {
                // Another process removed it since the directory was read.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                metadata => metadata?,
            };
            // A name that is not text is not ours.
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            if metadata.is_file() {
                files.push(StoredFile {
                    name: format!("{prefix}{name}"),
                    bytes: metadata.len(),
                });
            }
        }
        Ok(())
    }
}

impl Storage for FileStorage {
    fn create_dirs(&self) -> io::Result<()> {
        fs::create_dir_all(self.dir.join(INDEX_DIR))?;
        // In any case: what was open before may be a directory that is gone.
        *self.opened() = Some(Arc::new(File::open(&self.dir)?));
        self.sync_dir()?;
        match self
            .dir
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty())
        {
            Some(parent) => File::open(parent)?.sync_all(),
            None => Ok(()),
        }
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn StorageFile>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true);
        Ok(Arc::new(options.open(self.dir.join(name))?))
    }

    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn StorageFile>> {
        let mut options = OpenOptions::new();
        options.read(true).write(access == Access::Write);
        Ok(Arc::new(options.open(self.dir.join(name))?))
    }

    fn list(&self) -> io::Result<Vec<StoredFile>> {
        let mut files = Vec::new();
        Self::list_dir(&self.dir, "", &mut files)?;
        Self::list_dir(&self.dir.join(INDEX_DIR), "index/", &mut files)?;
        Ok(files)
    }

    #[allow(clippy::disallowed_methods, reason = "callers follow it with sync_dir")]
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.dir.join(from), self.dir.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.dir.join(name))
    }

    fn sync_dir(&self) -> io::Result<()> {
        let opened = self.opened().clone();
        let directory = match opened {
            Some(directory) => directory,
            // Nobody made it by this storage: whoever copies a log into a directory of its own.
            None => Arc::new(File::open(&self.dir)?),
        };
        directory.sync_all()
    }

    fn lock(&self, name: &str, holder: &str) -> io::Result<LockOutcome> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(self.dir.join(name))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // What it says is a courtesy; that it is held is the answer.
                let _ = Read::by_ref(&mut file).take(64).read_to_string(&mut holder);
                return Ok(LockOutcome::Held { holder });
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(holder.as_bytes())?;
        Ok(LockOutcome::Acquired(Box::new(file)))
    }
}

impl StorageFile for File {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut read = 0;
        while read < bytes.len() {
            match std::os::unix::fs::FileExt::read_at(
                self,
                &mut bytes[read..],
                offset + read as u64,
            ) {
                Ok(0) => break,
                Ok(count) => read += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(read)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        Self::sync_data(self)
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.set_len(bytes)
    }

    fn bytes(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each sync of the directory opened it. Where too many files were open that was refused, was
    /// taken for a sync that failed, and the log took nothing more until it was reopened.
    #[test]
    #[allow(clippy::disallowed_methods, reason = "nothing is to outlast the test")]
    fn a_directory_is_synced_without_being_opened_again() {
        let dir = tempfile::tempdir().unwrap();
        let here = dir.path().join("log");
        let storage = FileStorage::new(&here);
        storage.create_dirs().unwrap();
        // From here on it cannot be opened by its name.
        fs::rename(&here, dir.path().join("elsewhere")).unwrap();
        assert!(File::open(&here).is_err());
        storage.sync_dir().unwrap();
    }
}
