//! Writing to a target: files that are counted and hashed on their way, and progress.

use std::io::{self, Write};

use stemma_content_store::Digest;

use crate::Tell;
use crate::error::{BackupError, TargetError};
use crate::manifest::FileCopy;
use crate::target::{Draft, Seen, Target};

/// What of the content is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reading {
    /// All that events name, and it is held against its digests.
    #[default]
    All,
    /// Only what the target lacks.
    New,
}

/// A backup under way.
pub(crate) struct Work<'a> {
    pub(crate) target: &'a dyn Target,
    tell: Tell<'a>,
    /// Bytes and files that were written, the manifest not counted.
    pub(crate) copied_bytes: u64,
    pub(crate) copied_files: u64,
}

impl<'a> Work<'a> {
    pub(crate) fn new(target: &'a dyn Target, tell: Tell<'a>) -> Self {
        Self {
            target,
            tell,
            copied_bytes: 0,
            copied_files: 0,
        }
    }

    /// Tells how far it is.
    ///
    /// # Errors
    /// [`BackupError::Stopped`] when it is to stop.
    pub(crate) fn tell(&mut self, done: u64, total: u64, what: &str) -> Result<(), BackupError> {
        match (self.tell)(done, total, what) {
            std::ops::ControlFlow::Continue(()) => Ok(()),
            std::ops::ControlFlow::Break(()) => Err(BackupError::Stopped),
        }
    }

    /// Begins a file of the target.
    pub(crate) fn begin(&self, name: &str) -> Result<HashedDraft<'a>, TargetError> {
        self.hashed(name, self.target.begin(name))
    }

    /// Begins a file of the target that takes its name only from what was seen there.
    pub(crate) fn replace(&self, name: &str, seen: &Seen) -> Result<HashedDraft<'a>, TargetError> {
        self.hashed(name, self.target.replace(name, seen))
    }

    fn hashed(
        &self,
        name: &str,
        draft: io::Result<Box<dyn Draft>>,
    ) -> Result<HashedDraft<'a>, TargetError> {
        let draft = draft.map_err(on(self.target, "write", name))?;
        Ok(HashedDraft {
            target: self.target,
            name: name.to_owned(),
            draft,
            hash: blake3::Hasher::new(),
            bytes: 0,
        })
    }

    /// Finishes a file of the target.
    pub(crate) fn finish(&mut self, draft: HashedDraft<'_>) -> Result<FileCopy, TargetError> {
        let HashedDraft {
            target,
            name,
            draft,
            hash,
            bytes,
        } = draft;
        draft.finish().map_err(on(target, "write", &name))?;
        self.copied_bytes += bytes;
        self.copied_files += 1;
        let digest = Digest::from_bytes(*hash.finalize().as_bytes()).to_string();
        Ok(FileCopy {
            name,
            bytes,
            digest,
        })
    }

    /// Writes a whole file of the target.
    pub(crate) fn write(&mut self, name: &str, bytes: &[u8]) -> Result<FileCopy, TargetError> {
        let mut draft = self.begin(name)?;
        draft.write(bytes)?;
        self.finish(draft)
    }
}

/// Says what was done with which file when it failed.
pub(crate) fn on(
    target: &dyn Target,
    operation: &'static str,
    name: &str,
) -> impl FnOnce(io::Error) -> TargetError {
    let (name, target) = (name.to_owned(), target.told());
    move |source| TargetError {
        operation,
        name,
        target,
        source,
    }
}

/// A file of the target that is hashed as it is written.
pub(crate) struct HashedDraft<'a> {
    target: &'a dyn Target,
    name: String,
    draft: Box<dyn Draft>,
    hash: blake3::Hasher,
    bytes: u64,
}

impl HashedDraft<'_> {
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), TargetError> {
        let written = self.draft.write_all(bytes);
        written.map_err(on(self.target, "write", &self.name))?;
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// Bytes that were written.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }
}
