//! Reading an object, a step of it at a time.
//!
//! Invariant: all steps are of the one object that was there when it was opened.

use std::io::{self, Cursor, Read};
use std::sync::Arc;

use super::store::{Store, Tries};

/// Bytes that are asked for at a time.
pub(crate) const STEP_BYTES: u64 = 8 << 20;

/// An object that is being read.
pub(crate) struct ObjectReader {
    store: Arc<Store>,
    key: String,
    bytes: u64,
    etag: String,
    at: u64,
    step: Cursor<Vec<u8>>,
}

impl ObjectReader {
    pub(crate) fn open(store: Arc<Store>, name: &str) -> io::Result<Self> {
        let key = store.key(name);
        let head = store.bucket.head_object(Some(store.credentials()), &key);
        let head = store.send(Tries::Reading, head, &[], None)?.ok()?;
        let missing = || io::Error::new(io::ErrorKind::InvalidData, "the store tells no length");
        let bytes = head.header("content-length").and_then(|n| n.parse().ok());
        Ok(Self {
            bytes: bytes.ok_or_else(missing)?,
            etag: head.header("etag").unwrap_or_default().to_owned(),
            key,
            at: 0,
            step: Cursor::default(),
            store,
        })
    }

    /// Which write of the object it is.
    pub(crate) fn etag(&self) -> &str {
        &self.etag
    }

    /// How long the object is.
    pub(crate) fn length(&self) -> u64 {
        self.bytes
    }

    fn next_step(&mut self) -> io::Result<()> {
        let end = self.bytes.min(self.at + STEP_BYTES);
        let action = self
            .store
            .bucket
            .get_object(Some(self.store.credentials()), &self.key);
        let range = format!("bytes={}-{}", self.at, end - 1);
        let headers = [("range", range), ("if-match", self.etag.clone())];
        let answer = self.store.send(Tries::Reading, action, &headers, None)?;
        let answer = answer.ok()?;
        if answer.body.len() as u64 != end - self.at {
            let why = "the store gave another number of bytes than was asked for";
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, why));
        }
        self.at = end;
        self.step = Cursor::new(answer.body);
        Ok(())
    }
}

impl Read for ObjectReader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.step.read(into)?;
        if read > 0 || self.at == self.bytes || into.is_empty() {
            return Ok(read);
        }
        self.next_step()?;
        self.step.read(into)
    }
}
