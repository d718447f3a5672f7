//! A target in a store of objects that speaks S3.
//!
//! Invariant: an object is there whole under its name or not at all; of two processes that write,
//! one is refused. For that the store must know conditional writes (`If-Match`, `If-None-Match`), as
//! that of Amazon, MinIO, Ceph and R2 do; whoever takes the lock tries whether it does.

use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use super::draft::ObjectDraft;
use super::lease;
use super::options::{S3Options, S3OptionsError};
use super::reader::ObjectReader;
use super::store::{Store, Tries};
use crate::target::{Draft, LockOutcome, Seen, Target};

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

    fn of_others(&self) -> io::Result<Option<String>> {
        Ok(None)
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

    fn seen(&self, name: &str) -> io::Result<Seen> {
        match ObjectReader::open(Arc::clone(&self.store), name) {
            Ok(found) => Ok(Seen(Some(found.etag().to_owned()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Seen(None)),
            Err(error) => Err(error),
        }
    }

    fn replace(&self, name: &str, seen: &Seen) -> io::Result<Box<dyn Draft>> {
        self.store.must_hold()?;
        let draft = ObjectDraft::new(Arc::clone(&self.store), name);
        Ok(Box::new(draft.replacing(seen)))
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        self.store.list(dir)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let key = self.store.key(name);
        let credentials = Some(self.store.credentials());
        let remove = self.store.bucket.delete_object(credentials, &key);
        match self.store.send(Tries::Change, remove, &[], None)?.ok() {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::time::Instant;

    use super::super::fake_store::{FakeStore, Fault};
    use super::*;

    const MANIFEST: &str = "manifest.json";
    const SHORT: Duration = Duration::from_secs(1);
    const LONG: Duration = Duration::from_mins(10);

    fn target(store: &FakeStore, lease: Duration) -> S3Target {
        S3Target::new(&store.options(lease)).unwrap()
    }

    fn acquired(target: &S3Target) -> Box<dyn Send + Sync> {
        match target.lock().unwrap() {
            LockOutcome::Acquired(guard) => guard,
            LockOutcome::Held { holder } => panic!("{holder} has it"),
        }
    }

    fn replaced(target: &S3Target, seen: &Seen, text: &str) -> io::Result<()> {
        let mut draft = target.replace(MANIFEST, seen)?;
        draft.write_all(text.as_bytes())?;
        draft.finish()
    }

    // A write was asked once whether the lock is ours and then tried four times, ten minutes each: a
    // manifest that hung was put over that of the backup which had taken the lock over meanwhile.
    #[test]
    fn a_write_that_hangs_is_not_tried_again_once_the_lock_is_lost() {
        let store = FakeStore::start();
        let target = target(&store, LONG);
        store.fail("PUT", "a", Fault::Silence);
        store.fail("DELETE", "b", Fault::Silence);
        let begun = Instant::now();
        let mut draft = target.begin("a").unwrap();
        draft.write_all(b"older").unwrap();
        target.store.hold_until(begun + SHORT);
        let error = draft.finish().unwrap_err();
        assert!(error.to_string().contains("the lock"), "{error}");
        target.store.hold_until(Instant::now() + SHORT);
        let error = target.remove("b").unwrap_err();
        assert!(error.to_string().contains("the lock"), "{error}");
        assert!(begun.elapsed() < LONG / 10);
        assert_eq!(
            (store.count("PUT", "a"), store.count("DELETE", "b")),
            (1, 1)
        );
        assert_eq!(store.text("a"), None);
    }

    #[test]
    fn a_manifest_replaces_the_one_that_was_read_and_no_other() {
        let store = FakeStore::start();
        let target = target(&store, LONG);
        let none = target.seen(MANIFEST).unwrap();
        replaced(&target, &none, "first").unwrap();
        assert!(replaced(&target, &none, "another first").is_err());
        let first = target.seen(MANIFEST).unwrap();
        store.put(MANIFEST, "of another");
        let error = replaced(&target, &first, "second").unwrap_err();
        assert!(error.to_string().contains("another process"), "{error}");
        assert_eq!(store.text(MANIFEST).as_deref(), Some("of another"));
    }

    #[test]
    fn a_manifest_whose_answer_is_lost_is_known_again() {
        let store = FakeStore::start();
        let target = target(&store, LONG);
        let none = target.seen(MANIFEST).unwrap();
        store.fail("PUT", MANIFEST, Fault::LostAnswer);
        replaced(&target, &none, "first").unwrap();
        assert_eq!(store.count("PUT", MANIFEST), 2);
        assert_eq!(store.text(MANIFEST).as_deref(), Some("first"));
    }

    // The request was made again with the etag of before, refused, and the lock taken for another's.
    #[test]
    fn a_lock_whose_answers_are_lost_is_kept_and_given_back() {
        let store = FakeStore::start();
        let target = target(&store, Duration::from_secs(4));
        store.fail("PUT", "lock", Fault::LostAnswer);
        let guard = acquired(&target);
        // Two of the first write, and two that ask whether conditions are heeded.
        assert_eq!(store.count("PUT", "lock"), 4);
        store.fail("PUT", "lock", Fault::LostAnswer);
        // A renewal, twice, and the next one.
        store.wait_for("PUT", "lock", 7);
        target.store.must_hold().unwrap();
        assert!(store.text("lock").unwrap().contains("process 7"));
        store.fail("PUT", "lock", Fault::LostAnswer);
        drop(guard);
        assert_eq!(store.text("lock").as_deref(), Some("free"));
    }

    #[test]
    fn a_lock_that_another_has_taken_over_is_not_taken_back() {
        let store = FakeStore::start();
        let target = target(&store, SHORT);
        let guard = acquired(&target);
        let theirs = "120000\nprocess 8\n1\n";
        store.put("lock", theirs);
        let asked = store.count("GET", "lock");
        store.wait_for("GET", "lock", asked + 1);
        drop(guard);
        assert!(target.store.must_hold().is_err());
        assert_eq!(store.text("lock").as_deref(), Some(theirs));
    }

    // Giving the lock back waited for a renewal that waited up to ten minutes for each of four answers.
    #[test]
    fn a_lock_is_given_back_soon_though_the_store_is_silent() {
        let store = FakeStore::start();
        let lease = Duration::from_secs(4);
        let target = target(&store, lease);
        let guard = acquired(&target);
        let written = store.count("PUT", "lock");
        for _ in 0..8 {
            store.fail("PUT", "lock", Fault::Silence);
        }
        store.wait_for("PUT", "lock", written + 1);
        let begun = Instant::now();
        drop(guard);
        assert!(begun.elapsed() < lease * 2, "{:?}", begun.elapsed());
    }

    #[test]
    fn a_store_that_does_not_heed_conditions_is_refused() {
        let store = FakeStore::start();
        store.heed_nothing();
        let target = target(&store, LONG);
        let error = target.lock().err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::Unsupported);
        assert!(error.to_string().contains("conditional writes"), "{error}");
        assert_eq!(store.text("lock").as_deref(), Some("free"));
    }
}
