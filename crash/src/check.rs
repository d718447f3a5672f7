//! Holding a log and a content store that were just opened against the model.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use stemma_commands::{AsOf, CommandError, PastState};
use stemma_content_store::Digest;
use stemma_domain::id::ResourceId;
use stemma_event_log::{AppendError, Idempotency, StreamId};

use crate::ledger::{State, Violation};
use crate::load::records_from;
use crate::process::Process;
use crate::request::{Asked, Way};
use crate::run::World;

/// Requests that are sent again at each check.
const AGAIN_MAX: usize = 6;
/// Streams whose revisions are tried at each check.
const STREAMS_MAX: usize = 3;

fn named(what: &str) -> impl Fn(&dyn std::fmt::Debug) -> Violation {
    let what = what.to_owned();
    move |error| format!("{what}: {error:?}")
}

impl World {
    /// Everything that must hold after a recovery on a disk without faults.
    pub(crate) async fn check(&mut self, process: &Process) -> Result<(), Violation> {
        self.figures.recoveries += 1;
        let new_from = self.ledger.history.len();
        let records = records_from(&process.reader, 0)
            .map_err(|error| named("a record cannot be read")(&error))?;
        if process.reader.end().get() != u64::try_from(records.len()).unwrap_or_default() {
            return Err(format!(
                "{} records up to {:?}",
                records.len(),
                process.reader.end()
            ));
        }
        self.ledger.check(&records, &mut self.figures)?;
        Self::check_log(process, records.len())?;
        self.check_heads(process)?;
        self.check_resources(process, new_from)?;
        self.check_content(process)?;
        self.check_keys(process).await?;
        self.check_revisions(process).await
    }

    fn check_log(process: &Process, count: usize) -> Result<(), Violation> {
        let report = process
            .appender
            .check(&mut |_| ControlFlow::Continue(()))
            .map_err(|error| named("the log cannot be verified")(&error))?;
        let is_all = report.records == u64::try_from(count).unwrap_or_default();
        if !report.damages.is_empty() || !is_all || report.torn_tail.is_some() {
            return Err(format!("the log is not intact: {report:?}"));
        }
        Ok(())
    }

    fn check_heads(&self, process: &Process) -> Result<(), Violation> {
        for (stream, head) in &self.ledger.heads {
            let id = StreamId::new(stream).map_err(|error| named("a stream")(&error))?;
            let found = process
                .reader
                .stream_head(&id)
                .map_err(|error| named("a head")(&error))?;
            if found.map(stemma_event_log::Revision::get) != Some(*head) {
                return Err(format!("{stream} is at {found:?}, not {head}"));
            }
        }
        Ok(())
    }

    /// Each answer that was given since the last check, against what the log says of that moment.
    fn check_resources(&self, process: &Process, new_from: usize) -> Result<(), Violation> {
        for entry in &self.ledger.entries {
            let State::Done(range) = &entry.state else {
                continue;
            };
            if range.start < u64::try_from(new_from).unwrap_or_default() {
                continue;
            }
            for told in &entry.descriptors {
                let past = process
                    .commands
                    .resource_at(told.id, AsOf::Revision(told.revision))
                    .map_err(|error| named("a resource")(&error))?;
                let PastState::Found(found) = past else {
                    return Err(format!("{told:?} is not there: {past:?}"));
                };
                if found.descriptor != *told {
                    let found = &found.descriptor;
                    return Err(format!(
                        "{} was told {told:?}, found {found:?}",
                        entry.asked.tag
                    ));
                }
            }
        }
        Ok(())
    }

