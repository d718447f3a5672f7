//! The model: what was asked, what was answered, and what the log must hold because of it.
//!
//! Invariant: a request is in the log whole, once, and where it was said to be; or not at all, and
//! never if it was refused.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use stemma_commands::{CommandError, Written};
use stemma_content_store::Digest;
use stemma_domain::event::{self, Event};
use stemma_domain::resource::{Descriptor, Refusal};
use stemma_event_log::{AppendError, Committed, EventDigest, Outcome, Record};

use crate::figures::Figures;
use crate::request::{Asked, Blob};

/// Stands for any life: a batch whose client left may be acknowledged all the same.
const LEFT: u64 = u64::MAX;

/// What does not hold.
pub(crate) type Violation = String;

/// What became of a request, as far as its author knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum State {
    /// Nothing of it is in the log.
    NotDone,
    /// Nobody can tell, since this life of the process.
    Unknown(u64),
    /// It is there, and its author was not told where.
    Somewhere,
    /// It stands at these positions.
    Done(Range<u64>),
}

/// A request and what became of it.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) asked: Asked,
    pub(crate) state: State,
    /// The resources as the answer had them.
    pub(crate) descriptors: Vec<Descriptor>,
    /// The events as the answer had them.
    events: Vec<Event>,
    /// The last acknowledged revisions of its streams when it was sent; none where there was none.
    sent_at: BTreeMap<String, u64>,
}

/// All that was asked of one log.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) entries: Vec<Entry>,
    /// Counts the starts of the process.
    pub(crate) life: u64,
    by_tag: BTreeMap<String, usize>,
    /// The digests of all records that were held against the model.
    pub(crate) history: Vec<EventDigest>,
    /// Records that a reader was shown since: they must stay.
    pub(crate) seen: BTreeMap<u64, EventDigest>,
    /// The last revision of each stream, as far as answers told.
    pub(crate) heads: BTreeMap<String, u64>,
    /// The content that records name.
    pub(crate) named: BTreeMap<[u8; 32], Blob>,
}

/// What the answer to a request comes to.
enum Told {
    Done {
        last: u64,
        replayed: bool,
        descriptors: Vec<Descriptor>,
        events: Vec<Event>,
    },
    NotDone,
    Unknown,
    Somewhere,
}

impl Ledger {
    pub(crate) fn add(&mut self, asked: Asked) -> usize {
        let index = self.entries.len();
        self.by_tag.insert(asked.tag.clone(), index);
        self.entries.push(Entry {
            asked,
            state: State::NotDone,
            descriptors: Vec::new(),
            events: Vec::new(),
            sent_at: BTreeMap::new(),
        });
        index
    }

    /// Notes what was acknowledged before a request is sent: its answer must rest on no less.
    pub(crate) fn note_sent(&mut self, index: usize) {
        let Self { entries, heads, .. } = self;
        let entry = &mut entries[index];
        let known = entry.asked.streams();
        let known = known.filter_map(|stream| heads.get_key_value(&stream));
        entry.sent_at = known
            .map(|(stream, head)| (stream.clone(), *head))
            .collect();
    }

    /// The client left before it was told what became of its request. Returns its tag.
    pub(crate) fn left(&mut self, index: usize) -> String {
        let entry = &mut self.entries[index];
        // What was not known before may have become of it now.
        if matches!(entry.state, State::NotDone | State::Unknown(_)) {
            entry.state = State::Unknown(LEFT);
        }
        entry.asked.tag.clone()
    }

    /// Takes up the answer of the write path.
    pub(crate) fn answered(
        &mut self,
        index: usize,
        answer: Result<Written, CommandError>,
        figures: &mut Figures,
    ) -> Result<(), Violation> {
        let told = match answer {
            Ok(written) => {
                let Some(last) = written.position else {
                    return self.nothing_changed(index, &written);
                };
                let results = written.results.into_iter();
                let (descriptors, events): (Vec<_>, Vec<_>) = results
                    .map(|result| (result.descriptor, result.events))
                    .unzip();
                Told::Done {
                    last,
                    replayed: written.replayed,
                    descriptors: descriptors.into_iter().flatten().collect(),
                    events: events.into_iter().flatten().collect(),
                }
            }
            Err(error) => self.refused(index, &error)?,
        };
        self.take(index, told, figures)
    }

