//! The lock of a store of objects: an object that its holder writes again and again.
//!
//! Invariant: it changes hands only by a write that names what it was before, so of two who take it
//! one is refused. How old it is is told by the store's clock alone.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::store::{Answer, Store};
use crate::target::LockOutcome;

/// The object's name.
const LOCK: &str = "lock";
/// What it holds while nobody holds it.
const FREE: &str = "free";
/// How often it is looked at before whoever is quicker has it.
const LOOK_COUNT: usize = 3;
/// How often it is written in the time after which another takes it over.
const WRITES_PER_LEASE: u32 = 4;
/// The store's clock tells whole seconds.
const CLOCK_STEP: Duration = Duration::from_secs(1);

/// The lock, held until it is dropped.
struct Lease {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What is in the lock's object: who holds it and for how long without a word.
struct Held {
    etag: String,
    text: String,
    age: Option<Duration>,
}

fn written(holder: &str, lease: Duration) -> String {
    format!("{}\n{holder}\n", lease.as_millis())
}

impl Held {
    fn of(answer: &Answer) -> Self {
        let at = |name: &str| {
            let text = answer.header(name)?;
            let time = jiff::fmt::rfc2822::parse(text).ok()?;
            Some(time.timestamp().as_second())
        };
        let age = at("date").zip(at("last-modified"));
        let age = age.map(|(now, then)| Duration::from_secs((now - then).max(0).unsigned_abs()));
        Self {
            etag: answer.header("etag").unwrap_or_default().to_owned(),
            text: String::from_utf8_lossy(&answer.body).into_owned(),
            age,
        }
    }

    fn holder(&self) -> &str {
        self.text.lines().nth(1).unwrap_or_default()
    }

    /// Whether it may be taken: its holder gave it back, or was not heard of for its lease.
    fn is_free(&self) -> bool {
        let lease = self.text.lines().next().unwrap_or_default();
        match lease.parse().map(Duration::from_millis) {
            Ok(lease) => self.age.is_some_and(|age| age > lease + CLOCK_STEP),
            Err(_) => lease == FREE,
        }
    }
}

/// Takes the lock.
pub(crate) fn take(store: &Arc<Store>, holder: &str, lease: Duration) -> io::Result<LockOutcome> {
    let own = written(holder, lease);
    for _ in 0..LOOK_COUNT {
        let key = store.key(LOCK);
        let look = store.bucket.get_object(Some(store.credentials()), &key);
        let found = store.send(look, &[], None)?;
        let condition = if found.status == 404 {
            ("if-none-match", "*".to_owned())
        } else {
            let held = Held::of(&found.ok()?);
            if !held.is_free() && held.text != own {
                let holder = held.holder().to_owned();
                return Ok(LockOutcome::Held { holder });
            }
            ("if-match", held.etag)
        };
        let asked = Instant::now();
        if let Some(etag) = write(store, &own, condition)? {
            store.hold_until(asked + lease);
            let kept = keep(Arc::clone(store), own, etag, lease)?;
            return Ok(LockOutcome::Acquired(Box::new(kept)));
        }
    }
    let holder = "another that was quicker".to_owned();
    Ok(LockOutcome::Held { holder })
}

/// Writes the lock if it is as it was; gives what it is now, or none if it was not.
fn write(
    store: &Store,
    text: &str,
    condition: (&'static str, String),
) -> io::Result<Option<String>> {
    let key = store.key(LOCK);
    let put = store.bucket.put_object(Some(store.credentials()), &key);
    let answer = store.send(put, &[condition], Some(text.as_bytes()))?;
    // 404: it was to be what it was, and is not there.
    if matches!(answer.status, 404 | 409 | 412) {
        return Ok(None);
    }
    let answer = answer.ok()?;
    let etag = answer.header("etag").map(str::to_owned);
    let missing = || io::Error::new(io::ErrorKind::InvalidData, "the store names no version");
    Ok(Some(etag.ok_or_else(missing)?))
}

/// Begins to write the lock again and again.
fn keep(store: Arc<Store>, own: String, etag: String, lease: Duration) -> io::Result<Lease> {
    let (stop, stopped) = channel();
    let thread = std::thread::Builder::new().name("backup-lock".to_owned());
    let thread = thread.spawn(move || {
        let mut etag = etag;
        let mut until = Instant::now() + lease;
        while stopped.recv_timeout(lease / WRITES_PER_LEASE) == Err(RecvTimeoutError::Timeout) {
            let asked = Instant::now();
            match write(&store, &own, ("if-match", etag.clone())) {
                Ok(Some(written)) => {
                    etag = written;
                    until = asked + lease;
                    store.hold_until(until);
                }
                // It is asked again; meanwhile what was said holds.
                Err(_) if Instant::now() < until => {}
                Ok(None) | Err(_) => {
                    store.hold_until(asked);
                    return;
                }
            }
        }
        // Given back; where that fails it is free after its lease.
        let _ = write(&store, FREE, ("if-match", etag));
    })?;
    Ok(Lease {
        stop: Some(stop),
        thread: Some(thread),
    })
}

impl Drop for Lease {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread of a backup's lock ended by a mistake of ours");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(text: &str, age_s: Option<u64>) -> Held {
        Held {
            etag: String::new(),
            text: text.to_owned(),
            age: age_s.map(Duration::from_secs),
        }
    }

    #[test]
    fn a_lock_is_free_once_it_was_given_back_or_its_holder_is_silent_for_its_lease() {
        let text = written("process 7", Duration::from_mins(2));
        assert!(held(FREE, None).is_free());
        assert!(!held(&text, Some(121)).is_free());
        assert!(held(&text, Some(122)).is_free());
        // A store that does not tell the time never has a silent holder.
        assert!(!held(&text, None).is_free());
        assert!(!held("", Some(1_000_000)).is_free());
        assert_eq!(held(&text, None).holder(), "process 7");
    }

    #[test]
    fn the_age_of_a_lock_is_told_by_the_stores_clock() {
        let mut headers = ureq::http::HeaderMap::new();
        for (name, value) in [
            ("date", "Sat, 28 Nov 2026 12:00:42 GMT"),
            ("last-modified", "Sat, 28 Nov 2026 12:00:00 GMT"),
        ] {
            headers.insert(name, ureq::http::HeaderValue::from_static(value));
        }
        let body = Vec::new();
        let status = 200;
        let answer = Answer {
            status,
            headers,
            body,
        };
        assert_eq!(Held::of(&answer).age, Some(Duration::from_secs(42)));
    }
}
