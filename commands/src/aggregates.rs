//! Folded resources, kept between commands.
//!
//! A resource's state is decided upon, and moved on, under its slot's lock, before the log has
//! answered: many commands to one resource share one sync. The log stays the judge, since every
//! batch names the revision it was decided at. Invariant: a state here is the fold of what the log
//! holds and of what stands in the queue, or its slot is stale and the state is folded anew. What
//! only the log can tell (times, positions) is provisional until [`Flight::land`].

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, MutexGuard, PoisonError};

use quick_cache::sync::Cache;
use quick_cache::{DefaultHashBuilder, Lifecycle, OptionsBuilder, Weighter};
use stemma_domain::id::{AnnotationId, ResourceId};
use stemma_domain::resource::Resource;
use stemma_domain::time::Timestamp;
use stemma_event_log::{Appender, Reader};
use tokio::sync::{Mutex, Notify, OwnedMutexGuard};

use crate::folded::{Folded, Folding, Looks};
use crate::history::HistoryError;
use crate::in_flight::InFlight;
use crate::request::OperationResult;

/// Stands for a time that the log has yet to tell.
pub(crate) const UNRECORDED: Timestamp = Timestamp::from_micros(i64::MIN);

/// How often a lock may be lost to one who came later before it is waited for in line.
const LOSSES_MAX: usize = 16;
/// Bytes that an annotation in memory is reckoned to take.
const ANNOTATION_BYTES: u64 = 1024;
/// Bytes that the place of one is reckoned to take.
const PLACE_BYTES: u64 = 96;
/// A resource is never reckoned larger than this part of the cache: folding a giant anew for every
/// command would cost far more than the memory that it takes beyond its share.
const GIANTS: u64 = 8;
/// Bytes that a resource without annotations is reckoned to take in memory.
const RESOURCE_BYTES: u64 = 2048;

/// The folded resources, within a limit of bytes.
pub(crate) struct Aggregates {
    reader: Reader,
    appender: Appender,
    slot_bytes_max: u64,
    abandoned: Arc<Abandoned>,
    slots: Cache<ResourceId, Kept, SlotBytes, DefaultHashBuilder, KeepUsed>,
}

/// Where one resource's state is kept.
#[derive(Debug)]
pub(crate) struct Slot {
    id: ResourceId,
    state: Arc<Mutex<SlotState>>,
    /// Told when the state is unlocked.
    unlocked: Notify,
    /// Set when a command ended without telling what became of it: before the state is folded anew,
    /// all that stands in the queue must be dealt with.
    stale: AtomicBool,
    /// How often it was set.
    times_stale: AtomicU64,
    in_flight: InFlight,
    bytes: AtomicU64,
}

/// What is known of a resource.
#[derive(Debug, Default)]
pub(crate) enum SlotState {
    /// Nothing: it must be folded.
    #[default]
    Unknown,
    /// As far as it was folded before whoever did so left.
    Begun(Box<Folding>),
    /// There is no such resource, or this is it.
    Known(Option<Box<Folded>>),
}

/// The slots of batches whose clients left while they stood in the queue: kept, so that no other
/// slot is made that knows nothing of the batch.
#[derive(Debug, Default)]
struct Abandoned {
    slots: std::sync::Mutex<Vec<Arc<Slot>>>,
    are_some: AtomicBool,
}

/// A slot with the size that it was reckoned to have when it was put into the cache, which must
/// not change while it is there.
#[derive(Debug, Clone)]
struct Kept {
    slot: Arc<Slot>,
    bytes: u64,
}

#[derive(Debug, Clone)]
struct SlotBytes;

impl Weighter<ResourceId, Kept> for SlotBytes {
    fn weight(&self, _: &ResourceId, kept: &Kept) -> u64 {
        kept.bytes
    }
}

/// Keeps in the cache whatever somebody holds. Else a resource would get a second slot while a
/// batch of the first stands in the queue, and the second would never hear of it.
#[derive(Debug, Clone, Default)]
struct KeepUsed;

impl Lifecycle<ResourceId, Kept> for KeepUsed {
    type RequestState = ();

    fn is_pinned(&self, _: &ResourceId, kept: &Kept) -> bool {
        Arc::strong_count(&kept.slot) > 1
    }
}

