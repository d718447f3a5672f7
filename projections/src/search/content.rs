//! What events name, read as the index takes it: texts, chunks with their texts, vectors.
//!
//! Invariant: what is read depends on the content alone, so that whoever folds the same events has
//! the same index. What is too large for a limit is left out, which is logged; what is missing,
//! damaged or not of its form is an error, and the fold stops.

use std::io::{self, BufRead, BufReader, Read};

use stemma_content_store::{Blob, ContentStore, Digest, ReadError};
use stemma_domain::document::{BlobError, Chunk, VectorsHeader, read_chunks};
use stemma_domain::id::ContentDigest;
use stemma_domain::value::MediaType;
use stemma_search::{
    CHUNK_ID_BYTES_MAX, MODEL_BYTES_MAX, PASSAGE_BYTES_MAX, PASSAGES_PER_RESOURCE_MAX, Passage,
    PassageSource, PassageVector, SearchError, TakePassage, VECTOR_DIMENSION_MAX,
};

/// Most bytes of content that is indexed as text; what is larger is found by its name.
pub(super) const TEXT_BYTES_MAX: u64 = 16 << 20;
/// Bytes of a document's chunks after which no more of them are indexed.
pub(super) const DOCUMENT_TEXT_BYTES_MAX: usize = 64 << 20;
/// Most bytes of a document's vectors that are indexed; of more none are.
pub(super) const VECTORS_BYTES_MAX: u64 = 128 << 20;
/// Most bytes of a line that describes a chunk.
const CHUNK_LINE_BYTES_MAX: u64 = 256 << 10;
/// Bytes of chunks and of vectors that are read at a time.
const READ_BYTES: usize = 64 << 10;

/// Why what an event names cannot be indexed.
#[derive(Debug, thiserror::Error)]
pub(super) enum ContentError {
    /// It is not there.
    #[error("content {0} is not stored")]
    Missing(ContentDigest),
    /// It cannot be read, or is damaged.
    #[error("read content {digest}")]
    Read {
        digest: ContentDigest,
        #[source]
        source: ReadError,
    },
    /// It is not of its form.
    #[error("content {digest}")]
    Form {
        digest: ContentDigest,
        #[source]
        source: BlobError,
    },
    /// It is not what it should be.
    #[error("content {digest}: {problem}")]
    Wrong {
        digest: ContentDigest,
        problem: String,
    },
}

/// The text of a content: nothing where it is none, is not UTF-8, or is too long.
pub(super) fn text(
    store: &ContentStore,
    digest: ContentDigest,
    media_type: &MediaType,
) -> Result<String, ContentError> {
    if !media_type.is_text() {
        return Ok(String::new());
    }
    let Some(bytes) = read_all(store, digest, TEXT_BYTES_MAX)? else {
        tracing::warn!(%digest, "a text is not indexed: it is too long");
        return Ok(String::new());
    };
    Ok(String::from_utf8(bytes).unwrap_or_default())
}

/// The passages of a document with their vectors, read from content whenever they are asked for.
///
/// Invariant: all its contents were read to their ends once, when the events that name them were
/// folded; what cannot be read later is damaged since.
#[derive(Clone)]
pub(super) struct DocumentSource {
    store: ContentStore,
    /// What the chunks are cut from.
    text: ContentDigest,
    chunks: ContentDigest,
    /// Vectors in the order of the chunks, the oldest model's first.
    vectors: Vec<ContentDigest>,
}

impl DocumentSource {
    pub(super) fn new(
        store: &ContentStore,
        (text, chunks): (ContentDigest, ContentDigest),
        vectors: &[ContentDigest],
    ) -> Self {
        Self {
            store: store.clone(),
            text,
            chunks,
            vectors: vectors.to_vec(),
        }
    }

    /// Reads all of it, and gives the bytes of texts and vectors.
    pub(super) fn read_through(&self) -> Result<usize, ContentError> {
        let mut bytes = 0;
        self.each_passage(&mut |passage, vectors| {
            let vectors = vectors.iter().map(|vector| vector.values.len());
            bytes += passage.text.len() + size_of::<f32>() * vectors.sum::<usize>();
            Ok(true)
        })?;
        Ok(bytes)
    }

    /// About as many bytes as [`read_through`](Self::read_through) gives, by the contents' lengths.
    pub(super) fn bytes(&self) -> usize {
        let contents = self.vectors.iter().chain([&self.text]);
        let bytes = contents.map(|digest| open(&self.store, *digest).map_or(0, |blob| blob.len()));
        usize::try_from(bytes.sum::<u64>()).unwrap_or(usize::MAX)
    }