    /// Takes up the answer of the log itself.
    pub(crate) fn appended(
        &mut self,
        index: usize,
        answer: Result<Committed, AppendError>,
        figures: &mut Figures,
    ) -> Result<(), Violation> {
        let told = match answer {
            Ok(committed) => {
                if let Some(last) = committed.revisions.last() {
                    let stream = self.entries[index].asked.writes[0].stream.clone();
                    let head = self.heads.entry(stream).or_default();
                    *head = last.get().max(*head);
                }
                Told::Done {
                    last: committed.last.get(),
                    replayed: committed.outcome == Outcome::Duplicate,
                    descriptors: Vec::new(),
                    events: Vec::new(),
                }
            }
            Err(error) => self.refused(index, &CommandError::Append(error))?,
        };
        self.take(index, told, figures)
    }

    /// That nothing had to be done must rest on all that was acknowledged before.
    fn nothing_changed(&self, index: usize, written: &Written) -> Result<(), Violation> {
        let entry = &self.entries[index];
        let tag = &entry.asked.tag;
        if !entry.asked.writes.is_empty() {
            return Err(format!("{tag} changed nothing: {written:?}"));
        }
        let described = written.results.iter().filter_map(|r| r.descriptor.as_ref());
        for descriptor in described {
            let known = entry.sent_at.get(&descriptor.id.stream_name());
            if known.is_some_and(|known| descriptor.revision < *known) {
                return Err(format!(
                    "{tag} was answered from before {known:?}: {descriptor:?}"
                ));
            }
        }
        Ok(())
    }

    fn refused(&self, index: usize, error: &CommandError) -> Result<Told, Violation> {
        let entry = &self.entries[index];
        let asked = &entry.asked;
        match error {
            CommandError::Append(AppendError::Write { .. } | AppendError::Sync { .. }) => {
                Ok(Told::Unknown)
            }
            CommandError::Answer(_) => Ok(Told::Somewhere),
            CommandError::Refused {
                refusal: Refusal::NotFound,
                ..
            } if asked
                .streams()
                .all(|stream| entry.sent_at.contains_key(&stream)) =>
            {
                Err(format!(
                    "what was acknowledged was not found: {asked:?}, {:?}",
                    entry.sent_at
                ))
            }
            CommandError::Append(
                AppendError::Full { .. }
                | AppendError::Read { .. }
                | AppendError::Poisoned
                | AppendError::Closed,
            )
            | CommandError::Read(_)
            | CommandError::Content(_)
            | CommandError::Refused { .. } => Ok(Told::NotDone),
            CommandError::Append(AppendError::Conflict { actual, .. }) => {
                conflict(entry, actual.map(stemma_event_log::Revision::get))
            }
            CommandError::Conflict { actual, .. } => conflict(entry, *actual),
            _ => Err(format!("refused without reason: {error:?}: {asked:?}")),
        }
    }

    fn take(&mut self, index: usize, told: Told, figures: &mut Figures) -> Result<(), Violation> {
        let entry = &mut self.entries[index];
        let tag = &entry.asked.tag;
        let was = entry.state.clone();
        match told {
            Told::NotDone => figures.refused += 1,
            Told::Unknown => {
                figures.unknown += 1;
                if was == State::NotDone {
                    entry.state = State::Unknown(self.life);
                }
            }
            Told::Somewhere => {
                figures.acknowledged += 1;
                if !matches!(was, State::Done(_)) {
                    entry.state = State::Somewhere;
                }
            }
            Told::Done {
                last,
                replayed,
                descriptors,
                events,
            } => {
                let count = count(entry.asked.writes.len());
                let range = (last + 1).saturating_sub(count)..last + 1;
                match &was {
                    State::Done(first) if *first != range || !replayed => {
                        return Err(format!(
                            "{tag} stands at {first:?}; sent again it was told {range:?}, replayed {replayed}"
                        ));
                    }
                    State::NotDone if replayed => {
                        return Err(format!("{tag} was not done, yet was answered at {range:?}"));
                    }
                    _ => {}
                }
                figures.acknowledged += u64::from(!replayed);
                figures.replayed += u64::from(replayed);
                if let State::Done(_) = was {
                    return Ok(());
                }
                entry.state = State::Done(range);
                entry.descriptors = descriptors;
                entry.events = events;
                self.note_heads(index)?;
            }
        }
        Ok(())
    }

