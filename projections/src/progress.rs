//! How far a projection is, for those who wait for it and those who ask.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use stemma_event_log::{Position, Reader};
use tokio::sync::watch;

use crate::runner::{LOOK_AROUND, wait_for_change};
use crate::status::{Counters, Phase, ProjectionStatus};

/// Why a wait for a position ended without it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WaitError {
    /// The time was up.
    #[error("{end} records are applied")]
    NotYet {
        /// How far they have come.
        end: u64,
    },
    /// The projection stopped at an event that it cannot apply.
    #[error("the projection is quarantined at position {position}")]
    Quarantined {
        /// Where it stopped.
        position: u64,
    },
    /// What keeps it cannot be reached.
    #[error("the projection is out of reach")]
    Away,
    /// The projection was stopped.
    #[error("the projection is stopped")]
    Stopped,
}

/// What the thread that applies tells, and what it is told.
pub(crate) struct Progress {
    reader: Reader,
    /// Records applied.
    pub(crate) end: watch::Sender<u64>,
    /// Changes when somebody waits for records that are not applied.
    pub(crate) urged: watch::Sender<u64>,
    pub(crate) phase: watch::Sender<Phase>,
    pub(crate) stop: AtomicBool,
    pub(crate) retry: AtomicBool,
    pub(crate) counters: Counters,
}

impl Progress {
    pub(crate) fn at(end: u64, reader: Reader) -> Self {
        Self {
            reader,
            end: watch::Sender::new(end),
            urged: watch::Sender::new(0),
            phase: watch::Sender::new(Phase::CatchingUp),
            stop: AtomicBool::new(false),
            retry: AtomicBool::new(false),
            counters: Counters::default(),
        }
    }

    pub(crate) fn end(&self) -> u64 {
        *self.end.borrow()
    }

    /// Has a thread that takes its time hurry, where so many records are not applied.
    pub(crate) fn urge(&self, end: u64) {
        if self.end() < end {
            self.urged.send_modify(|waits| *waits += 1);
        }
    }

    pub(crate) fn set_phase(&self, phase: Phase) {
        self.phase.send_if_modified(|now| {
            let changes = *now != phase;
            *now = phase;
            changes
        });
    }

    /// Waits until `end` records are applied; gives how many are.
    pub(crate) async fn wait_for(&self, end: u64, timeout: Duration) -> Result<u64, WaitError> {
        if self.end() >= end {
            return Ok(self.end());
        }
        let mut applied = self.end.subscribe();
        let mut phase = self.phase.subscribe();
        let reached = async {
            loop {
                let now = *applied.borrow_and_update();
                if now >= end {
                    return Ok(now);
                }
                if let Some(error) = in_vain(&phase.borrow_and_update()) {
                    return Err(error);
                }
                tokio::select! {
                    changed = applied.changed() => changed.map_err(|_| WaitError::Stopped)?,
                    changed = phase.changed() => changed.map_err(|_| WaitError::Stopped)?,
                }
            }
        };
        let waited = tokio::time::timeout(timeout, reached).await;
        waited.unwrap_or_else(|_| Err(WaitError::NotYet { end: self.end() }))
    }

    /// The same for a thread that may block, which gives up once `stop` is set.
    pub(crate) fn wait_for_blocking(
        &self,
        end: u64,
        timeout: Duration,
        stop: &AtomicBool,
    ) -> Result<u64, WaitError> {
        let until = Instant::now() + timeout;
        let mut applied = self.end.subscribe();
        loop {
            let now = *applied.borrow_and_update();
            if now >= end {
                return Ok(now);
            }
            if let Some(error) = in_vain(&self.phase.borrow()) {
                return Err(error);
            }
            if stop.load(Ordering::Acquire) {
                return Err(WaitError::Stopped);
            }
            match until.checked_duration_since(Instant::now()) {
                Some(left) => wait_for_change(&mut applied, left.min(LOOK_AROUND)),
                None => return Err(WaitError::NotYet { end: now }),
            }
        }
    }

    /// How far it has come and what it is doing.
    pub(crate) fn status(&self) -> ProjectionStatus {
        let end = self.end();
        let reader = &self.reader;
        let lag_positions = reader.end().get().saturating_sub(end);
        let oldest = if lag_positions > 0 {
            reader.read_one(Position::new(end)).ok()
        } else {
            None
        };
        ProjectionStatus {
            phase: self.phase.borrow().clone(),
            end,
            lag_positions,
            lacking_since_us: oldest.flatten().map(|oldest| oldest.recorded_at_us()),
        }
    }
}

/// Why nobody need wait on in such a phase.
fn in_vain(phase: &Phase) -> Option<WaitError> {
    match phase {
        Phase::Quarantined { position, .. } => Some(WaitError::Quarantined {
            position: *position,
        }),
        Phase::Away { .. } => Some(WaitError::Away),
        Phase::Stopped => Some(WaitError::Stopped),
        Phase::CatchingUp | Phase::Live => None,
    }
}
