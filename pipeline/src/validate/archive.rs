//! A DOCX as an archive: how much it may hold, measured while it is inflated.
//!
//! What headers say of sizes is believed only when it is too much. One count of inflated bytes
//! runs over all entries that are read from one opened archive.

use std::cell::Cell;
use std::io::{self, Cursor, Read};

use zip::ZipArchive;
use zip::read::ZipFile;
use zip::result::ZipError;

use super::Format;
use crate::{DocumentError, Limits};

/// An opened archive and what may still be inflated of it.
pub(crate) struct Archive<'a> {
    zip: ZipArchive<Cursor<&'a [u8]>>,
    bytes_max: u64,
    left: Cell<u64>,
}

/// One entry as it is inflated.
pub(crate) struct Counted<'z, 'a> {
    entry: ZipFile<'z, Cursor<&'a [u8]>>,
    bytes_max: u64,
    left: &'z Cell<u64>,
}

impl<'a> Archive<'a> {
    /// The part that a DOCX has its text in.
    pub(crate) const DOCUMENT: &'static str = "word/document.xml";

    /// Reads the directory of an archive.
    ///
    /// # Errors
    /// A broken directory, an encrypted entry, more entries or more bytes than are allowed.
    pub(crate) fn open(bytes: &'a [u8], limits: &Limits) -> Result<Self, DocumentError> {
        let mut zip = ZipArchive::new(Cursor::new(bytes)).map_err(|error| broken(&error))?;
        if zip.len() as u64 > u64::from(limits.archive_entries_max) {
            return Err(DocumentError::Bomb {
                measure: "entries".to_owned(),
                limit: u64::from(limits.archive_entries_max),
            });
        }
        let by_ratio = (bytes.len() as u64).saturating_mul(u64::from(limits.archive_ratio_max));
        let bytes_max = limits
            .archive_bytes_max
            .min(by_ratio.max(Limits::ARCHIVE_RATIO_FLOOR_BYTES));
        let mut declared = 0_u64;
        for index in 0..zip.len() {
            let entry = zip.by_index_raw(index).map_err(|error| broken(&error))?;
            if entry.encrypted() {
                return Err(DocumentError::Encrypted {
                    format: "archive".to_owned(),
                    reason: "an entry of it is".to_owned(),
                });
            }
            declared = declared.saturating_add(entry.size());
        }
        if declared > bytes_max {
            return Err(bomb(bytes_max));
        }
        Ok(Self {
            zip,
            bytes_max,
            left: Cell::new(bytes_max),
        })
    }

    /// Whether there is an entry of this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.zip.index_for_name_raw(name.as_bytes()).is_some()
    }

    /// Opens an entry; `None` if there is none of this name.
    ///
    /// # Errors
    /// The entry cannot be opened.
    pub(crate) fn part(&mut self, name: &str) -> Result<Option<Counted<'_, 'a>>, DocumentError> {
        let Some(index) = self.zip.index_for_name_raw(name.as_bytes()) else {
            return Ok(None);
        };
        self.entry(index).map(Some).map_err(|error| broken(&error))
    }

    fn entry(&mut self, index: usize) -> Result<Counted<'_, 'a>, ZipError> {
        Ok(Counted {
            entry: self.zip.by_index(index)?,
            bytes_max: self.bytes_max,
            left: &self.left,
        })
    }

    /// Inflates every entry and drops what comes out. Entries beside the text that are damaged
    /// become a warning.
    ///
    /// # Errors
    /// More bytes than are allowed; a damaged main part.
    pub(crate) fn inflate_all(mut self, warnings: &mut Vec<String>) -> Result<(), DocumentError> {
        let main = self.zip.index_for_name_raw(Self::DOCUMENT.as_bytes());
        let mut damaged = 0_u32;
        for index in 0..self.zip.len() {
            let inflated = match self.entry(index) {
                Ok(mut entry) => io::copy(&mut entry, &mut io::sink()).map(|_| ()),
                Err(error) => Err(io::Error::other(error)),
            };
            let Err(error) = inflated else {
                continue;
            };
            if let Some(error) = refusal(&error) {
                return Err(error);
            }
            if Some(index) == main {
                return Err(DocumentError::Broken {
                    format: Format::Docx,
                    reason: error.to_string(),
                });
            }
            damaged += 1;
        }
        if damaged > 0 {
            warnings.push(format!("{damaged} parts beside the text are damaged"));
        }
        Ok(())
    }
}

impl Read for Counted<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.entry.read(buffer)?;
        match self.left.get().checked_sub(read as u64) {
            Some(left) => self.left.set(left),
            None => return Err(io::Error::other(bomb(self.bytes_max))),
        }
        Ok(read)
    }
}

/// The refusal that an error of reading an entry carries, if it was ours.
pub(crate) fn refusal(error: &io::Error) -> Option<DocumentError> {
    error.get_ref()?.downcast_ref::<DocumentError>().cloned()
}

fn bomb(limit: u64) -> DocumentError {
    DocumentError::Bomb {
        measure: "bytes inside".to_owned(),
        limit,
    }
}

fn broken(error: &ZipError) -> DocumentError {
    DocumentError::Broken {
        format: Format::Docx,
        reason: error.to_string(),
    }
}
