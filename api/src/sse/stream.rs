//! One client's stream: catch up from the log, then follow its head.
//!
//! Invariant: a stream is a position in the log. Whatever it has sent lies before the position and
//! nothing after it has been sent; a client that is slow only falls behind.

use std::sync::Arc;
use std::time::Duration;

use actix_web::web::{Bytes, BytesMut};
use futures_util::stream::{self, Stream};
use stemma_domain::access::Sight;
use stemma_domain::id::ResourceId;
use stemma_event_log::{Direction, Position, ReadLimit, Revision, StreamRange};
use stemma_views::{Seen, tells_grants};
use tokio::sync::{broadcast, watch};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use super::filter::Filter;
use super::frame::Frame;
use crate::error::{ApiError, Code};
use crate::handlers::events::stream_of;
use crate::metrics::OpenStream;
use crate::state::AppState;
use crate::tenants::Served;

/// Records of one resource read at a time while catching up.
const CATCH_UP: ReadLimit = ReadLimit {
    records: 256,
    bytes: 4 << 20,
};

/// Where a stream begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// With what comes from now on.
    Now,
    /// Behind this position; none is the very beginning.
    After(Option<u64>),
    /// Where the client asks cannot be; it goes on with what comes from now on, and is told.
    Gap(&'static str),
}

impl Start {
    /// Holds a wanted start against the head.
    pub(crate) fn within(self, end: u64) -> Self {
        match self {
            Self::After(Some(after)) if after >= end => Self::Gap("ahead_of_head"),
            other => other,
        }
    }
}

/// What a stream is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subject {
    /// The whole log.
    Everything,
    /// One resource.
    Resource(ResourceId),
}

struct Subscription {
    /// The tenant, as whoever follows sees it.
    state: Served,
    subject: Subject,
    filter: Filter,
    /// The next position to look at.
    next: u64,
    /// While one resource is caught up with: its next revision.
    catching_up: Option<u64>,
    /// Of one resource, the revision behind the last that was looked at.
    revision: u64,
    /// What is to be sent before anything else.
    first: Option<Bytes>,
    is_live: bool,
    passed_over: u64,
    /// Behind the last event so far that may have hidden something.
    hidden_end: u64,
    source: Source,
    shutdown: watch::Receiver<bool>,
    heartbeat: Interval,
    is_over: bool,
    _open: OpenStream,
}

/// Where a stream learns of what comes.
enum Source {
    /// The head moved: what is new is read from the rendered frames.
    All(watch::Receiver<u64>),
    /// The events of one resource.
    One(broadcast::Receiver<Arc<Frame>>),
    /// Nothing comes any more.
    Ended,
}

/// What a source gave.
enum Come {
    /// Something is to be read.
    Something,
    /// These events of the resource; false when it missed some behind them.
    Events(Vec<Arc<Frame>>, bool),
    /// The source has ended.
    Nothing,
}

impl Source {
    fn of(subject: Subject, state: &AppState) -> Self {
        let (hub, log) = (state.hub(), state.reader());
        let source = match subject {
            Subject::Everything => hub.follow_all(log).map(Self::All),
            Subject::Resource(id) => hub.follow_one(log, id).map(Self::One),
        };
        source.unwrap_or(Self::Ended)
    }

    async fn wait(&mut self) -> Come {
        match self {
            Self::All(head) => match head.changed().await {
                Ok(()) => Come::Something,
                Err(_) => Come::Nothing,
            },
            Self::One(events) => {
                let first = match events.recv().await {
                    Ok(first) => first,
                    Err(broadcast::error::RecvError::Lagged(_)) => {
                        return Come::Events(Vec::new(), false);
                    }
                    Err(broadcast::error::RecvError::Closed) => return Come::Nothing,
                };
                let mut come = vec![first];
                loop {
                    match events.try_recv() {
                        Ok(next) => come.push(next),
                        Err(broadcast::error::TryRecvError::Lagged(_)) => {
                            return Come::Events(come, false);
                        }
                        // An end is met by the next wait.
                        Err(_) => return Come::Events(come, true),
                    }
                }
            }
            Self::Ended => Come::Nothing,
        }
    }
}

