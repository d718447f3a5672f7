//! Reading files of a backup, held against what the manifest says of them.
//!
//! Invariant: whoever was given all bytes of a file without an error was given those that were
//! written.

use std::io::{self, Read};

use stemma_content_store::Digest;

use crate::error::TargetError;
use crate::manifest::FileCopy;
use crate::target::Target;
use crate::work::on;

/// Bytes read at a time.
const STEP_BYTES: usize = 1 << 20;

/// Why a file of a backup could not be read.
#[derive(Debug)]
pub(crate) enum CheckError {
    /// It is not as it was written.
    Damaged { name: String, problem: String },
    /// The target refused.
    Target(TargetError),
}

/// A file of a backup that is being read.
pub(crate) struct Checked<'a> {
    target: &'a dyn Target,
    file: &'a FileCopy,
    reader: Box<dyn Read + Send>,
    hash: blake3::Hasher,
    bytes: u64,
    buffer: Vec<u8>,
}

impl<'a> Checked<'a> {
    /// Opens a file.
    pub(crate) fn open(target: &'a dyn Target, file: &'a FileCopy) -> Result<Self, CheckError> {
        let reader = target.open(&file.name).map_err(|error| {
            if error.kind() == io::ErrorKind::NotFound {
                return damaged(file, "is not there".to_owned());
            }
            CheckError::Target(on(target, "read", &file.name)(error))
        })?;
        Ok(Self {
            target,
            file,
            reader,
            hash: blake3::Hasher::new(),
            bytes: 0,
            buffer: Vec::new(),
        })
    }

    /// The next bytes, at most so many; none at the end, once all of them were held against the
    /// digest.
    pub(crate) fn next(&mut self, bytes_max: u64) -> Result<&[u8], CheckError> {
        let step = usize::try_from(bytes_max).map_or(STEP_BYTES, |max| max.min(STEP_BYTES));
        self.buffer.resize(step, 0);
        let mut filled = 0;
        while filled < step {
            match self.reader.read(&mut self.buffer[filled..]) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    return Err(CheckError::Target(
                        on(self.target, "read", &self.file.name)(error),
                    ));
                }
            }
        }
        let bytes = &self.buffer[..filled];
        self.hash.update(bytes);
        self.bytes += filled as u64;
        if self.bytes > self.file.bytes {
            let problem = format!("has more than its {} bytes", self.file.bytes);
            return Err(damaged(self.file, problem));
        }
        if filled < step {
            self.check()?;
        }
        Ok(bytes)
    }

    /// Whether what was read is all there should be.
    fn check(&self) -> Result<(), CheckError> {
        if self.bytes < self.file.bytes {
            let problem = format!("has {} of its {} bytes", self.bytes, self.file.bytes);
            return Err(damaged(self.file, problem));
        }
        let digest = Digest::from_bytes(*self.hash.finalize().as_bytes());
        if digest.to_string() != self.file.digest {
            return Err(damaged(self.file, "does not fit its digest".to_owned()));
        }
        Ok(())
    }
}

pub(crate) fn damaged(file: &FileCopy, problem: String) -> CheckError {
    let name = file.name.clone();
    CheckError::Damaged { name, problem }
}

/// Reads a file to its end.
pub(crate) fn read_whole(target: &dyn Target, file: &FileCopy) -> Result<Vec<u8>, CheckError> {
    let mut checked = Checked::open(target, file)?;
    let mut whole = Vec::new();
    loop {
        let bytes = checked.next(u64::MAX)?;
        if bytes.is_empty() {
            return Ok(whole);
        }
        whole.extend_from_slice(bytes);
    }
}
