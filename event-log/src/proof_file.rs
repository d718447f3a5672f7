//! A proof as a file, in the form of C2SP `tlog-proof`: it is checked with a key and nothing else.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::digest::EventDigest;
use crate::note::{Checkpoint, NoteError, NoteVerifier};
use crate::proof::{TreeHash, is_included};

const FIRST_LINE: &str = "c2sp.org/tlog-proof@v1";
/// Most hashes of a path: a tree is no higher than positions have bits.
const PATH_MAX: usize = 64;

/// That an event is in a log, with the signed checkpoint that it is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProofFile {
    /// The event; `extra` of the file.
    pub digest: EventDigest,
    /// Where it stands; `index` of the file.
    pub position: u64,
    /// From its leaf to the root, lowest first.
    pub path: Vec<TreeHash>,
    /// The signed note.
    pub checkpoint: String,
}

/// Why a proof file shows nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProofFileError {
    /// It does not have the form of one.
    #[error("line {line} of the proof: expected {expected}")]
    Malformed {
        /// Which line, from 1.
        line: usize,
        /// What should stand there.
        expected: &'static str,
    },
    /// Its checkpoint is not by this key.
    #[error("the checkpoint")]
    Checkpoint(#[from] NoteError),
    /// The path does not lead from the event to the root.
    #[error("the path does not lead from the event at position {position} to the signed root")]
    NotIncluded {
        /// The event's position.
        position: u64,
    },
}

impl ProofFile {
    /// Reads a file.
    ///
    /// # Errors
    /// [`ProofFileError::Malformed`].
    pub fn parse(text: &str) -> Result<Self, ProofFileError> {
        let malformed = |line, expected| ProofFileError::Malformed { line, expected };
        let (head, checkpoint) = text
            .split_once("\n\n")
            .ok_or(malformed(1, "an empty line before the checkpoint"))?;
        let mut lines = head.split('\n').zip(1..);
        let mut take = |expected| lines.next().ok_or(malformed(0, expected));
        if take(FIRST_LINE)?.0 != FIRST_LINE {
            return Err(malformed(1, FIRST_LINE));
        }
        let expected = "`extra` and the event's digest in base64";
        let extra = take(expected)?.0.strip_prefix("extra ").and_then(hash_of);
        let digest = extra.ok_or(malformed(2, expected))?;
        let expected = "`index` and a position";
        let index = take(expected)?.0.strip_prefix("index ");
        let plain = |text: &&str| {
            text.bytes().all(|b| b.is_ascii_digit()) && (*text == "0" || !text.starts_with('0'))
        };
        let index = index.filter(plain).and_then(|text| text.parse().ok());
        let position = index.ok_or(malformed(3, expected))?;
        let mut path = Vec::new();
        for (line, number) in lines {
            let hash = hash_of(line).filter(|_| path.len() < PATH_MAX);
            path.push(hash.ok_or(malformed(number, "a hash of 32 bytes in base64"))?);
        }
        Ok(Self {
            digest: EventDigest::from_bytes(digest),
            position,
            path,
            checkpoint: checkpoint.to_owned(),
        })
    }

    /// Checks it; gives the checkpoint that it leads to.
    ///
    /// # Errors
    /// [`ProofFileError`], other than `Malformed`.
    pub fn check(&self, key: &NoteVerifier) -> Result<Checkpoint, ProofFileError> {
        let checkpoint = key.check(&self.checkpoint)?;
        let (position, size) = (self.position, checkpoint.size);
        if is_included(&self.digest, position, size, &self.path, &checkpoint.root) {
            Ok(checkpoint)
        } else {
            Err(ProofFileError::NotIncluded { position })
        }
    }
}

impl fmt::Display for ProofFile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let extra = STANDARD.encode(self.digest.as_bytes());
        write!(
            formatter,
            "{FIRST_LINE}\nextra {extra}\nindex {}\n",
            self.position
        )?;
        for hash in &self.path {
            writeln!(formatter, "{}", STANDARD.encode(hash))?;
        }
        write!(formatter, "\n{}", self.checkpoint)
    }
}

fn hash_of(text: &str) -> Option<TreeHash> {
    STANDARD.decode(text).ok()?.try_into().ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests stop at what should not be")]
mod tests {
    use super::*;
    use crate::digest::RootHash;
    use crate::merkle::{leaf, node};
    use crate::note::NoteSigner;

    #[test]
    fn a_proof_holds_as_it_was_written_and_with_no_byte_changed() {
        let signer = NoteSigner::new("stemma/1", &[5; 32]).unwrap();
        let (digest, other) = ([1; 32], [2; 32]);
        let checkpoint = Checkpoint {
            origin: "stemma/1".to_owned(),
            size: 2,
            root: RootHash::from_bytes(node(&leaf(&other), &leaf(&digest))),
        };
        let proof = ProofFile {
            digest: EventDigest::from_bytes(digest),
            position: 1,
            path: vec![leaf(&other)],
            checkpoint: signer.sign(&checkpoint),
        };
        let text = proof.to_string();
        assert_eq!(ProofFile::parse(&text).unwrap(), proof);
        assert_eq!(proof.check(signer.verifier()).unwrap(), checkpoint);
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1;
            let Ok(changed) = String::from_utf8(bytes) else {
                continue;
            };
            let checked =
                ProofFile::parse(&changed).and_then(|proof| proof.check(signer.verifier()));
            assert!(checked.is_err(), "{changed}");
        }
    }
}
