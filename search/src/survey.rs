//! What an index holds: counts, models, and a digest of its contents.
//!
//! All of it is read from one commit, and is the same for the same contents however they lie on
//! disk; only the size on disk is not.

use std::collections::BTreeSet;
use std::sync::Arc;

use stemma_domain::id::ResourceId;
use tantivy::schema::{Field, IndexRecordOption};
use tantivy::{DocId, DocSet as _, Searcher, SegmentReader, TERMINATED, TantivyDocument, Term};

use crate::change::Facets;
use crate::checkpoint::Checkpoint;
use crate::engine::guarded;
use crate::error::SearchError;
use crate::fields::{Fields, KIND_FIRST, KIND_TEXT, each_document};
use crate::index::{Commit, SearchIndex};
use crate::row;

/// Decompressed blocks that are kept while all rows are read in order.
const BLOCKS_IN_ORDER: usize = 2;

/// How much an index holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stats {
    /// Resources, those without text included.
    pub resources: u64,
    /// Passages that have text.
    pub passages: u64,
    /// Vectors of all models.
    pub vectors: u64,
    /// Bytes of all files of the index, those that are about to be removed included.
    pub disk_bytes: u64,
    /// Parts of the index on disk; they are merged in the background.
    pub segments: u64,
}

/// Of how many passages a model has made vectors.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ModelUse {
    /// The model.
    pub model: String,
    /// Numbers of each vector.
    pub dimension: usize,
    /// Passages that have one.
    pub passages: u64,
}

/// All that one commit holds, whatever is committed meanwhile.
#[derive(Clone)]
pub struct Contents {
    commit: Arc<Commit>,
    fields: Fields,
}

impl std::fmt::Debug for Contents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("Contents");
        shown
            .field("checkpoint", &self.commit.checkpoint)
            .finish_non_exhaustive()
    }
}

impl SearchIndex {
    /// Counts what the newest commit holds.
    ///
    /// # Errors
    /// [`SearchError::Index`] and [`SearchError::Damaged`].
    pub fn stats(&self) -> Result<Stats, SearchError> {
        let fields = &self.shared.fields;
        let commit = self.commit();
        let searcher = &commit.searcher;
        let count = |kind| count(searcher, &Term::from_field_text(fields.kind, kind));
        guarded(|| {
            Ok(Stats {
                resources: count(KIND_FIRST)?,
                passages: count(KIND_TEXT)?,
                vectors: models(searcher, fields.model)?
                    .iter()
                    .map(|used| used.passages)
                    .sum(),
                disk_bytes: self.disk_bytes()?,
                segments: searcher.segment_readers().len() as u64,
            })
        })
    }

    /// The models that have vectors here, by name. While a new model takes the place of another,
    /// the old one is to be asked with until the new one has as many.
    ///
    /// # Errors
    /// [`SearchError::Index`] and [`SearchError::Damaged`].
    pub fn models(&self) -> Result<Vec<ModelUse>, SearchError> {
        let commit = self.commit();
        guarded(|| models(&commit.searcher, self.shared.fields.model))
    }

    /// All that the newest commit holds, to be looked at while others are made.
    pub fn contents(&self) -> Contents {
        Contents {
            commit: self.commit(),
            fields: self.shared.fields.clone(),
        }
    }

    /// What is shown and noted of a resource; none if it is not there.
    ///
    /// # Errors
    /// [`SearchError::Row`], [`SearchError::Index`] and [`SearchError::Damaged`].
    pub fn facets(&self, resource: ResourceId) -> Result<Option<Facets>, SearchError> {
        let fields = &self.shared.fields;
        let commit = self.commit();
        let term = fields.resource_term(*resource.as_bytes());
        guarded(|| {
            for reader in commit.searcher.segment_readers() {
                if let Some(document) = first_alive(reader, &term)? {
                    let store = reader.get_store_reader(BLOCKS_IN_ORDER)?;
                    let document: TantivyDocument = store.get(document)?;
                    return fields.row(&document)?.facets().map(Some);
                }
            }
            Ok(None)
        })
    }

    /// How many passages there are of a resource at the most: those that were taken away and are
    /// not gone from the disk yet are counted.
    ///
    /// # Errors
    /// [`SearchError::Index`] and [`SearchError::Damaged`].
    pub fn passages_at_most(&self, resource: ResourceId) -> Result<u64, SearchError> {
        let term = self.shared.fields.resource_term(*resource.as_bytes());
        let commit = self.commit();
        guarded(|| Ok(commit.searcher.doc_freq(&term)?))
    }

