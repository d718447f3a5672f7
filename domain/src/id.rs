//! Identities: what names a resource, an annotation and a piece of content.
//!
//! Invariant: a value of one of these types has been checked; nobody checks it again.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Why a text is not an identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdError {
    /// Not a hyphenated UUID in lower case.
    #[error("not a hyphenated UUID in lower case")]
    NotUuid,
    /// Not `blake3:` and 64 lower-case hex digits.
    #[error("not `blake3:` followed by 64 lower-case hex digits")]
    NotDigest,
}

fn parse_uuid(text: &str) -> Result<Uuid, IdError> {
    let well_formed = text.len() == 36 && !text.bytes().any(|b| b.is_ascii_uppercase());
    if !well_formed {
        return Err(IdError::NotUuid);
    }
    Uuid::try_parse(text).map_err(|_| IdError::NotUuid)
}

/// A UUID with something before it, put together without formatting: each event names its stream.
fn named(before: &str, uuid: &Uuid) -> String {
    let mut digits = Uuid::encode_buffer();
    let digits = uuid.hyphenated().encode_lower(&mut digits);
    [before, digits].concat()
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// Wraps a UUID of any version.
            pub const fn new(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// The UUID.
            pub const fn uuid(&self) -> Uuid {
                self.0
            }

            /// The UUID's sixteen bytes, in the order that sorts as its text does.
            pub const fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.as_hyphenated().fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                parse_uuid(text).map(Self)
            }
        }
    };
}

uuid_id! {
    /// Names a resource over its whole life: a UUID, version 7 when Stemma makes it.
    ResourceId
}

uuid_id! {
    /// Names an annotation within its resource.
    AnnotationId
}

uuid_id! {
    /// Names a job: a UUID, version 7 when Stemma makes it, so that jobs sort by when they were queued.
    JobId
}

impl JobId {
    /// The name of the stream that holds this job's events, `job-<id>`.
    pub fn stream_name(&self) -> String {
        named(Self::STREAM_PREFIX, &self.0)
    }

    /// The job whose events a stream of this name holds, if it is a job's stream.
    pub fn from_stream_name(stream: &str) -> Option<Self> {
        stream.strip_prefix(Self::STREAM_PREFIX)?.parse().ok()
    }

    const STREAM_PREFIX: &'static str = "job-";
}

impl ResourceId {
    /// The name of the stream that holds this resource's events, `resource-<id>`.
    pub fn stream_name(&self) -> String {
        named(Self::STREAM_PREFIX, &self.0)
    }

    /// The resource whose events a stream of this name holds, if it is a resource's stream.
    pub fn from_stream_name(stream: &str) -> Option<Self> {
        stream.strip_prefix(Self::STREAM_PREFIX)?.parse().ok()
    }

    const STREAM_PREFIX: &'static str = "resource-";
}

/// The BLAKE3 digest of a piece of content: equal digests are equal content.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContentDigest([u8; 32]);

impl ContentDigest {
    /// Wraps the 32 bytes of a BLAKE3 digest.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    const PREFIX: &'static str = "blake3:";
}

impl fmt::Display for ContentDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut digits = [0; 64];
        for (pair, byte) in digits.chunks_exact_mut(2).zip(self.0) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        f.write_str(Self::PREFIX)?;
        f.write_str(std::str::from_utf8(&digits).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for ContentDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ContentDigest {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let hex = text.strip_prefix(Self::PREFIX).ok_or(IdError::NotDigest)?;
        let well_formed = hex.len() == 64
            && hex
                .bytes()
                .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if !well_formed {
            return Err(IdError::NotDigest);
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
            let digit = |b: u8| (b as char).to_digit(16).unwrap_or_default();
            *byte = u8::try_from(digit(pair[0]) * 16 + digit(pair[1]))
                .expect("two hex digits make at most 255");
        }
        Ok(Self(bytes))
    }
}

impl Serialize for ContentDigest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ContentDigest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_id_is_a_lower_case_hyphenated_uuid_and_nothing_else() {
        let good = "019a0000-0000-7000-8000-00000000000a";
        assert_eq!(good.parse::<ResourceId>().unwrap().to_string(), good);
        for bad in [
            "",
            "019A0000-0000-7000-8000-00000000000A",
            "019a0000000070008000000000000000a",
            "{019a0000-0000-7000-8000-00000000000a}",
            "urn:uuid:019a0000-0000-7000-8000-00000000000a",
            "../../../../../../../etc/passwd00000",
        ] {
            assert_eq!(bad.parse::<ResourceId>(), Err(IdError::NotUuid), "{bad}");
        }
    }

    #[test]
    fn a_stream_name_leads_back_to_its_resource() {
        let id = ResourceId::new(Uuid::from_u128(7));
        assert_eq!(id.stream_name(), format!("resource-{id}"));
        assert_eq!(ResourceId::from_stream_name(&id.stream_name()), Some(id));
        let job = JobId::new(id.uuid());
        assert_eq!(job.stream_name(), format!("job-{id}"));
        assert_eq!(ResourceId::from_stream_name("entity_types-all"), None);
    }

    #[test]
    fn a_digest_reads_back_as_it_was_written() {
        let digest = ContentDigest::from_bytes([0xab; 32]);
        assert_eq!(digest.to_string().parse(), Ok(digest));
        assert!(
            digest
                .to_string()
                .to_uppercase()
                .parse::<ContentDigest>()
                .is_err()
        );
    }
}
