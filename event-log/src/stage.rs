//! One group in the making: batches admitted, linked and encoded, not yet written.
//!
//! Invariant: nothing outside the group changes until it is durable, so that a group that fails
//! can be dropped as if it had never been.

use std::collections::HashMap;
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::admit::{Ledger, StreamHead, Used, Verdict, admit};
use crate::batch::{Batch, Committed, Outcome};
use crate::chain::Chain;
use crate::codec::{prefix_u64, round_up, to_u32, to_usize};
use crate::error::{AppendError, ReadError};
use crate::frame::{Draft, encode, written};
use crate::heads::Heads;
use crate::id::{Position, Revision};
use crate::index::Entry;
use crate::queue::{Reply, Request};
use crate::segment::{ALIGNMENT, GROUP_HEADER_BYTES, GroupHeader};
use crate::shared::Shared;
use crate::stream::StreamId;
use crate::tail::TailGroup;

/// The answer to one batch, told when its group is durable.
pub(crate) struct Answer {
    pub(crate) reply: oneshot::Sender<Reply>,
    pub(crate) queued_at: Instant,
    pub(crate) result: Result<Committed, AppendError>,
    pub(crate) batch: Batch,
}

/// A group in the making.
pub(crate) struct Stage {
    /// The log behind the group's last record.
    pub(crate) chain: Chain,
    first: u64,
    bytes: Vec<u8>,
    /// Of each record the stream; where it stands is in `entries`.
    streams: Vec<StreamId>,
    entries: Vec<Entry>,
    /// Stream heads as the group leaves them; none for a stream that was looked for in vain.
    heads: HashMap<StreamId, Option<StreamHead>>,
    keys: HashMap<[u8; 32], ([u8; 32], Committed)>,
}

/// What the writer knows besides the group.
pub(crate) struct Known<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) heads: &'a mut Heads,
}

