//! The load of one life: waves of uploads and requests, now and then a collection or a recovery in
//! place.

use std::collections::{BTreeMap, BTreeSet};
use std::future::{Future, poll_fn};
use std::pin::Pin as Pinned;
use std::sync::OnceLock;
use std::task::Poll;

use stemma_commands::{CommandError, Written};
use stemma_content_store::{CollectError, Collected, Digest, Pin, PutError, StoreStatus};
use stemma_domain::id::ResourceId;
use stemma_event_log::{
    AppendError, AppenderStatus, Committed, OpenError, Position, ReadLimit, Reader, Record,
};
use tokio::runtime::Handle;
use tokio::task::{JoinError, JoinHandle};
use uuid::Uuid;

use crate::ledger::{Violation, contents_named};
use crate::process::Process;
use crate::request::{Asked, Blob, Way};
use crate::run::World;
use crate::wave::{self, Running};
use crate::weather::Class;

/// Why a life goes on or not.
pub(crate) enum Condition {
    Fit,
    /// Something refuses until it is opened again.
    Unfit,
}

/// The pins of content that was put, by its number.
type Pins = BTreeMap<u64, Pin>;

pub(crate) enum Answer {
    Commands(Box<Result<Written, CommandError>>),
    Batch(Result<Committed, AppendError>),
}

/// Sends a request and waits for its answer.
pub(crate) async fn answer(process: &Process, asked: &Asked, pins: Vec<Pin>) -> Answer {
    match &asked.way {
        Way::Commands(operations) => {
            let request = asked.request(operations, pins);
            Answer::Commands(Box::new(process.commands.execute(request).await))
        }
        Way::Batch {
            expected,
            data_bytes,
        } => {
            let batch = asked.to_batch(*expected, *data_bytes);
            Answer::Batch(process.appender.append(batch).await)
        }
    }
}