/// Opens a stream.
///
/// # Errors
/// 503 when as many are open as are taken.
pub(crate) fn open(
    state: &Served,
    subject: Subject,
    filter: Filter,
    start: Start,
) -> Result<impl Stream<Item = Result<Bytes, ApiError>> + use<>, ApiError> {
    let options = &state.options().sse;
    let open = state.metrics().open_stream(options.streams_max);
    let open = open.ok_or_else(|| ApiError::of(Code::TooManyStreams))?;
    // Subscribed before the end is looked at: nothing can come between unseen.
    let source = Source::of(subject, state);
    let end = state.reader().end().get();
    let start = start.within(end);
    let mut first = format!("retry: {}\n\n", options.retry_ms);
    let next = match start {
        Start::Now => end,
        Start::After(after) => after.map_or(0, |after| after + 1),
        Start::Gap(reason) => {
            first.push_str(&gap(reason, end));
            end
        }
    };
    let period = Duration::from_millis(options.heartbeat_ms);
    let mut heartbeat = interval_at(Instant::now() + period, period);
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut subscription = Subscription {
        state: state.clone(),
        subject,
        filter,
        next,
        catching_up: None,
        revision: 0,
        first: Some(first.into()),
        is_live: false,
        passed_over: 0,
        // What lies before was not looked at.
        hidden_end: next,
        source,
        shutdown: state.shutdown().follow(),
        heartbeat,
        is_over: false,
        _open: open,
    };
    if let Subject::Resource(id) = subject {
        let from = Position::new(next);
        let revision = state.reader().revision_from(&stream_of(id)?, from)?;
        subscription.revision = revision.get();
        subscription.catching_up = (next < end).then_some(revision.get());
    }
    Ok(stream::try_unfold(
        subscription,
        |mut subscription| async move {
            let chunk = subscription.next_chunk().await?;
            Ok(chunk.map(|chunk| (chunk, subscription)))
        },
    ))
}

fn head_of(end: u64) -> String {
    end.checked_sub(1)
        .map_or_else(|| "null".to_owned(), |head| head.to_string())
}

/// What a client that comes back is to send: the head, or `start` while there is none, so that it
/// misses nothing that is written meanwhile.
fn id_of(end: u64) -> String {
    end.checked_sub(1)
        .map_or_else(|| "start".to_owned(), |head| head.to_string())
}

fn gap(reason: &str, end: u64) -> String {
    let (head, id) = (head_of(end), id_of(end));
    format!(
        "id: {id}\nevent: stemma.gap\ndata: {{\"reason\":\"{reason}\",\"position\":{head},\"head\":{head}}}\n\n"
    )
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.source = Source::Ended;
        if let Subject::Resource(id) = self.subject {
            self.state.hub().leave(id);
        }
    }
}

impl Subscription {
    async fn next_chunk(&mut self) -> Result<Option<Bytes>, ApiError> {
        if self.is_over {
            return Ok(None);
        }
        if let Some(first) = self.first.take() {
            return Ok(Some(first));
        }
        loop {
            if *self.shutdown.borrow_and_update() {
                self.is_over = true;
                let retry = self.state.options().sse.retry_ms;
                return Ok(Some(
                    format!(": the server stops\nretry: {retry}\n\n").into(),
                ));
            }
            if let Source::All(head) = &mut self.source {
                head.borrow_and_update();
            }
            if let Some(chunk) = self.step().await? {
                return Ok(Some(chunk));
            }
            tokio::select! {
                come = self.source.wait() => {
                    if let Some(chunk) = self.take(come).await? {
                        return Ok(Some(chunk));
                    }
                }
                _ = self.heartbeat.tick() => return Ok(Some(self.beat())),
                _ = self.shutdown.changed() => {}
            }
        }
    }

    /// What is to be sent of what has come.
    async fn take(&mut self, come: Come) -> Result<Option<Bytes>, ApiError> {
        match come {
            Come::Something => Ok(None),
            Come::Events(frames, is_all) => {
                // Those that were read already while catching up come again.
                let frames = frames
                    .into_iter()
                    .filter(|frame| frame.position() >= self.next);
                let chunk = self.wanted(&frames.collect::<Vec<_>>()).await?;
                if !is_all {
                    self.catching_up = Some(self.revision);
                }
                Ok(chunk)
            }
            Come::Nothing => {
                self.source = Source::of(self.subject, &self.state);
                if matches!(self.source, Source::Ended) {
                    self.is_over = true;
                    return Ok(Some(Bytes::from_static(b": the log is closed\n\n")));
                }
                self.catching_up = Some(self.revision);
                Ok(None)
            }
        }
    }

    /// What can be sent at once: events, a sign of where the stream is, or that it is live.
    async fn step(&mut self) -> Result<Option<Bytes>, ApiError> {
        loop {
            let frames = match self.catching_up {
                Some(revision) => self.catch_up(revision)?,
                None if matches!(self.subject, Subject::Resource(_)) => Vec::new(),
                None => self.state.frames().read(self.next)?,
            };
            if frames.is_empty() && self.catching_up.is_none() {
                break;
            }
            if let Some(chunk) = self.wanted(&frames).await? {
                return Ok(Some(chunk));
            }
            // Nothing of much may be wanted, and others have requests.
            tokio::task::yield_now().await;
        }
        if self.is_live {
            return Ok(None);
        }
        self.is_live = true;
        let (head, id) = (head_of(self.next), id_of(self.next));
        let live = format!("id: {id}\nevent: stemma.live\ndata: {{\"position\":{head}}}\n\n");
        Ok(Some(live.into()))
    }

