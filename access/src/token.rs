//! The text of a token: an id that is looked up, and a secret that is compared.
//!
//! Invariant: the secret is in the text alone; nothing here prints it, and it is compared in a time
//! that does not depend on it.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What every token begins with, so that one that is left lying about is known as such.
const PREFIX: &str = "stemma_";
/// Digits of an id.
const ID_DIGITS: usize = 32;
/// What is mixed into the digests of secrets.
const CONTEXT: &str = "stemma 2026-11 token secret";

/// Which token it is; no secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TokenId(Uuid);

impl TokenId {
    /// A token's id.
    pub fn new(id: Uuid) -> Self {
        Self(id)
    }

    /// The number that it is.
    pub fn as_u128(self) -> u128 {
        self.0.as_u128()
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for TokenId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        Uuid::parse_str(text).map(Self)
    }
}

/// A token as its holder has it: `stemma_`, 32 hexadecimal digits of its id, `_`, and 32 random
/// bytes in URL-safe base64.
#[derive(Clone)]
pub struct TokenText {
    id: TokenId,
    secret: [u8; 32],
}

impl TokenText {
    /// A token of a new id and a new secret, 32 bytes that nobody can guess.
    pub fn new(id: TokenId, secret: [u8; 32]) -> Self {
        Self { id, secret }
    }

    /// Reads a token; none of what is not one.
    pub fn read(text: &str) -> Option<Self> {
        let rest = text.strip_prefix(PREFIX)?;
        let (id, secret) = rest.split_at_checked(ID_DIGITS)?;
        let is_plain = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
        let id = id.bytes().all(is_plain).then(|| Uuid::parse_str(id));
        let secret = URL_SAFE_NO_PAD.decode(secret.strip_prefix('_')?).ok()?;
        Some(Self {
            id: TokenId(id?.ok()?),
            secret: secret.try_into().ok()?,
        })
    }

    /// Which token it claims to be.
    pub fn id(&self) -> TokenId {
        self.id
    }

    /// What is kept of its secret. The secret is as long as the digest and random, so that no
    /// slow function of passwords is needed.
    pub(crate) fn digest(&self) -> SecretDigest {
        SecretDigest(blake3::Hash::from(blake3::derive_key(
            CONTEXT,
            &self.secret,
        )))
    }

    /// The text, for the one answer that carries it.
    pub fn expose(&self) -> String {
        let secret = URL_SAFE_NO_PAD.encode(self.secret);
        format!("{PREFIX}{}_{secret}", self.id.0.as_simple())
    }
}

impl fmt::Debug for TokenText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenText({}, …)", self.id)
    }
}

/// The digest of a secret. Comparing two takes the same time wherever they differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SecretDigest(blake3::Hash);

#[cfg(test)]
impl SecretDigest {
    /// One that differs in one byte.
    pub(crate) fn changed_at(self, at: usize) -> Self {
        let mut bytes = *self.0.as_bytes();
        bytes[at] ^= 1;
        Self(bytes.into())
    }
}

impl Serialize for SecretDigest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.to_hex().as_str())
    }
}

impl<'de> Deserialize<'de> for SecretDigest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        let hash = blake3::Hash::from_hex(text.as_bytes());
        hash.map(Self).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_token_is_read_as_it_is_written_and_prints_no_secret(id: u128, secret: [u8; 32]) {
            let token = TokenText::new(TokenId(Uuid::from_u128(id)), secret);
            let text = token.expose();
            let read = TokenText::read(&text).unwrap();
            prop_assert_eq!(read.id(), token.id());
            prop_assert_eq!(read.digest(), token.digest());
            let secret = &text[text.rfind('_').unwrap_or(0)..];
            let printed = format!("{token:?}");
            prop_assert!(!printed.contains(secret));
        }

        #[test]
        fn what_is_no_token_is_none(text in ".{0,100}") {
            let read = TokenText::read(&text);
            prop_assert!(read.is_none_or(|token| token.expose() == text));
        }

        #[test]
        fn a_token_that_is_changed_anywhere_is_another_or_none(
            secret: [u8; 32],
            at in 0_usize..82,
            to in proptest::char::range(' ', '~'),
        ) {
            let token = TokenText::new(TokenId(Uuid::from_u128(7)), secret);
            let mut text: Vec<char> = token.expose().chars().collect();
            prop_assume!(text[at] != to);
            text[at] = to;
            let text: String = text.into_iter().collect();
            let read = TokenText::read(&text);
            let is_same = |read: &TokenText| read.id() == token.id() && read.digest() == token.digest();
            prop_assert!(!read.is_some_and(|read| is_same(&read)), "{}", text);
        }
    }
}
