//! The lock of a store of objects: an object that its holder writes again and again.
//!
//! Invariant: it changes hands only by a write that names what it was before, so of two who take it
//! one is refused. No two writes of one holder are alike, so that a store that names objects by what is
//! in them tells them apart. How old it is is told by the store's clock alone.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::store::{Answer, Store, Tries};
use crate::target::LockOutcome;

/// The object's name.
const LOCK: &str = "lock";
/// What it holds while nobody holds it.
const FREE: &str = "free";
/// How often it is looked at before whoever is quicker has it.
const LOOK_COUNT: usize = 3;
/// How often it is written in the time after which another takes it over.
const WRITES_PER_LEASE: u32 = 4;
/// How often it is tried in that time again after it failed.
const TRIES_PER_LEASE: u32 = 16;
/// What no object is.
const NO_ETAG: &str = "\"00000000000000000000000000000000\"";
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

/// Who writes the lock.
struct Own {
    holder: String,
    lease: Duration,
    n_written: u64,
}

impl Own {
    /// What stands in each of its writes.
    fn text(&self) -> String {
        format!("{}\n{}\n", self.lease.as_millis(), self.holder)
    }

    /// What it writes next.
    fn next_text(&mut self) -> String {
        self.n_written += 1;
        format!("{}{}\n", self.text(), self.n_written)
    }

    /// How it is tried: nobody waits for it longer than for a part of the lease at a time.
    fn tries(&self, until: Instant) -> Tries {
        let timeout = self.lease / WRITES_PER_LEASE;
        Tries::Brief { timeout, until }
    }
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
    let mut own = Own {
        holder: holder.to_owned(),
        lease,
        n_written: 0,
    };
    for _ in 0..LOOK_COUNT {
        let asked = Instant::now();
        let tries = own.tries(asked + lease);
        let condition = match look(store, tries)? {
            None => ("if-none-match", "*".to_owned()),
            Some(held) if held.is_free() || held.text.starts_with(&own.text()) => {
                ("if-match", held.etag)
            }
            Some(held) => {
                let holder = held.holder().to_owned();
                return Ok(LockOutcome::Held { holder });
            }
        };
        let text = own.next_text();
        if let Some(etag) = write(store, &own, &text, condition, tries)? {
            store.hold_until(asked + lease);
            let tries = own.tries(asked + lease);
            let kept = keep(Arc::clone(store), own, etag, asked + lease)?;
            heeds_conditions(store, tries)?;
            return Ok(LockOutcome::Acquired(Box::new(kept)));
        }
    }
    let holder = "another that was quicker".to_owned();
    Ok(LockOutcome::Held { holder })
}

/// What is in the lock now; none when it is not there.
fn look(store: &Store, tries: Tries) -> io::Result<Option<Held>> {
    let key = store.key(LOCK);
    let look = store.bucket.get_object(Some(store.credentials()), &key);
    let found = store.send(tries, look, &[], None)?;
    if found.status == 404 {
        return Ok(None);
    }
    Ok(Some(Held::of(&found.ok()?)))
}

fn put(
    store: &Store,
    text: &str,
    condition: (&'static str, String),
    tries: Tries,
) -> io::Result<Answer> {
    let key = store.key(LOCK);
    let put = store.bucket.put_object(Some(store.credentials()), &key);
    store.send(tries, put, &[condition], Some(text.as_bytes()))
}

/// Writes the lock if it is as it was; gives what it is now, or none if it is another's.
fn write(
    store: &Store,
    own: &Own,
    text: &str,
    mut condition: (&'static str, String),
    tries: Tries,
) -> io::Result<Option<String>> {
    for _ in 0..LOOK_COUNT {
        let name = condition.0;
        let answer = put(store, text, condition, tries)?;
        if answer.status == 501 {
            return Err(heedless(name));
        }
        // 404: it was to be what it was, and is not there.
        if !matches!(answer.status, 404 | 409 | 412) {
            let answer = answer.ok()?;
            let etag = answer.header("etag").map(str::to_owned);
            let missing = || io::Error::new(io::ErrorKind::InvalidData, "the store names no write");
            return Ok(Some(etag.ok_or_else(missing)?));
        }
        // It is refused too when a try before did it, whose answer was lost.
        match look(store, tries)? {
            Some(held) if held.text == text => return Ok(Some(held.etag)),
            Some(held) if held.text.starts_with(&own.text()) => {
                condition = ("if-match", held.etag);
            }
            _ => return Ok(None),
        }
    }
    Err(io::Error::other("the store refuses to write the lock"))
}

/// Whether the store refuses a write whose condition does not hold. Without that a lock keeps nobody out.
///
/// What it must refuse would give the lock back: a store that does it is left without a holder.
fn heeds_conditions(store: &Store, tries: Tries) -> io::Result<()> {
    for (name, value) in [("if-none-match", "*"), ("if-match", NO_ETAG)] {
        let answer = put(store, FREE, (name, value.to_owned()), tries)?;
        match answer.status {
            412 => {}
            // It did what it must not, or does not know the header.
            200..300 | 501 => return Err(heedless(name)),
            _ => {
                answer.ok()?;
            }
        }
    }
    Ok(())
}

fn heedless(condition: &str) -> io::Error {
    let why = format!(
        "the store does not heed conditional writes ({condition}), which keep two backups apart; use another store"
    );
    io::Error::new(io::ErrorKind::Unsupported, why)
}

/// Begins to write the lock again and again.
fn keep(store: Arc<Store>, own: Own, etag: String, until: Instant) -> io::Result<Lease> {
    let (stop, stopped) = channel();
    let thread = std::thread::Builder::new().name("backup-lock".to_owned());
    let thread = thread.spawn(move || {
        let (mut own, mut etag, mut until) = (own, etag, until);
        let lease = own.lease;
        let mut wait = lease / WRITES_PER_LEASE;
        while stopped.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
            let asked = Instant::now();
            let text = own.next_text();
            let tries = own.tries(until.min(asked + lease / 2));
            match write(&store, &own, &text, ("if-match", etag.clone()), tries) {
                Ok(Some(written)) => {
                    etag = written;
                    until = asked + lease;
                    store.hold_until(until);
                    wait = lease / WRITES_PER_LEASE;
                }
                // It is asked again; meanwhile what was said holds.
                Err(_) if Instant::now() < until => wait = lease / TRIES_PER_LEASE,
                Ok(None) | Err(_) => {
                    store.hold_until(asked);
                    return;
                }
            }
        }
        let now = Instant::now();
        store.hold_until(now);
        // Given back; where that fails it is free after its lease.
        let tries = own.tries(now + lease / WRITES_PER_LEASE);
        let _ = write(&store, &own, FREE, ("if-match", etag), tries);
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
        let mut own = Own {
            holder: "process 7".to_owned(),
            lease: Duration::from_mins(2),
            n_written: 0,
        };
        let text = own.next_text();
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
