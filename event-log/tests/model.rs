//! Random appends, restarts and crashes against a model in a few lines.

#![allow(
    clippy::unwrap_used,
    clippy::wildcard_imports,
    clippy::cast_possible_truncation,
    reason = "tests stop at what should not be"
)]

mod support;

use std::collections::HashMap;

use proptest::prelude::*;
use std::ops::ControlFlow;

use stemma_event_log::{
    AppendError, Batch, Direction, ExpectedRevision, Log, Loss, MemoryStorage, Outcome, Position,
    ReadLimit, Record, Revision, StreamId, StreamRange, verify,
};
use support::*;

#[derive(Debug, Clone)]
enum Step {
    Append {
        events: Vec<(u8, u16)>,
        expected: Vec<(u8, Option<u8>)>,
        key: Option<(u8, u8)>,
        at: i64,
    },
    Restart,
    Crash(u64),
    Kill,
}

#[derive(Default)]
struct Model {
    /// Stream, revision and data of each record.
    records: Vec<(u8, u64, String)>,
    keys: HashMap<u8, (u8, u64)>,
    time: i64,
}

impl Model {
    fn head(&self, stream: u8) -> Option<u64> {
        self.records
            .iter()
            .filter(|(s, ..)| *s == stream)
            .map(|(_, r, _)| *r)
            .next_back()
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let append = (
        prop::collection::vec((0..5_u8, 0..900_u16), 1..5),
        prop::collection::vec((0..5_u8, prop::option::of(0..6_u8)), 0..2),
        prop::option::of((0..5_u8, 0..2_u8)),
        -50..5000_i64,
    )
        .prop_map(|(events, expected, key, at)| Step::Append {
            events,
            expected,
            key,
            at,
        });
    let step = prop_oneof![
        12 => append,
        1 => Just(Step::Restart),
        1 => any::<u64>().prop_map(Step::Crash),
        1 => Just(Step::Kill),
    ];
    prop::collection::vec(step, 1..60)
}

fn name(stream: u8) -> String {
    format!("thing-{stream}")
}

fn make(model: &Model, events: &[(u8, u16)], at: i64) -> (Batch, Vec<String>) {
    let base = model.records.len();
    let data: Vec<String> = (events.iter().enumerate())
        .map(|(n, (_, bytes))| format!("{}:{}", base + n, "z".repeat(usize::from(*bytes))))
        .collect();
    let mut made = batch("x", &[]);
    made.events = events
        .iter()
        .zip(&data)
        .map(|((s, _), data)| event(&name(*s), data))
        .collect();
    made.proposed_at_us = at;
    (made, data)
}

fn apply(log: &Log, model: &mut Model, step: &Step) {
    let Step::Append {
        events,
        expected,
        key,
        at,
    } = step
    else {
        return;
    };
    let (mut made, data) = make(model, events, *at);
    for (stream, revision) in expected {
        let wanted = revision.map_or(ExpectedRevision::NoStream, |r| exact(u64::from(r)));
        made = expecting(made, &name(*stream), wanted);
    }
    if let Some((key, request)) = key {
        made = keyed(made, *key, *request);
    }
    let answer = append(&log.appender, made);
    if let Some((key, request)) = key
        && let Some((used, first)) = model.keys.get(key)
    {
        match answer {
            Ok(committed) => {
                assert_eq!((committed.outcome, used), (Outcome::Duplicate, request));
                assert_eq!(committed.first.get(), *first);
            }
            Err(AppendError::KeyReused { position }) => {
                assert_ne!(used, request);
                assert_eq!(position.get(), *first);
            }
            other => panic!("{other:?}"),
        }
        return;
    }
    let broken = expected
        .iter()
        .find(|(s, r)| model.head(*s) != r.map(u64::from));
    if let Some((stream_index, _)) = broken {
        let Err(AppendError::Conflict { stream, actual, .. }) = answer else {
            panic!("{answer:?}")
        };
        assert_eq!(stream.as_str(), name(*stream_index));
        assert_eq!(actual.map(Revision::get), model.head(*stream_index));
        return;
    }
    let committed = answer.unwrap();
    model.time = model.time.max(*at);
    assert_eq!(committed.recorded_at_us.max(0), model.time.max(0));
    assert_eq!(committed.first.get(), model.records.len() as u64);
    if let Some((key, request)) = key {
        model.keys.insert(*key, (*request, committed.first.get()));
    }
    for ((stream, _), data) in events.iter().zip(data) {
        let revision = model.head(*stream).map_or(0, |head| head + 1);
        model.records.push((*stream, revision, data));
    }
}

fn read_stream(log: &Log, id: &StreamId, direction: Direction, limit: ReadLimit) -> Vec<Record> {
    let from = match direction {
        Direction::Forward => Revision::new(0),
        Direction::Backward => Revision::new(u64::MAX),
    };
    let range = StreamRange {
        from,
        direction,
        limit,
    };
    let read = log.reader.read_stream(id, range).unwrap();
    let all = read.len() < limit.records && !limit.is_reached_by(&read);
    let head = log.reader.stream_head(id).unwrap();
    let n_records = head.map_or(0, |head| head.get() + 1);
    assert!(!all || read.len() as u64 == n_records, "{limit:?}");
    read
}

/// The first of some records, none more once there are so many or so many bytes.
fn within<'r>(limit: ReadLimit, records: impl Iterator<Item = &'r Record>) -> Vec<Record> {
    let mut taken = Vec::new();
    for record in records {
        let bytes: usize = taken.iter().map(|r: &Record| r.bytes().len()).sum();
        if taken.len() == limit.records || (!taken.is_empty() && bytes >= limit.bytes) {
            break;
        }
        taken.push(record.clone());
    }
    taken
}

