//! Who may use what tenant, and who opens, closes or deletes it: decided under one lock that is held
//! for no longer than the decision.
//!
//! Invariants: a tenant is opened, closed and deleted by one at a time, and is closed only while
//! nobody uses it. At most so many as may be are open, those counted that are being opened. What is
//! begun is told to those who wait for it, come what may.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use stemma_api::{TenantError, Told, Usage};
use stemma_domain::value::TenantName;
use tokio::sync::watch;

/// How long it is until a deletion that failed is tried again.
const DELETE_AGAIN: Duration = Duration::from_mins(1);

/// What a slot holds: a tenant.
pub(crate) trait Held {
    /// What those get who use it.
    type Shown: Clone;

    fn shown(&self) -> Self::Shown;

    /// Whether there is work that goes on without anybody asking.
    fn is_at_work(&self) -> bool;

    /// Whether it is not known yet what work there is. It is not closed for being idle then, but
    /// gives way to one that is asked for.
    fn is_settling(&self) -> bool;

    /// Ends what has no end of its own. Does not wait for it.
    fn end_streams(&self);
}

/// All tenants that are open, or are being opened, closed or deleted.
pub(crate) struct Slots<T> {
    open_max: usize,
    inner: Mutex<Inner<T>>,
    /// Wakes the thread that deletes.
    wake: SyncSender<()>,
}

struct Inner<T> {
    by_name: HashMap<TenantName, Slot<T>>,
    doomed: HashMap<TenantName, Doomed>,
    is_stopping: bool,
}

struct Slot<T> {
    stage: Stage<T>,
    uses: Arc<Uses>,
    /// Tells those who wait what came of what is under way.
    told: watch::Sender<Told>,
}

enum Stage<T> {
    /// Somebody opens it, unless they are told to stop.
    Opening {
        stop: watch::Sender<bool>,
    },
    Open(T),
    /// Somebody closes it; `is_replaced` while it makes room for one that is counted already.
    Closing {
        is_replaced: bool,
    },
}

/// A tenant that is to be deleted once nobody uses it.
struct Doomed {
    told: watch::Sender<Told>,
    /// When it is tried, again if it failed.
    not_before: Instant,
}

/// Those who use a tenant.
struct Uses {
    count: AtomicUsize,
    last: Mutex<Instant>,
    is_doomed: AtomicBool,
    wake: SyncSender<()>,
}

/// One who uses a tenant, or looks at it.
pub(crate) struct User {
    uses: Arc<Uses>,
    purpose: Purpose,
}

/// What somebody has a tenant for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Use,
    /// Looking keeps it open meanwhile, and no longer.
    Look,
}

impl Usage for User {}

impl Drop for User {
    fn drop(&mut self) {
        if self.purpose == Purpose::Use {
            *unpoisoned(&self.uses.last) = Instant::now();
        }
        let is_last = self.uses.count.fetch_sub(1, Ordering::SeqCst) == 1;
        if is_last && self.uses.is_doomed.load(Ordering::SeqCst) {
            // Nobody hears it once the server stops; a full channel wakes as well.
            let _ = self.uses.wake.try_send(());
        }
    }
}

/// What who asks for a tenant is to do.
pub(crate) enum Step<T: Held> {
    /// Use it.
    Use(T::Shown, User),
    /// Wait, and ask again.
    Wait(watch::Receiver<Told>),
    /// Open it, and tell what came of that; or wait for it.
    Open(Opening<T>, watch::Receiver<Told>),
    /// Go without: so many are open and in use.
    Full { max: usize },
    /// Go without: it is being deleted, or the server stops.
    Refused,
}

/// The right to open a tenant, and the duty to tell what came of it.
pub(crate) struct Opening<T> {
    /// Becomes true when it is not wanted any more.
    pub(crate) stop: watch::Receiver<bool>,
    /// What is to be closed first, to make room.
    pub(crate) replaced: Option<(TenantName, T)>,
}

/// What is behind these locks is changed whole.
fn unpoisoned<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T: Held> Slot<T> {
    fn is_idle_for(&self, time: Duration) -> bool {
        // Whoever waited for it will ask for it in a moment.
        let is_wanted = self.told.receiver_count() > 0;
        !is_wanted && !self.is_used() && unpoisoned(&self.uses.last).elapsed() >= time
    }

    fn user(&self, purpose: Purpose) -> User {
        self.uses.count.fetch_add(1, Ordering::SeqCst);
        User {
            uses: Arc::clone(&self.uses),
            purpose,
        }
    }

    fn is_used(&self) -> bool {
        self.uses.count.load(Ordering::SeqCst) > 0
    }

    fn counts(&self) -> bool {
        !matches!(self.stage, Stage::Closing { is_replaced: true })
    }

    fn may_be_closed(&self, idle_for: Duration) -> bool {
        // In this order: whether there is work takes longer to find out.
        matches!(&self.stage, Stage::Open(held) if self.is_idle_for(idle_for) && !held.is_at_work())
    }
}

