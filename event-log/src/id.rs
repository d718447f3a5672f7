//! Numbers that name a place: in the whole log, in one stream, and which log it is.
//!
//! Invariant: positions and revisions are dense and start at 0.

use std::fmt;

use crate::codec::write_hex;

/// Place of a record in the whole log; the first is 0 and none is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position(u64);

/// Place of a record in its stream; the first is 0 and none is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Revision(u64);

/// Identity of one log, chosen at random when it is created and repeated in each of its files.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct LogId([u8; 16]);

impl Position {
    /// The place with this number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number of records before this place.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The place right behind this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl Revision {
    /// The place with this number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number of records of the stream before this place.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The place right behind this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl LogId {
    /// The identity with these bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The bytes as they stand in the files.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// A new identity from the randomness the standard library takes from the system.
    pub(crate) fn random() -> Self {
        use std::hash::{BuildHasher, RandomState};
        let mut seed = blake3::Hasher::new();
        for lane in 0_u64..4 {
            // Each state carries keys that the system's generator seeded.
            seed.update(&RandomState::new().hash_one(lane).to_le_bytes());
        }
        seed.update(&std::process::id().to_le_bytes());
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&seed.finalize().as_bytes()[..16]);
        Self(bytes)
    }

    /// Four bytes of the identity, repeated in every group so that a stray block is recognized.
    pub(crate) fn tag(&self) -> [u8; 4] {
        let [a, b, c, d, ..] = self.0;
        [a, b, c, d]
    }
}

impl fmt::Display for Position {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl fmt::Display for LogId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&self.0, formatter)
    }
}

impl fmt::Debug for LogId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "LogId({self})")
    }
}