fn compare(log: &Log, model: &Model) {
    let records = all(&log.reader);
    assert_eq!(log.reader.end(), Position::new(model.records.len() as u64));
    let found: Vec<(String, u64, &[u8])> = records
        .iter()
        .map(|r| (r.stream().to_owned(), r.revision().get(), r.data()))
        .collect();
    let wanted: Vec<(String, u64, &[u8])> = model
        .records
        .iter()
        .map(|(s, r, d)| (name(*s), *r, d.as_bytes()))
        .collect();
    assert_eq!(found, wanted);
    for stream_index in 0..5 {
        let id = stream(&name(stream_index));
        assert_eq!(
            log.reader.stream_head(&id).unwrap().map(Revision::get),
            model.head(stream_index)
        );
        let of_it = records.iter().filter(|record| record.stream_id() == &id);
        let of_it: Vec<&Record> = of_it.collect();
        for bytes in [0, 1, 700, 2500, usize::MAX] {
            let limit = ReadLimit { records: 7, bytes };
            let oldest = read_stream(log, &id, Direction::Forward, limit);
            assert_eq!(oldest, within(limit, of_it.iter().copied()), "{limit:?}");
            let newest = read_stream(log, &id, Direction::Backward, limit);
            let reversed = of_it.iter().rev().copied();
            assert_eq!(newest, within(limit, reversed), "{limit:?}");
        }
        for position in 0..=model.records.len() {
            let before = model.records[..position].iter();
            let before = before.filter(|record| record.0 == stream_index).count();
            let from = Position::new(position as u64);
            let revision = log.reader.revision_from(&id, from).unwrap();
            assert_eq!(revision, Revision::new(before as u64), "from {position}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_log_does_what_the_model_does(steps in steps()) {
        let mut storage = MemoryStorage::new();
        let mut log = open(&storage);
        let mut model = Model { time: i64::MIN, ..Model::default() };
        let mut marked = false;
        for step in &steps {
            let loss = match step {
                Step::Append { .. } => {
                    let before = model.records.len();
                    apply(&log, &mut model, step);
                    marked &= model.records.len() == before;
                    continue;
                }
                Step::Restart => None,
                Step::Crash(seed) if seed % 3 == 0 => Some(Loss::All),
                Step::Crash(seed) => Some(Loss::Some { seed: *seed }),
                Step::Kill => Some(Loss::None),
            };
            if let Some(loss) = loss {
                storage = storage.after_crash(loss, calm);
            } else {
                log.appender.close().unwrap();
                marked = true;
            }
            drop(log);
            log = open(&storage);
            prop_assert_eq!(log.report.clean, marked);
            compare(&log, &model);
        }
        compare(&log, &model);
        let report = verify(&shared(&storage), &options(), &mut |_| ControlFlow::Continue(()), &mut |_| {}).unwrap();
        prop_assert_eq!(report.damages, vec![]);
        prop_assert_eq!(report.records, model.records.len() as u64);
    }
}
