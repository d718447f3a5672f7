//! What the text of a resource in the index is taken from, noted beside it there.
//!
//! Invariant: with this and the facets the next event of a resource can be folded, so that the
//! index is all the state that the fold needs.

use stemma_content_store::ContentStore;
use stemma_domain::id::ContentDigest;
use stemma_search::MODELS_PER_PASSAGE_MAX;

use super::content::DocumentSource;

/// Where the text of a resource comes from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum Origin {
    /// Its content, if that is text.
    #[default]
    Content,
    /// The stages of a document, while the resource has the file that they are done on; else its
    /// content, and what the stages put out is noted for when it has the file again.
    Document {
        /// The file that they are done on.
        file: ContentDigest,
        /// Whether it is the resource's content.
        has_file: bool,
        /// The text that parsing put out.
        text: Option<ContentDigest>,
        /// The chunks of that text.
        chunks: Option<ContentDigest>,
        /// The vectors of those chunks, each by another model, the oldest first.
        vectors: Vec<ContentDigest>,
    },
}

/// What new content makes of where a text comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Revised {
    /// Nothing: the content is the document's file, as it was.
    AsBefore,
    /// The text is of the document's stages again.
    File,
    /// The text is the content's.
    Other,
}

/// The first byte of a document's note.
const DOCUMENT: u8 = 1;
/// That of a document whose resource has other content.
const REVISED: u8 = 2;

impl Origin {
    /// A document of which no stage is done.
    fn uploaded(file: ContentDigest, has_file: bool) -> Self {
        Self::Document {
            file,
            has_file,
            text: None,
            chunks: None,
            vectors: Vec::new(),
        }
    }

    /// Has a document be begun, from the first stage on; says whether the resource has its file.
    pub(super) fn begin(&mut self, file: ContentDigest) -> bool {
        let has_file = !matches!(
            self,
            Self::Document {
                has_file: false,
                ..
            }
        );
        *self = Self::uploaded(file, has_file);
        has_file
    }

    /// Has the resource have this content.
    pub(super) fn revise(&mut self, content: ContentDigest) -> Revised {
        let Self::Document { file, has_file, .. } = self else {
            return Revised::Other;
        };
        let had_file = std::mem::replace(has_file, *file == content);
        match (had_file, *has_file) {
            (true, true) => Revised::AsBefore,
            (false, true) => Revised::File,
            (_, false) => Revised::Other,
        }
    }

    /// The stages that the text is taken from, as far as they are done.
    pub(super) fn stages(&self, content: &ContentStore) -> Option<DocumentSource> {
        match self {
            Self::Document {
                has_file: true,
                text: Some(text),
                chunks: Some(chunks),
                vectors,
                ..
            } => Some(DocumentSource::new(content, (*text, *chunks), vectors)),
            _ => None,
        }
    }

    /// The note that is kept of it: nothing for content; else a byte, and the digests of the file,
    /// and of the text, the chunks and the vectors as far as there are such.
    pub(super) fn to_note(&self) -> Vec<u8> {
        let Self::Document {
            file,
            has_file,
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
        let mut note = vec![if *has_file { DOCUMENT } else { REVISED }];
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
        let has_file = match *first {
            DOCUMENT => true,
            REVISED => false,
            _ => return None,
        };
        if !rest.is_empty() || digests.len() > 3 + MODELS_PER_PASSAGE_MAX {
            return None;
        }
        let mut digests = digests.iter().copied().map(ContentDigest::from_bytes);
        Some(Self::Document {
            file: digests.next()?,
            has_file,
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
            Origin::uploaded(ContentDigest::from_bytes([3; 32]), true),
            Origin::uploaded(ContentDigest::from_bytes([3; 32]), false),
            Origin::Document {
                file: ContentDigest::from_bytes([3; 32]),
                has_file: false,
                text: digest(1),
                chunks: None,
                vectors: vec![],
            },
            Origin::Document {
                file: ContentDigest::from_bytes([3; 32]),
                has_file: true,
                text: digest(1),
                chunks: digest(2),
                vectors: vec![],
            },
            Origin::Document {
                file: ContentDigest::from_bytes([3; 32]),
                has_file: true,
                text: digest(1),
                chunks: digest(2),
                vectors: [digest(5), digest(4)].into_iter().flatten().collect(),
            },
        ] {
            assert_eq!(Origin::of_note(&origin.to_note()), Some(origin));
        }
        for wrong in [vec![3; 33], vec![2], vec![1], vec![1; 5], vec![1; 193]] {
            assert_eq!(Origin::of_note(&wrong), None);
        }
    }
}
