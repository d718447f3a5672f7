//! Opaque places in ranked lists.
//!
//! A cursor holds the rank key of the last hit, so a list goes on behind it without gap or repeat
//! while the index stays as it is. It carries a mark of its query: with another it is refused. Of a
//! vector the mark knows the model alone: a model elsewhere gives slightly other numbers for the same
//! text each time, and hits of a query by vector whose scores lie as near may come twice or not then.

use std::fmt;
use std::str::FromStr;

use crate::query::{Mode, Query};
use crate::rank::RankKey;

/// Bytes of the query's mark.
const MARK_BYTES: usize = 8;
/// Bytes of a cursor: the mark, mode, score, resource and place.
const CURSOR_BYTES: usize = MARK_BYTES + 1 + 4 + 16 + 8;
/// The modes, each by its number in a cursor.
const MODES: [Mode; 3] = [Mode::Text, Mode::Vector, Mode::Hybrid];

/// Where a page ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor([u8; CURSOR_BYTES]);

/// The cursor cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CursorError {
    /// Not a cursor that Stemma gave.
    #[error("not a cursor that this server gave")]
    Malformed,
    /// A cursor of another query.
    #[error("the cursor belongs to another query")]
    OtherQuery,
}

impl Cursor {
    pub(crate) fn new(query: &Query, last: &RankKey) -> Self {
        let mut bytes = [0; CURSOR_BYTES];
        let (mark_part, rest) = bytes.split_at_mut(MARK_BYTES);
        mark_part.copy_from_slice(&mark(query));
        let (mode_part, rest) = rest.split_at_mut(1);
        mode_part[0] = match query.mode {
            Mode::Text => 0,
            Mode::Vector => 1,
            Mode::Hybrid => 2,
        };
        rest[..4].copy_from_slice(&last.score.to_bits().to_be_bytes());
        rest[4..20].copy_from_slice(&last.resource.to_be_bytes());
        rest[20..].copy_from_slice(&last.place.to_be_bytes());
        Self(bytes)
    }

    /// The mode of its query: a list goes on in the one that it was begun in.
    pub fn mode(&self) -> Mode {
        MODES[usize::from(self.0[MARK_BYTES])]
    }

    /// The key of the last hit, if the cursor belongs to this query.
    pub(crate) fn last(&self, query: &Query) -> Result<RankKey, CursorError> {
        let (mark_part, rest) = self.0.split_at(MARK_BYTES);
        if mark_part != mark(query) {
            return Err(CursorError::OtherQuery);
        }
        let rest = &rest[1..];
        let number = |bytes: &[u8]| bytes.iter().fold(0, |n, b| n << 8 | u128::from(*b));
        #[allow(clippy::cast_possible_truncation)] // of 4, 16 and 8 bytes
        let key = RankKey {
            score: f32::from_bits(number(&rest[..4]) as u32),
            resource: number(&rest[4..20]),
            place: number(&rest[20..]) as u64,
        };
        Ok(key)
    }
}

/// Marks all of a query but the size of its pages and the place in them.
fn mark(query: &Query) -> [u8; MARK_BYTES] {
    let Query {
        text,
        vector,
        mode,
        collection,
        entity_types,
        archived,
        limit: _,
        after: _,
    } = query;
    let mut hasher = blake3::Hasher::new();
    let described = format!("{:?}", (text, mode, collection, entity_types, archived));
    hasher.update(described.as_bytes());
    if let Some(vector) = vector {
        hasher.update(&[0]);
        hasher.update(vector.model.as_bytes());
    }
    let mut mark = [0; MARK_BYTES];
    mark.copy_from_slice(&hasher.finalize().as_bytes()[..MARK_BYTES]);
    mark
}

impl fmt::Display for Cursor {
    /// Lower-case hex: nothing in it needs escaping in a URL.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for Cursor {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Self, CursorError> {
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Ok(byte - b'0'),
            b'a'..=b'f' => Ok(byte - b'a' + 10),
            _ => Err(CursorError::Malformed),
        };
        if text.len() != 2 * CURSOR_BYTES {
            return Err(CursorError::Malformed);
        }
        let mut bytes = [0; CURSOR_BYTES];
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        if usize::from(bytes[MARK_BYTES]) >= MODES.len() {
            return Err(CursorError::Malformed);
        }
        Ok(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::QueryVector;
    use proptest::prelude::*;

    #[test]
    fn a_cursor_is_read_as_it_was_written_and_only_by_its_query() {
        let query = Query::words("a");
        let key = RankKey {
            score: 1.5,
            resource: 7 << 90,
            place: u64::MAX,
        };
        let cursor = Cursor::new(&query, &key);
        let read: Cursor = cursor.to_string().parse().unwrap();
        assert_eq!(read.last(&query), Ok(key));
        let other = Query::words("b");
        assert_eq!(read.last(&other), Err(CursorError::OtherQuery));
        let longer_pages = Query { limit: 77, ..query };
        assert_eq!(read.last(&longer_pages), Ok(key));
    }

    /// A model elsewhere gave slightly other numbers for the next page, and it was refused.
    #[test]
    fn a_cursor_is_of_the_model_and_not_of_the_numbers_that_it_gave_and_says_its_mode() {
        let by = |model: &str, value: f32| Query {
            mode: Mode::Hybrid,
            vector: Some(QueryVector {
                model: model.to_owned(),
                values: vec![value],
            }),
            ..Query::words("a")
        };
        let key = RankKey {
            score: 1.5,
            resource: 7,
            place: 1,
        };
        let cursor = Cursor::new(&by("m", 0.5), &key).to_string();
        let read: Cursor = cursor.parse().unwrap();
        assert_eq!(read.mode(), Mode::Hybrid);
        assert_eq!(read.last(&by("m", 0.500_001)), Ok(key));
        let other = read.last(&by("n", 0.5));
        assert_eq!(other, Err(CursorError::OtherQuery));
        for mode in MODES {
            let query = Query {
                mode,
                ..Query::words("a")
            };
            assert_eq!(Cursor::new(&query, &key).mode(), mode);
        }
        let unknown = format!("{}03{}", &cursor[..16], &cursor[18..]);
        assert_eq!(unknown.parse::<Cursor>(), Err(CursorError::Malformed));
        let of_before = format!("{}{}", &cursor[..16], &cursor[18..]);
        assert_eq!(of_before.parse::<Cursor>(), Err(CursorError::Malformed));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".{0,80}") {
            let _ = text.parse::<Cursor>();
        }
    }
}
