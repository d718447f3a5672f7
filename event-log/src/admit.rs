//! Admission: whether a batch may become part of the log.
//!
//! Invariant: the answer depends on the batch and the ledger alone, so that every node that sees
//! the same batches in the same order comes to the same log.

use crate::batch::{Batch, Committed, ExpectedRevision, Idempotency};
use crate::error::{AppendError, InvalidBatch, ReadError};
use crate::id::{Position, Revision};
use crate::stream::StreamId;

/// A stream's last record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StreamHead {
    pub(crate) revision: u64,
    pub(crate) digest: [u8; 32],
}

/// An idempotency key that was used before.
#[derive(Debug, Clone)]
pub(crate) struct Used {
    pub(crate) request: [u8; 32],
    pub(crate) first: Position,
}

/// What admission may ask about the log so far.
pub(crate) trait Ledger {
    /// Recorded time of the last record; the least time there is when there is none.
    fn last_recorded_at_us(&self) -> i64;
    /// The stream's last record.
    fn head(&mut self, stream: &StreamId) -> Result<Option<StreamHead>, ReadError>;
    /// The batch that used this key first.
    fn used(&mut self, key: &[u8; 32]) -> Result<Option<Used>, ReadError>;
    /// The answer that the batch starting at this position got.
    fn answer(&mut self, first: Position) -> Result<Committed, ReadError>;
}

/// What becomes of a batch.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// Its records follow, all with this time.
    Accepted { recorded_at_us: i64 },
    /// It is in the log.
    Duplicate(Committed),
    /// It may not be.
    Refused(AppendError),
}

/// Decides over a batch.
pub(crate) fn admit(ledger: &mut impl Ledger, batch: &Batch) -> Result<Verdict, ReadError> {
    // A repetition is answered before its conditions are looked at: they held the first time.
    if let Some(idempotency) = &batch.idempotency
        && let Some(used) = ledger.used(&idempotency.key)?
    {
        return repeated(ledger, idempotency, &used);
    }
    for (stream, expected) in &batch.expected {
        let actual = match expected {
            ExpectedRevision::Any => continue,
            _ => ledger
                .head(stream)?
                .map(|head| Revision::new(head.revision)),
        };
        let holds = match expected {
            ExpectedRevision::Any => true,
            ExpectedRevision::NoStream => actual.is_none(),
            ExpectedRevision::Exact(revision) => actual == Some(*revision),
        };
        if !holds {
            let (stream, expected) = (stream.clone(), *expected);
            return Ok(Verdict::Refused(AppendError::Conflict {
                stream,
                expected,
                actual,
            }));
        }
    }
    for (index, event) in batch.events.iter().enumerate() {
        if batch.is_same_stream(index) {
            continue;
        }
        let last = ledger.head(&event.stream)?.map_or(0, |head| head.revision);
        if last + batch.events.len() as u64 >= u64::from(u32::MAX) {
            let reason = InvalidBatch::StreamFull {
                stream: event.stream.clone(),
            };
            return Ok(Verdict::Refused(AppendError::Invalid { reason }));
        }
    }
    let recorded_at_us = batch.proposed_at_us.max(ledger.last_recorded_at_us());
    Ok(Verdict::Accepted { recorded_at_us })
}

fn repeated(
    ledger: &mut impl Ledger,
    idempotency: &Idempotency,
    used: &Used,
) -> Result<Verdict, ReadError> {
    if used.request == idempotency.request {
        return ledger.answer(used.first).map(Verdict::Duplicate);
    }
    Ok(Verdict::Refused(AppendError::KeyReused {
        position: used.first,
    }))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::batch::{Metadata, NewEvent, Outcome};
    use crate::stream::EventType;

    struct Known {
        heads: HashMap<&'static str, u64>,
        time: i64,
    }

    impl Ledger for Known {
        fn last_recorded_at_us(&self) -> i64 {
            self.time
        }

        fn head(&mut self, stream: &StreamId) -> Result<Option<StreamHead>, ReadError> {
            let revision = self.heads.get(stream.as_str());
            Ok(revision.map(|revision| StreamHead {
                revision: *revision,
                digest: [0; 32],
            }))
        }

        fn used(&mut self, key: &[u8; 32]) -> Result<Option<Used>, ReadError> {
            let known = *key == [1; 32];
            Ok(known.then_some(Used {
                request: [2; 32],
                first: Position::new(9),
            }))
        }

        fn answer(&mut self, first: Position) -> Result<Committed, ReadError> {
            let outcome = Outcome::Duplicate;
            let revisions = vec![Revision::new(0)];
            Ok(Committed {
                first,
                last: first,
                recorded_at_us: 0,
                revisions,
                outcome,
            })
        }
    }

    fn known() -> Known {
        let heads = [("old", 4), ("full", u64::from(u32::MAX) - 1)];
        Known {
            heads: heads.into_iter().collect(),
            time: 100,
        }
    }

    fn batch(stream: &str, expected: ExpectedRevision, key: Option<(u8, u8)>) -> Batch {
        let stream = StreamId::new(stream).unwrap();
        Batch {
            events: vec![NewEvent {
                stream: stream.clone(),
                event_type: EventType::new("x").unwrap(),
                schema_version: 1,
                data: bytes::Bytes::new(),
            }],
            expected: vec![(stream, expected)],
            idempotency: key.map(|(key, request)| Idempotency {
                key: [key; 32],
                request: [request; 32],
            }),
            metadata: Metadata::default(),
            proposed_at_us: 50,
            order: None,
        }
    }

    #[test]
    fn a_batch_whose_expectations_hold_gets_a_time_that_does_not_go_back() {
        for (stream, expected) in [
            ("old", ExpectedRevision::Exact(Revision::new(4))),
            ("old", ExpectedRevision::Any),
            ("new", ExpectedRevision::NoStream),
        ] {
            let verdict = admit(&mut known(), &batch(stream, expected, None)).unwrap();
            assert!(
                matches!(
                    verdict,
                    Verdict::Accepted {
                        recorded_at_us: 100
                    }
                ),
                "{verdict:?}"
            );
        }
    }

    #[test]
    fn a_key_is_looked_at_before_the_expectations() {
        let repeated = batch("old", ExpectedRevision::NoStream, Some((1, 2)));
        let verdict = admit(&mut known(), &repeated).unwrap();
        assert!(matches!(verdict, Verdict::Duplicate(first) if first.first == Position::new(9)));
        let reused = batch("old", ExpectedRevision::NoStream, Some((1, 3)));
        let verdict = admit(&mut known(), &reused).unwrap();
        assert!(matches!(
            verdict,
            Verdict::Refused(AppendError::KeyReused { .. })
        ));
    }

    #[test]
    fn a_broken_expectation_and_a_full_stream_are_refused() {
        let broken = batch("old", ExpectedRevision::NoStream, None);
        let Verdict::Refused(AppendError::Conflict { actual, .. }) =
            admit(&mut known(), &broken).unwrap()
        else {
            panic!("a conflict")
        };
        assert_eq!(actual, Some(Revision::new(4)));
        let full = batch("full", ExpectedRevision::Any, None);
        let verdict = admit(&mut known(), &full).unwrap();
        assert!(matches!(
            verdict,
            Verdict::Refused(AppendError::Invalid { .. })
        ));
    }
}
