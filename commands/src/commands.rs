//! Carrying requests out.
//!
//! One pass: lock the resources in order of id, work the request out, put the batch into the log's
//! queue, release the locks, wait for the log. A pass that lost a race is tried again on what the
//! log holds by then. Invariant: locks are held until the batch stands in the queue, so batches of
//! one resource stand there in the order in which they were decided.

use std::collections::HashSet;
use std::sync::Arc;

use stemma_content_store::ContentStore;
use stemma_domain::access::Sight;
use stemma_domain::annotation::TextIndex;
use stemma_domain::document::Document;
use stemma_domain::event::RequestAnswered;
use stemma_domain::id::{JobId, ResourceId};
use stemma_domain::job::Job;
use stemma_domain::resource::{AnnotationState, Descriptor, IriNames, Refusal, Resource};
use stemma_domain::time::Timestamp;
use stemma_event_log::{
    AppendError, Appender, Batch, Committed, Idempotency, Metadata, Outcome, Reader, Record,
    Revision, StreamId,
};
use tokio::sync::Semaphore;

use crate::aggregates::{Aggregates, Flight, LockedSlot, Queued, Slot, UNRECORDED};
use crate::anchored::{APART_MAX, Anchored, annotated, apart};
use crate::answered::{self, Answered};
use crate::environment::{Clock, Ids};
use crate::error::CommandError;
use crate::folded::Looks;
use crate::history::{self, AsOf, HistoryError, Past, PastState};
use crate::plan::{Plan, Planner, UNPLACED};
use crate::replay;
use crate::request::{OperationResult, Request, Target, Written};
use crate::short::{self, Short};
use crate::text::{TextError, Texts};

/// Content above this many bytes is read on a thread of its own.
const READ_INLINE_BYTES_MAX: u64 = 256 * 1024;

/// Limits of the write path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Most bytes of folded resources that are kept, 64 MiB by default.
    pub aggregate_cache_bytes: u64,
    /// Most bytes of texts that are kept for anchoring, 64 MiB by default.
    pub text_cache_bytes: u64,
    /// Longest content that annotations are anchored in, 16 MiB by default.
    pub text_bytes_max: u64,
    /// Most events of one request, 65,535 by default, which is the most that a batch holds.
    pub batch_events_max: usize,
    /// How often a request that lost a race is tried, 64 by default.
    pub attempts_max: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            aggregate_cache_bytes: 64 << 20,
            text_cache_bytes: 64 << 20,
            text_bytes_max: 16 << 20,
            batch_events_max: 65_535,
            attempts_max: 64,
        }
    }
}

/// What the write path works with.
#[derive(Clone)]
pub struct Dependencies {
    /// The one right to write.
    pub appender: Appender,
    /// What has been written.
    pub reader: Reader,
    /// Where content is.
    pub content: ContentStore,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// New identities.
    pub ids: Arc<dyn Ids>,
}

/// The write path; clones share all of it.
#[derive(Clone)]
pub struct Commands {
    shared: Arc<Shared>,
}

struct Shared {
    on: Dependencies,
    options: Options,
    aggregates: Aggregates,
    texts: Arc<Texts>,
    /// Places for annotations that take long to be anchored.
    anchoring: Arc<Semaphore>,
}

impl std::fmt::Debug for Commands {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Commands")
            .field("options", &self.shared.options)
            .finish_non_exhaustive()
    }
}

/// What one pass came to.
enum Pass {
    Done(Written),
    /// The same request was carried out before; its answer is in the log.
    Replay,
    /// Others were faster; the log has to tell anew.
    Again,
}

impl Commands {
    /// Puts the write path together.
    pub fn new(on: Dependencies, options: Options) -> Self {
        let aggregates = Aggregates::new(
            on.reader.clone(),
            on.appender.clone(),
            options.aggregate_cache_bytes,
        );
        let texts = Texts::new(
            on.content.clone(),
            options.text_bytes_max,
            options.text_cache_bytes,
        );
        let texts = Arc::new(texts);
        Self {
            shared: Arc::new(Shared {
                on,
                options,
                aggregates,
                texts,
                anchoring: Arc::new(Semaphore::new(APART_MAX)),
            }),
        }
    }

    /// The store of content, for putting content before the request that names it.
    pub fn content(&self) -> &ContentStore {
        &self.shared.on.content
    }

    /// The log, for reading.
    pub fn reader(&self) -> &Reader {
        &self.shared.on.reader
    }