    /// Every digest that an event names leads to its bytes, and all that is stored is whole.
    fn check_content(&self, process: &Process) -> Result<(), Violation> {
        let mut whole = BTreeSet::new();
        let report = process
            .content
            .verify(&mut |_| ControlFlow::Continue(()), &mut |digest, _| {
                _ = whole.insert(*digest);
            })
            .map_err(|error| named("content cannot be verified")(&error))?;
        if !report.damage.is_empty() || report.unsettled_bytes > 0 {
            return Err(format!("content is not intact: {report:?}"));
        }
        for (digest, blob) in &self.ledger.named {
            let digest = Digest::from_bytes(*digest);
            if !whole.contains(&digest) {
                return Err(format!("{blob:?} is named by an event and not stored"));
            }
            let read = process
                .content
                .read_all(&digest, 1 << 20)
                .map_err(|error| named("content cannot be read")(&error))?;
            if read.is_none_or(|bytes| bytes != blob.make()) {
                return Err(format!(
                    "{blob:?} is stored and not found, or not its bytes"
                ));
            }
        }
        Ok(())
    }

    /// Requests that are sent again get their first answer; their keys serve for nothing else.
    async fn check_keys(&mut self, process: &Process) -> Result<(), Violation> {
        let keyed = self.ledger.entries.iter().enumerate();
        let done = keyed.filter(|(_, entry)| {
            entry.asked.key.is_some() && matches!(entry.state, State::Done(_))
        });
        let mut indexes: Vec<usize> = done.map(|(index, _)| index).collect();
        while indexes.len() > AGAIN_MAX {
            // The newest are the ones most likely to be lost.
            let at = self.dice.below(indexes.len() - 2);
            indexes.remove(at);
        }
        for index in indexes {
            let end = process.reader.end();
            let asked = self.ledger.entries[index].asked.clone();
            self.ask(process, index).await?;
            if process.reader.end() != end {
                return Err(format!("{} was carried out twice", asked.tag));
            }
            let mut other = asked;
            if let Some(Idempotency { request, .. }) = &mut other.key {
                request[0] ^= 1;
            }
            let refused = self.try_other(process, &other).await;
            if !refused {
                return Err(format!(
                    "the key of {} was taken for another request",
                    other.tag
                ));
            }
        }
        Ok(())
    }

    /// Whether a request with a key that was used for another is refused for that.
    async fn try_other(&self, process: &Process, other: &Asked) -> bool {
        match &other.way {
            Way::Commands(operations) => {
                let request = other.request(operations, Vec::new());
                let answer = process.commands.execute(request).await;
                matches!(answer, Err(CommandError::KeyReused))
            }
            Way::Batch {
                expected,
                data_bytes,
            } => {
                let batch = other.to_batch(*expected, *data_bytes);
                let answer = process.appender.append(batch).await;
                matches!(answer, Err(AppendError::KeyReused { .. }))
            }
        }
    }

    /// A request at an old revision is refused, and one at the right revision is carried out.
    async fn check_revisions(&mut self, process: &Process) -> Result<(), Violation> {
        let heads = self.ledger.heads.clone().into_iter();
        let mut heads: Vec<(String, u64)> = heads
            .filter(|(stream, _)| !stream.starts_with("requests"))
            .collect();
        while heads.len() > STREAMS_MAX {
            let at = self.dice.below(heads.len());
            heads.remove(at);
        }
        for (stream, head) in heads {
            let wrong = if head > 0 && self.dice.one_in(2) {
                head - 1
            } else {
                head + 1
            };
            for (expected, is_right) in [(wrong, false), (head, true)] {
                let mut asked = match ResourceId::from_stream_name(&stream) {
                    Some(id) => {
                        let mut asked = Asked::commands(self.tag(), None);
                        asked.rename(id);
                        asked
                    }
                    None => Asked::batch(self.tag(), std::slice::from_ref(&stream), None),
                };
                asked.expect(Some(expected));
                let tag = asked.tag.clone();
                let index = self.ledger.add(asked);
                self.ask(process, index).await?;
                let is_done = matches!(self.ledger.entries[index].state, State::Done(_));
                if is_done != is_right {
                    return Err(format!(
                        "{tag} expected revision {expected} of {stream}, which is at {head}: done {is_done}"
                    ));
                }
            }
        }
        Ok(())
    }
}