/// A slot whose state nobody else can see or move.
#[derive(Debug)]
pub(crate) struct LockedSlot {
    state: StateGuard,
    abandoned: Arc<Abandoned>,
    /// Whether the state holds what no batch carries yet.
    is_ahead: bool,
}

/// What stood in the queue of a slot while it was locked.
#[derive(Debug)]
pub(crate) struct Queued {
    slot: Arc<Slot>,
    /// The flights before this one.
    before: u64,
    was_stale: bool,
    times_stale: u64,
}

/// A state that is locked; the next one is told when it no longer is.
#[derive(Debug)]
struct StateGuard {
    slot: Arc<Slot>,
    /// There until the drop.
    locked: Option<OwnedMutexGuard<SlotState>>,
}

/// Tells the next one when a place in line is given up: the lock may have been handed over already.
struct TellNext<'a>(&'a Notify);

impl Drop for TellNext<'_> {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

/// A batch that stands in the queue, as one of its slots sees it.
///
/// Dropped without having landed (the client left, the log refused), it makes the slot stale.
#[derive(Debug)]
pub(crate) struct Flight {
    slot: Arc<Slot>,
    number: u64,
    abandoned: Arc<Abandoned>,
    answered: bool,
    landed: bool,
}

/// What the log told of a batch, for one of its resources.
#[derive(Debug, Clone)]
pub(crate) struct Landing {
    /// When the batch was recorded.
    pub(crate) recorded_at: Timestamp,
    /// The resource's first revision in the batch.
    pub(crate) first_revision: u64,
    /// The resource's last revision in the batch.
    pub(crate) last_revision: u64,
    /// The annotations that the batch added, each with its event's position and revision, by
    /// revision.
    pub(crate) added: Vec<(AnnotationId, u64, u64)>,
    /// The annotations whose bodies the batch changed, with the positions and revisions that did.
    pub(crate) changed: Vec<(AnnotationId, u64, u64)>,
}

impl Aggregates {
    pub(crate) fn new(reader: Reader, appender: Appender, cache_bytes: u64) -> Self {
        let items = usize::try_from(cache_bytes / RESOURCE_BYTES)
            .unwrap_or(usize::MAX)
            .max(16);
        // A shard drops at once what alone is larger than itself, so there is only one.
        let options = OptionsBuilder::new()
            .estimated_items_capacity(items)
            .weight_capacity(cache_bytes)
            .shards(1)
            .build()
            .expect("all that has no default is set");
        let hasher = DefaultHashBuilder::default();
        Self {
            reader,
            appender,
            abandoned: Arc::default(),
            slot_bytes_max: (cache_bytes / GIANTS).max(RESOURCE_BYTES),
            slots: Cache::with_options(options, SlotBytes, hasher, KeepUsed),
        }
    }

    /// Locks a resource's slot and folds its state if it is not known, or does not tell what is
    /// looked for.
    pub(crate) async fn lock(
        &self,
        id: ResourceId,
        looks: Looks,
    ) -> Result<LockedSlot, HistoryError> {
        let slot = self.slot(id);
        if self.abandoned.are_some.load(Ordering::Acquire) {
            let mut kept = self.abandoned.take();
            self.appender.settled().await;
            kept.slots.clear();
        }
        let mut state = slot.lock().await;
        let is_stale = slot.stale.load(Ordering::Acquire);
        let mut is_folded = false;
        if is_stale || !matches!(*state, SlotState::Known(_)) {
            // What stands in the queue is not in the log yet, and nothing would bring it in later.
            // None can join it meanwhile, for that takes the lock.
            if is_stale || slot.in_flight.are_some() {
                self.appender.settled().await;
            }
            slot.stale.store(false, Ordering::Release);
            self.fold(&mut state, id, looks).await?;
            is_folded = true;
        } else if let SlotState::Known(Some(folded)) = &mut *state
            && looks == Looks::ForSome
        {
            is_folded = true;
            while folded.seek_places(&self.reader, id)? {
                tokio::task::yield_now().await;
            }
        }
        let locked = LockedSlot {
            state,
            abandoned: Arc::clone(&self.abandoned),
            is_ahead: false,
        };
        if is_folded {
            self.weigh(&locked);
        }
        Ok(locked)
    }

