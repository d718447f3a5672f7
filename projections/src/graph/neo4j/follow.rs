//! The thread that feeds Neo4j: it finds what is there, catches up, follows, and begins again
//! whenever the connection was lost.

use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use neo4rs::query;
use stemma_event_log::{Position, ReadError, Reader};
use stemma_views::ApplyError;
use tokio::sync::watch;

use super::Shared;
use super::client::Neo4jError;
use super::feed::{self, FeedError};
use super::generation::{Generation, SHORT, Use, all, make};
use super::rebuild::{Making, Step};
use crate::lockstep::Live;
use crate::projection::NotOfLog;
use crate::rebuild::RebuildError;
use crate::runner::{causes, read, unread, wait_for_change};
use crate::status::Phase;

/// Most records of one transaction, so that what was written shows soon.
pub(super) const BATCH_RECORDS: usize = 2000;
/// How long records are gathered while they come in, unless somebody waits for them.
const PACE: Duration = Duration::from_millis(25);
/// How long the thread rests at most before it looks whether it is to stop or retry.
const LOOK_AROUND: Duration = Duration::from_millis(100);
/// How often a server that has nothing to do is asked whether it is there.
const PING_EVERY: Duration = Duration::from_secs(1);
/// How long it may take to say so.
const PING: Duration = Duration::from_secs(4);
/// How long to wait before the first new try, and at the most; doubled in between.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// How long to wait after not having been let in: who asks too often keeps others out as well.
const DENIED: Duration = Duration::from_secs(30);
/// How long a generation is kept after another took its place: queries may still run over it.
const RETIRED: Duration = Duration::from_secs(30);
/// How often some of it is removed while there is other work.
const REMOVE_EVERY: Duration = Duration::from_secs(1);

pub(super) struct Follower {
    shared: Arc<Shared>,
    inbox: mpsc::Receiver<Box<Making>>,
    making: Option<Box<Making>>,
    /// Since when there are generations that are of no use.
    left_since: Option<Instant>,
    /// When some of them was last removed, or looked for.
    removed_at: Instant,
    /// When the server last showed that it is there.
    asked_at: Instant,
}

/// Tells that the thread has ended, however it did.
struct Ending(Arc<Shared>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.progress.set_phase(Phase::Stopped);
    }
}

/// What came of applying the next records.
enum Applied {
    /// So many are in.
    Records(usize),
    /// There are none that are not in.
    All,
    /// None are, and one is to be.
    Nothing,
}

/// Why the thread no longer follows.
enum Left {
    /// It was told to stop.
    Stopped,
    /// What is there must be looked at again: it changed, or an answer was lost.
    Anew,
    /// Neo4j did not do its part.
    Failed(Neo4jError),
    /// What is there cannot be gone on with.
    Unusable(String),
}

impl From<Neo4jError> for Left {
    fn from(error: Neo4jError) -> Self {
        Self::Failed(error)
    }
}

impl Follower {
    pub(super) fn new(shared: Arc<Shared>, inbox: mpsc::Receiver<Box<Making>>) -> Self {
        Self {
            shared,
            inbox,
            making: None,
            left_since: None,
            removed_at: Instant::now(),
            asked_at: Instant::now(),
        }
    }

    pub(super) fn run(mut self) {
        let _ending = Ending(Arc::clone(&self.shared));
        let mut wait = BACKOFF.0;
        while !self.is_stopped() {
            let mut has_followed = false;
            let left = self.attach().map_or_else(
                |left| left,
                |generation| {
                    has_followed = true;
                    self.follow(generation)
                },
            );
            if has_followed {
                wait = BACKOFF.0;
            }
            match left {
                Left::Stopped => break,
                Left::Anew => self.rest(BACKOFF.0),
                Left::Unusable(reason) => {
                    tracing::error!(reason, "the graph in Neo4j cannot be had; the views answer");
                    self.shared.unusable.send_replace(Some(reason));
                    self.rest_until_asked();
                }
                Left::Failed(error) => {
                    if matches!(error, Neo4jError::Denied(_)) {
                        wait = DENIED;
                    }
                    let reason = error.to_string();
                    tracing::warn!(reason, "Neo4j is out of reach; trying again");
                    self.shared.progress.set_phase(Phase::Away { reason });
                    self.give_up_makings(|| error.clone().into());
                    // An operator who mended something does not wait.
                    let retry = &self.shared.progress.retry;
                    self.rest_unless(wait, || retry.swap(false, Ordering::AcqRel));
                    wait = (2 * wait).min(BACKOFF.1);
                }
            }
        }
        self.give_up_makings(|| RebuildError::Stopped);
    }

    /// Tells whoever makes the graph anew that it will not be.
    fn give_up_makings(&mut self, error: impl Fn() -> RebuildError) {
        let waiting = self.making.take().into_iter();
        for making in waiting.chain(self.inbox.try_iter()) {
            self.shared.has_leftovers.store(true, Ordering::Release);
            making.give_up(error());
        }
    }

