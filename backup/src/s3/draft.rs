//! Writing an object: in one request when it is small, else in parts.
//!
//! Invariant: an object has its name once all of it is in the store, and not before; one that replaces
//! what was seen replaces nothing else.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusty_s3::actions::{CompleteMultipartUploadResponse, CreateMultipartUpload};

use super::reader::ObjectReader;
use super::store::{Answer, Store, Tries, unreadable};
use crate::target::{Draft, Seen};

/// Bytes of each of the first parts. They are in memory until they are sent.
const PART_BYTES: usize = 16 << 20;
/// Longest object that is sent in one request, which must not take longer than the lock holds. One that
/// replaces what was seen is sent so up to the size of a part: not all stores heed a condition where
/// parts are put together.
const PUT_BYTES_MAX: usize = 4 << 20;
/// How long is waited for the end of an upload that is given up.
const ABORT_TIMEOUT: Duration = Duration::from_secs(10);
/// After so many parts the next ones are twice as large; a store takes ten times as many.
const PARTS_OF_A_SIZE: usize = 1000;

/// An object that is being written.
pub(crate) struct ObjectDraft {
    store: Arc<Store>,
    name: String,
    key: String,
    /// What must be there for it to get its name; none when anything may be.
    condition: Option<(&'static str, String)>,
    hash: blake3::Hasher,
    bytes: u64,
    part: Vec<u8>,
    upload: Option<Upload>,
}

struct Upload {
    id: String,
    etags: Vec<String>,
}

impl ObjectDraft {
    pub(crate) fn new(store: Arc<Store>, name: &str) -> Self {
        Self {
            name: name.to_owned(),
            key: store.key(name),
            store,
            condition: None,
            hash: blake3::Hasher::new(),
            bytes: 0,
            part: Vec::new(),
            upload: None,
        }
    }

    /// The object, if it is to replace what was seen and nothing else.
    pub(crate) fn replacing(mut self, seen: &Seen) -> Self {
        let condition = match &seen.0 {
            Some(etag) => ("if-match", etag.clone()),
            None => ("if-none-match", "*".to_owned()),
        };
        self.condition = Some(condition);
        self
    }

    fn part_bytes(&self) -> usize {
        let sent = self.upload.as_ref().map_or(0, |upload| upload.etags.len());
        PART_BYTES << (sent / PARTS_OF_A_SIZE)
    }

    /// Sends what was gathered as the next part.
    fn send_part(&mut self) -> io::Result<()> {
        let store = &self.store;
        if self.upload.is_none() {
            let begin = store
                .bucket
                .create_multipart_upload(Some(store.credentials()), &self.key);
            let answer = store.send(Tries::Part, begin, &[], Some(b""))?.ok()?;
            let begun = CreateMultipartUpload::parse_response(answer.text()?);
            let begun = begun.map_err(unreadable)?;
            self.upload = Some(Upload {
                id: begun.upload_id().to_owned(),
                etags: Vec::new(),
            });
        }
        let upload = self.upload.as_mut().expect("it was begun");
        let number = u16::try_from(upload.etags.len() + 1);
        let number = number.map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
        let credentials = Some(store.credentials());
        let part = store
            .bucket
            .upload_part(credentials, &self.key, number, &upload.id);
        let answer = store.send(Tries::Part, part, &[], Some(&self.part))?.ok()?;
        let etag = answer.header("etag").map(str::to_owned);
        let missing = || io::Error::new(io::ErrorKind::InvalidData, "the store names no part");
        upload.etags.push(etag.ok_or_else(missing)?);
        self.part.clear();
        Ok(())
    }

    /// The answer to what gives the object its name, if it has it.
    fn settled(&self, answer: Answer) -> io::Result<()> {
        // It is refused too when an earlier try did it, whose answer was lost.
        if matches!(answer.status, 404 | 409 | 412) && self.is_there()? {
            return Ok(());
        }
        if answer.status == 412 {
            let why = "another process has written it meanwhile";
            return Err(io::Error::other(why));
        }
        answer.ok().map(drop)
    }

    /// Whether the object in the store is this one.
    fn is_there(&self) -> io::Result<bool> {
        let mut found = match ObjectReader::open(Arc::clone(&self.store), &self.name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            found => found?,
        };
        if found.length() != self.bytes {
            return Ok(false);
        }
        let mut hash = blake3::Hasher::new();
        io::copy(&mut found, &mut hash)?;
        Ok(hash.finalize() == self.hash.finalize())
    }
}

impl Write for ObjectDraft {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.part.len() >= self.part_bytes() {
            self.send_part()?;
        }
        let taken = bytes.len().min(self.part_bytes() - self.part.len());
        self.part.extend_from_slice(&bytes[..taken]);
        self.hash.update(&bytes[..taken]);
        self.bytes += taken as u64;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Draft for ObjectDraft {
    fn finish(mut self: Box<Self>) -> io::Result<()> {
        let headers: Vec<_> = self.condition.iter().cloned().collect();
        let is_put = self.part.len() <= PUT_BYTES_MAX || self.condition.is_some();
        if self.upload.is_none() && is_put {
            let store = &self.store;
            let put = store
                .bucket
                .put_object(Some(store.credentials()), &self.key);
            let answer = store.send(Tries::Change, put, &headers, Some(&self.part))?;
            return self.settled(answer);
        }
        if !self.part.is_empty() {
            self.send_part()?;
        }
        let store = &self.store;
        let upload = self.upload.as_ref().expect("it was begun");
        let etags = upload.etags.iter().map(String::as_str);
        let credentials = Some(store.credentials());
        let complete =
            store
                .bucket
                .complete_multipart_upload(credentials, &self.key, &upload.id, etags);
        let body = complete.clone().body();
        let answer = store.send(Tries::Change, complete, &headers, Some(body.as_bytes()))?;
        if (200..300).contains(&answer.status) {
            // A store may begin to answer that all is well, and say in the body that it is not.
            CompleteMultipartUploadResponse::parse(answer.text()?).map_err(unreadable)?;
        } else {
            self.settled(answer)?;
        }
        self.upload = None;
        Ok(())
    }
}

impl Drop for ObjectDraft {
    fn drop(&mut self) {
        let Some(upload) = &self.upload else { return };
        let store = &self.store;
        let abort =
            store
                .bucket
                .abort_multipart_upload(Some(store.credentials()), &self.key, &upload.id);
        // What stays is no object; the store's own rules remove it.
        let tries = Tries::Brief {
            timeout: ABORT_TIMEOUT,
            until: Instant::now() + ABORT_TIMEOUT,
        };
        let _ = store.send(tries, abort, &[], None);
    }
}
