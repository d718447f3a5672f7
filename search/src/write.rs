//! How changes become rows: all of a batch in one commit, with the checkpoint.
//!
//! What a batch does to a resource is worked out first, over what is stored of it; then each
//! resource that changed is written whole. So changes of one batch build on each other.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use tantivy::collector::DocSetCollector;
use tantivy::indexer::{IndexWriterOptions, LogMergePolicy};
use tantivy::query::TermQuery;
use tantivy::schema::IndexRecordOption;
use tantivy::{Index, IndexWriter, TantivyDocument};

use stemma_domain::id::ResourceId;

use crate::change::{
    CHUNK_ID_BYTES_MAX, Change, Facets, MODELS_PER_PASSAGE_MAX, NOTE_BYTES_MAX, PASSAGE_BYTES_MAX,
    PASSAGES_PER_RESOURCE_MAX, Passage, Passages,
};
use crate::checkpoint::Checkpoint;
use crate::cut::cut;
use crate::engine::guarded;
use crate::error::SearchError;
use crate::fields::PassageKind;
use crate::index::{SearchIndex, Writing};
use crate::options::Options;
use crate::row::{Row, Stored, StoredVector};
use crate::vector;

/// Segments of fewer passages are merged with each other whatever their sizes.
const SMALL_SEGMENT_PASSAGES: u32 = 1_000;
/// Share of deleted passages from which on a segment is written anew.
const DELETED_SHARE_MAX: f32 = 0.3;

/// What a batch leaves of each resource that it changes; nothing for one that is removed.
type Touched = BTreeMap<ResourceId, Vec<Stored>>;

/// Opens the writer of an index; there is one at a time in all processes.
pub(crate) fn open_writer(index: &Index, options: &Options) -> tantivy::Result<IndexWriter> {
    let options = IndexWriterOptions::builder()
        .memory_budget_per_thread(options.writer_bytes)
        .num_worker_threads(1)
        .num_merge_threads(1)
        .build();
    let writer = index.writer_with_options(options)?;
    let mut policy = LogMergePolicy::default();
    policy.set_min_layer_size(SMALL_SEGMENT_PASSAGES);
    policy.set_del_docs_ratio_before_merge(DELETED_SHARE_MAX);
    writer.set_merge_policy(Box::new(policy));
    // What a commit left that did not come about bears the names that the next one writes under.
    writer.garbage_collect_files().wait()?;
    Ok(writer)
}

impl SearchIndex {
    /// Applies changes in their order and moves the checkpoint, in one commit. When this returns,
    /// queries see all of it.
    ///
    /// A commit costs some milliseconds however small it is: callers gather changes. The batch and
    /// the resources that it changes are in memory meanwhile.
    ///
    /// # Errors
    /// [`SearchError::ChunkId`], [`SearchError::Note`], [`SearchError::InvalidVector`] and
    /// [`SearchError::Discarded`] wrote nothing. After any other, either all was committed or
    /// nothing: [`settled`](Self::settled) tells.
    pub fn apply(&self, changes: Vec<Change>, checkpoint: Checkpoint) -> Result<(), SearchError> {
        let mut writing = self.writing();
        if writing.is_discarded {
            return Err(SearchError::Discarded);
        }
        let touched = guarded(|| {
            self.ensure_writer(&mut writing)?;
            self.touched(changes)
        })?;
        let committed = guarded(|| self.write(&mut writing, touched, checkpoint));
        if committed.is_ok() {
            writing.held.clear();
        } else {
            writing.drop_writer(&self.shared.index);
        }
        committed
    }

    /// The checkpoint, looked up on disk if a change failed since: it may have been committed.
    ///
    /// # Errors
    /// [`SearchError::Discarded`]; any other is to be tried again, or the index is damaged.
    pub fn settled(&self) -> Result<Checkpoint, SearchError> {
        let mut writing = self.writing();
        if writing.is_discarded {
            return Err(SearchError::Discarded);
        }
        guarded(|| self.ensure_writer(&mut writing))?;
        Ok(self.checkpoint())
    }