    fn each_passage(
        &self,
        take: &mut dyn FnMut(Passage, Vec<PassageVector>) -> Result<bool, ContentError>,
    ) -> Result<(), ContentError> {
        let blob = open(&self.store, self.text)?;
        let models = self.vectors.iter();
        let models = models.map(|digest| StoredVectors::open(&self.store, *digest));
        let mut models: Vec<_> = models.collect::<Result<_, _>>()?;
        let mut bytes = 0;
        each_chunk(&self.store, self.chunks, |chunk| {
            if bytes >= DOCUMENT_TEXT_BYTES_MAX {
                let digest = self.chunks;
                tracing::warn!(%digest, "the end of a document is not indexed: it is too long");
                return Ok(false);
            }
            let passage = passage(&blob, self.text, chunk)?;
            bytes += passage.text.len();
            let vectors = models.iter_mut().map(StoredVectors::next);
            take(passage, vectors.collect::<Result<_, _>>()?)
        })
    }
}

impl PassageSource for DocumentSource {
    fn each(&self, take: &mut TakePassage<'_>) -> Result<(), SearchError> {
        let mut refused = Ok(());
        let read = self.each_passage(&mut |passage, vectors| {
            refused = take(passage, vectors);
            Ok(refused.is_ok())
        });
        read.map_err(|error| SearchError::Passages(error.into()))?;
        refused
    }
}

/// Vectors that are read one after the other.
struct StoredVectors {
    digest: ContentDigest,
    header: VectorsHeader,
    left: u32,
    numbers: BufReader<Pieces>,
    bytes: Vec<u8>,
}

impl StoredVectors {
    fn open(store: &ContentStore, digest: ContentDigest) -> Result<Self, ContentError> {
        let blob = open(store, digest)?;
        let first = blob.read_at(0, VectorsHeader::BYTES_MAX);
        let first = first.map_err(|source| ContentError::Read { digest, source })?;
        let read = VectorsHeader::read(&first, blob.len());
        let (header, at) = read.map_err(|source| ContentError::Form { digest, source })?;
        let bytes = usize::try_from(header.dimension).unwrap_or(usize::MAX);
        let bytes = bytes.saturating_mul(size_of::<f32>());
        let at = at as u64;
        Ok(Self {
            digest,
            left: header.count,
            header,
            numbers: BufReader::with_capacity(READ_BYTES, Pieces { blob, at }),
            bytes: vec![0; bytes],
        })
    }

    fn next(&mut self) -> Result<PassageVector, ContentError> {
        let digest = self.digest;
        let wrong = |problem: &str| ContentError::Wrong {
            digest,
            problem: problem.to_owned(),
        };
        let left = self.left.checked_sub(1);
        self.left = left.ok_or_else(|| wrong("there are fewer vectors than chunks"))?;
        let read = self.numbers.read_exact(&mut self.bytes);
        read.map_err(|error| unread(digest, error))?;
        let (numbers, _) = self.bytes.as_chunks();
        let values: Vec<_> = numbers
            .iter()
            .map(|four| f32::from_le_bytes(*four))
            .collect();
        if values.iter().any(|value| !value.is_finite()) {
            return Err(wrong("a number that is not finite"));
        }
        Ok(PassageVector {
            model: self.header.model.clone(),
            values,
        })
    }
}

/// Who made vectors; none where the index takes no such.
pub(super) fn model(
    store: &ContentStore,
    digest: ContentDigest,
) -> Result<Option<String>, ContentError> {
    let blob = open(store, digest)?;
    if blob.len() > VECTORS_BYTES_MAX {
        tracing::warn!(%digest, "vectors are not indexed: there are too many");
        return Ok(None);
    }
    let VectorsHeader {
        model, dimension, ..
    } = StoredVectors::open(store, digest)?.header;
    let is_short = usize::try_from(dimension).is_ok_and(|numbers| numbers <= VECTOR_DIMENSION_MAX);
    if !is_short || !(1..=MODEL_BYTES_MAX).contains(&model.len()) {
        tracing::warn!(%digest, dimension, model, "vectors are not indexed: they are too large");
        return Ok(None);
    }
    Ok(Some(model))
}