    /// The next events of one resource, by way of its index; none when the log is to be followed.
    fn catch_up(&mut self, revision: u64) -> Result<Vec<Arc<Frame>>, ApiError> {
        let Subject::Resource(id) = self.subject else {
            return Ok(Vec::new());
        };
        let end = self.state.reader().end().get();
        let stream = stream_of(id)?;
        let range = StreamRange {
            from: Revision::new(revision),
            direction: Direction::Forward,
            limit: CATCH_UP,
        };
        let records = self.state.reader().read_stream(&stream, range)?;
        if let Some(last) = records.last() {
            self.revision = last.revision().get() + 1;
            self.catching_up = Some(self.revision);
        } else {
            self.catching_up = None;
            // All before the end that was looked at first has been read.
            self.next = self.next.max(end);
        }
        let from = self.next;
        let new = records
            .into_iter()
            .filter(|record| record.position().get() >= from);
        Ok(new.map(|record| Arc::new(Frame::of(record))).collect())
    }

    /// Those of the frames that the client wants, in one chunk.
    async fn wanted(&mut self, frames: &[Arc<Frame>]) -> Result<Option<Bytes>, ApiError> {
        let seen = self.hidden_by(frames).await?;
        if let (Some(seen), Subject::Resource(id)) = (&seen, self.subject)
            && !seen.sees(id)?
        {
            self.is_over = true;
            return Ok(Some(Bytes::from_static(b":\n\n")));
        }
        let mut wanted: Vec<Bytes> = Vec::new();
        for frame in frames {
            if let Some(bytes) = self.shown(frame, seen.as_ref()).await? {
                wanted.push(bytes);
                self.passed_over = 0;
            } else {
                self.passed_over += 1;
            }
            self.next = frame.position() + 1;
            self.revision = frame.record.revision().get() + 1;
        }
        if self.passed_over >= self.state.options().sse.passed_over_max {
            wanted.push(self.place());
        }
        Ok(match wanted.len() {
            0 => None,
            1 => wanted.pop(),
            _ => {
                let mut chunk = BytesMut::with_capacity(wanted.iter().map(Bytes::len).sum());
                wanted
                    .iter()
                    .for_each(|bytes| chunk.extend_from_slice(bytes));
                Some(chunk.freeze())
            }
        })
    }

    /// The views as of the last of these events, where they hide something of them.
    async fn hidden_by(&mut self, frames: &[Arc<Frame>]) -> Result<Option<Seen>, ApiError> {
        let Some(last) = frames.last() else {
            return Ok(None);
        };
        if *self.state.sight() == Sight::Everything {
            return Ok(None);
        }
        let end = last.position() + 1;
        if frames.iter().any(|frame| tells_grants(&frame.record)) {
            self.hidden_end = end;
        } else {
            let views = self.state.projection().views();
            if views.end() >= self.hidden_end && self.state.seen().is_everything() {
                return Ok(None);
            }
        }
        self.state.seen_after(end).await.map(Some)
    }

    /// What is sent of an event; none where it is not wanted, or not seen.
    async fn shown(
        &mut self,
        frame: &Frame,
        seen: Option<&Seen>,
    ) -> Result<Option<Bytes>, ApiError> {
        if !self.takes(frame).await? {
            return Ok(None);
        }
        let Some(seen) = seen else {
            return Ok(Some(frame.bytes.clone()));
        };
        if !seen.shows(&frame.record)? {
            return Ok(None);
        }
        Ok(Some(if seen.shows_grants(&frame.record)? {
            frame.bytes.clone()
        } else {
            frame.without_grants()
        }))
    }

    async fn takes(&mut self, frame: &Frame) -> Result<bool, ApiError> {
        if let Subject::Resource(id) = self.subject
            && ResourceId::from_stream_name(frame.record.stream()) != Some(id)
        {
            return Ok(false);
        }
        if self.filter.takes_all() {
            return Ok(true);
        }
        let commands = self.state.commands();
        Ok(self.filter.takes(&frame.record, commands).await?)
    }

    /// A frame that only tells where the stream is, so that a reconnect starts near.
    fn place(&mut self) -> Bytes {
        self.passed_over = 0;
        format!("id: {}\n\n", self.next.saturating_sub(1)).into()
    }

    fn beat(&mut self) -> Bytes {
        if self.passed_over > 0 {
            let place = self.place();
            return [&b": heartbeat\n\n"[..], &place].concat().into();
        }
        Bytes::from_static(b": heartbeat\n\n")
    }
}
