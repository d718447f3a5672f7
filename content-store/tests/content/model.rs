//! Random histories against a model: what is acknowledged and needed is there, what is not goes.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;
use stemma_content_store::{Digest, MemoryStorage, Pin};

use crate::{blob, open, put, read, verify};

#[derive(Debug, Clone)]
enum Step {
    Put(u64),
    Ingest(u64, usize),
    /// Its event is applied: the pin goes, and it is live.
    Apply(u64),
    /// Nothing names it any more.
    Forget(u64),
    Collect,
    Reopen,
    Crash,
}

fn bytes_of(seed: u64) -> Bytes {
    if seed == 0 {
        return Bytes::new();
    }
    let lens = [9, 16, 64, 200, 1000, 1024, 1025, 4000, 140_000];
    blob(seed, lens[usize::try_from(seed).unwrap() % lens.len()])
}

fn step() -> impl Strategy<Value = Step> {
    let seed = 0..27_u64;
    prop_oneof![
        6 => seed.clone().prop_map(Step::Put),
        3 => (seed.clone(), 1..150_000_usize).prop_map(|(seed, piece)| Step::Ingest(seed, piece)),
        3 => seed.clone().prop_map(Step::Apply),
        2 => seed.prop_map(Step::Forget),
        1 => Just(Step::Collect),
        1 => Just(Step::Reopen),
        1 => Just(Step::Crash),
    ]
}

#[derive(Default)]
struct Known {
    pin: Option<Pin>,
    live: bool,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn any_history_agrees_with_the_model(steps in prop::collection::vec(step(), 1..80)) {
        let mut storage = MemoryStorage::default();
        let (mut store, _) = open(&storage);
        let mut known: BTreeMap<u64, Known> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Put(seed) => {
                    let stored = put(&store, &bytes_of(seed)).unwrap();
                    prop_assert!(stored.new || store.contains(&stored.digest).unwrap());
                    known.entry(seed).or_default().pin = Some(stored.pin);
                }
                Step::Ingest(seed, piece) => {
                    let bytes = bytes_of(seed);
                    let mut ingest = store.begin().unwrap();
                    bytes.chunks(piece).for_each(|part| ingest.write(part).unwrap());
                    let stored = ingest.finish().unwrap();
                    prop_assert_eq!(stored.digest, Digest::of(&bytes));
                    known.entry(seed).or_default().pin = Some(stored.pin);
                }
                Step::Apply(seed) => {
                    if let Some(one) = known.get_mut(&seed) {
                        one.live |= one.pin.take().is_some();
                    }
                }
                Step::Forget(seed) => drop(known.insert(seed, Known::default())),
                Step::Collect => {
                    let is_live = |digest: &Digest| known.iter().any(|(seed, one)| one.live && Digest::of(&bytes_of(*seed)) == *digest);
                    store.collect(&is_live).unwrap();
                    for (seed, one) in &known {
                        let needed = one.live || one.pin.is_some();
                        prop_assert_eq!(read(&store, &bytes_of(*seed)).is_some(), needed);
                    }
                }
                Step::Reopen | Step::Crash => {
                    if matches!(step, Step::Crash) {
                        storage = storage.crash(&mut |_, _| false);
                    }
                    drop(store);
                    let (again, report) = open(&storage);
                    store = again;
                    prop_assert_eq!(report.clean, matches!(step, Step::Reopen));
                    prop_assert!(report.damage.is_empty() && report.cut.is_empty());
                    // What was only pinned may be collected from now on.
                    for one in known.values_mut() {
                        one.pin = None;
                    }
                }
            }
            for (seed, one) in known.iter().filter(|(_, one)| one.live || one.pin.is_some()) {
                let bytes = bytes_of(*seed);
                prop_assert_eq!(read(&store, &bytes), Some(bytes), "live {}", one.live);
            }
        }
        let report = verify(&store);
        prop_assert_eq!(report.damage, vec![]);
        prop_assert_eq!(report.blobs, store.stats().blobs);
    }
}