    /// After a failure nobody knows what was committed: it is looked up before going on.
    fn ensure_writer(&self, writing: &mut Writing) -> Result<(), SearchError> {
        if writing.writer.is_none() {
            let writer = open_writer(&self.shared.index, &self.shared.options)?;
            self.refresh()?;
            writing.writer = Some(writer);
        }
        Ok(())
    }

    fn touched(&self, changes: Vec<Change>) -> Result<Touched, SearchError> {
        let mut touched = Touched::new();
        for change in changes {
            match change {
                Change::Put {
                    resource,
                    facets,
                    passages,
                } => {
                    must_be_short(&facets)?;
                    touched.insert(resource, put(resource, &facets, passages)?);
                }
                Change::Describe { resource, facets } => {
                    must_be_short(&facets)?;
                    let stored = self.stored_or_touched(&mut touched, resource)?;
                    for passage in stored.into_iter().flatten() {
                        passage.row.describe(&facets);
                    }
                }
                Change::Vectors {
                    resource,
                    model,
                    dimension,
                    vectors,
                } => {
                    let kept = kept_vectors(&model, dimension, vectors)?;
                    if let Some(stored) = self.stored_or_touched(&mut touched, resource)? {
                        add_vectors(stored, &model, kept);
                    }
                }
                Change::Remove { resource } => {
                    touched.insert(resource, Vec::new());
                }
            }
        }
        Ok(touched)
    }

    /// What there is of a resource after the changes so far; none if it is not there.
    fn stored_or_touched<'a>(
        &self,
        touched: &'a mut Touched,
        resource: ResourceId,
    ) -> Result<Option<&'a mut Vec<Stored>>, SearchError> {
        match touched.entry(resource) {
            Entry::Occupied(there) => Ok(Some(there.into_mut())),
            Entry::Vacant(place) => {
                let stored = self.stored(resource)?;
                Ok((!stored.is_empty()).then(|| place.insert(stored)))
            }
        }
    }

    /// What is committed of a resource, by place.
    fn stored(&self, resource: ResourceId) -> Result<Vec<Stored>, SearchError> {
        let fields = &self.shared.fields;
        let searcher = &self.commit().searcher;
        let term = fields.resource_term(*resource.as_bytes());
        let query = TermQuery::new(term, IndexRecordOption::Basic);
        let mut addresses: Vec<_> = searcher
            .search(&query, &DocSetCollector)?
            .into_iter()
            .collect();
        // Rows are compressed in blocks: in order, each block is read once.
        addresses.sort_unstable();
        let mut stored = Vec::with_capacity(addresses.len());
        for address in addresses {
            let document: TantivyDocument = searcher.doc(address)?;
            stored.push(fields.stored(&document)?);
        }
        stored.sort_by_key(|stored| stored.row.index);
        Ok(stored)
    }

    fn write(
        &self,
        writing: &mut Writing,
        touched: Touched,
        checkpoint: Checkpoint,
    ) -> Result<(), SearchError> {
        let fields = &self.shared.fields;
        let searcher = &self.commit().searcher;
        let writer = writing.writer.as_mut().expect("made before changes are");
        for (resource, passages) in touched {
            let term = fields.resource_term(*resource.as_bytes());
            if searcher.doc_freq(&term)? > 0 {
                writer.delete_term(term);
            }
            let mut kind = PassageKind::First;
            for passage in passages {
                writer.add_document(fields.document(&passage, kind)?)?;
                kind = PassageKind::Further;
            }
        }
        let mut commit = writer.prepare_commit()?;
        commit.set_payload(&checkpoint.to_payload());
        commit.commit()?;
        self.refresh()
    }
}

