//! Signed notes and checkpoints, as C2SP `signed-note` and `tlog-checkpoint` describe them, and the
//! keys that sign and check them.
//!
//! Invariant: what is signed and what is checked is the same text, byte for byte.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use sha2::{Digest as _, Sha256};

use crate::digest::RootHash;

/// The kind of signature: Ed25519 over the text.
const ED25519: u8 = 1;
const PRIVATE: &str = "PRIVATE+KEY+";
const SIGNATURE_START: &str = "\u{2014} ";
/// Bytes of the hash that tells keys of one name apart.
const ID_BYTES: usize = 4;
/// Longest note that is looked at, in bytes.
const NOTE_BYTES_MAX: usize = 1 << 20;
/// Most signatures of one note.
const SIGNATURES_MAX: usize = 100;

/// Why a key or a note was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoteError {
    /// A key is not one.
    #[error("not a key of this form: {form}")]
    Key {
        /// The form that was expected.
        form: &'static str,
    },
    /// The text is not a signed note.
    #[error("not a signed note: {reason}")]
    Note {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// No signature is of this key.
    #[error("no signature is by {name}")]
    Unsigned {
        /// The key's name.
        name: String,
    },
    /// The signature of this key is not over this text.
    #[error("the signature by {name} does not fit the text")]
    Forged {
        /// The key's name.
        name: String,
    },
}

/// The key that signs a log's checkpoints.
#[derive(Clone)]
pub struct NoteSigner {
    key: SigningKey,
    verifier: NoteVerifier,
}

/// The key that checks them; `name+hash+key` as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoteVerifier {
    name: String,
    id: [u8; ID_BYTES],
    key: VerifyingKey,
}

/// How many events a log has, and the root over them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which log.
    pub origin: String,
    /// Events.
    pub size: u64,
    /// Their root.
    pub root: RootHash,
}

impl NoteSigner {
    /// A key from 32 random bytes.
    ///
    /// # Errors
    /// [`NoteError::Key`] for a name that a note cannot hold.
    pub fn new(name: &str, seed: &[u8; 32]) -> Result<Self, NoteError> {
        let is_plain = |c: char| !c.is_whitespace() && c != '+';
        if name.is_empty() || !name.chars().all(is_plain) {
            return Err(NoteError::Key {
                form: "a name without spaces and plus signs",
            });
        }
        let key = SigningKey::from_bytes(seed);
        let verifier = NoteVerifier::of(name, key.verifying_key());
        Ok(Self { key, verifier })
    }

    /// The key that checks what this one signs.
    pub fn verifier(&self) -> &NoteVerifier {
        &self.verifier
    }

    /// The secret, to be kept: `PRIVATE+KEY+name+hash+key`.
    pub fn secret(&self) -> String {
        let NoteVerifier { name, id, .. } = &self.verifier;
        let key = STANDARD.encode([&[ED25519], self.key.as_bytes().as_slice()].concat());
        format!("{PRIVATE}{name}+{}+{key}", hex(*id))
    }

    /// A secret for another use, which tells nothing of this one: the key that
    /// [BLAKE3 derives](https://github.com/BLAKE3-team/BLAKE3-specs/blob/master/blake3.pdf) from it in
    /// a context, which is to be said by one use alone.
    pub fn derived(&self, context: &str) -> [u8; 32] {
        blake3::derive_key(context, self.key.as_bytes())
    }

    /// Reads what [`secret`](Self::secret) wrote.
    ///
    /// # Errors
    /// [`NoteError::Key`].
    pub fn parse(text: &str) -> Result<Self, NoteError> {
        let wrong = NoteError::Key {
            form: "PRIVATE+KEY+name+hash+key",
        };
        let plain = text.trim().strip_prefix(PRIVATE).ok_or(wrong.clone())?;
        let (name, id, key) = parts(plain).ok_or(wrong.clone())?;
        let signer = Self::new(name, &key)?;
        if signer.verifier.id == id {
            Ok(signer)
        } else {
            Err(wrong)
        }
    }