    /// [`Contents::digest`] of the newest commit.
    ///
    /// # Errors
    /// As there.
    pub fn digest(&self) -> Result<[u8; 32], SearchError> {
        self.contents().digest()
    }

    fn disk_bytes(&self) -> Result<u64, SearchError> {
        let mut bytes = 0;
        for entry in std::fs::read_dir(&self.shared.dir)? {
            // A file may be removed while the directory is read.
            bytes += entry?.metadata().map_or(0, |metadata| metadata.len());
        }
        Ok(bytes)
    }
}

impl Contents {
    /// How far the log was folded in.
    pub fn checkpoint(&self) -> Checkpoint {
        self.commit.checkpoint
    }

    /// A digest of all passages with their facets and vectors. Two indexes of the same contents
    /// have the same digest, whatever their changes and commits were. Reads all rows.
    ///
    /// It is a sum, so that nothing needs to be sorted: it tells of differences that happen, not
    /// of such as somebody was at pains to make.
    ///
    /// # Errors
    /// [`SearchError::Row`], [`SearchError::Index`] and [`SearchError::Damaged`].
    pub fn digest(&self) -> Result<[u8; 32], SearchError> {
        guarded(|| {
            let mut sum = [0_u64; 4];
            let mut count = 0_u64;
            for reader in self.commit.searcher.segment_readers() {
                let store = reader.get_store_reader(BLOCKS_IN_ORDER)?;
                for document in reader.doc_ids_alive() {
                    let document: TantivyDocument = store.get(document)?;
                    let stored = self.fields.stored(&document)?;
                    let mut hasher = blake3::Hasher::new();
                    let encoded = row::encode(&stored.row);
                    hasher.update(&(encoded.len() as u64).to_le_bytes());
                    hasher.update(&encoded);
                    hasher.update(&row::encode(&stored.vectors));
                    let hash = hasher.finalize();
                    for (lane, bytes) in sum.iter_mut().zip(hash.as_bytes().as_chunks().0) {
                        *lane = lane.wrapping_add(u64::from_le_bytes(*bytes));
                    }
                    count += 1;
                }
            }
            let mut hasher = blake3::Hasher::new();
            hasher.update(&count.to_le_bytes());
            for lane in sum {
                hasher.update(&lane.to_le_bytes());
            }
            Ok(*hasher.finalize().as_bytes())
        })
    }
}

fn first_alive(reader: &SegmentReader, term: &Term) -> Result<Option<DocId>, SearchError> {
    let inverted = reader.inverted_index(term.field())?;
    let Some(mut postings) = inverted.read_postings(term, IndexRecordOption::Basic)? else {
        return Ok(None);
    };
    let mut document = postings.doc();
    while document != TERMINATED {
        if is_alive(reader, document) {
            return Ok(Some(document));
        }
        document = postings.advance();
    }
    Ok(None)
}

fn count(searcher: &Searcher, term: &Term) -> Result<u64, SearchError> {
    let mut count = 0;
    for reader in searcher.segment_readers() {
        each_document(reader, term, |document| {
            count += u64::from(is_alive(reader, document));
            Ok(())
        })?;
    }
    Ok(count)
}

fn is_alive(reader: &SegmentReader, document: DocId) -> bool {
    reader
        .alive_bitset()
        .is_none_or(|alive| alive.is_alive(document))
}

fn models(searcher: &Searcher, field: Field) -> Result<Vec<ModelUse>, SearchError> {
    let mut used = BTreeSet::new();
    for reader in searcher.segment_readers() {
        let inverted = reader.inverted_index(field)?;
        let mut terms = inverted.terms().stream()?;
        while terms.advance() {
            used.insert(String::from_utf8_lossy(terms.key()).into_owned());
        }
    }
    let mut models = Vec::new();
    for term in used {
        let passages = count(searcher, &Term::from_field_text(field, &term))?;
        let parts = term.split_once(' ');
        let parts = parts.and_then(|(dimension, model)| Some((dimension.parse().ok()?, model)));
        if let Some((dimension, model)) = parts.filter(|_| passages > 0) {
            models.push(ModelUse {
                model: model.to_owned(),
                dimension,
                passages,
            });
        }
    }
    models.sort();
    Ok(models)
}