    /// Raises what is known of the streams that an answer tells of.
    fn note_heads(&mut self, index: usize) -> Result<(), Violation> {
        let entry = &self.entries[index];
        if let (Some(expected), Some(first)) = (entry.asked.expected(), entry.descriptors.first())
            && first.revision != expected + 1
        {
            return Err(format!(
                "{} expected revision {expected} and became {}",
                entry.asked.tag, first.revision
            ));
        }
        for descriptor in &entry.descriptors {
            let head = self.heads.entry(descriptor.id.stream_name()).or_default();
            *head = descriptor.revision.max(*head);
        }
        Ok(())
    }

    /// A log that was recovered in place holds nothing that was not acknowledged, unless it was
    /// found at the start.
    pub(crate) fn reopened(&mut self) {
        for entry in &mut self.entries {
            if entry.state == State::Unknown(self.life) {
                entry.state = State::NotDone;
            }
        }
    }

    /// Holds all records of the log against the model, and what was unknown becomes known.
    pub(crate) fn check(
        &mut self,
        records: &[Record],
        figures: &mut Figures,
    ) -> Result<(), Violation> {
        for (position, record) in (0..).zip(records) {
            if record.position().get() != position {
                return Err(format!(
                    "position {position} holds {}",
                    record.position().get()
                ));
            }
        }
        let known = self.history.len();
        if records.len() < known {
            return Err(format!(
                "{known} records were durable, {} are left",
                records.len()
            ));
        }
        for (position, digest) in self.history.iter().enumerate() {
            if records[position].digest() != *digest {
                return Err(format!(
                    "the record at {position} is another one than it was"
                ));
            }
        }
        for (position, digest) in std::mem::take(&mut self.seen) {
            let record = records.get(usize::try_from(position).expect("a small log"));
            if record.is_none_or(|record| record.digest() != digest) {
                return Err(format!(
                    "the record at {position} was shown to a reader and is gone"
                ));
            }
        }
        let mut found: BTreeSet<usize> = BTreeSet::new();
        let mut at = known;
        while let Some(record) = records.get(at) {
            let index = *self
                .by_tag
                .get(&record.trace_id())
                .ok_or_else(|| format!("the record at {at} was never asked for"))?;
            let count = self.entries[index].asked.writes.len();
            let Some(batch) = records.get(at..at + count) else {
                return Err(format!("{} is there in part", record.trace_id()));
            };
            if !found.insert(index) {
                return Err(format!("{} is there twice", record.trace_id()));
            }
            self.check_batch(index, batch, figures)?;
            at += count;
        }
        figures.events += count(records.len() - known);
        self.history
            .extend(records[known..].iter().map(Record::digest));
        self.check_rest()
    }

