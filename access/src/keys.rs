//! The public keys of an issuer, read from a JWK set (RFC 7517).
//!
//! Invariant: a key stands for one algorithm, the one that its own kind has; what an issuer or a
//! token says otherwise makes it unusable.

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::Value;

/// Most bytes of a JWK set.
pub const KEY_SET_BYTES_MAX: usize = 1 << 20;
/// Most keys that are taken from one.
const KEYS_MAX: usize = 100;

/// A key that tokens may be signed with.
pub(crate) struct Key {
    kid: Option<String>,
    pub(crate) algorithm: Algorithm,
    pub(crate) public: DecodingKey,
}

/// The keys of an issuer.
#[derive(Default)]
pub(crate) struct Keys(Vec<Key>);

impl Keys {
    /// Reads a set. Keys of kinds that are not known are passed over.
    ///
    /// # Errors
    /// What is wrong with it; one without a single usable key is.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, String> {
        if bytes.len() > KEY_SET_BYTES_MAX {
            return Err(format!("it has more than {KEY_SET_BYTES_MAX} bytes"));
        }
        let read: Value = serde_json::from_slice(bytes).map_err(|_| "it is not JSON".to_owned())?;
        let Some(keys) = read.get("keys").and_then(Value::as_array) else {
            return Err("it is no set of keys: its field keys is missing".to_owned());
        };
        if keys.len() > KEYS_MAX {
            return Err(format!("it has more than {KEYS_MAX} keys"));
        }
        let usable = keys.iter().filter_map(|key| {
            let key: Jwk = serde_json::from_value(key.clone()).ok()?;
            usable(&key)
        });
        let keys: Vec<Key> = usable.collect();
        if keys.is_empty() {
            return Err("it has no key of RS256, ES256 or EdDSA".to_owned());
        }
        Ok(Self(keys))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The key of this id and algorithm; where none is named, the only one of the algorithm.
    pub(crate) fn find(&self, kid: Option<&str>, algorithm: Algorithm) -> Option<&Key> {
        let mut fitting = self.0.iter().filter(|key| {
            let is_named = kid.is_none_or(|kid| key.kid.as_deref() == Some(kid));
            is_named && key.algorithm == algorithm
        });
        let first = fitting.next();
        first.filter(|_| kid.is_some() || fitting.next().is_none())
    }
}

fn usable(key: &Jwk) -> Option<Key> {
    let algorithm = match &key.algorithm {
        AlgorithmParameters::RSA(_) => Algorithm::RS256,
        AlgorithmParameters::EllipticCurve(curve) if curve.curve == EllipticCurve::P256 => {
            Algorithm::ES256
        }
        AlgorithmParameters::OctetKeyPair(curve) if curve.curve == EllipticCurve::Ed25519 => {
            Algorithm::EdDSA
        }
        _ => return None,
    };
    let wanted = key.common.public_key_use.as_ref();
    let is_for_signatures = wanted.is_none_or(|wanted| *wanted == PublicKeyUse::Signature);
    let is_as_said = match key.common.key_algorithm {
        None => true,
        Some(KeyAlgorithm::RS256) => algorithm == Algorithm::RS256,
        Some(KeyAlgorithm::ES256) => algorithm == Algorithm::ES256,
        Some(KeyAlgorithm::EdDSA) => algorithm == Algorithm::EdDSA,
        Some(_) => false,
    };
    if !is_for_signatures || !is_as_said {
        return None;
    }
    Some(Key {
        kid: key.common.key_id.clone(),
        algorithm,
        public: DecodingKey::from_jwk(key).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ED: &str = r#"{"kty":"OKP","crv":"Ed25519","kid":"a","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;

    #[test]
    fn keys_are_read_and_those_of_other_kinds_are_passed_over() {
        let set = format!(
            r#"{{"keys":[{ED},{{"kty":"oct","kid":"b","k":"c2VjcmV0"}},{{"kty":"new"}}]}}"#
        );
        let keys = Keys::read(set.as_bytes()).unwrap();
        assert!(keys.find(Some("a"), Algorithm::EdDSA).is_some());
        assert!(keys.find(None, Algorithm::EdDSA).is_some());
        // A token does not say what a key is for, and a secret is no key of ours.
        assert!(keys.find(Some("a"), Algorithm::RS256).is_none());
        assert!(keys.find(Some("b"), Algorithm::HS256).is_none());
    }

    #[test]
    fn what_is_no_usable_set_is_named() {
        for (set, why) in [
            ("", "it is not JSON"),
            ("[]", "it is no set of keys: its field keys is missing"),
            (r#"{"keys":[]}"#, "it has no key of RS256, ES256 or EdDSA"),
            (
                r#"{"keys":[{"kty":"oct","k":"c2VjcmV0"}]}"#,
                "it has no key of RS256, ES256 or EdDSA",
            ),
        ] {
            assert_eq!(Keys::read(set.as_bytes()).err().unwrap(), why, "{set}");
        }
    }
}