    /// The writer's state and counters, and the way back after a failed sync.
    pub fn appender(&self) -> &Appender {
        &self.shared.on.appender
    }

    /// The present instant: by the clock, but never before what was recorded last. Recorded time
    /// does not go back where the clock is set back, and what is there now is there at this instant.
    pub fn now(&self) -> Timestamp {
        let head = self.shared.on.reader.head();
        let recorded = head.map(|head| Timestamp::from_micros(head.recorded_at_us));
        let clock = self.shared.on.clock.now();
        recorded.map_or(clock, |recorded| recorded.max(clock))
    }

    /// A new identity.
    pub fn new_id(&self) -> uuid::Uuid {
        self.shared.on.ids.new_id()
    }

    /// Hits and misses of the folded resources.
    pub fn aggregate_hits_and_misses(&self) -> (u64, u64) {
        self.shared.aggregates.hits_and_misses()
    }

    /// Hits and misses of the texts kept for anchoring.
    pub fn text_hits_and_misses(&self) -> (u64, u64) {
        self.shared.texts.hits_and_misses()
    }

    /// What described a resource at a moment of the past, without its annotations. However many
    /// events it has had, others have their turn on this thread meanwhile.
    ///
    /// # Errors
    /// [`HistoryError`] when the log cannot be read.
    pub async fn descriptor_at(
        &self,
        id: ResourceId,
        as_of: AsOf,
    ) -> Result<Past<Descriptor>, HistoryError> {
        history::descriptor_at(&self.shared.on.reader, self.now(), id, as_of).await
    }

    /// A resource as its stream made it at a moment of the past, with all its annotations in
    /// memory, of which there may be many.
    ///
    /// # Errors
    /// [`HistoryError`] when the log cannot be read.
    pub fn resource_at(&self, id: ResourceId, as_of: AsOf) -> Result<PastState, HistoryError> {
        history::resource_at(&self.shared.on.reader, self.now(), id, as_of)
    }

    /// A job as the log has it.
    ///
    /// # Errors
    /// [`HistoryError`] when the log cannot be read.
    pub fn job(&self, id: JobId) -> Result<Option<Job>, HistoryError> {
        short::fold(&self.shared.on.reader, id, |_| true)
    }

    /// A document's processing as the log has it.
    ///
    /// # Errors
    /// [`HistoryError`] when the log cannot be read.
    pub fn document(&self, id: ResourceId) -> Result<Option<Document>, HistoryError> {
        short::fold(&self.shared.on.reader, id, |_| true)
    }

