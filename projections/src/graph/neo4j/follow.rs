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
use super::generation::{Generation, Use, all, make};
use super::rebuild::{Making, Step};
use crate::projection::NotOfLog;
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
const PING: Duration = Duration::from_secs(2);
/// How long to wait before the first new try, and at the most; doubled in between.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// How long a generation is kept after another took its place: queries may still run over it.
const RETIRED: Duration = Duration::from_secs(15);

pub(super) struct Follower {
    shared: Arc<Shared>,
    inbox: mpsc::Receiver<Box<Making>>,
    making: Option<Box<Making>>,
    /// Since when there are generations that are of no use.
    left_since: Option<Instant>,
}

/// Tells that the thread has ended, however it did.
struct Ending(Arc<Shared>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.progress.set_phase(Phase::Stopped);
    }
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
            let reason = match left {
                Left::Stopped => break,
                Left::Anew => continue,
                Left::Unusable(reason) => {
                    tracing::error!(reason, "the graph in Neo4j cannot be had; the views answer");
                    self.shared.unusable.send_replace(Some(reason));
                    self.rest_until_asked();
                    continue;
                }
                Left::Failed(error) => error.to_string(),
            };
            tracing::warn!(reason, "Neo4j is out of reach; trying again");
            if let Some(making) = self.making.take() {
                self.shared.has_leftovers.store(true, Ordering::Release);
                making.give_up(Neo4jError::Away(reason.clone()).into());
            }
            self.shared.progress.set_phase(Phase::Away { reason });
            self.rest(wait);
            wait = (2 * wait).min(BACKOFF.1);
        }
        if let Some(making) = self.making.take() {
            making.give_up(crate::rebuild::RebuildError::Stopped);
        }
    }

    fn is_stopped(&self) -> bool {
        self.shared.progress.stop.load(Ordering::Acquire)
    }

    /// Rests for so long, or until it is told to stop.
    fn rest(&self, wait: Duration) {
        let until = Instant::now() + wait;
        while !self.is_stopped()
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
            if let Ok(making) = self.inbox.try_recv() {
                if making.take_over_unasked() {
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
        let found = all(owner, client)?;
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
        if !matches!(*shared.progress.phase.borrow(), Phase::Quarantined { .. }) {
            shared.progress.phase.send_replace(Phase::CatchingUp);
        }
        Ok(generation)
    }

    /// Applies records as they come.
    fn follow(&mut self, mut generation: Generation) -> Left {
        let reader = self.shared.settings.reader.clone();
        let mut head = reader.follow();
        let mut urged = self.shared.progress.urged.subscribe();
        let mut asked_at = Instant::now();
        loop {
            if self.is_stopped() {
                return Left::Stopped;
            }
            if self.making.is_none() {
                self.making = self.inbox.try_recv().ok();
            }
            let is_retried = self.shared.progress.retry.swap(false, Ordering::AcqRel);
            let is_stuck = self.is_quarantined() && !is_retried;
            let applied = if is_stuck {
                Ok(0)
            } else {
                self.apply_next(&mut generation, &reader)
            };
            let count = match applied {
                Ok(count) => count,
                Err(left) => return left,
            };
            if count > 0 {
                asked_at = Instant::now();
            }
            match self.advance(&mut generation, is_stuck) {
                Ok(true) => continue,
                Ok(false) => {}
                Err(left) => return left,
            }
            if count == BATCH_RECORDS {
                continue;
            }
            if count > 0 {
                wait_for_change(&mut urged, PACE);
                continue;
            }
            if !self.is_quarantined() {
                self.shared.progress.set_phase(Phase::Live);
            }
            if asked_at.elapsed() >= PING_EVERY {
                if let Err(error) = self.shared.client.rows(query("RETURN 1"), PING) {
                    return error.into();
                }
                asked_at = Instant::now();
            }
            match self.remove_leftovers() {
                Ok(true) => continue,
                Ok(false) => {}
                Err(error) => return error.into(),
            }
            rest_at(&mut head, generation.end);
        }
    }

    fn is_quarantined(&self) -> bool {
        let phase = self.shared.progress.phase.borrow();
        matches!(*phase, Phase::Quarantined { .. })
    }

    /// Applies the next records; gives how many there were.
    fn apply_next(&self, generation: &mut Generation, reader: &Reader) -> Result<usize, Left> {
        let records = match read(reader, generation.end, BATCH_RECORDS) {
            Err(error @ ReadError::Io { .. }) => {
                tracing::warn!(%error, "the log cannot be read; trying again");
                self.rest(LOOK_AROUND);
                return Ok(0);
            }
            Err(damage) => {
                self.quarantine(&unread(generation.end, damage));
                return Ok(0);
            }
            Ok(records) => records,
        };
        if records.is_empty() {
            return Ok(0);
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
                Ok(records.len())
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
                Ok(0)
            }
            Err(FeedError::Apply(error)) => {
                self.quarantine(&error);
                Ok(0)
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
    fn advance(&mut self, live: &mut Generation, is_stuck: bool) -> Result<bool, Left> {
        let Some(mut making) = self.making.take() else {
            return Ok(false);
        };
        match making.step(live, is_stuck, &self.shared.settings.reader) {
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
            }
        }
        Ok(true)
    }

    /// Removes some of a generation that lost its place a while ago, or was never finished; says
    /// whether there was such work.
    fn remove_leftovers(&mut self) -> Result<bool, Neo4jError> {
        let has_leftovers = &self.shared.has_leftovers;
        if !has_leftovers.load(Ordering::Acquire) {
            return Ok(false);
        }
        let since = *self.left_since.get_or_insert_with(Instant::now);
        // One that is being made is nobody's business.
        if since.elapsed() < RETIRED || self.shared.rebuilding.load(Ordering::Acquire) {
            return Ok(false);
        }
        let (owner, client) = (&self.shared.owner, &self.shared.client);
        let left = all(owner, client)?;
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
