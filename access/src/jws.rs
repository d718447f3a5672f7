//! The signatures of JSON web tokens, looked at by ring: what `jsonwebtoken` asks for.
//!
//! Invariant: nothing is signed here, and nothing but RS256, ES256 and EdDSA is looked at; no key
//! is ever taken for the secret of an HMAC.

use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{ErrorKind, Result};
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind, EncodingKey};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents,
    UnparsedPublicKey,
};
use signature::Verifier;

static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: signer,
    verifier_factory: verifier,
    key_utils: KeyUtils::new_unimplemented(),
};

/// Has `jsonwebtoken` look at signatures by what is here.
pub(crate) fn install() {
    // Whoever was first has installed the same.
    let _ = PROVIDER.install_default();
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "it is called by jsonwebtoken"
)]
fn signer(_: &Algorithm, _: &EncodingKey) -> Result<Box<dyn JwtSigner>> {
    Err(ErrorKind::UnsupportedAlgorithm.into())
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "it is called by jsonwebtoken"
)]
fn verifier(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>> {
    // The families differ where somebody says that a key is of another kind than it is.
    if algorithm.family() != key.family() {
        return Err(ErrorKind::InvalidAlgorithm.into());
    }
    let key = match (algorithm, key.kind()) {
        (Algorithm::RS256, DecodingKeyKind::RsaModulusExponent { n, e }) => Key::Rsa {
            n: n.clone(),
            e: e.clone(),
        },
        (Algorithm::ES256, DecodingKeyKind::SecretOrDer(point)) => Key::Ec(point.clone()),
        (Algorithm::EdDSA, DecodingKeyKind::SecretOrDer(point)) => Key::Ed(point.clone()),
        _ => return Err(ErrorKind::UnsupportedAlgorithm.into()),
    };
    Ok(Box::new(key))
}

/// A public key: of RSA without leading zeros, of the curves as their points.
enum Key {
    Rsa { n: Vec<u8>, e: Vec<u8> },
    Ec(Vec<u8>),
    Ed(Vec<u8>),
}

impl JwtVerifier for Key {
    fn algorithm(&self) -> Algorithm {
        match self {
            Self::Rsa { .. } => Algorithm::RS256,
            Self::Ec(_) => Algorithm::ES256,
            Self::Ed(_) => Algorithm::EdDSA,
        }
    }
}

impl Verifier<Vec<u8>> for Key {
    fn verify(&self, text: &[u8], sent: &Vec<u8>) -> std::result::Result<(), signature::Error> {
        let verified = match self {
            Self::Rsa { n, e } => RsaPublicKeyComponents {
                n: without_zeros(n),
                e: without_zeros(e),
            }
            .verify(&RSA_PKCS1_2048_8192_SHA256, text, sent),
            Self::Ec(point) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(text, sent)
            }
            Self::Ed(point) => UnparsedPublicKey::new(&ED25519, point).verify(text, sent),
        };
        verified.map_err(|_| signature::Error::new())
    }
}

/// Some write a zero before a number so that it looks like none below zero.
fn without_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    &number[zeros..]
}
