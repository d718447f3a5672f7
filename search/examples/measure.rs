//! Measures an index: `measure <directory> [passages] [dimension]`. Prints what it measured.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_possible_truncation
)]
#![allow(clippy::cast_precision_loss, clippy::cast_sign_loss, missing_docs)]

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use stemma_domain::id::ResourceId;
use stemma_domain::value::{CollectionName, ResourceName};
use stemma_search::{
    Change, Checkpoint, Facets, Mode, Options, Passage, PassageSource, PassageVector, Passages,
    Query, QueryVector, ReadPassages, SearchError, SearchIndex, TakePassage,
};

/// Passages of one document.
const DOCUMENT_PASSAGES: usize = 50;

/// Numbers that look random (splitmix64), the same in every run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// 0 to 1.
    fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn normal(&mut self) -> f32 {
        (0..12).map(|_| self.share()).sum::<f64>() as f32 - 6.0
    }

    /// A word of some 20,000, the frequent ones first.
    fn word(&mut self) -> String {
        let rank = (20_000_f64.powf(self.share()) - 1.0) as usize;
        format!("w{rank:x}q")
    }
}

/// Vectors around some 300 middles, as texts of some topics are.
struct Vectors {
    middles: Vec<Vec<f32>>,
    numbers: Numbers,
}

impl Vectors {
    fn new(dimension: usize) -> Self {
        let mut numbers = Numbers(7);
        let middle = |numbers: &mut Numbers| (0..dimension).map(|_| numbers.normal()).collect();
        let middles = (0..300).map(|_| middle(&mut numbers)).collect();
        Self { middles, numbers }
    }

