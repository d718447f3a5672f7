//! What proves a record and what proves the whole log.
//!
//! Invariant: the text forms name their algorithm, so that no two kinds are mistaken.

use std::fmt;
use std::str::FromStr;

use crate::codec::{parse_hex, write_hex};

/// BLAKE3 of all stored bytes of a record, its links included: the event's identity.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventDigest([u8; 32]);

/// Root of the Merkle tree (RFC 6962, SHA-256) over the digests of all records.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RootHash([u8; 32]);

/// The text is not a digest of the expected kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {algorithm}: and 64 lower-case hexadecimal digits")]
pub struct DigestError {
    /// The algorithm that the text should have named.
    pub algorithm: &'static str,
}

const EVENT_ALGORITHM: &str = "blake3";
const ROOT_ALGORITHM: &str = "sha256";

impl EventDigest {
    /// The digest with these bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes as they stand in the log.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl RootHash {
    /// The hash with these bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes of the hash.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

fn parse(algorithm: &'static str, text: &str) -> Result<[u8; 32], DigestError> {
    text.strip_prefix(algorithm)
        .and_then(|rest| rest.strip_prefix(':'))
        .and_then(parse_hex)
        .ok_or(DigestError { algorithm })
}

impl FromStr for EventDigest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        parse(EVENT_ALGORITHM, text).map(Self)
    }
}

impl FromStr for RootHash {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        parse(ROOT_ALGORITHM, text).map(Self)
    }
}

impl fmt::Display for EventDigest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{EVENT_ALGORITHM}:")?;
        write_hex(&self.0, formatter)
    }
}

impl fmt::Display for RootHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{ROOT_ALGORITHM}:")?;
        write_hex(&self.0, formatter)
    }
}

impl fmt::Debug for EventDigest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "EventDigest({self})")
    }
}

impl fmt::Debug for RootHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "RootHash({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_reads_back_from_its_text() {
        let digest = EventDigest::from_bytes([0xab; 32]);
        assert_eq!(digest.to_string().parse(), Ok(digest));
        let root = RootHash::from_bytes([7; 32]);
        assert_eq!(root.to_string().parse(), Ok(root));
    }

    #[test]
    fn a_digest_of_another_kind_or_case_is_refused() {
        let text = EventDigest::from_bytes([0xab; 32]).to_string();
        assert!(text.parse::<RootHash>().is_err());
        assert!(text.to_uppercase().parse::<EventDigest>().is_err());
        assert!(text[..70].parse::<EventDigest>().is_err());
    }
}
