//! The disk as the log and as the content store see it.
//!
//! Invariant: `log/` and `content/` are all there is, on one disk.

use std::io;
use std::sync::Arc;

use stemma_content_store as content;
use stemma_event_log as log;

use crate::disk::{Disk, SimulatedFile};

/// The log's directory.
pub(crate) struct LogStorage(pub(crate) Disk);

/// The content store's directory.
pub(crate) struct ContentStorage(pub(crate) Disk);

fn in_log(name: &str) -> String {
    format!("log/{name}")
}

fn in_content(name: &str) -> String {
    if name.is_empty() {
        "content".into()
    } else {
        format!("content/{name}")
    }
}

impl log::Storage for LogStorage {
    fn create_dirs(&self) -> io::Result<()> {
        self.0.make_dir("log/index")
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn log::StorageFile>> {
        Ok(Arc::new(self.0.create(&in_log(name))?))
    }

    fn open(&self, name: &str, _access: log::Access) -> io::Result<Arc<dyn log::StorageFile>> {
        Ok(Arc::new(self.0.open(&in_log(name))?))
    }

    fn list(&self) -> io::Result<Vec<log::StoredFile>> {
        let listed = self.0.list("log")?.into_iter();
        Ok(listed
            .map(|(name, bytes)| log::StoredFile { name, bytes })
            .collect())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.0.rename(&in_log(from), &in_log(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.remove(&in_log(name))
    }

    fn sync_dir(&self) -> io::Result<()> {
        // As on a real disk, nothing is opened for it, since the directory is open all the time; and
        // what is in `index/` is not made durable by it.
        self.0.sync_dir("log")
    }

    fn lock(&self, _name: &str, _holder: &str) -> io::Result<log::LockOutcome> {
        Ok(log::LockOutcome::Acquired(Box::new(())))
    }
}

impl log::StorageFile for SimulatedFile {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        self.read(bytes, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write(bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.sync()
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.set_len(bytes)
    }

    fn bytes(&self) -> io::Result<u64> {
        self.len()
    }
}

impl content::Storage for ContentStorage {
    fn lock(&self) -> io::Result<Box<dyn Send + Sync>> {
        Ok(Box::new(()))
    }

    fn make_dir(&self, dir: &str) -> io::Result<()> {
        self.0.make_dir(&in_content(dir))
    }

    fn list(&self, dir: &str) -> io::Result<Vec<content::Listed>> {
        let listed = self.0.list(&in_content(dir))?.into_iter();
        let here = listed.filter(|(name, _)| !name.contains('/'));
        Ok(here
            .map(|(name, bytes)| content::Listed { name, bytes })
            .collect())
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn content::StorageFile>> {
        Ok(Arc::new(self.0.open(&in_content(name))?))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn content::StorageFile>> {
        if self.0.has(&in_content(name)) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        Ok(Arc::new(self.0.create(&in_content(name))?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.0.rename(&in_content(from), &in_content(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.remove(&in_content(name))
    }

    fn open_dir(&self, dir: &str) -> io::Result<Box<dyn content::Directory>> {
        let name = in_content(dir);
        self.0.open_dir(&name)?;
        let disk = self.0.clone();
        Ok(Box::new(ContentDirectory { disk, name }))
    }
}

/// A directory of the content store's that is open.
struct ContentDirectory {
    disk: Disk,
    name: String,
}

impl content::Directory for ContentDirectory {
    fn sync(&self) -> io::Result<()> {
        self.disk.sync_dir(&self.name)
    }
}

impl content::StorageFile for SimulatedFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.read(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        Self::sync(self)
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        Self::set_len(self, bytes)
    }

    fn len(&self) -> io::Result<u64> {
        Self::len(self)
    }
}