    /// Folds a resource's stream as the log holds it. A long stream is folded a piece at a time, and
    /// between them others have their turn on this thread; who leaves meanwhile leaves what is
    /// folded by then to the next one, for what the log holds it holds for good.
    async fn fold(
        &self,
        state: &mut SlotState,
        id: ResourceId,
        looks: Looks,
    ) -> Result<(), HistoryError> {
        loop {
            // A piece that cannot be read leaves nothing begun.
            let mut folding = match std::mem::take(state) {
                SlotState::Begun(folding) if folding.serves(looks) => folding,
                _ => Box::new(Folding::of(id, looks)),
            };
            if !folding.step(&self.reader)? {
                *state = SlotState::Known(folding.done().map(Box::new));
                return Ok(());
            }
            *state = SlotState::Begun(folding);
            tokio::task::yield_now().await;
        }
    }

    /// The one slot of a resource.
    fn slot(&self, id: ResourceId) -> Arc<Slot> {
        let new = || -> Result<Kept, Infallible> {
            Ok(Kept {
                slot: Arc::new(Slot::new(id)),
                bytes: RESOURCE_BYTES,
            })
        };
        let Ok(kept) = self.slots.get_or_insert_with(&id, new);
        kept.slot
    }

    /// Reckons a slot's size again once it has changed a good deal, so that the limit holds.
    pub(crate) fn weigh(&self, locked: &LockedSlot) {
        let (places, whole) = locked.folded().map_or((0, 0), Folded::counts);
        let bytes = RESOURCE_BYTES + places as u64 * PLACE_BYTES + whole as u64 * ANNOTATION_BYTES;
        let bytes = bytes.min(self.slot_bytes_max);
        let slot = &locked.state.slot;
        let reckoned = slot.bytes.load(Ordering::Relaxed);
        if bytes > 2 * reckoned || bytes < reckoned / 4 {
            slot.bytes.store(bytes, Ordering::Relaxed);
            let kept = Kept {
                slot: Arc::clone(slot),
                bytes,
            };
            self.slots.insert(slot.id, kept);
        }
    }

    /// How often a state was at hand, and how often it had to be folded.
    pub(crate) fn hits_and_misses(&self) -> (u64, u64) {
        (self.slots.hits(), self.slots.misses())
    }
}

impl Slot {
    fn new(id: ResourceId) -> Self {
        Self {
            id,
            state: Arc::default(),
            unlocked: Notify::new(),
            stale: AtomicBool::new(false),
            times_stale: AtomicU64::new(0),
            in_flight: InFlight::default(),
            bytes: AtomicU64::new(RESOURCE_BYTES),
        }
    }

    /// Locks the state for whoever runs when it is free, not for the one who has waited longest.
    ///
    /// Unless a long stream is folded, it is held for some microseconds, which is less than waking a
    /// sleeping thread takes: handed over in line, a resource that many write to would pass from sleeper to sleeper. Who lost it
    /// too often waits in line all the same.
    async fn lock(self: &Arc<Self>) -> StateGuard {
        let guard = |locked| StateGuard {
            slot: Arc::clone(self),
            locked: Some(locked),
        };
        for _ in 0..LOSSES_MAX {
            let unlocked = self.unlocked.notified();
            if let Ok(locked) = Arc::clone(&self.state).try_lock_owned() {
                return guard(locked);
            }
            unlocked.await;
        }
        let next = TellNext(&self.unlocked);
        let locked = Arc::clone(&self.state).lock_owned().await;
        std::mem::forget(next);
        guard(locked)
    }

    /// Has the state folded anew before it is decided upon again.
    pub(crate) fn forget(&self) {
        // In this order, and read in the other: who looks meanwhile sees the one or the other.
        self.stale.store(true, Ordering::SeqCst);
        self.times_stale.fetch_add(1, Ordering::SeqCst);
    }
}

impl Queued {
    /// Waits until the log has dealt with all of it, and says whether it holds all of it now.
    pub(crate) async fn landed(&self) -> bool {
        self.slot.in_flight.ended_before(self.before).await;
        let times_stale = self.slot.times_stale.load(Ordering::SeqCst);
        !self.was_stale && times_stale == self.times_stale
    }
}