    /// Signs a checkpoint: the note as it is served.
    pub fn sign(&self, checkpoint: &Checkpoint) -> String {
        let text = checkpoint.to_string();
        let signature = self.key.sign(text.as_bytes());
        let NoteVerifier { name, id, .. } = &self.verifier;
        let signature = STANDARD.encode([id.as_slice(), &signature.to_bytes()].concat());
        format!("{text}\n{SIGNATURE_START}{name} {signature}\n")
    }
}

impl fmt::Debug for NoteSigner {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The secret is in no log.
        formatter
            .debug_struct("NoteSigner")
            .field("verifier", &self.verifier)
            .finish_non_exhaustive()
    }
}

impl NoteVerifier {
    fn of(name: &str, key: VerifyingKey) -> Self {
        let mut hash = Sha256::new();
        hash.update(name.as_bytes());
        hash.update([b'\n', ED25519]);
        hash.update(key.as_bytes());
        let hash: [u8; 32] = hash.finalize().into();
        let mut id = [0; ID_BYTES];
        id.copy_from_slice(&hash[..ID_BYTES]);
        Self {
            name: name.to_owned(),
            id,
            key,
        }
    }

    /// Whose key it is; of a log's, its origin.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Reads a key as [`Display`](fmt::Display) writes it.
    ///
    /// # Errors
    /// [`NoteError::Key`].
    pub fn parse(text: &str) -> Result<Self, NoteError> {
        let wrong = NoteError::Key {
            form: "name+hash+key",
        };
        let (name, id, key) = parts(text.trim()).ok_or(wrong.clone())?;
        let key = VerifyingKey::from_bytes(&key).map_err(|_| wrong.clone())?;
        let verifier = Self::of(name, key);
        if verifier.id == id && !name.is_empty() {
            Ok(verifier)
        } else {
            Err(wrong)
        }
    }

    /// Checks a signed checkpoint of the log whose origin is this key's name.
    ///
    /// # Errors
    /// [`NoteError`], other than `Key`.
    pub fn check(&self, note: &str) -> Result<Checkpoint, NoteError> {
        let malformed = |reason| NoteError::Note { reason };
        if note.len() > NOTE_BYTES_MAX {
            return Err(malformed("it is too long"));
        }
        let (text, signatures) = note
            .rsplit_once("\n\n")
            .ok_or(malformed("no empty line before the signatures"))?;
        let signatures = signatures
            .strip_suffix('\n')
            .ok_or(malformed("it does not end in a line break"))?;
        let lines: Vec<&str> = signatures.split('\n').collect();
        if lines.len() > SIGNATURES_MAX {
            return Err(malformed("it has too many signatures"));
        }
        let mut signature = None;
        for line in lines {
            let line = line
                .strip_prefix(SIGNATURE_START)
                .and_then(|line| line.split_once(' '));
            let (name, bytes) = line.ok_or(malformed("a line is not a signature"))?;
            let bytes = STANDARD.decode(bytes);
            let bytes = bytes.map_err(|_| malformed("a signature is not in base64"))?;
            let (id, bytes) = bytes
                .split_at_checked(ID_BYTES)
                .ok_or(malformed("a signature is too short"))?;
            if name == self.name && id == self.id {
                signature = Some(bytes.to_vec());
            }
        }
        let name = self.name.clone();
        let signature = signature.ok_or(NoteError::Unsigned { name })?;
        let text = format!("{text}\n");
        let fits = Signature::from_slice(&signature)
            .and_then(|signature| self.key.verify_strict(text.as_bytes(), &signature));
        fits.map_err(|_| NoteError::Forged {
            name: self.name.clone(),
        })?;
        let checkpoint = Checkpoint::parse(&text).ok_or(malformed("the text is no checkpoint"))?;
        if checkpoint.origin == self.name {
            Ok(checkpoint)
        } else {
            Err(malformed("it is of another log"))
        }
    }
}

impl fmt::Display for NoteVerifier {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = STANDARD.encode([&[ED25519], self.key.as_bytes().as_slice()].concat());
        write!(formatter, "{}+{}+{key}", self.name, hex(self.id))
    }
}

