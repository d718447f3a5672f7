//! How a document's text is to be cut.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Most code points of one chunk.
pub const CHUNK_SIZE_MAX: u32 = 20_000;
const CHUNK_SIZE_DEFAULT: u32 = 1000;
const CHUNK_OVERLAP_DEFAULT: u32 = 100;

/// Where a text may be cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// Between sentences.
    Sentence,
    /// Between sections, as the headings have it; then as `Sentence`.
    Markdown,
    /// At the size, wherever that falls.
    Size,
}

/// How a text is to be cut; sizes in code points.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct Chunking {
    overlap: u32,
    size: u32,
    strategy: Strategy,
}

/// Settings that make no sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChunkingError {
    /// The size is out of its range.
    #[error("a chunk has 1 to {CHUNK_SIZE_MAX} code points, not {0}")]
    Size(u32),
    /// The overlap is no smaller than the chunk.
    #[error("the overlap of {overlap} code points must be smaller than the chunk of {size}")]
    Overlap {
        /// The overlap.
        overlap: u32,
        /// The size.
        size: u32,
    },
}

#[derive(Deserialize)]
struct Unchecked {
    overlap: u32,
    size: u32,
    strategy: Strategy,
}

impl TryFrom<Unchecked> for Chunking {
    type Error = ChunkingError;

    fn try_from(unchecked: Unchecked) -> Result<Self, ChunkingError> {
        Self::new(
            unchecked.strategy,
            Some(unchecked.size),
            Some(unchecked.overlap),
        )
    }
}

impl Chunking {
    /// Checks the settings; without a size it is 1,000, without an overlap 100, or a tenth of a
    /// size below that.
    ///
    /// # Errors
    /// [`ChunkingError`].
    pub fn new(
        strategy: Strategy,
        size: Option<u32>,
        overlap: Option<u32>,
    ) -> Result<Self, ChunkingError> {
        let size = size.unwrap_or(CHUNK_SIZE_DEFAULT);
        if !(1..=CHUNK_SIZE_MAX).contains(&size) {
            return Err(ChunkingError::Size(size));
        }
        let overlap = overlap.unwrap_or(CHUNK_OVERLAP_DEFAULT.min(size / 10));
        if overlap >= size {
            return Err(ChunkingError::Overlap { overlap, size });
        }
        Ok(Self {
            overlap,
            size,
            strategy,
        })
    }

    /// Where it may be cut.
    pub fn strategy(&self) -> Strategy {
        self.strategy
    }

    /// Most code points of a chunk.
    pub fn size(&self) -> u32 {
        self.size
    }

    /// Code points that a chunk shares with the one before.
    pub fn overlap(&self) -> u32 {
        self.overlap
    }
}

impl Default for Chunking {
    fn default() -> Self {
        Self {
            overlap: CHUNK_OVERLAP_DEFAULT,
            size: CHUNK_SIZE_DEFAULT,
            strategy: Strategy::Sentence,
        }
    }
}

impl Strategy {
    /// Every strategy.
    pub const ALL: [Self; 3] = [Self::Sentence, Self::Markdown, Self::Size];

    /// The strategy as it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sentence => "sentence",
            Self::Markdown => "markdown",
            Self::Size => "size",
        }
    }
}

impl FromStr for Strategy {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|s| s.name() == text).ok_or(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_make_no_sense_are_refused_when_given_and_when_read() {
        let new = |size, overlap| Chunking::new(Strategy::Size, size, overlap);
        assert_eq!(new(Some(0), None), Err(ChunkingError::Size(0)));
        assert!(new(Some(CHUNK_SIZE_MAX + 1), None).is_err());
        assert!(new(Some(10), Some(10)).is_err());
        let overlap = Err(ChunkingError::Overlap {
            overlap: 5,
            size: 5,
        });
        assert_eq!(new(Some(5), Some(5)), overlap);
        assert_eq!(new(Some(50), None).unwrap().overlap(), 5);
        assert_eq!(new(Some(1), None).unwrap().overlap(), 0);
        assert_eq!(
            Chunking::default(),
            Chunking::new(Strategy::Sentence, None, None).unwrap()
        );
        let read = serde_json::from_str::<Chunking>(r#"{"overlap":9,"size":9,"strategy":"size"}"#);
        assert!(read.is_err());
    }
}