impl std::ops::Deref for StateGuard {
    type Target = SlotState;

    fn deref(&self) -> &SlotState {
        self.locked.as_ref().expect("locked until the drop")
    }
}

impl std::ops::DerefMut for StateGuard {
    fn deref_mut(&mut self) -> &mut SlotState {
        self.locked.as_mut().expect("locked until the drop")
    }
}

impl Drop for StateGuard {
    fn drop(&mut self) {
        self.locked = None;
        self.slot.unlocked.notify_one();
    }
}

impl LockedSlot {
    pub(crate) fn id(&self) -> ResourceId {
        self.state.slot.id
    }

    pub(crate) fn slot(&self) -> Arc<Slot> {
        Arc::clone(&self.state.slot)
    }

    /// What stands in the queue by now and is in this state.
    pub(crate) fn queued(&self) -> Queued {
        let slot = self.slot();
        let times_stale = slot.times_stale.load(Ordering::SeqCst);
        Queued {
            before: slot.in_flight.next(),
            was_stale: slot.stale.load(Ordering::SeqCst),
            times_stale,
            slot,
        }
    }

    /// Whether some of this state may still be refused by the log, or has been since it was locked.
    pub(crate) fn is_unsure(&self) -> bool {
        let slot = &self.state.slot;
        slot.in_flight.are_some() || slot.stale.load(Ordering::Acquire)
    }

    /// Whether the state holds what no batch in the queue carries yet.
    pub(crate) fn is_ahead(&self) -> bool {
        self.is_ahead
    }

    /// Lets go from memory what was brought there to be looked at.
    pub(crate) fn let_go(&mut self) {
        if let Some(folded) = self.folded_mut() {
            folded.let_go();
        }
    }

    fn folded(&self) -> Option<&Folded> {
        match &*self.state {
            SlotState::Known(folded) => folded.as_deref(),
            SlotState::Unknown | SlotState::Begun(_) => None,
        }
    }

    /// The resource, with those of its annotations that were brought into memory.
    pub(crate) fn resource(&self) -> Option<&Resource> {
        self.folded().map(Folded::resource)
    }

    /// The state, for bringing annotations into memory, which changes nothing of what it is.
    pub(crate) fn folded_mut(&mut self) -> Option<&mut Folded> {
        match &mut *self.state {
            SlotState::Known(folded) => folded.as_deref_mut(),
            SlotState::Unknown | SlotState::Begun(_) => None,
        }
    }

    /// The state, to be moved on. Unless [`mark_queued`](Self::mark_queued) follows it is forgotten.
    pub(crate) fn state_mut(&mut self) -> &mut SlotState {
        self.is_ahead = true;
        &mut self.state
    }

    /// Marks that the batch stands in the queue: its flight answers for the state from here on.
    pub(crate) fn mark_queued(&mut self) {
        self.is_ahead = false;
    }

    /// Marks that a batch with this slot's next events is about to stand in the queue.
    pub(crate) fn take_off(&self) -> Flight {
        let slot = self.slot();
        Flight {
            number: slot.in_flight.take_off(),
            slot,
            abandoned: Arc::clone(&self.abandoned),
            answered: false,
            landed: false,
        }
    }
}

/// A state that was moved on to where the log will not follow is forgotten: after a refusal, and
/// when the client left while its request was being worked out.
impl Drop for LockedSlot {
    fn drop(&mut self) {
        if self.is_ahead {
            *self.state = SlotState::Unknown;
        }
    }
}

impl Abandoned {
    fn slots(&self) -> MutexGuard<'_, Vec<Arc<Slot>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, slot: &Arc<Slot>) {
        let mut slots = self.slots();
        slots.push(Arc::clone(slot));
        self.are_some.store(true, Ordering::Release);
    }

    fn take(&self) -> KeptAbandoned<'_> {
        let mut slots = self.slots();
        self.are_some.store(false, Ordering::Release);
        KeptAbandoned {
            abandoned: self,
            slots: std::mem::take(&mut *slots),
        }
    }
}

/// Slots of abandoned batches that somebody waits for. Who leaves meanwhile gives them back, for
/// their batches still stand in the queue.
struct KeptAbandoned<'a> {
    abandoned: &'a Abandoned,
    slots: Vec<Arc<Slot>>,
}

