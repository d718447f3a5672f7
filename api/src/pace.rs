//! How long a client may take: over a body that comes, over an answer that it does not take.
//!
//! Invariant: only the time counts in which we wait for the client, never that in which it waits
//! for us.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_web::HttpMessage;
use actix_web::dev::{Payload, ServiceRequest};
use actix_web::error::PayloadError;
use actix_web::web::Bytes;
use futures_util::Stream;
use tokio::time::{Instant, Sleep, sleep, sleep_until};

use crate::options::Options;

/// What a client must keep up with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// For so long it may send nothing, all pauses together.
    pub(crate) grace: Duration,
    /// Each so many bytes add a second to that.
    pub(crate) bytes_per_s: u64,
}

impl Pace {
    pub(crate) fn of(options: &Options) -> Self {
        Self {
            grace: Duration::from_millis(options.body_ms),
            bytes_per_s: options.body_bytes_per_s,
        }
    }
}

/// What a body has taken so far.
#[derive(Debug)]
struct Account {
    pace: Pace,
    received: u64,
    /// How long we waited, before the wait that is under way.
    waited: Duration,
    since: Option<Instant>,
}

impl Account {
    fn new(pace: Pace) -> Self {
        Self {
            pace,
            received: 0,
            waited: Duration::ZERO,
            since: None,
        }
    }

    /// We wait, perhaps for some time already; says how long we do.
    fn wait(&mut self, now: Instant) -> Instant {
        let since = *self.since.get_or_insert(now);
        let rate = u32::try_from(self.pace.bytes_per_s).unwrap_or(u32::MAX);
        let earned = Duration::from_secs(self.received) / rate.max(1);
        since + (self.pace.grace + earned).saturating_sub(self.waited)
    }

    /// So many bytes came.
    fn take(&mut self, now: Instant, bytes: usize) {
        if let Some(since) = self.since.take() {
            self.waited += now - since;
        }
        self.received += bytes as u64;
    }
}

/// Holds the body of a request to a pace, if it has one.
pub(crate) fn hold(request: &mut ServiceRequest, pace: Pace) {
    let payload = request.take_payload();
    request.set_payload(match payload {
        Payload::None => Payload::None,
        payload => Payload::Stream {
            payload: Box::pin(Paced {
                payload,
                account: Account::new(pace),
                timer: None,
            }),
        },
    });
}

/// Whether a body broke off because it came too slowly.
pub(crate) fn is_too_slow(error: &PayloadError) -> bool {
    matches!(error, PayloadError::Io(error) if error.kind() == std::io::ErrorKind::TimedOut)
}

/// A body that fails with [`std::io::ErrorKind::TimedOut`] when it comes too slowly.
struct Paced {
    payload: Payload,
    account: Account,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Stream for Paced {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if let Poll::Ready(chunk) = Pin::new(&mut this.payload).poll_next(context) {
            let bytes = chunk.as_ref().and_then(|chunk| chunk.as_ref().ok());
            this.account
                .take(Instant::now(), bytes.map_or(0, Bytes::len));
            return Poll::Ready(chunk);
        }
        let until = this.account.wait(Instant::now());
        let timer = this
            .timer
            .get_or_insert_with(|| Box::pin(sleep_until(until)));
        if timer.deadline() != until {
            timer.as_mut().reset(until);
        }
        timer.as_mut().poll(context).map(|()| {
            let error = std::io::Error::from(std::io::ErrorKind::TimedOut);
            Some(Err(PayloadError::Io(error)))
        })
    }
}

/// How long the other side of a connection may take nothing of what is written to it.
#[derive(Debug)]
pub(crate) struct Patience {
    most: Duration,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Patience {
    pub(crate) fn new(most: Duration) -> Self {
        Self { most, timer: None }
    }

    /// Passes on what became of a write; an error once none got through for too long.
    pub(crate) fn with<T>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<std::io::Result<T>>,
    ) -> Poll<std::io::Result<T>> {
        if written.is_ready() {
            self.timer = None;
            return written;
        }
        let most = self.most;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(most)));
        let detail = "the client takes nothing of what is written to it";
        timer
            .as_mut()
            .poll(context)
            .map(|()| Err(std::io::Error::new(std::io::ErrorKind::TimedOut, detail)))
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use futures_util::{StreamExt, stream};

    use super::*;

    /// Whether all of a body is taken: after so many seconds each, so many bytes.
    fn is_taken(pieces: &[(u64, usize)]) -> bool {
        let mut account = Account::new(Pace {
            grace: Duration::from_secs(10),
            bytes_per_s: 100,
        });
        let mut now = Instant::now();
        pieces.iter().all(|(seconds, bytes)| {
            let until = account.wait(now);
            now += Duration::from_secs(*seconds);
            let is_in_time = account.wait(now) == until && now <= until;
            account.take(now, *bytes);
            // What we take for ourselves is not the client's.
            now += Duration::from_mins(1);
            is_in_time
        })
    }

    #[test]
    fn a_body_may_pause_for_its_grace_and_for_what_it_has_earned() {
        assert!(is_taken(&[(0, 1), (9, 1)]));
        assert!(!is_taken(&[(11, 1)]));
        assert!(is_taken(&[(1, 1); 9]));
        assert!(!is_taken(&[(1, 1); 20]));
        assert!(is_taken(&[(1, 100); 200]));
        assert!(is_taken(&[(0, 1000), (19, 1)]));
        assert!(!is_taken(&[(0, 1000), (19, 1), (2, 1)]));
    }

    #[tokio::test]
    async fn a_body_that_stays_away_ends_as_too_slow() {
        let first = stream::iter([Ok(Bytes::from_static(b"half"))]);
        let payload: Payload = Payload::Stream {
            payload: Box::pin(first.chain(stream::pending())),
        };
        let grace = Duration::from_millis(1);
        let mut paced = Paced {
            payload,
            account: Account::new(Pace {
                grace,
                bytes_per_s: 1 << 20,
            }),
            timer: None,
        };
        assert!(paced.next().await.is_some_and(|chunk| chunk.is_ok()));
        let error = paced.next().await.and_then(Result::err);
        assert!(error.is_some_and(|error| is_too_slow(&error)));
    }

    #[tokio::test]
    async fn a_write_that_gets_nowhere_ends_and_one_that_does_starts_anew() {
        let mut patience = Patience::new(Duration::from_millis(1));
        let stuck =
            poll_fn(|context| patience.with(context, Poll::<std::io::Result<usize>>::Pending));
        let failed = stuck.await;
        assert!(failed.is_err_and(|error| error.kind() == std::io::ErrorKind::TimedOut));
        let done = poll_fn(|context| patience.with(context, Poll::Ready(Ok(1))));
        assert_eq!(done.await.ok(), Some(1));
        assert!(patience.timer.is_none());
    }
}
