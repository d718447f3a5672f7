//! What stages put out, as content: chunks, vectors, entities. `docs/format/documents.md` draws it.
//!
//! Invariant: what was written reads back; what was not written by us is an error that says where,
//! never a panic.

use serde::{Deserialize, Serialize};

/// A piece of a document's text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    /// Its id: 64 hexadecimal digits, the same whenever the same document is cut the same way.
    pub id: String,
    /// Its place among the chunks, from 0.
    pub index: u32,
    /// Where it begins, in code points of the text.
    pub start: u64,
    /// Where it ends, in code points of the text.
    pub end: u64,
    /// Where it begins, in bytes of the text in UTF-8.
    pub byte_start: u64,
    /// Where it ends, in bytes of the text in UTF-8.
    pub byte_end: u64,
    /// The headings that it stands under, the highest first; one that it begins with is the last.
    pub headings: Vec<String>,
    /// The page that it begins on, if the document has pages.
    pub page: Option<u32>,
}

/// Who made vectors, and how many there are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VectorsHeader {
    /// The model, with its version where it has one.
    pub model: String,
    /// Numbers of each vector.
    pub dimension: u32,
    /// Vectors, one for each chunk, in the order of the chunks.
    pub count: u32,
}

/// Vectors that were read.
#[derive(Debug, Clone, PartialEq)]
pub struct Vectors {
    /// Who made them.
    pub header: VectorsHeader,
    numbers: Vec<f32>,
}

/// Somebody or something that the text names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntityMention {
    /// The text at the place.
    pub text: String,
    /// What kind of thing it is.
    #[serde(rename = "type")]
    pub entity_type: String,
    /// Where it begins, in code points of the document's text.
    pub start: u64,
    /// Where it ends.
    pub end: u64,
}

/// What a detector found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entities {
    /// Who looked.
    pub detector: String,
    /// Its version.
    pub version: u32,
    /// What it found, in the order of the text.
    pub entities: Vec<EntityMention>,
    /// What a model named that does not stand in the text.
    pub dropped: u64,
}

/// Content that is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} cannot be read at byte {offset}: {problem}")]
pub struct BlobError {
    /// What it was to be.
    pub what: &'static str,
    /// Where.
    pub offset: usize,
    /// What is wrong there.
    pub problem: String,
}

const VECTORS_MAGIC: &[u8; 4] = b"STV1";
/// Bytes before the header's JSON: the magic, and its length.
const VECTORS_PREFIX: usize = 8;
const VECTORS_HEADER_MAX: usize = 4096;

/// One line of the content that holds chunks, with the line's end.
///
/// # Panics
/// Never: a chunk is plain data.
pub fn chunk_line(chunk: &Chunk) -> Vec<u8> {
    let mut line = serde_json::to_vec(chunk).expect("a chunk is plain data");
    line.push(b'\n');
    line
}

/// Reads chunks from `from` on, at most `limit` of them.
///
/// # Errors
/// [`BlobError`] at the first line that is no chunk.
pub fn read_chunks(bytes: &[u8], from: usize, limit: usize) -> Result<Vec<Chunk>, BlobError> {
    let mut offset = 0;
    let mut chunks = Vec::new();
    for (index, line) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
        if chunks.len() == limit {
            break;
        }
        if index >= from {
            let chunk = serde_json::from_slice(line).map_err(|error| BlobError {
                what: "chunks",
                offset,
                problem: error.to_string(),
            })?;
            chunks.push(chunk);
        }
        offset += line.len();
    }
    Ok(chunks)
}

impl VectorsHeader {
    /// The bytes that stand before the numbers, each of which is an `f32`, little-endian.
    ///
    /// # Panics
    /// Never: a header is plain data of bounded length.
    pub fn encode(&self) -> Vec<u8> {
        let json = serde_json::to_vec(self).expect("a header is plain data");
        let len = u32::try_from(json.len()).expect("a header is short");
        [VECTORS_MAGIC.as_slice(), &len.to_le_bytes(), &json].concat()
    }

    /// Most bytes that stand before the numbers.
    pub const BYTES_MAX: usize = VECTORS_PREFIX + VECTORS_HEADER_MAX;

