//! A list of segments as it stands on disk: the engine's text, and the digest of that text behind it.
//!
//! Lists are not synced when they are replaced, so that a machine that stops may leave one that is
//! empty, torn, or made of two. Invariant: what [`unsealed`] gives was written as one.

use std::collections::HashMap;
use std::path::Path;

use uuid::Uuid;

/// Hex digits of the digest, and the end of its line.
const SEAL_BYTES: usize = 65;

/// The list with its seal.
pub(crate) fn sealed(text: &[u8]) -> Vec<u8> {
    let mut bytes = text.to_vec();
    bytes.extend_from_slice(blake3::hash(text).to_hex().as_bytes());
    bytes.push(b'\n');
    bytes
}

/// The text of a list; none of one that is not as it was written.
pub(crate) fn unsealed(bytes: &[u8]) -> Option<&[u8]> {
    let (text, seal) = bytes.split_at_checked(bytes.len().checked_sub(SEAL_BYTES)?)?;
    let digest = seal.strip_suffix(b"\n")?;
    let digest = blake3::Hash::from_hex(digest).ok()?;
    (digest == blake3::hash(text)).then_some(text)
}

/// The files that a list names: by segment, the number of its deletions.
#[derive(Debug, Default)]
pub(crate) struct Named(HashMap<String, Option<u64>>);

impl Named {
    /// Those of a list's text; none if it is not the engine's.
    pub(crate) fn of(text: &[u8]) -> Option<Self> {
        #[derive(serde::Deserialize)]
        struct List {
            segments: Vec<Segment>,
        }
        #[derive(serde::Deserialize)]
        struct Segment {
            segment_id: String,
            deletes: Option<Deletes>,
        }
        #[derive(serde::Deserialize)]
        struct Deletes {
            opstamp: u64,
        }
        let list: List = serde_json::from_slice(text).ok()?;
        let segments = list.segments.into_iter().map(|segment| {
            let id = Uuid::parse_str(&segment.segment_id).ok()?;
            let deletions = segment.deletes.map(|deletes| deletes.opstamp);
            Some((id.as_simple().to_string(), deletions))
        });
        segments.collect::<Option<_>>().map(Self)
    }

    /// Whether a file is one of them.
    pub(crate) fn has(&self, file: &Path) -> bool {
        let Some((segment, kind)) = file.to_str().and_then(|name| name.split_once('.')) else {
            return false;
        };
        let Some(deletions) = self.0.get(segment) else {
            return false;
        };
        let number = kind.strip_suffix(".del");
        number.is_none_or(|number| deletions.is_some_and(|named| named.to_string() == number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_names_the_files_of_its_segments_and_their_deletions_alone() {
        let text = br#"{"segments": [
            {"segment_id": "0b3c4ff2-5efc-4e5b-8d2a-3f4e33a0b5ad", "deletes": {"opstamp": 7}},
            {"segment_id": "1b3c4ff2-5efc-4e5b-8d2a-3f4e33a0b5ad", "deletes": null}
        ]}"#;
        let named = Named::of(text).unwrap();
        let has = |name: &str| named.has(Path::new(name));
        assert!(has("0b3c4ff25efc4e5b8d2a3f4e33a0b5ad.store"));
        assert!(has("0b3c4ff25efc4e5b8d2a3f4e33a0b5ad.7.del"));
        assert!(!has("0b3c4ff25efc4e5b8d2a3f4e33a0b5ad.8.del"));
        assert!(has("1b3c4ff25efc4e5b8d2a3f4e33a0b5ad.idx"));
        assert!(!has("1b3c4ff25efc4e5b8d2a3f4e33a0b5ad.7.del"));
        assert!(!has("2b3c4ff25efc4e5b8d2a3f4e33a0b5ad.idx"));
        assert!(!has("other"));
        assert!(Named::of(b"{}").is_none());
    }

    #[test]
    fn a_list_is_read_as_it_was_written_and_no_other_is_read() {
        let text = b"{\"segments\": []}\n";
        let whole = sealed(text);
        assert_eq!(unsealed(&whole), Some(&text[..]));
        assert_eq!(unsealed(&sealed(b"")), Some(&b""[..]));
        for cut in 0..whole.len() {
            assert_eq!(unsealed(&whole[..cut]), None);
        }
        for at in 0..whole.len() {
            let mut torn = whole.clone();
            torn[at..].fill(0);
            assert_eq!(unsealed(&torn), None);
        }
    }
}