impl<T: Held> Slots<T> {
    /// None yet, of which `open_max` may be open; `wake` is told when the last user of one that is
    /// to be deleted has gone.
    pub(crate) fn new(open_max: usize, wake: SyncSender<()>) -> Self {
        Self {
            open_max,
            inner: Mutex::new(Inner {
                by_name: HashMap::new(),
                doomed: HashMap::new(),
                is_stopping: false,
            }),
            wake,
        }
    }

    fn slot(&self, stage: Stage<T>) -> Slot<T> {
        let uses = Uses {
            count: AtomicUsize::new(0),
            last: Mutex::new(Instant::now()),
            is_doomed: AtomicBool::new(false),
            wake: self.wake.clone(),
        };
        Slot {
            stage,
            uses: Arc::new(uses),
            told: watch::Sender::new(None),
        }
    }

    /// What to do to use a tenant.
    pub(crate) fn ask(&self, name: &TenantName) -> Step<T> {
        let mut inner = unpoisoned(&self.inner);
        if inner.is_stopping || inner.doomed.contains_key(name) {
            return Step::Refused;
        }
        if let Some(slot) = inner.by_name.get(name) {
            return match &slot.stage {
                Stage::Open(held) => Step::Use(held.shown(), slot.user(Purpose::Use)),
                Stage::Opening { .. } | Stage::Closing { .. } => Step::Wait(slot.told.subscribe()),
            };
        }
        let mut replaced = None;
        if inner.by_name.values().filter(|slot| slot.counts()).count() >= self.open_max {
            let idle = inner.by_name.iter();
            let idle = idle.filter(|(_, slot)| slot.may_be_closed(Duration::ZERO));
            let idle = idle.min_by_key(|(_, slot)| *unpoisoned(&slot.uses.last));
            let Some(chosen) = idle.map(|(name, _)| name.clone()) else {
                return inner.until_there_may_be_room(self.open_max);
            };
            let is_replaced = true;
            let held = inner.take(&chosen, Stage::Closing { is_replaced });
            replaced = held.map(|held| (chosen, held));
        }
        let (stop, stopped) = watch::channel(false);
        let slot = self.slot(Stage::Opening { stop });
        let told = slot.told.subscribe();
        inner.by_name.insert(name.clone(), slot);
        let opening = Opening {
            stop: stopped,
            replaced,
        };
        Step::Open(opening, told)
    }

    /// All that are open, to be looked at: they stay open meanwhile, and are no less idle after it.
    pub(crate) fn look(&self) -> Vec<(TenantName, T::Shown, User)> {
        let inner = unpoisoned(&self.inner);
        let open = inner.by_name.iter();
        let open = open.filter(|(name, _)| !inner.doomed.contains_key(*name));
        let open = open.filter_map(|(name, slot)| match &slot.stage {
            Stage::Open(held) => Some((name.clone(), held.shown(), slot.user(Purpose::Look))),
            _ => None,
        });
        open.collect()
    }

    /// Takes in what came of opening; gives it back where it is not wanted any more.
    pub(crate) fn opened(&self, name: &TenantName, held: T) -> Result<(), T> {
        let mut inner = unpoisoned(&self.inner);
        let is_unwanted = inner.is_stopping || inner.doomed.contains_key(name);
        match inner.by_name.get_mut(name) {
            Some(slot) if matches!(slot.stage, Stage::Opening { .. }) && !is_unwanted => {
                *unpoisoned(&slot.uses.last) = Instant::now();
                slot.stage = Stage::Open(held);
                slot.told.send_replace(Some(Ok(())));
                Ok(())
            }
            _ => Err(held),
        }
    }

    /// Tells what came of opening or closing a tenant that is not open now.
    pub(crate) fn ended(&self, name: &TenantName, told: Told) {
        let mut inner = unpoisoned(&self.inner);
        if let Some(slot) = inner.by_name.remove(name) {
            slot.told.send_replace(told);
        }
        if inner.doomed.contains_key(name) {
            // Nobody hears it once the server stops; a full channel wakes as well.
            let _ = self.wake.try_send(());
        }
    }

    /// A tenant that nobody used for so long and that has no work, to be closed and
    /// [told](Self::ended) of.
    pub(crate) fn idle_for(&self, time: Duration) -> Option<(TenantName, T)> {
        let mut inner = unpoisoned(&self.inner);
        let idle = inner.by_name.iter();
        let is_settled =
            |slot: &Slot<T>| matches!(&slot.stage, Stage::Open(held) if !held.is_settling());
        let idle = idle.filter(|(_, slot)| slot.may_be_closed(time) && is_settled(slot));
        let (name, _) = idle.min_by_key(|(_, slot)| *unpoisoned(&slot.uses.last))?;
        let name = name.clone();
        let is_replaced = false;
        let held = inner.take(&name, Stage::Closing { is_replaced })?;
        Some((name, held))
    }

