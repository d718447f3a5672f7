//! An index in a directory of its own, and short ways to fill it and ask it.

use std::path::Path;
use std::sync::Arc;

use stemma_domain::id::ResourceId;
use stemma_domain::value::{CollectionName, EntityType, ResourceName};
use stemma_search::{
    Change, Checkpoint, Facets, Hit, Opened, Options, Passage, PassageSource, PassageVector,
    Passages, Query, ReadPassages, SearchError, SearchIndex, TakePassage,
};
use tempfile::TempDir;

pub(crate) struct Fixture {
    pub(crate) dir: TempDir,
    pub(crate) index: SearchIndex,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        Self::with(&Options::default())
    }

    pub(crate) fn with(options: &Options) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let index = SearchIndex::open(&dir.path().join("search"), options)
            .unwrap()
            .index;
        Self { dir, index }
    }

    pub(crate) fn apply(&self, changes: Vec<Change>) {
        let end = self.index.checkpoint().end + 1;
        self.index
            .apply(changes, Checkpoint { end, last: None })
            .unwrap();
    }

    /// The ids of resources whose passages are found, in order.
    pub(crate) fn found(&self, query: &Query) -> Vec<u128> {
        let hits = self.index.search(query).unwrap().hits;
        hits.iter().map(number).collect()
    }

    pub(crate) fn words(&self, text: &str) -> Vec<u128> {
        self.found(&Query::words(text))
    }
}

pub(crate) fn open(dir: &Path) -> Opened {
    SearchIndex::open(dir, &Options::default()).unwrap()
}

pub(crate) fn number(hit: &Hit) -> u128 {
    hit.resource.uuid().as_u128() & u128::from(u64::MAX)
}

pub(crate) fn id(number: u128) -> ResourceId {
    // Both halves of an id tell it apart, and so its upper half alone.
    ResourceId::new(uuid::Uuid::from_u128(number << 64 | number))
}

pub(crate) fn facets(name: &str, collection: Option<&str>, types: &[&str]) -> Facets {
    Facets {
        name: ResourceName::new(name).unwrap(),
        collection: collection.map(|name| CollectionName::new(name).unwrap()),
        entity_types: types
            .iter()
            .map(|name| EntityType::new(name).unwrap())
            .collect(),
        archived: false,
        note: Vec::new(),
    }
}

pub(crate) fn put_text(number: u128, name: &str, text: &str) -> Change {
    Change::Put {
        resource: id(number),
        facets: facets(name, None, &[]),
        passages: Passages::Text(text.to_owned()),
    }
}

/// Chunks `c0`, `c1`, … one after the other.
fn chunks(texts: &[&str]) -> Vec<Passage> {
    let mut start = 0;
    let chunks = (0..).zip(texts).map(|(index, text)| {
        let end = start + u32::try_from(text.chars().count()).unwrap();
        let passage = Passage {
            chunk_id: format!("c{index}"),
            index,
            start,
            end,
            text: (*text).to_owned(),
        };
        start = end + 1;
        passage
    });
    chunks.collect()
}

pub(crate) fn put_chunks(number: u128, facets: Facets, texts: &[&str]) -> Change {
    Change::Put {
        resource: id(number),
        facets,
        passages: Passages::Chunks(chunks(texts)),
    }
}

/// The text of a chunk, and its vectors by model, the oldest first.
pub(crate) type WithVectors<'a> = (&'a str, &'a [(&'a str, &'a [f32])]);

/// Chunks that are read with vectors.
struct Given(Vec<(Passage, Vec<PassageVector>)>);

impl PassageSource for Given {
    fn each(&self, take: &mut TakePassage<'_>) -> Result<(), SearchError> {
        let mut given = self.0.iter().cloned();
        given.try_for_each(|(passage, vectors)| take(passage, vectors))
    }
}

pub(crate) fn put_vectors(number: u128, facets: Facets, given: &[WithVectors<'_>]) -> Change {
    let texts: Vec<&str> = given.iter().map(|(text, _)| *text).collect();
    let vectors = given.iter().map(|(_, vectors)| {
        let vectors = vectors.iter().map(|(model, values)| PassageVector {
            model: (*model).to_owned(),
            values: values.to_vec(),
        });
        vectors.collect()
    });
    let given = Given(chunks(&texts).into_iter().zip(vectors).collect());
    Change::Put {
        resource: id(number),
        facets,
        passages: Passages::Read(ReadPassages::new(Arc::new(given))),
    }
}