    fn is_stopped(&self) -> bool {
        self.shared.progress.stop.load(Ordering::Acquire)
    }

    /// Rests for so long, or until it is told to stop.
    fn rest(&self, wait: Duration) {
        self.rest_unless(wait, || false);
    }

    /// Rests for so long, or until it is told to stop, or there is a reason not to.
    fn rest_unless(&self, wait: Duration, is_woken: impl Fn() -> bool) {
        let until = Instant::now() + wait;
        while !self.is_stopped()
            && !is_woken()
            && let Some(left) = until.checked_duration_since(Instant::now())
        {
            std::thread::park_timeout(left.min(LOOK_AROUND));
        }
    }

    /// Rests until somebody asks for another try, or made the graph anew.
    fn rest_until_asked(&mut self) {
        while !self.is_stopped() {
            if self.shared.progress.retry.swap(false, Ordering::AcqRel) {
                break;
            }
            let making = self.making.take().or_else(|| self.inbox.try_recv().ok());
            if let Some(making) = making {
                self.shared.has_leftovers.store(true, Ordering::Release);
                if making.take_over_unasked(&self.shared.progress.stop) {
                    break;
                }
                continue;
            }
            std::thread::park_timeout(LOOK_AROUND);
        }
        self.shared.unusable.send_replace(None);
    }

    /// Finds the generation in use, or makes the first.
    fn attach(&mut self) -> Result<Generation, Left> {
        let shared = Arc::clone(&self.shared);
        let (owner, client) = (&shared.owner, &shared.client);
        let found = all(owner, client, SHORT)?;
        let is_being_made = shared.rebuilding.load(Ordering::Acquire);
        let left = found.iter().any(|one| match one.is {
            Use::Current => false,
            Use::Building => !is_being_made,
            Use::Retired => true,
        });
        if left {
            shared.has_leftovers.store(true, Ordering::Release);
        }
        let current = found.into_iter().rfind(|one| one.is == Use::Current);
        let generation = match current {
            Some(current) => current,
            None => make(owner, Use::Current, client)?,
        };
        let known = generation.must_be_known();
        known.map_err(|error| Left::Unusable(error.to_string()))?;
        must_be_of_log(&generation, &shared.settings.reader).map_err(|error| {
            Left::Unusable(format!("{error}; `stemma rebuild graph` makes it anew"))
        })?;
        let label = Arc::new(generation.label.clone());
        shared.current.store(Some(label));
        shared.progress.end.send_replace(generation.end);
        if !self.is_quarantined() {
            shared.progress.phase.send_replace(Phase::CatchingUp);
        }
        Ok(generation)
    }

    /// Applies records as they come.
    fn follow(&mut self, mut generation: Generation) -> Left {
        loop {
            if self.is_stopped() {
                return Left::Stopped;
            }
            if let Err(left) = self.turn(&mut generation) {
                return left;
            }
        }
    }

    /// Does what there is to do, and rests where there is nothing.
    fn turn(&mut self, generation: &mut Generation) -> Result<(), Left> {
        let reader = self.shared.settings.reader.clone();
        if self.making.is_none() {
            self.making = self.inbox.try_recv().ok();
        }
        // Before each batch too: a server that is silent is not found out by a long wait.
        let is_due = reader.end().get() > generation.end && !self.is_quarantined();
        if is_due || self.asked_at.elapsed() >= PING_EVERY {
            self.shared.client.rows(query("RETURN 1"), PING)?;
            self.asked_at = Instant::now();
        }
        let is_retried = self.shared.progress.retry.swap(false, Ordering::AcqRel);
        let pace = if self.is_quarantined() && !is_retried {
            Live::Stopped
        } else {
            Live::Follows
        };
        let applied = match pace {
            Live::Stopped => Applied::Nothing,
            Live::Follows => self.apply_next(generation, &reader)?,
        };
        if self.advance(generation, pace)? {
            return Ok(());
        }
        match applied {
            Applied::Records(count) => {
                self.asked_at = Instant::now();
                if self.removed_at.elapsed() >= REMOVE_EVERY {
                    self.remove_leftovers()?;
                }
                if count < BATCH_RECORDS {
                    let mut urged = self.shared.progress.urged.subscribe();
                    wait_for_change(&mut urged, PACE);
                }
            }
            Applied::All => {
                self.shared.progress.set_phase(Phase::Live);
                if !self.remove_leftovers()? {
                    rest_at(&mut reader.follow(), generation.end);
                }
            }
            // Until somebody says that it is to be tried again.
            Applied::Nothing => self.rest(LOOK_AROUND),
        }
        Ok(())
    }

    fn is_quarantined(&self) -> bool {
        let phase = self.shared.progress.phase.borrow();
        matches!(*phase, Phase::Quarantined { .. })
    }