/// The passages of a resource, at least one: without text it is found by its name.
fn put(
    resource: ResourceId,
    facets: &Facets,
    passages: Passages,
) -> Result<Vec<Stored>, SearchError> {
    let mut row = Row {
        resource: *resource.as_bytes(),
        name: String::new(),
        collection: None,
        entity_types: Vec::new(),
        archived: false,
        note: Vec::new(),
        chunk_id: None,
        index: 0,
        start: 0,
        end: 0,
        text: String::new(),
    };
    row.describe(facets);
    let mut rows = match passages {
        Passages::Chunks(chunks) => bounded(
            resource,
            chunks.into_iter().map(|chunk| of_chunk(&row, chunk)),
        )
        .collect::<Result<Vec<_>, _>>()?,
        Passages::Text(text) => {
            let cuts = (0..).zip(cut(&text));
            let rows = cuts.map(|(index, cut)| Row {
                index,
                start: code_points(cut.span.start),
                end: code_points(cut.span.end),
                text: cut.text.to_owned(),
                ..row.clone()
            });
            bounded(resource, rows).collect()
        }
    };
    if rows.is_empty() {
        rows.push(row);
    }
    let stored = rows.into_iter().map(|row| Stored {
        row,
        vectors: Vec::new(),
    });
    Ok(stored.collect())
}

/// As many as are kept of a resource; says so when there are more.
fn bounded<T>(resource: ResourceId, rows: impl Iterator<Item = T>) -> impl Iterator<Item = T> {
    rows.enumerate().map_while(move |(at, row)| {
        if at == PASSAGES_PER_RESOURCE_MAX {
            tracing::warn!(%resource, "the end of a text is not indexed: it has too many passages");
            return None;
        }
        Some(row)
    })
}

fn must_be_short(facets: &Facets) -> Result<(), SearchError> {
    let bytes = facets.note.len();
    if bytes > NOTE_BYTES_MAX {
        let bytes_max = NOTE_BYTES_MAX;
        return Err(SearchError::Note { bytes, bytes_max });
    }
    Ok(())
}

fn of_chunk(row: &Row, chunk: Passage) -> Result<Row, SearchError> {
    let bytes = chunk.chunk_id.len();
    if !(1..=CHUNK_ID_BYTES_MAX).contains(&bytes) {
        let bytes_max = CHUNK_ID_BYTES_MAX;
        return Err(SearchError::ChunkId { bytes, bytes_max });
    }
    let mut text = chunk.text;
    if text.len() > PASSAGE_BYTES_MAX {
        text.truncate(text.floor_char_boundary(PASSAGE_BYTES_MAX));
    }
    Ok(Row {
        chunk_id: Some(chunk.chunk_id),
        index: chunk.index,
        start: chunk.start,
        end: chunk.end.max(chunk.start),
        text,
        ..row.clone()
    })
}

/// Texts have fewer than 2³² code points; a place beyond is said to be the last.
fn code_points(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn kept_vectors(
    model: &str,
    dimension: usize,
    vectors: Vec<(String, Vec<f32>)>,
) -> Result<BTreeMap<String, Vec<i16>>, SearchError> {
    vector::model_term(model, dimension)?;
    let kept = vectors.into_iter().map(|(chunk_id, values)| {
        let kept = vector::kept(&values)?;
        // A vector of another dimension is as wrong as one of no numbers.
        if kept.len() == dimension {
            Ok((chunk_id, kept))
        } else {
            vector::kept(&[]).map(|none| (chunk_id, none))
        }
    });
    kept.collect()
}

fn add_vectors(stored: &mut [Stored], model: &str, mut kept: BTreeMap<String, Vec<i16>>) {
    for Stored { row, vectors } in stored {
        let chunk_id = row.chunk_id.as_ref();
        let Some(values) = chunk_id.and_then(|chunk_id| kept.remove(chunk_id)) else {
            continue;
        };
        vectors.retain(|vector| vector.model != model);
        vectors.push(StoredVector {
            model: model.to_owned(),
            values,
        });
        let beyond = vectors.len().saturating_sub(MODELS_PER_PASSAGE_MAX);
        vectors.drain(..beyond);
    }
}