    /// One request's records against what it was to write and what it was told.
    fn check_batch(
        &mut self,
        index: usize,
        batch: &[Record],
        figures: &mut Figures,
    ) -> Result<(), Violation> {
        let entry = &mut self.entries[index];
        let tag = &entry.asked.tag;
        let first = batch[0].position().get();
        let range = first..first + count(batch.len());
        match &entry.state {
            State::NotDone => {
                return Err(format!(
                    "{tag} is at {range:?}, though nothing of it was to be"
                ));
            }
            State::Done(told) if *told != range => {
                return Err(format!(
                    "{tag} is at {range:?}, though {told:?} was acknowledged"
                ));
            }
            State::Done(_) | State::Somewhere => {}
            State::Unknown(_) => figures.unknown_done += 1,
        }
        let is_told = !entry.events.is_empty();
        for (place, (record, planned)) in batch.iter().zip(&entry.asked.writes).enumerate() {
            let is_its = record.trace_id() == *tag
                && usize::from(record.batch_index()) == place
                && usize::from(record.batch_count()) == batch.len()
                && record.stream() == planned.stream
                && record.event_type() == planned.event_type;
            if !is_its {
                return Err(format!(
                    "record {place} of {tag} is {record:?}, not {planned:?}"
                ));
            }
            if record.event_type() == "raw.appended" {
                continue;
            }
            let event = event::decode(record.event_type(), record.schema_version(), record.data());
            let event = event.map_err(|error| format!("{tag}: {error:?}"))?;
            let is_answered = record.event_type() == "request.answered";
            if is_told && !is_answered && !entry.events.contains(&event) {
                return Err(format!("{tag} was told of other events than {event:?}"));
            }
            if let Some(blob) = planned.blob {
                let digest = content_of(&event);
                if digest != Some(*blob.digest().as_bytes()) {
                    return Err(format!("{tag} names other content: {event:?}"));
                }
                self.named.extend(digest.map(|digest| (digest, blob)));
            }
        }
        for (record, planned) in batch.iter().zip(&entry.asked.writes) {
            self.heads
                .insert(planned.stream.clone(), record.revision().get());
        }
        entry.state = State::Done(range);
        Ok(())
    }

    /// What was acknowledged must have been met by now; what was not met is not done.
    fn check_rest(&mut self) -> Result<(), Violation> {
        let end = count(self.history.len());
        for entry in &mut self.entries {
            match &entry.state {
                State::Unknown(_) => entry.state = State::NotDone,
                State::Somewhere => {
                    return Err(format!(
                        "{} was carried out and is not there",
                        entry.asked.tag
                    ));
                }
                State::Done(range) if range.end > end => {
                    return Err(format!(
                        "{} was acknowledged at {range:?}; the log ends before {end}",
                        entry.asked.tag
                    ));
                }
                State::Done(_) | State::NotDone => {}
            }
        }
        Ok(())
    }
}

fn conflict(entry: &Entry, actual: Option<u64>) -> Result<Told, Violation> {
    let asked = &entry.asked;
    let expected = asked.expected();
    let known = asked.streams().next();
    let known = known.and_then(|stream| entry.sent_at.get(&stream).copied());
    if expected.is_none() || expected == actual || actual < known {
        return Err(format!(
            "{} expected revision {expected:?} and was told {actual:?} where {known:?} was acknowledged",
            asked.tag
        ));
    }
    Ok(Told::NotDone)
}

/// The content that an event names.
pub(crate) fn content_of(event: &Event) -> Option<[u8; 32]> {
    match event {
        Event::ResourceCreated(created) | Event::ResourceCloned(created) => {
            Some(*created.digest.as_bytes())
        }
        Event::ResourceRevised(revised) => Some(*revised.digest.as_bytes()),
        _ => None,
    }
}

/// The digests of content that records name.
pub(crate) fn contents_named(records: &[Record]) -> BTreeSet<Digest> {
    let events = records.iter().filter_map(|record| {
        event::decode(record.event_type(), record.schema_version(), record.data()).ok()
    });
    events
        .filter_map(|event| content_of(&event).map(Digest::from_bytes))
        .collect()
}

fn count(n: usize) -> u64 {
    u64::try_from(n).expect("a count in memory fits 64 bits")
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use super::*;

    /// A write that failed and poisoned nothing leaves its batch unknown; sent again, it is durable
    /// though nobody was told, and a recovery in place keeps it.
    #[test]
    fn what_was_sent_again_by_a_client_that_left_may_be_there_behind_a_recovery_in_place() {
        let mut ledger = Ledger::default();
        let asked = Asked::batch("q1".to_owned(), &["raw".to_owned()], None);
        let index = ledger.add(asked);
        let source = Arc::new(io::Error::other("for once"));
        let refused = Err(AppendError::Write { source });
        let taken = ledger.appended(index, refused, &mut Figures::default());
        assert_eq!(taken, Ok(()));
        assert_eq!(ledger.entries[index].state, State::Unknown(ledger.life));
        ledger.left(index);
        ledger.reopened();
        assert_ne!(ledger.entries[index].state, State::NotDone);
    }
}