    /// Reads the header that vectors of `len` bytes begin with, of which `bytes` are the first: all,
    /// or at least [`BYTES_MAX`](Self::BYTES_MAX). Gives it with the number of bytes before the
    /// numbers.
    ///
    /// # Errors
    /// [`BlobError`]; also where `len` is not what the header says.
    pub fn read(bytes: &[u8], len: u64) -> Result<(Self, usize), BlobError> {
        let wrong = |offset, problem: String| BlobError {
            what: "vectors",
            offset,
            problem,
        };
        let (magic, rest) = bytes
            .split_first_chunk::<4>()
            .ok_or_else(|| wrong(0, "too short".to_owned()))?;
        if magic != VECTORS_MAGIC {
            return Err(wrong(0, "another format".to_owned()));
        }
        let (json_len, rest) = rest
            .split_first_chunk::<4>()
            .ok_or_else(|| wrong(4, "too short".to_owned()))?;
        let json_len = usize::try_from(u32::from_le_bytes(*json_len)).unwrap_or(usize::MAX);
        if json_len > VECTORS_HEADER_MAX || json_len > rest.len() {
            return Err(wrong(4, format!("a header of {json_len} bytes")));
        }
        let header: Self = serde_json::from_slice(&rest[..json_len])
            .map_err(|error| wrong(VECTORS_PREFIX, error.to_string()))?;
        let before = VECTORS_PREFIX + json_len;
        let expected = u64::from(header.dimension) * u64::from(header.count) * 4;
        let numbers = len.saturating_sub(before as u64);
        if header.dimension == 0 || numbers != expected {
            let problem = format!("{numbers} bytes of numbers, not {expected}");
            return Err(wrong(before, problem));
        }
        Ok((header, before))
    }
}

impl Vectors {
    /// Reads vectors.
    ///
    /// # Errors
    /// [`BlobError`].
    pub fn read(bytes: &[u8]) -> Result<Self, BlobError> {
        let (header, before) = VectorsHeader::read(bytes, bytes.len() as u64)?;
        let numbers = &bytes[before..];
        let numbers = numbers.chunks_exact(4).map(|four| {
            let four = four.try_into().expect("four bytes at a time");
            f32::from_le_bytes(four)
        });
        let numbers: Vec<f32> = numbers.collect();
        if let Some(index) = numbers.iter().position(|number| !number.is_finite()) {
            return Err(BlobError {
                what: "vectors",
                offset: before + 4 * index,
                problem: "a number that is not finite".to_owned(),
            });
        }
        Ok(Self { header, numbers })
    }

    /// The vectors, in the order of the chunks.
    pub fn iter(&self) -> impl Iterator<Item = &[f32]> {
        let dimension = usize::try_from(self.header.dimension).unwrap_or(usize::MAX);
        self.numbers.chunks_exact(dimension)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn chunk(index: u32) -> Chunk {
        Chunk {
            id: format!("{index:064x}"),
            index,
            start: 1,
            end: 2,
            byte_start: 1,
            byte_end: 3,
            headings: vec!["Zīj\n".into()],
            page: None,
        }
    }

    #[test]
    fn chunks_are_read_back_from_any_place() {
        let lines: Vec<u8> = (0..5)
            .map(chunk)
            .flat_map(|chunk| chunk_line(&chunk))
            .collect();
        assert_eq!(read_chunks(&lines, 3, 10).unwrap(), [chunk(3), chunk(4)]);
        assert_eq!(read_chunks(&lines, 1, 2).unwrap(), [chunk(1), chunk(2)]);
        assert_eq!(read_chunks(&lines, 9, 2).unwrap(), []);
        let broken = read_chunks(b"{}\n", 0, 1).unwrap_err();
        assert_eq!((broken.what, broken.offset), ("chunks", 0));
    }

    proptest! {
        #[test]
        fn vectors_are_read_back_and_a_byte_less_or_more_is_refused(
            dimension in 1..5u32, numbers in proptest::collection::vec(-1.0..1.0f32, 0..40)
        ) {
            let count = u32::try_from(numbers.len()).unwrap() / dimension;
            let numbers = &numbers[..(count * dimension) as usize];
            let header = VectorsHeader { model: "m".into(), dimension, count };
            let mut bytes = header.encode();
            bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
            let read = Vectors::read(&bytes).unwrap();
            prop_assert_eq!(&read.header, &header);
            prop_assert_eq!(read.iter().flatten().copied().collect::<Vec<_>>(), numbers.to_vec());
            prop_assert!(Vectors::read(&bytes[..bytes.len() - 1]).is_err());
            bytes.push(0);
            prop_assert!(Vectors::read(&bytes).is_err());
        }

        #[test]
        fn no_bytes_make_a_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = Vectors::read(&bytes);
            let _ = Vectors::read(&[VECTORS_MAGIC.as_slice(), &bytes].concat());
            let _ = read_chunks(&bytes, 0, 3);
        }
    }
}
