//! A target in a store of objects that speaks S3.
//!
//! Invariant: an object is there whole under its name or not at all; of two processes that write,
//! one is refused. For that the store must know conditional writes (`If-Match`, `If-None-Match`), as
//! that of Amazon, MinIO, Ceph and R2 do.

use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use super::draft::ObjectDraft;
use super::lease;
use super::options::{S3Options, S3OptionsError};
use super::reader::ObjectReader;
use super::store::Store;
use crate::target::{Draft, LockOutcome, Target};

/// A target below a prefix of a bucket. Requests block.
pub struct S3Target {
    store: Arc<Store>,
    told: String,
    holder: String,
    lease: Duration,
}

impl std::fmt::Debug for S3Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("S3Target").field(&self.told).finish()
    }
}

impl S3Target {
    /// The target; the store is not asked yet.
    ///
    /// # Errors
    /// [`S3OptionsError`] says what is wrong with the options.
    pub fn new(options: &S3Options) -> Result<Self, S3OptionsError> {
        let between = if options.prefix.is_empty() { "" } else { "/" };
        Ok(Self {
            store: Arc::new(Store::new(options)?),
            told: format!("s3://{}{between}{}", options.bucket, options.prefix),
            holder: options.holder.clone(),
            lease: options.lease,
        })
    }
}

impl Target for S3Target {
    fn told(&self) -> String {
        self.told.clone()
    }

    fn lock(&self) -> io::Result<LockOutcome> {
        lease::take(&self.store, &self.holder, self.lease)
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn Read + Send>> {
        let reader = ObjectReader::open(Arc::clone(&self.store), name)?;
        Ok(Box::new(reader))
    }

    fn bytes(&self, name: &str) -> io::Result<Option<u64>> {
        match ObjectReader::open(Arc::clone(&self.store), name) {
            Ok(found) => Ok(Some(found.length())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn begin(&self, name: &str) -> io::Result<Box<dyn Draft>> {
        self.store.must_hold()?;
        let draft = ObjectDraft::new(Arc::clone(&self.store), name);
        Ok(Box::new(draft))
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        self.store.list(dir)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.store.must_hold()?;
        let key = self.store.key(name);
        let credentials = Some(self.store.credentials());
        let remove = self.store.bucket.delete_object(credentials, &key);
        match self.store.send(remove, &[], None)?.ok() {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}
