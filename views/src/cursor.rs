//! Opaque places in lists.
//!
//! A cursor names the last key that a page saw, so a list goes on rightly whatever was written
//! since, and carries a mark of the query it belongs to: with another query it is refused.

use std::fmt;
use std::str::FromStr;

use crate::key::hex;

/// Bytes of the query's mark.
const MARK_BYTES: usize = 8;
/// Longest cursor, as text.
const TEXT_BYTES_MAX: usize = 2048;

/// Where a page ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    mark: [u8; MARK_BYTES],
    last: Vec<u8>,
}

/// The cursor cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CursorError {
    /// Not a cursor that Stemma gave.
    #[error("not a cursor that this server gave")]
    Malformed,
    /// A cursor of another query.
    #[error("the cursor belongs to a list with other filters")]
    OtherQuery,
}

impl Cursor {
    /// A cursor of the query that `query` describes, after the key `last`.
    pub(crate) fn new(query: &str, last: &[u8]) -> Self {
        Self {
            mark: mark(query),
            last: last.to_vec(),
        }
    }

    /// What it is made of.
    pub fn to_bytes(&self) -> Vec<u8> {
        [&self.mark[..], &self.last].concat()
    }

    /// Reads what [`to_bytes`](Self::to_bytes) gave; none of fewer bytes than it gives.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (mark, last) = bytes.split_first_chunk()?;
        Some(Self {
            mark: *mark,
            last: last.to_vec(),
        })
    }

    /// The last key seen, if the cursor belongs to this query.
    pub(crate) fn last(&self, query: &str) -> Result<&[u8], CursorError> {
        if self.mark != mark(query) {
            return Err(CursorError::OtherQuery);
        }
        Ok(&self.last)
    }
}

/// The bytes of lower-case hex; none of another text.
pub fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let byte = |pair: &[u8]| match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    };
    text.as_bytes().chunks(2).map(byte).collect()
}

fn mark(query: &str) -> [u8; MARK_BYTES] {
    let mut mark = [0; MARK_BYTES];
    mark.copy_from_slice(&blake3::hash(query.as_bytes()).as_bytes()[..MARK_BYTES]);
    mark
}

impl fmt::Display for Cursor {
    /// Lower-case hex: nothing in it needs escaping in a URL.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.to_bytes()))
    }
}

impl FromStr for Cursor {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Self, CursorError> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(CursorError::Malformed);
        }
        let bytes = from_hex(text).ok_or(CursorError::Malformed)?;
        Self::from_bytes(&bytes).ok_or(CursorError::Malformed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_back_and_is_refused_by_another_query() {
        let cursor = Cursor::new("a", b"key");
        let read: Cursor = cursor.to_string().parse().unwrap();
        assert_eq!(read.last("a"), Ok(&b"key"[..]));
        assert_eq!(read.last("b"), Err(CursorError::OtherQuery));
        for bad in ["", "00", "zz", "0", "A000000000000000", &"0".repeat(4096)] {
            assert_eq!(bad.parse::<Cursor>(), Err(CursorError::Malformed), "{bad}");
        }
    }
}
