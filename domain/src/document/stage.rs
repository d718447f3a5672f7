//! The stages of a document, in order.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// One step of a document's processing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Is it what it says, and within the limits?
    Validate,
    /// Its text, headings, pages and tables.
    Parse,
    /// Its text cut into pieces.
    Chunk,
    /// A vector for each piece.
    Embed,
    /// Who and what it speaks of.
    Detect,
    /// The pieces and vectors made searchable.
    Index,
}

/// Who decides which stage of a document comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Steps {
    /// One job runs them all.
    Auto,
    /// The client asks for each.
    None,
}

impl Stage {
    /// Every stage, in order.
    pub const ALL: [Self; 6] = [
        Self::Validate,
        Self::Parse,
        Self::Chunk,
        Self::Embed,
        Self::Detect,
        Self::Index,
    ];

    /// The stage as it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Validate => "validate",
            Self::Parse => "parse",
            Self::Chunk => "chunk",
            Self::Embed => "embed",
            Self::Detect => "detect",
            Self::Index => "index",
        }
    }

    /// The stages that must be done before this one.
    pub fn before(self) -> impl Iterator<Item = Self> {
        Self::ALL
            .into_iter()
            .take_while(move |stage| *stage != self)
    }

    /// The stages whose output rests on this one's, and is of no use once it changes.
    pub fn dependents(self) -> &'static [Self] {
        match self {
            Self::Validate => &[
                Self::Parse,
                Self::Chunk,
                Self::Embed,
                Self::Detect,
                Self::Index,
            ],
            Self::Parse => &[Self::Chunk, Self::Embed, Self::Detect, Self::Index],
            Self::Chunk => &[Self::Embed, Self::Index],
            Self::Embed => &[Self::Index],
            Self::Detect | Self::Index => &[],
        }
    }
}

impl std::fmt::Display for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Stage {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|s| s.name() == text).ok_or(())
    }
}