    /// Lets nobody use a tenant from here on, has its streams end, and gives what tells when it is
    /// deleted. Cannot be taken back.
    pub(crate) fn doom(&self, name: &TenantName) -> watch::Receiver<Told> {
        let mut inner = unpoisoned(&self.inner);
        if let Some(slot) = inner.by_name.get(name) {
            slot.uses.is_doomed.store(true, Ordering::SeqCst);
            match &slot.stage {
                Stage::Open(held) => held.end_streams(),
                Stage::Opening { stop } => _ = stop.send_replace(true),
                Stage::Closing { .. } => {}
            }
        }
        let doomed = inner.doomed.entry(name.clone()).or_insert_with(|| Doomed {
            told: watch::Sender::new(None),
            not_before: Instant::now(),
        });
        let _ = self.wake.try_send(());
        doomed.told.subscribe()
    }

    /// What tells when a tenant is deleted that is to be.
    pub(crate) fn doomed(&self, name: &TenantName) -> Option<watch::Receiver<Told>> {
        let inner = unpoisoned(&self.inner);
        inner.doomed.get(name).map(|doomed| doomed.told.subscribe())
    }

    /// A tenant to be deleted that nobody uses any more: to be closed if it is open, then deleted
    /// and [told](Self::deleted) of. For one thread alone.
    pub(crate) fn to_delete(&self) -> Option<(TenantName, Option<T>)> {
        let mut inner = unpoisoned(&self.inner);
        let now = Instant::now();
        let is_ready = |name: &&TenantName| {
            let slot = inner.by_name.get(*name);
            slot.is_none_or(|slot| matches!(slot.stage, Stage::Open(_)) && !slot.is_used())
        };
        let due = inner.doomed.iter();
        let due = due.filter(|(_, doomed)| doomed.not_before <= now);
        let name = due.map(|(name, _)| name).find(is_ready)?.clone();
        let held = inner.take(&name, Stage::Closing { is_replaced: false });
        Some((name, held))
    }

    /// Tells what came of deleting a tenant; one that could not be deleted is tried again later.
    pub(crate) fn deleted(&self, name: &TenantName, done: Result<(), TenantError>) {
        let mut inner = unpoisoned(&self.inner);
        if let Some(slot) = inner.by_name.remove(name) {
            slot.told.send_replace(Some(Ok(())));
        }
        if done.is_ok() {
            if let Some(doomed) = inner.doomed.remove(name) {
                doomed.told.send_replace(Some(Ok(())));
            }
        } else if let Some(doomed) = inner.doomed.get_mut(name) {
            doomed.not_before = Instant::now() + DELETE_AGAIN;
            doomed.told.send_replace(Some(done));
            doomed.told = watch::Sender::new(None);
        }
    }

    pub(crate) fn is_open(&self, name: &TenantName) -> bool {
        let inner = unpoisoned(&self.inner);
        let slot = inner.by_name.get(name);
        slot.is_some_and(|slot| matches!(slot.stage, Stage::Open(_)))
    }

    /// Lets no more be opened, has what is being opened broken off, and ends all streams. Does not
    /// wait for any of it.
    pub(crate) fn begin_stop(&self) {
        let mut inner = unpoisoned(&self.inner);
        inner.is_stopping = true;
        for slot in inner.by_name.values() {
            match &slot.stage {
                Stage::Open(held) => held.end_streams(),
                Stage::Opening { stop } => _ = stop.send_replace(true),
                Stage::Closing { .. } => {}
            }
        }
    }

    pub(crate) fn is_stopping(&self) -> bool {
        unpoisoned(&self.inner).is_stopping
    }

    /// One that is still open, whoever uses it; to be closed and [told](Self::ended) of.
    pub(crate) fn take_any(&self) -> Option<(TenantName, T)> {
        let mut inner = unpoisoned(&self.inner);
        let is_open = |slot: &Slot<T>| matches!(slot.stage, Stage::Open(_));
        let found = inner.by_name.iter().find(|(_, slot)| is_open(slot));
        let name = found.map(|(name, _)| name.clone())?;
        let held = inner.take(&name, Stage::Closing { is_replaced: false })?;
        Some((name, held))
    }
}

impl<T: Held> Inner<T> {
    /// Takes out what is open, to be closed.
    fn take(&mut self, name: &TenantName, closing: Stage<T>) -> Option<T> {
        let slot = self.by_name.get_mut(name)?;
        match std::mem::replace(&mut slot.stage, closing) {
            Stage::Open(held) => {
                slot.told = watch::Sender::new(None);
                Some(held)
            }
            other => {
                slot.stage = other;
                None
            }
        }
    }

    /// Where as many are open as may be and none can be closed: what comes of one that is being
    /// opened or closed may change that.
    fn until_there_may_be_room(&self, max: usize) -> Step<T> {
        let is_moving = |slot: &&Slot<T>| !matches!(slot.stage, Stage::Open(_));
        match self.by_name.values().find(is_moving) {
            Some(slot) => Step::Wait(slot.told.subscribe()),
            None => Step::Full { max },
        }
    }
}

#[cfg(test)]
mod tests;