    /// Applies the next records.
    fn apply_next(&self, generation: &mut Generation, reader: &Reader) -> Result<Applied, Left> {
        let records = match read(reader, generation.end, BATCH_RECORDS) {
            Err(error @ ReadError::Io { .. }) => {
                tracing::warn!(%error, "the log cannot be read; trying again");
                return Ok(Applied::Nothing);
            }
            Err(damage) => {
                self.quarantine(&unread(generation.end, damage));
                return Ok(Applied::Nothing);
            }
            Ok(records) => records,
        };
        if records.is_empty() {
            return Ok(Applied::All);
        }
        let progress = &self.shared.progress;
        let (before, started) = (generation.end, Instant::now());
        let applied = feed::apply(&self.shared.client, generation, &records);
        if generation.end > before {
            let count = generation.end - before;
            progress.counters.record(count, started.elapsed());
            progress.end.send_replace(generation.end);
        }
        match applied {
            Ok(()) => {
                if self.is_quarantined() {
                    progress.set_phase(Phase::CatchingUp);
                }
                Ok(Applied::Records(records.len()))
            }
            Err(FeedError::Elsewhere) => Err(Left::Anew),
            Err(FeedError::Neo4j(error)) if error.is_passing() => Err(Left::Failed(error)),
            // A statement that is not taken, or what is not as we wrote it: told, and tried again
            // when somebody says so.
            Err(FeedError::Neo4j(error)) => {
                self.quarantine(&ApplyError {
                    position: generation.end,
                    event_type: "a batch of records".to_owned(),
                    reason: error.into(),
                });
                Ok(Applied::Nothing)
            }
            Err(FeedError::Apply(error)) => {
                self.quarantine(&error);
                Ok(Applied::Nothing)
            }
        }
    }

    fn quarantine(&self, error: &ApplyError) {
        let reason = causes(error.reason.as_ref());
        let (position, event_type) = (error.position, error.event_type.clone());
        tracing::error!(position, event_type, reason, "the graph in Neo4j stopped");
        self.shared.progress.set_phase(Phase::Quarantined {
            position,
            event_type,
            reason,
        });
    }

    /// Goes on with a generation that is being made; says whether there was such work.
    fn advance(&mut self, live: &Generation, pace: Live) -> Result<bool, Left> {
        let Some(mut making) = self.making.take() else {
            return Ok(false);
        };
        match making.step(live, pace, &self.shared.settings.reader) {
            Ok(Step::More) => self.making = Some(making),
            Ok(Step::Swapped(outcome)) => {
                self.shared.has_leftovers.store(true, Ordering::Release);
                self.left_since = None;
                // Whoever asks from here on asks the new one.
                let label = Arc::new(making.label().to_owned());
                self.shared.current.store(Some(label));
                making.answer(outcome);
                // The new one may pass what the old one could not apply.
                self.shared.progress.retry.store(true, Ordering::Release);
                return Err(Left::Anew);
            }
            Err(error) => {
                self.shared.has_leftovers.store(true, Ordering::Release);
                making.give_up(error);
                // Which one is in use is looked up: the answer to a swap may have been lost.
                return Err(Left::Anew);
            }
        }
        Ok(true)
    }

    /// Removes some of a generation that lost its place a while ago, or was never finished; says
    /// whether there was such work.
    fn remove_leftovers(&mut self) -> Result<bool, Neo4jError> {
        self.removed_at = Instant::now();
        let has_leftovers = &self.shared.has_leftovers;
        if !has_leftovers.load(Ordering::Acquire) {
            return Ok(false);
        }
        let since = *self.left_since.get_or_insert_with(Instant::now);
        // One that is being made is nobody's business.
        let generations = self.shared.generations.try_lock();
        let is_busy = generations.is_err() || self.shared.rebuilding.load(Ordering::Acquire);
        if since.elapsed() < RETIRED || is_busy {
            return Ok(false);
        }
        let (owner, client) = (&self.shared.owner, &self.shared.client);
        let left = all(owner, client, SHORT)?;
        match left.iter().find(|one| one.is != Use::Current) {
            Some(generation) => generation.remove_some(client).map(|_| true),
            None => {
                has_leftovers.store(false, Ordering::Release);
                self.left_since = None;
                Ok(false)
            }
        }
    }
}

/// Waits for the log to grow beyond a place, or for a while.
fn rest_at(head: &mut watch::Receiver<u64>, end: u64) {
    if *head.borrow_and_update() <= end {
        wait_for_change(head, LOOK_AROUND);
    }
}

/// Fails where a generation holds what the log does not.
pub(super) fn must_be_of_log(generation: &Generation, reader: &Reader) -> Result<(), NotOfLog> {
    let Some(last) = generation.end.checked_sub(1) else {
        return Ok(());
    };
    let is_of_log = match reader.read_one(Position::new(last)) {
        Ok(Some(record)) => Some(record.digest()) == generation.last,
        Ok(None) => false,
        // A record that cannot be read tells nothing of the graph.
        Err(_) => true,
    };
    if is_of_log {
        return Ok(());
    }
    Err(NotOfLog {
        applied: generation.end,
        end: reader.end().get(),
    })
}
