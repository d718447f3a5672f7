//! The text of content, ready for anchoring, kept for as long as it is asked for.
//!
//! Content never changes under its digest, so what is kept is never stale.

use std::sync::Arc;

use quick_cache::Weighter;
use quick_cache::sync::Cache;
use stemma_content_store::{ContentStore, Digest, ReadError};
use stemma_domain::annotation::TextIndex;
use stemma_domain::id::ContentDigest;
use stemma_domain::resource::Descriptor;

/// Why the text of content could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TextError {
    /// The content could not be read, or is damaged.
    #[error("read content")]
    Read(#[from] ReadError),
}

/// Texts by digest, within a limit of bytes.
#[derive(Debug)]
pub(crate) struct Texts {
    content: ContentStore,
    text_bytes_max: u64,
    cache: Cache<ContentDigest, Arc<TextIndex>, TextBytes>,
}

#[derive(Debug, Clone)]
struct TextBytes;

impl Weighter<ContentDigest, Arc<TextIndex>> for TextBytes {
    fn weight(&self, _: &ContentDigest, text: &Arc<TextIndex>) -> u64 {
        text.text().len() as u64 + 128
    }
}

impl Texts {
    pub(crate) fn new(content: ContentStore, text_bytes_max: u64, cache_bytes: u64) -> Self {
        // An estimate only, for the cache's own tables.
        let items = usize::try_from(cache_bytes / 4096)
            .unwrap_or(usize::MAX)
            .max(16);
        Self {
            content,
            text_bytes_max,
            cache: Cache::with_weighter(items, cache_bytes, TextBytes),
        }
    }

    /// Whether content is text that we can read and point into.
    fn is_readable(&self, descriptor: &Descriptor) -> bool {
        let charset = descriptor.media_type.charset().unwrap_or("utf-8");
        descriptor.media_type.is_text()
            && descriptor.byte_size <= self.text_bytes_max
            && ["utf-8", "utf8", "us-ascii"]
                .iter()
                .any(|name| charset.eq_ignore_ascii_case(name))
    }

    /// Whether content is text that contains a text in lower case. It is not kept: a search looks
    /// at much that nobody asks for again.
    pub(crate) fn contains(&self, descriptor: &Descriptor, wanted: &str) -> bool {
        if !self.is_readable(descriptor) {
            return false;
        }
        let digest = Digest::from_bytes(*descriptor.digest.as_bytes());
        let Ok(Some(bytes)) = self.content.read_all(&digest, self.text_bytes_max) else {
            return false;
        };
        std::str::from_utf8(&bytes).is_ok_and(|text| text.to_lowercase().contains(wanted))
    }

    /// The text of a resource's content; none when it is not text in UTF-8, too long to point
    /// into, or not there.
    pub(crate) fn of(&self, descriptor: &Descriptor) -> Result<Option<Arc<TextIndex>>, TextError> {
        if !self.is_readable(descriptor) {
            return Ok(None);
        }
        if let Some(text) = self.cache.get(&descriptor.digest) {
            return Ok(Some(text));
        }
        let digest = Digest::from_bytes(*descriptor.digest.as_bytes());
        let Some(bytes) = self.content.read_all(&digest, self.text_bytes_max)? else {
            return Ok(None);
        };
        let Ok(text) = std::str::from_utf8(&bytes) else {
            return Ok(None);
        };
        let text = Arc::new(TextIndex::new(text));
        self.cache.insert(descriptor.digest, Arc::clone(&text));
        Ok(Some(text))
    }

    /// How often a text was kept, and how often it had to be read.
    pub(crate) fn hits_and_misses(&self) -> (u64, u64) {
        (self.cache.hits(), self.cache.misses())
    }
}
