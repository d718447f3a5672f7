//! Writing an object: in one request when it is small, else in parts.
//!
//! Invariant: an object has its name once all of it is in the store, and not before.

use std::io::{self, Write};
use std::sync::Arc;

use rusty_s3::actions::{CompleteMultipartUploadResponse, CreateMultipartUpload};

use super::store::{Store, unreadable};
use crate::target::Draft;

/// Bytes of each of the first parts. They are in memory until they are sent.
const PART_BYTES: usize = 16 << 20;
/// After so many parts the next ones are twice as large; a store takes ten times as many.
const PARTS_OF_A_SIZE: usize = 1000;

/// An object that is being written.
pub(crate) struct ObjectDraft {
    store: Arc<Store>,
    key: String,
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
            key: store.key(name),
            store,
            part: Vec::new(),
            upload: None,
        }
    }

    fn part_bytes(&self) -> usize {
        let sent = self.upload.as_ref().map_or(0, |upload| upload.etags.len());
        PART_BYTES << (sent / PARTS_OF_A_SIZE)
    }

    /// Sends what was gathered as the next part.
    fn send_part(&mut self) -> io::Result<()> {
        let store = &self.store;
        store.must_hold()?;
        if self.upload.is_none() {
            let begin = store
                .bucket
                .create_multipart_upload(Some(store.credentials()), &self.key);
            let answer = store.send(begin, &[], Some(b""))?.ok()?;
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
        let answer = store.send(part, &[], Some(&self.part))?.ok()?;
        let etag = answer.header("etag").map(str::to_owned);
        let missing = || io::Error::new(io::ErrorKind::InvalidData, "the store names no part");
        upload.etags.push(etag.ok_or_else(missing)?);
        self.part.clear();
        Ok(())
    }
}

impl Write for ObjectDraft {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.part.len() >= self.part_bytes() {
            self.send_part()?;
        }
        let taken = bytes.len().min(self.part_bytes() - self.part.len());
        self.part.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Draft for ObjectDraft {
    fn finish(mut self: Box<Self>) -> io::Result<()> {
        if self.upload.is_none() {
            self.store.must_hold()?;
            let store = &self.store;
            let put = store
                .bucket
                .put_object(Some(store.credentials()), &self.key);
            return store.send(put, &[], Some(&self.part))?.ok().map(drop);
        }
        if !self.part.is_empty() {
            self.send_part()?;
        }
        self.store.must_hold()?;
        let store = &self.store;
        let upload = self.upload.as_ref().expect("it was begun");
        let etags = upload.etags.iter().map(String::as_str);
        let credentials = Some(store.credentials());
        let complete =
            store
                .bucket
                .complete_multipart_upload(credentials, &self.key, &upload.id, etags);
        let body = complete.clone().body();
        let answer = store.send(complete, &[], Some(body.as_bytes()))?.ok()?;
        // A store may begin to answer that all is well, and say in the body that it is not.
        CompleteMultipartUploadResponse::parse(answer.text()?).map_err(unreadable)?;
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
        let _ = store.send(abort, &[], None);
    }
}
