//! What the text of a resource in the index is taken from, noted beside it there.
//!
//! Invariant: with this and the facets the next event of a resource can be folded, so that the
//! index is all the state that the fold needs.

use stemma_domain::id::ContentDigest;
use stemma_search::MODELS_PER_PASSAGE_MAX;

/// Where the text of a resource comes from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum Origin {
    /// Its content, if that is text.
    #[default]
    Content,
    /// The stages of a document.
    Document {
        /// The file that they are done on.
        file: ContentDigest,
        /// The text that parsing put out.
        text: Option<ContentDigest>,
        /// The chunks of that text.
        chunks: Option<ContentDigest>,
        /// The vectors of those chunks, each by another model, the oldest first.
        vectors: Vec<ContentDigest>,
    },
}

/// The first byte of a document's note.
const DOCUMENT: u8 = 1;

impl Origin {
    /// A document of which no stage is done.
    pub(super) fn uploaded(file: ContentDigest) -> Self {
        Self::Document {
            file,
            text: None,
            chunks: None,
            vectors: Vec::new(),
        }
    }

    /// The note that is kept of it: nothing for content; else a byte, and the digests of the file,
    /// and of the text, the chunks and the vectors as far as there are such.
    pub(super) fn to_note(&self) -> Vec<u8> {
        let Self::Document {
            file,
            text,
            chunks,
            vectors,
        } = self
        else {
            return Vec::new();
        };
        // Without a text there are no chunks of it, and without those no vectors.
        let chunks = chunks.as_ref().filter(|_| text.is_some());
        let vectors = vectors.iter().filter(|_| chunks.is_some());
        let digests = [Some(file), text.as_ref(), chunks].into_iter().flatten();
        let mut note = vec![DOCUMENT];
        for digest in digests.chain(vectors) {
            note.extend_from_slice(digest.as_bytes());
        }
        note
    }

    /// Reads a note; none of one that is not ours.
    pub(super) fn of_note(note: &[u8]) -> Option<Self> {
        let Some((first, digests)) = note.split_first() else {
            return Some(Self::Content);
        };
        let (digests, rest) = digests.as_chunks::<32>();
        if *first != DOCUMENT || !rest.is_empty() || digests.len() > 3 + MODELS_PER_PASSAGE_MAX {
            return None;
        }
        let mut digests = digests.iter().copied().map(ContentDigest::from_bytes);
        Some(Self::Document {
            file: digests.next()?,
            text: digests.next(),
            chunks: digests.next(),
            vectors: digests.collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_read_as_it_was_written_and_nothing_else_is_read() {
        let digest = |byte| Some(ContentDigest::from_bytes([byte; 32]));
        for origin in [
            Origin::Content,
            Origin::uploaded(ContentDigest::from_bytes([3; 32])),
            Origin::Document {
                file: ContentDigest::from_bytes([3; 32]),
                text: digest(1),
                chunks: None,
                vectors: vec![],
            },
            Origin::Document {
                file: ContentDigest::from_bytes([3; 32]),
                text: digest(1),
                chunks: digest(2),
                vectors: vec![],
            },
            Origin::Document {
                file: ContentDigest::from_bytes([3; 32]),
                text: digest(1),
                chunks: digest(2),
                vectors: [digest(5), digest(4)].into_iter().flatten().collect(),
            },
        ] {
            assert_eq!(Origin::of_note(&origin.to_note()), Some(origin));
        }
        for wrong in [vec![2], vec![1], vec![1; 5], vec![1; 193]] {
            assert_eq!(Origin::of_note(&wrong), None);
        }
    }
}