impl Checkpoint {
    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.strip_suffix('\n')?.split('\n');
        let (origin, size, root) = (lines.next()?, lines.next()?, lines.next()?);
        let is_plain = size == "0" || !size.starts_with('0');
        let is_number = !size.is_empty() && size.bytes().all(|byte| byte.is_ascii_digit());
        // Lines that extend it are signed, and say nothing to us.
        if origin.is_empty() || !is_plain || !is_number || lines.any(str::is_empty) {
            return None;
        }
        let root = STANDARD.decode(root).ok()?.try_into().ok()?;
        Some(Self {
            origin: origin.to_owned(),
            size: size.parse().ok()?,
            root: RootHash::from_bytes(root),
        })
    }
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let root = STANDARD.encode(self.root.as_bytes());
        write!(formatter, "{}\n{}\n{root}\n", self.origin, self.size)
    }
}

/// The parts of `name+hash+key`.
fn parts(text: &str) -> Option<(&str, [u8; ID_BYTES], [u8; 32])> {
    let (name, rest) = text.split_once('+')?;
    let (id, key) = rest.split_once('+')?;
    let id = u32::from_str_radix(id, 16).ok().filter(|_| id.len() == 8)?;
    let key = STANDARD.decode(key).ok()?;
    let (kind, key) = key.split_first()?;
    (*kind == ED25519).then_some((name, id.to_be_bytes(), key.try_into().ok()?))
}

fn hex(id: [u8; ID_BYTES]) -> String {
    format!("{:08x}", u32::from_be_bytes(id))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests stop at what should not be")]
mod tests {
    use super::*;

    fn signed() -> (NoteSigner, Checkpoint, String) {
        let signer = NoteSigner::new("stemma/0011", &[3; 32]).unwrap();
        let checkpoint = Checkpoint {
            origin: "stemma/0011".to_owned(),
            size: 109_482,
            root: RootHash::from_bytes([9; 32]),
        };
        let note = signer.sign(&checkpoint);
        (signer, checkpoint, note)
    }

    #[test]
    fn keys_come_back_from_their_text() {
        let (signer, _, note) = signed();
        let again = NoteSigner::parse(&signer.secret()).unwrap();
        assert_eq!(again.verifier(), signer.verifier());
        let verifier = NoteVerifier::parse(&signer.verifier().to_string()).unwrap();
        assert!(verifier.check(&note).is_ok());
        assert!(!format!("{signer:?}").contains(&signer.secret()));
    }

    #[test]
    fn a_note_with_any_byte_changed_is_refused() {
        let (signer, checkpoint, note) = signed();
        assert_eq!(signer.verifier().check(&note).unwrap(), checkpoint);
        for at in 0..note.len() {
            let mut bytes = note.clone().into_bytes();
            bytes[at] ^= 1;
            let Ok(changed) = String::from_utf8(bytes) else {
                continue;
            };
            assert!(signer.verifier().check(&changed).is_err(), "{changed}");
        }
        for end in (0..note.len()).filter(|end| note.is_char_boundary(*end)) {
            assert!(signer.verifier().check(&note[..end]).is_err());
        }
    }

    #[test]
    fn others_may_sign_too_and_a_key_of_another_is_not_ours() {
        let (signer, checkpoint, note) = signed();
        let other = NoteSigner::new("stemma/0011", &[4; 32]).unwrap();
        let their_line = other.sign(&checkpoint).lines().last().unwrap().to_owned();
        assert!(
            signer
                .verifier()
                .check(&format!("{note}{their_line}\n"))
                .is_ok()
        );
        let refused = other.verifier().check(&note);
        assert!(
            matches!(refused, Err(NoteError::Unsigned { .. })),
            "{refused:?}"
        );
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let (signer, _, _) = signed();
        let key = signer.verifier().to_string();
        for text in [
            "",
            "+",
            "a+b",
            "a+00000000+AQ==",
            &key[1..],
            &key[..key.len() - 4],
            &format!("x{key}"),
        ] {
            assert!(NoteVerifier::parse(text).is_err(), "{text}");
            assert!(
                NoteSigner::parse(&format!("{PRIVATE}{text}")).is_err(),
                "{text}"
            );
        }
        for name in ["", "a b", "a+b"] {
            assert!(NoteSigner::new(name, &[1; 32]).is_err());
        }
    }
}