fn open(store: &ContentStore, digest: ContentDigest) -> Result<Blob, ContentError> {
    let opened = store.open_blob(&Digest::from_bytes(*digest.as_bytes()));
    let opened = opened.map_err(|source| ContentError::Read { digest, source })?;
    opened.ok_or(ContentError::Missing(digest))
}

/// A whole content; none if it has more bytes than that.
fn read_all(
    store: &ContentStore,
    digest: ContentDigest,
    bytes_max: u64,
) -> Result<Option<Vec<u8>>, ContentError> {
    let read = store.read_all(&Digest::from_bytes(*digest.as_bytes()), bytes_max);
    match read {
        Ok(Some(bytes)) => Ok(Some(bytes.into())),
        Ok(None) => Err(ContentError::Missing(digest)),
        Err(ReadError::TooLarge { .. }) => Ok(None),
        Err(source) => Err(ContentError::Read { digest, source }),
    }
}

/// Calls `each` for the chunks in order, as many as the index keeps, until it says false.
fn each_chunk(
    store: &ContentStore,
    digest: ContentDigest,
    mut each: impl FnMut(Chunk) -> Result<bool, ContentError>,
) -> Result<(), ContentError> {
    let blob = open(store, digest)?;
    let mut lines = BufReader::with_capacity(READ_BYTES, Pieces { blob, at: 0 });
    let mut line = Vec::new();
    for _ in 0..PASSAGES_PER_RESOURCE_MAX {
        line.clear();
        let mut limited = lines.by_ref().take(CHUNK_LINE_BYTES_MAX);
        let read = limited.read_until(b'\n', &mut line);
        read.map_err(|error| unread(digest, error))?;
        if line.is_empty() {
            return Ok(());
        }
        let chunk = read_chunks(&line, 0, 1);
        let chunk = chunk.map_err(|source| ContentError::Form { digest, source })?;
        let Some(chunk) = chunk.into_iter().next() else {
            return Ok(());
        };
        if !(1..=CHUNK_ID_BYTES_MAX).contains(&chunk.id.len()) {
            let problem = format!("a chunk's id of {} bytes", chunk.id.len());
            return Err(ContentError::Wrong { digest, problem });
        }
        if !each(chunk)? {
            return Ok(());
        }
    }
    Ok(())
}

fn unread(digest: ContentDigest, error: io::Error) -> ContentError {
    match error.downcast::<ReadError>() {
        Ok(source) => ContentError::Read { digest, source },
        Err(error) => ContentError::Wrong {
            digest,
            problem: error.to_string(),
        },
    }
}

/// A chunk with its text, as much of it as the index keeps.
fn passage(blob: &Blob, digest: ContentDigest, chunk: Chunk) -> Result<Passage, ContentError> {
    let wrong = |problem: &str| ContentError::Wrong {
        digest,
        problem: format!("chunk {} of it {problem}", chunk.index),
    };
    let bytes = chunk.byte_end.checked_sub(chunk.byte_start);
    let bytes = bytes.ok_or_else(|| wrong("ends before it begins"))?;
    if chunk.byte_end > blob.len() {
        return Err(wrong("ends behind the text"));
    }
    let kept = usize::try_from(bytes).unwrap_or(usize::MAX);
    let kept = kept.min(PASSAGE_BYTES_MAX);
    let read = blob.read_at(chunk.byte_start, kept);
    let read = read.map_err(|source| ContentError::Read { digest, source })?;
    let text = match str::from_utf8(&read) {
        Ok(text) => text.to_owned(),
        // A character that is cut in two stands where the index cuts.
        Err(error) if error.error_len().is_none() && kept as u64 != bytes => {
            String::from_utf8_lossy(&read[..error.valid_up_to()]).into_owned()
        }
        Err(_) => return Err(wrong("cuts a character, or is not UTF-8")),
    };
    let place = |code_points| u32::try_from(code_points).unwrap_or(u32::MAX);
    Ok(Passage {
        index: chunk.index,
        start: place(chunk.start),
        end: place(chunk.end),
        chunk_id: chunk.id,
        text,
    })
}

/// A content as it is read from its beginning to its end.
struct Pieces {
    blob: Blob,
    at: u64,
}

impl Read for Pieces {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.blob.read_at(self.at, into.len());
        let read = read.map_err(io::Error::other)?;
        into[..read.len()].copy_from_slice(&read);
        self.at += read.len() as u64;
        Ok(read.len())
    }
}
