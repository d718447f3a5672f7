//! What workers tell while they work, kept in memory: how far they are, and with what.
//!
//! It is never in the log: a percentage is worth nothing once the next one is there. Whoever
//! follows a job is woken by it, and by the job's own events.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use stemma_domain::id::JobId;
use tokio::sync::watch;

/// How far a job is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// 0 to 100.
    pub percent: u8,
    /// What it is doing, for people.
    pub message: String,
    /// Changes with each event of the job.
    pub revision: u64,
}

/// Somebody who follows a job.
#[derive(Debug)]
pub struct Watching {
    // In this order: the room is left once the receiver is gone.
    changes: watch::Receiver<Progress>,
    _room: Room,
}

impl Watching {
    /// Waits until the job tells something new; false when nothing more will come.
    pub async fn changed(&mut self) -> bool {
        self.changes.changed().await.is_ok()
    }

    /// How far it is.
    pub fn progress(&mut self) -> Progress {
        self.changes.borrow_and_update().clone()
    }
}

/// Keeps a job's place on the bus for as long as somebody follows it.
#[derive(Debug)]
struct Room {
    id: JobId,
    bus: Bus,
}

impl Drop for Room {
    fn drop(&mut self) {
        let mut places = self.bus.places();
        // The receiver went just before this.
        let is_last = places
            .get(&self.id)
            .is_some_and(|place| !place.is_active && place.told.receiver_count() == 0);
        if is_last {
            places.remove(&self.id);
        }
    }
}

#[derive(Debug)]
struct Place {
    told: watch::Sender<Progress>,
    /// Whether the job may still tell something.
    is_active: bool,
    /// The revision of the claim under which it was told last: events before it say nothing of it,
    /// and may be heard of behind it.
    claimed_at: u64,
}

/// All that is told; clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bus {
    places: Arc<Mutex<HashMap<JobId, Place>>>,
}

impl Bus {
    fn places(&self) -> MutexGuard<'_, HashMap<JobId, Place>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a worker tells how far it is, by the token of its claim.
    pub(crate) fn tell(&self, id: JobId, token: u64, percent: u8, message: &str) {
        let mut places = self.places();
        let place = places.entry(id).or_insert_with(|| Place {
            told: watch::Sender::default(),
            is_active: true,
            claimed_at: token,
        });
        place.claimed_at = place.claimed_at.max(token);
        // Whoever followed it before may have made the place.
        place.is_active = true;
        place.told.send_if_modified(|progress| {
            let is_new = progress.percent != percent || progress.message != message;
            progress.percent = percent.min(99);
            message.clone_into(&mut progress.message);
            is_new
        });
    }

    /// Notes that the job has an event more; `is_active` says whether a worker is at it.
    pub(crate) fn moved(&self, id: JobId, revision: u64, is_active: bool) {
        let mut places = self.places();
        let Some(place) = places.get_mut(&id) else {
            return;
        };
        if revision < place.claimed_at {
            return;
        }
        place.is_active = is_active;
        place.told.send_modify(|progress| {
            progress.revision = revision;
            if !is_active {
                progress.percent = 0;
                progress.message.clear();
            }
        });
        if !is_active && place.told.receiver_count() == 0 {
            places.remove(&id);
        }
    }

    /// How far a job is, if it told.
    pub(crate) fn progress(&self, id: JobId) -> Option<Progress> {
        let places = self.places();
        places.get(&id).map(|place| place.told.borrow().clone())
    }

    /// Follows a job.
    pub(crate) fn follow(&self, id: JobId) -> Watching {
        let mut places = self.places();
        let place = places.entry(id).or_insert_with(|| Place {
            told: watch::Sender::default(),
            is_active: false,
            claimed_at: 0,
        });
        Watching {
            changes: place.told.subscribe(),
            _room: Room {
                id,
                bus: self.clone(),
            },
        }
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.places().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    const JOB: JobId = JobId::new(Uuid::from_u128(1));

    #[test]
    fn one_who_followed_a_job_from_before_it_was_told_takes_nothing_away_by_leaving() {
        let bus = Bus::default();
        let watching = bus.follow(JOB);
        bus.tell(JOB, 1, 40, "parsing");
        drop(watching);
        assert_eq!(bus.progress(JOB).unwrap().message, "parsing");
    }

    /// A worker may be at a job before the views are heard of that it was queued.
    #[test]
    fn an_event_from_before_the_claim_takes_nothing_away() {
        let bus = Bus::default();
        bus.tell(JOB, 1, 40, "parsing");
        bus.moved(JOB, 0, false);
        bus.moved(JOB, 1, true);
        assert_eq!(bus.progress(JOB).unwrap().message, "parsing");
        bus.moved(JOB, 2, false);
        assert_eq!(bus.len(), 0);
    }

    #[test]
    fn the_bus_holds_nothing_of_jobs_that_nobody_works_on_or_follows() {
        let bus = Bus::default();
        bus.tell(JOB, 2, 40, "parsing");
        assert_eq!(bus.progress(JOB).unwrap().percent, 40);
        let watching = bus.follow(JOB);
        bus.moved(JOB, 3, false);
        assert_eq!(bus.len(), 1);
        drop(watching);
        assert_eq!(bus.len(), 0);
        drop(bus.follow(JOB));
        assert_eq!(bus.len(), 0);
        bus.tell(JOB, 2, 40, "parsing");
        bus.moved(JOB, 4, false);
        assert_eq!(bus.len(), 0);
    }
}