    /// The position behind the newest event of a document as it was folded; none of one that has no
    /// such event.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn document_end(&self, document: &Document) -> Result<Option<u64>, HistoryError> {
        let stream = <Document as Short>::stream(document.id);
        short::end_at(&self.shared.on.reader, &stream, document.revision)
    }

    /// The text of a resource's content, for anchoring; none when it has none to point into.
    ///
    /// # Errors
    /// [`TextError`] when the content cannot be read.
    pub async fn text_of(
        &self,
        descriptor: &Descriptor,
    ) -> Result<Option<Arc<TextIndex>>, TextError> {
        if descriptor.byte_size <= READ_INLINE_BYTES_MAX {
            return self.shared.texts.of(descriptor);
        }
        let (texts, descriptor) = (Arc::clone(&self.shared.texts), descriptor.clone());
        apart(move || texts.of(&descriptor)).await?
    }

    /// Whether the text of a resource's content contains a text, which is in lower case, without
    /// regard to case. Content that is no text, is too long to be anchored in, or cannot be read
    /// contains nothing. Blocks.
    pub fn text_contains(&self, descriptor: &Descriptor, wanted: &str) -> bool {
        self.shared.texts.contains(descriptor, wanted)
    }

    /// Each content that a resource has had, oldest first, with the position that brought it.
    /// Reads the whole stream; blocks.
    ///
    /// # Errors
    /// [`HistoryError`] when the log cannot be read.
    pub fn contents_of(&self, now: &Descriptor) -> Result<Vec<(u64, Descriptor)>, HistoryError> {
        history::contents_of(&self.shared.on.reader, now)
    }

    /// Whether a request with this key was carried out before.
    ///
    /// # Errors
    /// [`CommandError::Read`] when the log cannot be read.
    pub fn is_repeated(&self, idempotency: &Idempotency) -> Result<bool, CommandError> {
        Ok(self
            .shared
            .on
            .reader
            .idempotent(&idempotency.key)?
            .is_some())
    }

    /// What the first request with this key was answered about a document; none when the key is new.
    ///
    /// # Errors
    /// [`CommandError::KeyReused`] when that was another request, or what the log says.
    pub fn answered(&self, idempotency: &Idempotency) -> Result<Option<Answered>, CommandError> {
        answered::by_key(&self.shared.on.reader, idempotency)
    }

    /// Notes that a request with an idempotency key found everything as it asked, so that a
    /// repetition is answered the same; of two that come at once, the first is noted.
    ///
    /// # Errors
    /// [`CommandError::KeyReused`] when another request had the key; else as
    /// [`execute`](Self::execute).
    pub async fn answer_found(
        &self,
        request: &Request,
        found: RequestAnswered,
    ) -> Result<(), CommandError> {
        let mut plan = Plan::default();
        plan.note_answer(&[], found);
        let batch = self.batch(request, &mut plan);
        let pending = self.shared.on.appender.enqueue(batch).await?;
        match pending.await {
            Ok(_) => Ok(()),
            Err(AppendError::KeyReused { .. }) => Err(CommandError::KeyReused),
            Err(error) => Err(error.into()),
        }
    }

    /// Carries a request out: all of it durable, or nothing written.
    ///
    /// # Errors
    /// [`CommandError`] says why nothing was written, or that the outcome is unknown.
    pub async fn execute(&self, request: Request) -> Result<Written, CommandError> {
        for _ in 0..self.shared.options.attempts_max {
            if let Some(written) = self.replay(&request).await? {
                return Ok(written);
            }
            match self.pass(&request).await? {
                Pass::Done(written) => return Ok(written),
                Pass::Replay | Pass::Again => {}
            }
        }
        Err(CommandError::Contended {
            attempts: self.shared.options.attempts_max,
        })
    }

    /// The first answer to the same request, if there was one.
    async fn replay(&self, request: &Request) -> Result<Option<Written>, CommandError> {
        let Some(idempotency) = &request.idempotency else {
            return Ok(None);
        };
        let Some(first_use) = self.shared.on.reader.idempotent(&idempotency.key)? else {
            return Ok(None);
        };
        if first_use.request != idempotency.request {
            return Err(CommandError::KeyReused);
        }
        self.check_seen(request).await?;
        let answered = replay::first_answer(&self.shared.on.reader, request, &first_use);
        answered.await.map(Some)
    }

    /// What somebody wrote is told again only while they may know of what they wrote to.
    async fn check_seen(&self, request: &Request) -> Result<(), CommandError> {
        if request.sight == Sight::Everything {
            return Ok(());
        }
        for (operation, asked) in request.operations.iter().enumerate() {
            let (Target::Resource(id) | Target::Document(id)) = asked.target else {
                continue;
            };
            let slot = self.shared.aggregates.lock(id, Looks::ForNone).await?;
            let is_hidden = |resource: &Resource| !resource.descriptor.is_read_by(&request.sight);
            if slot.resource().is_some_and(is_hidden) {
                let refusal = Refusal::NotFound;
                return Err(CommandError::Refused { operation, refusal });
            }
        }
        Ok(())
    }

    async fn pass(&self, request: &Request) -> Result<Pass, CommandError> {
        let mut slots = self.lock(request).await?;
        let mut plan = match self.plan(request, &mut slots).await {
            Ok(plan) => plan,
            Err(error) => return self.refused(request, slots, error).await,
        };
        if !plan.events.is_empty() {
            // What it does not write to it may rest on, and that may be refused yet.
            let only_looked_at = slots.iter().filter(|slot| !slot.is_ahead());
            plan.rest_on(only_looked_at.filter(|slot| slot.is_unsure()));
        } else if request.idempotency.is_some() {
            plan.note_answer(&slots, RequestAnswered::default());
        }
        let only_looked_at = slots.iter_mut().filter(|slot| !slot.is_ahead());
        only_looked_at.for_each(LockedSlot::let_go);
        if plan.events.is_empty() {
            return self.nothing_to_do(slots, plan).await;
        }
        let mut flights: Vec<Flight> = plan
            .touched
            .iter()
            .filter_map(|touched| {
                let slot = slots.iter().find(|slot| slot.id() == touched.id)?;
                Some(slot.take_off())
            })
            .collect();
        let batch = self.batch(request, &mut plan);
        // Refused, the flights make their slots stale, and the slots forget their states.
        let pending = match self.shared.on.appender.enqueue(batch).await {
            Ok(pending) => pending,
            Err(error) => {
                flights.iter_mut().for_each(Flight::answered);
                return Err(error.into());
            }
        };
        for slot in &mut slots {
            slot.mark_queued();
            self.shared.aggregates.weigh(slot);
        }
        let by_id: Vec<Arc<Slot>> = slots.iter().map(LockedSlot::slot).collect();
        drop(slots);
        let answer = pending.await;
        flights.iter_mut().for_each(Flight::answered);
        match answer {
            Ok(committed) if committed.outcome == Outcome::Duplicate => Ok(Pass::Replay),
            Ok(committed) => Ok(Pass::Done(self.land(plan, flights, &committed).await?)),
            Err(AppendError::Conflict { stream, actual, .. }) => {
                drop(flights);
                // Those that the batch only rested on too.
                by_id.iter().for_each(|slot| slot.forget());
                self.until_durable(&stream, actual).await?;
                Ok(Pass::Again)
            }
            Err(AppendError::KeyReused { .. }) => Err(CommandError::KeyReused),
            Err(error) => Err(error.into()),
        }
    }

    /// Locks what the request names, each once and in order of id, so that no two requests can
    /// wait for each other.
    async fn lock(&self, request: &Request) -> Result<Vec<LockedSlot>, CommandError> {
        let mut named: Vec<(ResourceId, Looks)> = request
            .operations
            .iter()
            .flat_map(|operation| {
                let target = match operation.target {
                    Target::Resource(id) => Some((id, operation.looks_at_target())),
                    // Its grants are looked at, unless whoever asks sees everything.
                    Target::Document(id) if request.sight != Sight::Everything => {
                        Some((id, Looks::ForNone))
                    }
                    Target::EntityTypes | Target::Job(_) | Target::Document(_) => None,
                };
                target.into_iter().chain(operation.looks_at_source())
            })
            .collect();
        // Of several that name one resource, the one that looks for more comes first and stays.
        named.sort_unstable_by_key(|(id, looks)| (*id, *looks == Looks::ForNone));
        named.dedup_by_key(|(id, _)| *id);
        let mut slots = Vec::with_capacity(named.len());
        for (id, looks) in named {
            slots.push(self.shared.aggregates.lock(id, looks).await?);
        }
        Ok(slots)
    }

    async fn plan(
        &self,
        request: &Request,
        slots: &mut [LockedSlot],
    ) -> Result<Plan, CommandError> {
        let mut planner = Planner {
            actor: &request.actor,
            sight: &request.sight,
            names: IriNames {
                bases: &request.bases,
            },
            ids: self.shared.on.ids.as_ref(),
            reader: &self.shared.on.reader,
            events_max: self.shared.options.batch_events_max,
            bytes_max: self.shared.on.appender.batch_bytes_max(),
            slots,
            jobs: short::Folded::default(),
            documents: short::Folded::default(),
            plan: Plan::default(),
        };
        let mut anchored = Anchored::within(&self.shared.anchoring);
        for (index, operation) in request.operations.iter().enumerate() {
            let text = match annotated(&planner, operation) {
                Some(descriptor) => self
                    .text_of(descriptor)
                    .await
                    .map_err(|TextError::Read(error)| error)?,
                None => None,
            };
            match text {
                Some(text) => {
                    let operated = anchored.operate(&mut planner, index, operation, &text);
                    operated.await?;
                }
                None => planner.operate(index, operation, None)?,
            }
        }
        let plan = planner.plan;
        let (events, events_max) = (plan.events.len(), self.shared.options.batch_events_max);
        if events > events_max {
            return Err(CommandError::TooManyEvents { events, events_max });
        }
        Ok(plan)
    }

    /// A refusal may rest on what the same request did the first time, which still stands in the
    /// queue, or did so when its answer was looked for: then the first answer is the one to give. What is refused because it is there
    /// already is told so once that is durable, so that who is told finds it.
    async fn refused(
        &self,
        request: &Request,
        mut slots: Vec<LockedSlot>,
        error: CommandError,
    ) -> Result<Pass, CommandError> {
        slots.iter_mut().for_each(LockedSlot::let_go);
        let waiting = unsure(&slots);
        drop(slots);
        let is_there_already = matches!(
            error,
            CommandError::Refused {
                refusal: Refusal::AlreadyExists,
                ..
            }
        );
        if !(request.idempotency.is_some() || is_there_already) {
            return Err(error);
        }
        for queued in waiting {
            // What it rests on is refused, or stands in line though its client has left.
            if !queued.landed().await {
                return Ok(Pass::Again);
            }
        }
        match self.replay(request).await? {
            Some(written) => Ok(Pass::Done(written)),
            None => Err(error),
        }
    }

    /// All is as asked already; but that must be durable before anyone is told.
    async fn nothing_to_do(
        &self,
        slots: Vec<LockedSlot>,
        mut plan: Plan,
    ) -> Result<Pass, CommandError> {
        let waiting = unsure(&slots);
        drop(slots);
        for queued in &waiting {
            if !queued.landed().await {
                return Ok(Pass::Again);
            }
        }
        for result in &mut plan.results {
            self.settle_from_others(result).await?;
        }
        Ok(Pass::Done(Written {
            end: self.shared.on.reader.end().get(),
            position: None,
            results: plan.results,
            replayed: false,
        }))
    }

    /// The batch, with the events and conditions of the plan.
    fn batch(&self, request: &Request, plan: &mut Plan) -> Batch {
        Batch {
            events: std::mem::take(&mut plan.events),
            expected: std::mem::take(&mut plan.expected),
            idempotency: request.idempotency,
            metadata: Metadata {
                actor: request.actor.clone(),
                trace_id: request.trace_id.clone(),
                causation: None,
                correlation: None,
            },
            proposed_at_us: self.now().micros(),
            order: None,
        }
    }

    /// The batch is durable: fills in what only the log could tell, in the answer and the states.
    async fn land(
        &self,
        mut plan: Plan,
        flights: Vec<Flight>,
        committed: &Committed,
    ) -> Result<Written, CommandError> {
        let first = committed.first.get();
        let recorded_at = Timestamp::from_micros(committed.recorded_at_us);
        for (touched, flight) in plan.touched.iter().zip(flights) {
            let landing = touched.landing(first, recorded_at);
            for result in &mut plan.results {
                landing.settle_result(touched.id, result);
            }
            flight.land(&landing).await;
        }
        for result in &mut plan.results {
            if let Some(job) = &mut result.job {
                job.settle(first, recorded_at);
            }
            if let Some(document) = &mut result.document {
                document.settle(first, recorded_at);
            }
            let settled = self.settle_from_others(result).await;
            settled.map_err(|error| CommandError::Answer(Arc::new(error)))?;
        }
        Ok(Written {
            end: committed.last.get() + 1,
            position: Some(committed.last.get()),
            results: plan.results,
            replayed: false,
        })
    }

    /// An answer may rest on a batch that another request put before ours, which the log holds by
    /// now, but whose times we have not been told: they are read there.
    async fn settle_from_others(&self, result: &mut OperationResult) -> Result<(), HistoryError> {
        let Some(descriptor) = &mut result.descriptor else {
            return Ok(());
        };
        let reader = &self.shared.on.reader;
        let (id, revision) = (descriptor.id, descriptor.revision);
        let is_unsettled = |annotation: &AnnotationState| {
            annotation.added_position == UNPLACED || annotation.modified_at == Some(UNRECORDED)
        };
        if let Some(annotation) = result.annotation.as_mut().filter(|a| is_unsettled(a)) {
            let keep = |record: &Record| record.revision().get() <= revision;
            let wanted = HashSet::from([annotation.id]);
            let past = history::fold_some(reader, id, keep, &wanted).await?;
            if let Some(resource) = past {
                *descriptor = resource.descriptor;
                if let Some(settled) = resource.annotations.get(&annotation.id) {
                    *annotation = (**settled).clone();
                }
            }
            return Ok(());
        }
        for (time, revision) in [
            (&mut descriptor.created_at, 0),
            (&mut descriptor.updated_at, revision),
        ] {
            if *time == UNRECORDED {
                let recorded = history::recorded_at(reader, id, revision)?;
                *time = recorded.unwrap_or(*time);
            }
        }
        Ok(())
    }

    /// Waits until the log's readers see the revision that a conflict told of.
    async fn until_durable(
        &self,
        stream: &StreamId,
        actual: Option<Revision>,
    ) -> Result<(), CommandError> {
        let mut follow = self.shared.on.reader.follow();
        loop {
            follow.borrow_and_update();
            if self.shared.on.reader.stream_head(stream)? >= actual {
                return Ok(());
            }
            if follow.changed().await.is_err() {
                return Err(AppendError::Closed.into());
            }
        }
    }
}

/// The slots of which something stands in the queue, or was refused since they were locked.
fn unsure(slots: &[LockedSlot]) -> Vec<Queued> {
    slots
        .iter()
        .filter(|slot| slot.is_unsure())
        .map(LockedSlot::queued)
        .collect()
}
