//! How a text is to be cut.

use serde::{Deserialize, Serialize};

/// The size of a chunk when none is asked for, in code points.
pub const CHUNK_SIZE_DEFAULT: u32 = 1_000;

/// The overlap of chunks when none is asked for, in code points. A size that is no larger takes a
/// tenth of itself.
pub const CHUNK_OVERLAP_DEFAULT: u32 = 100;

/// The largest size of a chunk, in code points; the smallest is 1.
pub const CHUNK_SIZE_MAX: u32 = 20_000;

/// Where a text is cut.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// Between sentences; chunks overlap by whole sentences.
    #[default]
    Sentence,
    /// At headings first, then between blocks, then between sentences.
    Markdown,
    /// Where the size is reached; chunks overlap to the code point.
    Size,
}

impl Strategy {
    /// Its number in the ids of chunks, for ever.
    pub(super) fn number(self) -> u8 {
        match self {
            Self::Sentence => 1,
            Self::Markdown => 2,
            Self::Size => 3,
        }
    }
}

/// How a text is to be cut: checked when made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct ChunkSettings {
    strategy: Strategy,
    size: u32,
    overlap: u32,
}

/// Why settings cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// The size is 0 or too large.
    #[error("the size of a chunk is between 1 and {CHUNK_SIZE_MAX} code points, not {size}")]
    Size {
        /// What was asked for.
        size: u32,
    },
    /// Chunks would not advance.
    #[error("the overlap of {overlap} code points is not smaller than the size of {size}")]
    Overlap {
        /// What was asked for.
        overlap: u32,
        /// The size of a chunk.
        size: u32,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Unchecked {
    #[serde(default)]
    strategy: Strategy,
    size: Option<u32>,
    overlap: Option<u32>,
}

impl ChunkSettings {
    /// Settings with what was asked for, and the defaults for the rest.
    ///
    /// # Errors
    /// The size is not between 1 and [`CHUNK_SIZE_MAX`], or the overlap not smaller than it.
    pub fn new(
        strategy: Strategy,
        size: Option<u32>,
        overlap: Option<u32>,
    ) -> Result<Self, SettingsError> {
        let size = size.unwrap_or(CHUNK_SIZE_DEFAULT);
        if !(1..=CHUNK_SIZE_MAX).contains(&size) {
            return Err(SettingsError::Size { size });
        }
        let by_default = if size > CHUNK_OVERLAP_DEFAULT {
            CHUNK_OVERLAP_DEFAULT
        } else {
            size / 10
        };
        let overlap = overlap.unwrap_or(by_default);
        if overlap >= size {
            return Err(SettingsError::Overlap { overlap, size });
        }
        Ok(Self {
            strategy,
            size,
            overlap,
        })
    }

    /// Where the text is cut.
    pub fn strategy(&self) -> Strategy {
        self.strategy
    }

    /// The most code points of a chunk.
    pub fn size(&self) -> u32 {
        self.size
    }

    /// The code points by which chunks overlap, at most.
    pub fn overlap(&self) -> u32 {
        self.overlap
    }
}

impl Default for ChunkSettings {
    fn default() -> Self {
        Self {
            strategy: Strategy::default(),
            size: CHUNK_SIZE_DEFAULT,
            overlap: CHUNK_OVERLAP_DEFAULT,
        }
    }
}

impl TryFrom<Unchecked> for ChunkSettings {
    type Error = SettingsError;

    fn try_from(settings: Unchecked) -> Result<Self, Self::Error> {
        Self::new(settings.strategy, settings.size, settings.overlap)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_cannot_be_are_refused_with_their_numbers() {
        let of = |size, overlap| ChunkSettings::new(Strategy::Size, size, overlap);
        assert_eq!(of(Some(0), None), Err(SettingsError::Size { size: 0 }));
        assert_eq!(
            of(Some(20_001), None),
            Err(SettingsError::Size { size: 20_001 })
        );
        let error = Err(SettingsError::Overlap {
            overlap: 5,
            size: 5,
        });
        assert_eq!(of(Some(5), Some(5)), error);
        assert_eq!(of(Some(50), None).unwrap().overlap(), 5);
        assert_eq!(of(Some(1), None).unwrap().overlap(), 0);
        let default: ChunkSettings = serde_json::from_str("{}").unwrap();
        assert_eq!(default, ChunkSettings::default());
        assert!(serde_json::from_str::<ChunkSettings>(r#"{"size":3,"overlap":3}"#).is_err());
    }
}
