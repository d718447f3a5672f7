//! What names a blob: the BLAKE3 digest of its bytes.

use std::fmt;
use std::str::FromStr;

const PREFIX: &str = "blake3:";
const HEX: &[u8; 16] = b"0123456789abcdef";

/// The BLAKE3 digest of a blob's bytes; equal digests are equal blobs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; 32]);

/// A text is not a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a digest of the form blake3:<64 lower-case hexadecimal digits>")]
pub struct DigestError;

impl Digest {
    /// The digest with these 32 bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The digest of a blob.
    pub fn of(blob: &[u8]) -> Self {
        Self(*blake3::hash(blob).as_bytes())
    }

    /// The 64 hexadecimal digits, without the algorithm's name.
    pub fn to_hex(&self) -> String {
        let digit = |value: u8| char::from(HEX[usize::from(value)]);
        self.0
            .iter()
            .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])
            .collect()
    }

    /// The digest with these 64 lower-case hexadecimal digits.
    ///
    /// # Errors
    /// When it is anything else.
    pub fn from_hex(hex: &str) -> Result<Self, DigestError> {
        let hex: &[u8; 64] = hex.as_bytes().try_into().map_err(|_| DigestError)?;
        let value = |digit: u8| {
            HEX.iter()
                .position(|known| *known == digit)
                .ok_or(DigestError)
        };
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(hex.chunks_exact(2)) {
            let both = (value(pair[0])? << 4) | value(pair[1])?;
            *byte = u8::try_from(both).map_err(|_| DigestError)?;
        }
        Ok(Self(bytes))
    }

    /// The first eight bytes, by which the index finds it.
    pub(crate) fn prefix(&self) -> u64 {
        let [first, ..] = self.0.as_chunks().0 else {
            unreachable!("32 bytes hold 8")
        };
        u64::from_le_bytes(*first)
    }

    /// Four further bytes, which tell large blobs with equal prefixes apart.
    pub(crate) fn infix(&self) -> u32 {
        let [_, _, third, ..] = self.0.as_chunks().0 else {
            unreachable!("32 bytes hold 12")
        };
        u32::from_le_bytes(*third)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", self.to_hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        Self::from_hex(text.strip_prefix(PREFIX).ok_or(DigestError)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_read_back_from_its_text() {
        let digest = Digest::of(b"Tycho");
        assert_eq!(digest.to_string().parse(), Ok(digest));
    }

    #[test]
    fn the_digest_of_nothing_is_the_published_one() {
        let expected = "blake3:af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";
        assert_eq!(Digest::of(b"").to_string(), expected);
    }

    #[test]
    fn what_is_not_exactly_a_digest_is_refused() {
        let good = Digest::of(b"x").to_string();
        let wrong = [
            String::new(),
            good.to_uppercase(),
            good.replace("blake3:", "sha256:"),
            good[..70].to_owned(),
            format!("{good}0"),
            format!("{}é", &good[..69]),
            good.replace("blake3:", ""),
        ];
        for text in wrong {
            assert_eq!(text.parse::<Digest>(), Err(DigestError), "{text}");
        }
    }
}