impl Drop for KeptAbandoned<'_> {
    fn drop(&mut self) {
        self.slots.iter().for_each(|slot| self.abandoned.add(slot));
    }
}

impl Flight {
    /// The log has told what became of the batch, or did not take it in.
    pub(crate) fn answered(&mut self) {
        self.answered = true;
    }

    /// The log holds the batch: what was provisional in the state is filled in.
    pub(crate) async fn land(mut self, landing: &Landing) {
        let mut state = self.slot.lock().await;
        if let SlotState::Known(Some(folded)) = &mut *state {
            folded.settle(landing);
            folded.let_go();
        }
        drop(state);
        self.landed = true;
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        if !self.landed {
            self.slot.forget();
            if !self.answered {
                self.abandoned.add(&self.slot);
            }
        }
        self.slot.in_flight.end(self.number);
    }
}

impl Landing {
    /// Fills in what was provisional in a state that has this batch's events in it.
    pub(crate) fn settle(&self, resource: &mut Resource) {
        let descriptor = &mut resource.descriptor;
        if self.first_revision == 0 {
            descriptor.created_at = self.recorded_at;
        }
        if (self.first_revision..=self.last_revision).contains(&descriptor.revision) {
            descriptor.updated_at = self.recorded_at;
        }
        for (id, position, _) in &self.added {
            if let Some(annotation) = resource.annotations.get_mut(id) {
                let annotation = Arc::make_mut(annotation);
                annotation.added_at = self.recorded_at;
                annotation.added_position = *position;
            }
        }
        for (id, _, revision) in &self.changed {
            if let Some(annotation) = resource.annotations.get_mut(id)
                && annotation.revision == *revision
            {
                Arc::make_mut(annotation).modified_at = Some(self.recorded_at);
            }
        }
    }

    /// Fills in what was provisional in the answer to an operation on resource `id`.
    pub(crate) fn settle_result(&self, id: ResourceId, result: &mut OperationResult) {
        let Some(descriptor) = result.descriptor.as_mut().filter(|d| d.id == id) else {
            return;
        };
        if self.first_revision == 0 {
            descriptor.created_at = self.recorded_at;
        }
        if (self.first_revision..=self.last_revision).contains(&descriptor.revision) {
            descriptor.updated_at = self.recorded_at;
        }
        let Some(annotation) = &mut result.annotation else {
            return;
        };
        // Added by this very operation, it stands where its revision says.
        let place = self
            .added
            .binary_search_by_key(&annotation.revision, |(_, _, revision)| *revision);
        let at_revision = place.ok().map(|index| &self.added[index]);
        let added = at_revision
            .filter(|(id, ..)| *id == annotation.id)
            .or_else(|| self.added.iter().find(|(id, ..)| *id == annotation.id));
        if let Some((_, position, _)) = added {
            annotation.added_at = self.recorded_at;
            annotation.added_position = *position;
        }
        let is_it = |(id, _, revision): &(AnnotationId, u64, u64)| {
            *id == annotation.id && *revision == annotation.revision
        };
        if self.changed.iter().any(is_it) {
            annotation.modified_at = Some(self.recorded_at);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::task::{Context, Poll, Waker};

    use uuid::Uuid;

    use super::*;

    /// Who left at the moment in which the lock was handed over took it along: nobody was told.
    #[test]
    fn a_lock_that_is_given_up_in_line_goes_to_the_next() {
        let slot = Arc::new(Slot::new(ResourceId::new(Uuid::nil())));
        let mut context = Context::from_waker(Waker::noop());
        let mut first = Box::pin(slot.lock());
        let Poll::Ready(held) = first.as_mut().poll(&mut context) else {
            panic!("nobody else has it")
        };
        let mut in_line = Box::pin(slot.lock());
        for _ in 0..=LOSSES_MAX {
            assert!(in_line.as_mut().poll(&mut context).is_pending());
            slot.unlocked.notify_one();
        }
        let mut next = Box::pin(slot.lock());
        assert!(next.as_mut().poll(&mut context).is_pending());
        drop(held);
        assert!(next.as_mut().poll(&mut context).is_pending());
        drop(in_line);
        assert!(next.as_mut().poll(&mut context).is_ready());
    }
}