    fn next(&mut self) -> Vec<f32> {
        let at = self.numbers.next() as usize % self.middles.len();
        let middle = &self.middles[at];
        middle
            .iter()
            .map(|value| value + 0.6 * self.numbers.normal())
            .collect()
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let dir = arguments.next().unwrap();
    let number = |text: Option<String>, default| text.map_or(default, |text| text.parse().unwrap());
    let passages = number(arguments.next(), 100_000);
    let dimension = number(arguments.next(), 384);
    let opened = SearchIndex::open(Path::new(&dir), &Options::default()).unwrap();
    let vectors = fill(&opened.index, passages, dimension);
    println!("resident at most: {} MiB", resident_most());
    let stats = opened.index.stats().unwrap();
    println!("{stats:?}");
    ask(&opened.index, &vectors, dimension);
    println!("resident at most: {} MiB", resident_most());
    commits(&opened.index);
    let begun = Instant::now();
    let digest = opened.index.digest().unwrap();
    println!("digest {:02x}…: {:?}", digest[0], begun.elapsed());
    drop(opened);
    let begun = Instant::now();
    let opened = SearchIndex::open(Path::new(&dir), &Options::default()).unwrap();
    println!(
        "open, checksums verified: {:?}, {:?}",
        begun.elapsed(),
        opened.state
    );
}

/// Chunks with their vectors.
struct Given(Vec<(Passage, Vec<f32>)>);

impl PassageSource for Given {
    fn each(&self, take: &mut TakePassage<'_>) -> Result<(), SearchError> {
        let mut given = self.0.iter().cloned();
        given.try_for_each(|(passage, values)| {
            let model = "measured".to_owned();
            take(passage, vec![PassageVector { model, values }])
        })
    }
}

fn fill(index: &SearchIndex, passages: usize, dimension: usize) -> Vec<Vec<f32>> {
    let mut numbers = Numbers(1);
    let mut vectors = Vectors::new(dimension);
    let mut all = Vec::new();
    let begun = Instant::now();
    let mut changes = Vec::new();
    for document in 0..passages / DOCUMENT_PASSAGES {
        let chunks: Vec<_> = (0..DOCUMENT_PASSAGES)
            .map(|at| chunk(&mut numbers, at))
            .collect();
        let resource = ResourceId::new(uuid::Uuid::from_u128(document as u128));
        let facets = Facets {
            name: ResourceName::new(&format!("document {document}")).unwrap(),
            collection: Some(CollectionName::new(&format!("c{}", document % 100)).unwrap()),
            entity_types: std::collections::BTreeSet::new(),
            archived: false,
            note: Vec::new(),
        };
        let of_document: Vec<_> = chunks.iter().map(|_| vectors.next()).collect();
        all.extend(of_document.iter().cloned());
        let given = Given(chunks.into_iter().zip(of_document).collect());
        changes.push(Change::Put {
            resource,
            facets,
            passages: Passages::Read(ReadPassages::new(Arc::new(given))),
        });
        if changes.len() >= 40 {
            let end = document as u64;
            index
                .apply(std::mem::take(&mut changes), Checkpoint { end, last: None })
                .unwrap();
        }
    }
    let end = u64::MAX / 2;
    index
        .apply(changes, Checkpoint { end, last: None })
        .unwrap();
    println!(
        "filled {passages} passages of {dimension}: {:?}",
        begun.elapsed()
    );
    all
}

fn chunk(numbers: &mut Numbers, at: usize) -> Passage {
    let words: Vec<_> = (0..170).map(|_| numbers.word()).collect();
    let start = at as u32 * 1_000;
    Passage {
        chunk_id: format!("chunk-{at}"),
        index: at as u32,
        start,
        end: start + 1_000,
        text: words.join(" "),
    }
}

fn ask(index: &SearchIndex, vectors: &[Vec<f32>], dimension: usize) {
    let mut source = Vectors::new(dimension);
    source.numbers = Numbers(99);
    let asked: Vec<_> = (0..100).map(|_| source.next()).collect();
    let query = |values: &Vec<f32>| Query {
        mode: Mode::Vector,
        vector: Some(QueryVector {
            model: "measured".to_owned(),
            values: values.clone(),
        }),
        ..Query::words("")
    };
    let begun = Instant::now();
    index.search(&query(&asked[0])).unwrap();
    println!("first query by vector, loading: {:?}", begun.elapsed());
    let mut right = 0;
    let answers: Vec<_> = timed("query by vector", &asked, |asked| {
        index.search(&query(asked)).unwrap().hits
    });
    for (asked, hits) in asked.iter().zip(&answers).take(30) {
        let nearest = nearest(vectors, asked);
        let place = |hit: &stemma_search::Hit| {
            hit.resource.uuid().as_u128() as usize * DOCUMENT_PASSAGES + hit.start as usize / 1_000
        };
        right += hits
            .iter()
            .filter(|hit| nearest.contains(&place(hit)))
            .count();
    }
    println!(
        "recall of 10 against f32: {}",
        f64::from(right as u32) / 300.0
    );
    let one = timed(
        "query by vector in one of 100 collections",
        &asked,
        |asked| {
            let mut query = query(asked);
            query.collection = Some(CollectionName::new("c7").unwrap());
            index.search(&query).unwrap().hits.len()
        },
    );
    assert!(one.iter().all(|hits| *hits > 0));
    let mut numbers = Numbers(5);
    let texts: Vec<_> = (0..100)
        .map(|_| format!("{} {} {}", numbers.word(), numbers.word(), numbers.word()))
        .collect();
    let hits = timed("query of three words", &texts, |text| {
        index.search(&Query::words(text)).unwrap().hits.len()
    });
    println!(
        "  of which found something: {}",
        hits.iter().filter(|hits| **hits > 0).count()
    );
    let both: Vec<_> = texts.iter().zip(&asked).collect();
    timed("query by both", &both, |(text, asked)| {
        let query = Query {
            mode: Mode::Hybrid,
            text: (*text).clone(),
            ..query(asked)
        };
        index.search(&query).unwrap().hits.len()
    });
}

fn nearest(vectors: &[Vec<f32>], asked: &[f32]) -> Vec<usize> {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter()
            .zip(b)
            .map(|(a, b)| f64::from(*a) * f64::from(*b))
            .sum()
    };
    let cosine = |vector: &[f32]| dot(vector, asked) / dot(vector, vector).sqrt();
    let mut all: Vec<_> = vectors
        .iter()
        .map(|vector| cosine(vector))
        .enumerate()
        .collect();
    all.sort_by(|a, b| b.1.total_cmp(&a.1));
    all.iter().take(10).map(|(place, _)| *place).collect()
}

fn commits(index: &SearchIndex) {
    let rounds: Vec<_> = (0..200_u64).collect();
    timed("commit of one passage", &rounds, |round| {
        let change = Change::Put {
            resource: ResourceId::new(uuid::Uuid::from_u128(u128::from(*round) | 1 << 100)),
            facets: Facets {
                name: ResourceName::new("small").unwrap(),
                collection: None,
                entity_types: std::collections::BTreeSet::new(),
                archived: false,
                note: Vec::new(),
            },
            passages: Passages::Text("a few words of a note".to_owned()),
        };
        index
            .apply(
                vec![change],
                Checkpoint {
                    end: *round,
                    last: None,
                },
            )
            .unwrap();
    });
    println!("segments: {}", index.stats().unwrap().segments);
}

fn timed<I, O>(what: &str, inputs: &[I], mut work: impl FnMut(&I) -> O) -> Vec<O> {
    let mut times = Vec::new();
    let mut outputs = Vec::new();
    for input in inputs {
        let begun = Instant::now();
        outputs.push(work(input));
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    let (median, most) = (times[times.len() / 2], times[times.len() - 1]);
    println!(
        "{what}: median {median:?}, p95 {:?}, most {most:?}",
        times[times.len() * 95 / 100]
    );
    outputs
}

/// Most memory that was resident, as the system counts it.
fn resident_most() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    kib.unwrap_or_default() / 1024
}