/// How far a future comes without waiting.
async fn poll_once<T>(mut future: Pinned<&mut impl Future<Output = T>>) -> Option<T> {
    poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(value) => Poll::Ready(Some(value)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

/// Starts a collection of what no event names, as the product does: not before every batch in the
/// queue was dealt with, and not while the log refuses writes.
fn collection(process: &Process) -> JoinHandle<Result<Collected, CollectError>> {
    let (appender, reader) = (process.appender.clone(), process.reader.clone());
    let (content, runtime) = (process.content.clone(), Handle::current());
    tokio::task::spawn_blocking(move || {
        let named: OnceLock<BTreeSet<Digest>> = OnceLock::new();
        let settle = || {
            runtime.block_on(appender.settled());
            if appender.status() != AppenderStatus::Ok {
                return Err("the log refuses writes".to_owned());
            }
            let records = records_from(&reader, 0).map_err(|error| error.to_string())?;
            named.get_or_init(|| contents_named(&records));
            Ok(())
        };
        let is_live = |digest: &Digest| named.get().is_none_or(|named| named.contains(digest));
        content.collect_after(&settle, &is_live)
    })
}

/// All records from a position on.
pub(crate) fn records_from(
    reader: &Reader,
    from: u64,
) -> Result<Vec<Record>, stemma_event_log::ReadError> {
    let mut records = Vec::new();
    let mut at = from;
    loop {
        let limit = ReadLimit {
            records: 7,
            bytes: usize::MAX,
        };
        let read = reader.read(Position::new(at), limit)?;
        let Some(last) = read.last() else {
            return Ok(records);
        };
        at = last.position().get() + 1;
        records.extend(read);
    }
}

impl World {
    /// Several waves of load.
    pub(crate) async fn load(&mut self, process: &Process) -> Result<Condition, Violation> {
        let waves = self.dice.between(1, 4);
        for _ in 0..waves {
            if let Condition::Unfit = self.wave(process).await? {
                return Ok(Condition::Unfit);
            }
        }
        Ok(Condition::Fit)
    }

    async fn wave(&mut self, process: &Process) -> Result<Condition, Violation> {
        let mut indexes = self.choose_again();
        for asked in self.invent() {
            indexes.push(self.ledger.add(asked));
        }
        let pins = self.upload(process, &indexes).await?;
        indexes.retain(|index| {
            let blobs = self.ledger.entries[*index].asked.blobs();
            blobs.iter().all(|blob| pins.contains_key(&blob.number))
        });
        indexes
            .iter()
            .for_each(|index| self.ledger.note_sent(*index));
        let is_held = self.dice.below(6) > 0;
        let collects = self.dice.one_in(5);
        let mut beside = None;
        if collects {
            let collection = collection(process);
            if self.dice.one_in(2) {
                beside = Some(collection);
            } else {
                self.take_collected(collection.await)?;
            }
        }
        for (index, answer) in self.send(process, &indexes, &pins, is_held).await {
            match answer {
                Some(answer) => self.take_up(index, answer)?,
                None => {
                    let tag = self.ledger.left(index);
                    self.disk.note(format!("-- {tag}: its client left"));
                }
            }
        }
        if let Some(collection) = beside {
            self.take_collected(collection.await)?;
        }
        self.look(process);
        self.mend(process).await
    }

    /// What is asked in one wave.
    fn invent(&mut self) -> Vec<Asked> {
        let count = self.dice.between(2, 9);
        (0..count).map(|_| self.invent_one()).collect()
    }

    pub(crate) fn tag(&mut self) -> String {
        self.next_tag += 1;
        format!("q{:03}", self.next_tag)
    }

    fn new_uuid(&mut self) -> Uuid {
        self.next_tag += 1;
        Uuid::from_u128(u128::from(self.next_tag))
    }

    fn invent_one(&mut self) -> Asked {
        let tag = self.tag();
        if self.dice.one_in(6) {
            return self.invent_batch(tag);
        }
        let is_keyed = self.dice.one_in(2).then_some(());
        let ids = self.resources.clone();
        if ids.is_empty() || self.dice.one_in(3) {
            let mut asked = Asked::commands(tag, is_keyed);
            self.add_creation(&mut asked);
            return asked;
        }
        let id = self.dice.pick(&ids);
        if self.dice.one_in(8) {
            let mut asked = Asked::commands(tag, is_keyed);
            asked.change_nothing(id);
            return asked;
        }
        let mut asked = Asked::commands(tag, is_keyed);
        let operations = if self.dice.one_in(4) { 4 } else { 1 };
        for _ in 0..operations {
            self.add_change(&mut asked, &ids);
        }
        let first = &asked.writes[0].stream;
        let head = self.ledger.heads.get(first).copied();
        if self.dice.one_in(4) && head.is_some() {
            asked.expect(head);
        }
        asked
    }

    fn add_creation(&mut self, asked: &mut Asked) {
        let id = ResourceId::new(self.new_uuid());
        self.resources.push(id);
        let blob = self.blob();
        asked.create(id, blob);
    }

    fn add_change(&mut self, asked: &mut Asked, ids: &[ResourceId]) {
        let id = self.dice.pick(ids);
        match self.dice.below(6) {
            0 | 1 => asked.rename(id),
            2 | 3 => {
                let bytes = self.dice.pick(&[1, 100, 1500]);
                let annotation = self.new_uuid();
                asked.annotate(id, annotation, bytes);
            }
            4 => {
                let blob = self.new_blob();
                asked.revise(id, blob);
            }
            _ => self.add_creation(asked),
        }
    }

    fn invent_batch(&mut self, tag: String) -> Asked {
        let stream = format!("raw-{}", self.dice.below(3));
        let events = self.dice.pick(&[1, 2, 5, 12]);
        let streams = vec![stream; events];
        let expected = self.ledger.heads.get(&streams[0]).copied();
        let expected = expected.filter(|_| self.dice.one_in(2));
        let mut asked = Asked::batch(tag, &streams, expected);
        if let Way::Batch { data_bytes, .. } = &mut asked.way {
            *data_bytes = self.dice.pick(&[10, 300, 1000]);
        }
        asked
    }

    /// New content, or some that was put before.
    fn blob(&mut self) -> Blob {
        if self.dice.one_in(2)
            && let Some(refused) = self.refused_blobs.pop()
        {
            return refused;
        }
        if !self.blobs.is_empty() && self.dice.one_in(4) {
            return self.dice.pick(&self.blobs);
        }
        self.new_blob()
    }

    fn new_blob(&mut self) -> Blob {
        self.next_tag += 1;
        let packed = usize::try_from(self.settings.content.pack_blob_bytes_max);
        let packed = packed.expect("a small number");
        let bytes = match self.dice.below(24) {
            0 => 129 * 1024 + self.dice.below(40_000),
            1..4 => packed + 1 + self.dice.below(3 * packed),
            _ => self.dice.below(packed + 1),
        };
        let blob = Blob {
            number: self
                .seed
                .wrapping_mul(1_000_003)
                .wrapping_add(self.next_tag),
            bytes,
        };
        self.blobs.push(blob);
        blob
    }

    /// Puts all content that is named, and some that nothing will name.
    async fn upload(&mut self, process: &Process, indexes: &[usize]) -> Result<Pins, Violation> {
        let entries = &self.ledger.entries;
        let named = indexes
            .iter()
            .flat_map(|index| entries[*index].asked.blobs());
        let mut blobs: Vec<Blob> = named.collect();
        if self.dice.one_in(3) {
            blobs.push(self.new_blob());
        }
        let class = (self.dice.below(6) > 0).then_some(Class::Pack);
        let packed_max = self.settings.content.pack_blob_bytes_max;
        let is_large = |blob: &Blob| blob.bytes as u64 > packed_max;
        let (large, small): (Vec<Blob>, Vec<Blob>) = blobs.into_iter().partition(is_large);
        let mut pins = Pins::new();
        if class.is_some() {
            // Large blobs are written on threads of their own: each after the other, they come in
            // the same order each time.
            for blob in large {
                self.put(process, None, &[blob], &mut pins).await?;
            }
            self.put(process, class, &small, &mut pins).await?;
        } else {
            let all = [large, small].concat();
            self.put(process, None, &all, &mut pins).await?;
        }
        Ok(pins)
    }

    /// Puts some content; whoever is refused tries once more.
    async fn put(
        &mut self,
        process: &Process,
        class: Option<Class>,
        blobs: &[Blob],
        pins: &mut Pins,
    ) -> Result<(), Violation> {
        let puts = blobs.iter().map(|blob| {
            let (blob, content) = (*blob, process.content.clone());
            let put: Running<'_, _> = Box::pin(async move {
                let stored = content.put(blob.make()).await;
                if stored.is_ok() {
                    return (blob, stored);
                }
                (blob, content.put(blob.make()).await)
            });
            put
        });
        for (blob, stored) in wave::run(&self.disk, class, puts.collect()).await {
            match stored {
                Ok(stored) if stored.digest == blob.digest() => {
                    self.figures.blobs += 1;
                    pins.insert(blob.number, stored.pin);
                }
                Ok(stored) => return Err(format!("{blob:?} was stored as {}", stored.digest)),
                Err(
                    PutError::Full { .. }
                    | PutError::Io { .. }
                    | PutError::Poisoned { .. }
                    | PutError::Closed,
                ) => self.refused_blobs.push(blob),
                Err(error) => return Err(format!("{blob:?} was refused: {error:?}")),
            }
        }
        Ok(())
    }

    /// Requests with keys that their authors send again, not knowing what became of them.
    fn choose_again(&mut self) -> Vec<usize> {
        let from = self.ledger.entries.len().saturating_sub(30);
        let mut indexes = Vec::new();
        for (index, entry) in self.ledger.entries.iter().enumerate().skip(from) {
            if entry.asked.key.is_some() && self.dice.one_in(8) {
                indexes.push(index);
            }
        }
        indexes
    }

    /// Sends requests, all at once. Now and then a client leaves once its request is on its way.
    async fn send(
        &mut self,
        process: &Process,
        indexes: &[usize],
        pins: &Pins,
        is_held: bool,
    ) -> Vec<(usize, Option<Answer>)> {
        let Self { ledger, dice, .. } = self;
        let requests = indexes.iter().map(|index| {
            let asked = ledger.entries[*index].asked.clone();
            let pins: Vec<Pin> = asked
                .blobs()
                .iter()
                .filter_map(|blob| pins.get(&blob.number).cloned())
                .collect();
            let leaves = dice.one_in(12);
            let request: Running<'_, _> = Box::pin(async move {
                let mut answer = Box::pin(answer(process, &asked, pins));
                if leaves {
                    return (*index, poll_once(answer.as_mut()).await);
                }
                (*index, Some(answer.await))
            });
            request
        });
        let class = is_held.then_some(Class::Segment);
        let requests = requests.collect();
        wave::run(&self.disk, class, requests).await
    }

    pub(crate) fn take_up(&mut self, index: usize, answer: Answer) -> Result<(), Violation> {
        let tag = &self.ledger.entries[index].asked.tag;
        match answer {
            Answer::Commands(answer) => {
                let told = answer.as_ref().as_ref();
                let told = told.map(|written| (written.position, written.replayed));
                self.disk.note(format!("-- {tag}: {told:?}"));
                self.ledger.answered(index, *answer, &mut self.figures)
            }
            Answer::Batch(answer) => {
                self.disk.note(format!("-- {tag}: {answer:?}"));
                self.ledger.appended(index, answer, &mut self.figures)
            }
        }
    }

    /// What a reader is shown now must stay.
    fn look(&mut self, process: &Process) {
        let from = u64::try_from(self.ledger.history.len()).expect("a small log");
        let Ok(records) = records_from(&process.reader, from) else {
            return;
        };
        for record in records {
            self.ledger
                .seen
                .insert(record.position().get(), record.digest());
        }
    }

    fn take_collected(
        &mut self,
        collected: Result<Result<Collected, CollectError>, JoinError>,
    ) -> Result<(), Violation> {
        match collected.map_err(|error| format!("a collection: {error}"))? {
            Ok(collected) => {
                self.figures.collections += 1;
                self.figures.collected += collected.blobs_removed;
                // What cannot be read counts as damaged, and is left as it is.
                let may_fail = self.disk.forecast().reads_fail || self.disk.has_ended();
                if collected.packs_damaged > 0 && !may_fail {
                    return Err(format!("a collection met damage: {collected:?}"));
                }
                Ok(())
            }
            Err(_) => Ok(()),
        }
    }

    /// Recovers a poisoned log in place, if chance wants that; tells whether all is well.
    async fn mend(&mut self, process: &Process) -> Result<Condition, Violation> {
        if process.content.status() != StoreStatus::Writable {
            return Ok(Condition::Unfit);
        }
        match process.appender.status() {
            AppenderStatus::Ok => Ok(Condition::Fit),
            AppenderStatus::Poisoned { .. } if self.dice.one_in(2) => {
                for _ in 0..3 {
                    match process.appender.reopen().await {
                        Ok(report) => {
                            self.figures.reopens += 1;
                            self.figures.cuts += u64::from(report.cut.is_some());
                            self.ledger.reopened();
                            self.disk.note("-- recovered in place".to_owned());
                            return Ok(Condition::Fit);
                        }
                        Err(OpenError::Damaged { .. } | OpenError::DamagedMeanwhile { .. }) => {
                            return Err("a recovery in place met damage".to_owned());
                        }
                        Err(_) => {}
                    }
                }
                Ok(Condition::Unfit)
            }
            AppenderStatus::Poisoned { .. } => Ok(Condition::Unfit),
            status => Err(format!("the log says of itself: {status:?}")),
        }
    }
}
