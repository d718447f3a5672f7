//! What is stored of a passage: the row, and its vectors beside it.
//!
//! Both are a format byte and bincode in its legacy layout. What cannot be read is an error that
//! leads to a rebuild.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use stemma_domain::value::{CollectionName, EntityType, ResourceName, ValueError};

use crate::change::Facets;
use crate::error::SearchError;

/// The form of both, kept in their first byte.
const ROW_FORMAT: u8 = 1;
/// Most bytes of a row or of its vectors.
const ROW_BYTES_MAX: usize = 1 << 20;

/// A passage with the facets of its resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) resource: [u8; 16],
    pub(crate) name: String,
    pub(crate) collection: Option<String>,
    pub(crate) entity_types: Vec<String>,
    pub(crate) archived: bool,
    pub(crate) note: Vec<u8>,
    pub(crate) chunk_id: Option<String>,
    pub(crate) index: u32,
    pub(crate) start: u32,
    pub(crate) end: u32,
    /// Empty in the one row of a resource without text.
    pub(crate) text: String,
}

impl Row {
    /// Puts the facets in the place of those that are there.
    pub(crate) fn describe(&mut self, facets: &Facets) {
        self.name = facets.name.to_string();
        self.collection = facets.collection.as_ref().map(ToString::to_string);
        self.entity_types = facets
            .entity_types
            .iter()
            .map(ToString::to_string)
            .collect();
        self.archived = facets.archived;
        self.note.clone_from(&facets.note);
    }

    /// The facets as they were given.
    ///
    /// # Errors
    /// [`SearchError::Row`] if they cannot have been.
    pub(crate) fn facets(self) -> Result<Facets, SearchError> {
        let collection = self.collection.as_deref().map(CollectionName::new);
        let entity_types = self.entity_types.iter();
        Ok(Facets {
            name: value(ResourceName::new(&self.name))?,
            collection: collection.map(value).transpose()?,
            entity_types: entity_types
                .map(|name| value(EntityType::new(name)))
                .collect::<Result<_, _>>()?,
            archived: self.archived,
            note: self.note,
        })
    }
}

/// A text of a row as the value that it was written from.
fn value<T>(read: Result<T, ValueError>) -> Result<T, SearchError> {
    read.map_err(|error| SearchError::Row(error.into()))
}

/// A vector in its kept form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredVector {
    pub(crate) model: String,
    pub(crate) values: Vec<i16>,
}

/// A row with its vectors, the oldest model first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) row: Row,
    pub(crate) vectors: Vec<StoredVector>,
}

pub(crate) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = vec![ROW_FORMAT];
    let body = bincode::serde::encode_to_vec(value, bincode::config::legacy());
    bytes.extend(body.expect("rows are plain data"));
    bytes
}

/// Reads what [`encode`] made.
///
/// # Errors
/// [`SearchError::Row`] for anything else.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, SearchError> {
    let unreadable = |problem: &str| SearchError::Row(problem.into());
    let Some((&ROW_FORMAT, body)) = bytes.split_first() else {
        return Err(unreadable("not of the form that is read"));
    };
    let config = bincode::config::legacy().with_limit::<ROW_BYTES_MAX>();
    let (value, read) = bincode::serde::decode_from_slice(body, config)
        .map_err(|error| SearchError::Row(error.into()))?;
    if read == body.len() {
        Ok(value)
    } else {
        Err(unreadable("bytes are left over"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut formed = vec![ROW_FORMAT];
            formed.extend(&bytes);
            for bytes in [&bytes, &formed] {
                let _ = decode::<Row>(bytes);
                let _ = decode::<Vec<StoredVector>>(bytes);
            }
        }
    }

    #[test]
    fn a_row_is_read_as_it_was_written() {
        let vectors = vec![
            StoredVector {
                model: "m".to_owned(),
                values: vec![-5; 4096],
            };
            2
        ];
        assert_eq!(
            decode::<Vec<StoredVector>>(&encode(&vectors)).unwrap(),
            vectors
        );
        let mut longer = encode(&vectors);
        longer.push(0);
        assert!(decode::<Vec<StoredVector>>(&longer).is_err());
    }
}