impl Stage {
    pub(crate) fn new(chain: Chain, bytes_hint: usize) -> Self {
        let mut bytes = Vec::with_capacity(bytes_hint);
        bytes.resize(GROUP_HEADER_BYTES, 0);
        Self {
            first: chain.end,
            chain,
            bytes,
            streams: Vec::new(),
            entries: Vec::new(),
            heads: HashMap::new(),
            keys: HashMap::new(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }

    /// Bytes so far.
    pub(crate) fn n_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Records so far.
    pub(crate) fn n_records(&self) -> u64 {
        self.streams.len() as u64
    }

    /// Bytes that the group takes in its segment.
    pub(crate) fn padded_bytes(&self) -> u64 {
        round_up(self.bytes.len() as u64, ALIGNMENT)
    }

    /// Decides over a batch and, if it is accepted, adds its records.
    pub(crate) fn add(&mut self, known: &mut Known<'_>, request: Request) -> Answer {
        let Request {
            batch,
            stream_hashes,
            queued_at,
            places: _,
            reply,
        } = request;
        let mut ledger = GroupLedger { stage: self, known };
        let result = match admit(&mut ledger, &batch) {
            Err(source) => Err(AppendError::Read { source }),
            Ok(Verdict::Refused(error)) => Err(error),
            Ok(Verdict::Duplicate(committed)) => Ok(committed),
            Ok(Verdict::Accepted { recorded_at_us }) => {
                Ok(self.append(&batch, &stream_hashes, recorded_at_us))
            }
        };
        Answer {
            reply,
            queued_at,
            result,
            batch,
        }
    }

    fn append(&mut self, batch: &Batch, stream_hashes: &[u64], recorded_at_us: i64) -> Committed {
        let first = self.chain.end;
        let batch_count = u16::try_from(batch.events.len()).expect("checked before it was queued");
        let mut revisions = Vec::with_capacity(batch.events.len());
        // Most events of a batch are of one stream, whose head is looked up and put back once.
        let mut head: Option<StreamHead> = None;
        for (batch_index, event) in (0_u16..).zip(&batch.events) {
            let index = usize::from(batch_index);
            if !batch.is_same_stream(index) {
                head = self.heads.get(&event.stream).copied().flatten();
            }
            let revision = head.map_or(0, |head| head.revision + 1);
            let idempotency = batch.idempotency.as_ref().filter(|_| batch_index == 0);
            let start = self.bytes.len();
            let digest = encode(
                &mut self.bytes,
                &Draft {
                    position: self.chain.end,
                    revision,
                    recorded_at_us,
                    batch_index,
                    batch_count,
                    previous: &self.chain.digest,
                    previous_in_stream: head.as_ref().map(|head| &head.digest),
                    idempotency,
                    order: batch.order,
                    metadata: &batch.metadata,
                    event,
                },
            );
            self.chain.push(digest, recorded_at_us);
            head = Some(StreamHead { revision, digest });
            if !batch.is_same_stream(index + 1) {
                self.heads.insert(event.stream.clone(), head);
            }
            self.streams.push(event.stream.clone());
            self.entries.push(Entry {
                stream: stream_hashes[index],
                digest: prefix_u64(&digest),
                key: idempotency.map(|idempotency| prefix_u64(&idempotency.key)),
                revision: to_u32(to_usize(revision)),
                offset: to_u32(start),
                end_offset: to_u32(self.bytes.len()),
            });
            revisions.push(Revision::new(revision));
        }
        let committed = Committed {
            first: Position::new(first),
            last: Position::new(self.chain.end - 1),
            recorded_at_us,
            revisions,
            outcome: Outcome::Appended,
        };
        if let Some(idempotency) = &batch.idempotency {
            let again = Committed {
                outcome: Outcome::Duplicate,
                ..committed.clone()
            };
            self.keys
                .insert(idempotency.key, (idempotency.request, again));
        }
        committed
    }

    /// The bytes as they go to `offset`, padded; the group's header is filled in.
    pub(crate) fn seal_for(&mut self, tag: [u8; 4], offset: u64) -> &[u8] {
        let header = GroupHeader {
            bytes: to_u32(self.bytes.len()),
            count: to_u32(self.streams.len()),
            first: self.first,
        };
        self.bytes[..GROUP_HEADER_BYTES].copy_from_slice(&header.encode(tag, offset));
        let padded = to_usize(self.padded_bytes());
        self.bytes.resize(padded, 0);
        &self.bytes
    }

    /// What is published once the group is durable at `offset`.
    pub(crate) fn into_published(self, offset: u64, heads: &mut Heads) -> Published {
        let base = to_u32(to_usize(offset));
        let bytes = Bytes::from(self.bytes);
        let mut entries = self.entries;
        let records = self.streams.into_iter().zip(&mut entries);
        let records = records.map(|(stream, entry)| {
            let frame = bytes.slice(entry.offset as usize..entry.end_offset as usize);
            entry.offset += base;
            entry.end_offset += base;
            written(frame, stream)
        });
        let records = records.collect();
        for (stream, head) in self.heads {
            if let Some(head) = head {
                heads.put(stream, head);
            }
        }
        Published {
            chain: self.chain,
            entries,
            group: TailGroup {
                first: self.first,
                bytes,
                records,
            },
        }
    }
}

/// What becomes visible with a group.
pub(crate) struct Published {
    pub(crate) chain: Chain,
    pub(crate) entries: Vec<Entry>,
    pub(crate) group: TailGroup,
}

/// The log as the next batch of the group sees it.
struct GroupLedger<'a, 'b> {
    stage: &'a mut Stage,
    known: &'a mut Known<'b>,
}

impl Ledger for GroupLedger<'_, '_> {
    fn last_recorded_at_us(&self) -> i64 {
        self.stage.chain.recorded_at_us
    }

    fn head(&mut self, stream: &StreamId) -> Result<Option<StreamHead>, ReadError> {
        if let Some(head) = self.stage.heads.get(stream) {
            return Ok(*head);
        }
        let head = if let Some(head) = self.known.heads.get(stream) {
            Some(head)
        } else {
            let shared = self.known.shared;
            let hash = crate::frame::stream_hash(shared.index.log_key(), stream.as_str());
            shared.stream_last(stream, hash)?.map(|record| StreamHead {
                revision: record.revision().get(),
                digest: *record.digest().as_bytes(),
            })
        };
        self.stage.heads.insert(stream.clone(), head);
        Ok(head)
    }

    fn used(&mut self, key: &[u8; 32]) -> Result<Option<Used>, ReadError> {
        if let Some((request, committed)) = self.stage.keys.get(key) {
            return Ok(Some(Used {
                request: *request,
                first: committed.first,
            }));
        }
        let record = self.known.shared.by_key(key)?;
        Ok(record.and_then(|record| {
            let request = record.idempotency()?.request;
            Some(Used {
                request,
                first: record.position(),
            })
        }))
    }

    fn answer(&mut self, first: Position) -> Result<Committed, ReadError> {
        let staged = self
            .stage
            .keys
            .values()
            .find(|(_, committed)| committed.first == first);
        match staged {
            Some((_, committed)) => Ok(committed.clone()),
            None => self.known.shared.committed(first.get()),
        }
    }
}
