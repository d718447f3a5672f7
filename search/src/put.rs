//! What a batch leaves of a resource, and the passages that this gives, one after the other.
//!
//! Invariant: a text is cut, and passages from elsewhere are read, while they are written; only
//! what has to be changed as it is stored is in memory whole.

use stemma_domain::id::ResourceId;

use crate::change::{
    CHUNK_ID_BYTES_MAX, Facets, MODELS_PER_PASSAGE_MAX, PASSAGE_BYTES_MAX,
    PASSAGES_PER_RESOURCE_MAX, Passage, PassageVector, Passages, ReadPassages,
};
use crate::cut::cut;
use crate::error::SearchError;
use crate::row::{Row, Stored, StoredVector};
use crate::vector;

/// What a batch leaves of a resource.
pub(crate) enum Left {
    /// Passages as they are stored; none of a resource that is removed.
    Rows(Vec<Stored>),
    /// A text to be cut. The row is of its passages, without place and text.
    Text { row: Row, text: String },
    /// Passages to be read.
    Read { row: Row, passages: ReadPassages },
    /// Those that are there, with other facets.
    Described(Facets),
}

impl Left {
    /// A resource that is put in the place of all that was there of it.
    pub(crate) fn put(
        resource: ResourceId,
        facets: &Facets,
        passages: Passages,
    ) -> Result<Self, SearchError> {
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
        Ok(match passages {
            Passages::Text(text) => Self::Text { row, text },
            Passages::Read(passages) => Self::Read { row, passages },
            Passages::Chunks(chunks) => {
                let mut rows = Vec::with_capacity(chunks.len());
                for chunk in chunks.into_iter().take(PASSAGES_PER_RESOURCE_MAX + 1) {
                    if rows.len() == PASSAGES_PER_RESOURCE_MAX {
                        warn_of_end(row.resource);
                        break;
                    }
                    rows.push(without_vectors(of_chunk(&row, chunk)?));
                }
                if rows.is_empty() {
                    rows.push(without_vectors(row));
                }
                Self::Rows(rows)
            }
        })
    }

    /// Changes its facets.
    pub(crate) fn describe(&mut self, facets: Facets) {
        match self {
            Self::Rows(rows) => rows.iter_mut().for_each(|left| left.row.describe(&facets)),
            Self::Text { row, .. } | Self::Read { row, .. } => row.describe(&facets),
            Self::Described(described) => *described = facets,
        }
    }

    /// Gives each passage as it will be stored to `take`: at least one, unless the resource is
    /// removed, for without text it is found by its name. `stored` tells what is there.
    pub(crate) fn each(
        self,
        stored: impl FnOnce() -> Result<Vec<Stored>, SearchError>,
        take: &mut dyn FnMut(Stored) -> Result<(), SearchError>,
    ) -> Result<(), SearchError> {
        match self {
            Self::Rows(rows) => rows.into_iter().try_for_each(take),
            Self::Text { row, text } => each_cut(row, &text, take),
            Self::Read { row, passages } => each_read(row, &passages, take),
            Self::Described(facets) => stored()?.into_iter().try_for_each(|mut stored| {
                stored.row.describe(&facets);
                take(stored)
            }),
        }
    }
}

fn each_cut(
    row: Row,
    text: &str,
    take: &mut dyn FnMut(Stored) -> Result<(), SearchError>,
) -> Result<(), SearchError> {
    let mut index = 0;
    for cut in cut(text) {
        if index as usize == PASSAGES_PER_RESOURCE_MAX {
            warn_of_end(row.resource);
            break;
        }
        take(without_vectors(Row {
            index,
            start: code_points(cut.span.start),
            end: code_points(cut.span.end),
            text: cut.text.to_owned(),
            ..row.clone()
        }))?;
        index += 1;
    }
    if index == 0 {
        take(without_vectors(row))?;
    }
    Ok(())
}

fn each_read(
    row: Row,
    passages: &ReadPassages,
    take: &mut dyn FnMut(Stored) -> Result<(), SearchError>,
) -> Result<(), SearchError> {
    let mut count = 0;
    passages.each(&mut |passage, vectors| {
        count += 1;
        if count > PASSAGES_PER_RESOURCE_MAX {
            if count == PASSAGES_PER_RESOURCE_MAX + 1 {
                warn_of_end(row.resource);
            }
            return Ok(());
        }
        let mut stored = without_vectors(of_chunk(&row, passage)?);
        for PassageVector { model, values } in vectors {
            vector::model_term(&model, values.len())?;
            stored.give(model, vector::kept(&values)?);
        }
        take(stored)
    })?;
    if count == 0 {
        take(without_vectors(row))?;
    }
    Ok(())
}

impl Stored {
    /// Gives it a vector in the place of the one that it had of the model; one of too many models
    /// is left out, the oldest.
    pub(crate) fn give(&mut self, model: String, values: Vec<i16>) {
        self.vectors.retain(|vector| vector.model != model);
        self.vectors.push(StoredVector { model, values });
        let beyond = self.vectors.len().saturating_sub(MODELS_PER_PASSAGE_MAX);
        self.vectors.drain(..beyond);
    }
}

fn without_vectors(row: Row) -> Stored {
    Stored {
        row,
        vectors: Vec::new(),
    }
}

fn warn_of_end(resource: [u8; 16]) {
    let resource = uuid::Uuid::from_bytes(resource);
    tracing::warn!(%resource, "the end of a text is not indexed: it has too many passages");
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
