//! How damage is described: what, in which file, where.

use std::fmt;

use crate::Digest;

/// Bytes on disk that are not what was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// What is wrong.
    pub kind: DamageKind,
    /// The file, relative to the store's directory.
    pub file: String,
    /// Where in the file.
    pub offset: u64,
    /// The blob that it hits, when that is known.
    pub digest: Option<Digest>,
    /// More, for a person.
    pub detail: String,
}

/// What is wrong with a part of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum DamageKind {
    /// A pack's header does not fit its checksum or its name.
    PackHeader,
    /// Where an entry should begin there is none.
    EntryHeader,
    /// A payload does not match its digest.
    Payload,
    /// A state is neither live nor dead.
    State,
    /// Bytes that should be zero are not.
    Padding,
    /// A seal is missing or does not fit the entries before it.
    Seal,
    /// Something stands behind the end.
    AfterEnd,
    /// A file is shorter than it was made.
    Truncated,
    /// A large blob's footer does not fit its checksum, its length or its name.
    Footer,
    /// A large blob's table does not give its digest.
    Table,
    /// A block of a large blob does not match the table.
    Block,
    /// A file that was there is gone.
    Missing,
    /// A file whose name the store does not know.
    Name,
    /// A run differs from its pack; it is derived and will be made again.
    Run,
    /// The mark does not fit its checksum.
    Mark,
    /// The format version is not known.
    Version,
    /// The medium could not read it.
    Unreadable,
}

impl DamageKind {
    /// A stable name, in snake case.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PackHeader => "pack_header",
            Self::EntryHeader => "entry_header",
            Self::Payload => "payload",
            Self::State => "state",
            Self::Padding => "padding",
            Self::Seal => "seal",
            Self::AfterEnd => "after_end",
            Self::Truncated => "truncated",
            Self::Footer => "footer",
            Self::Table => "table",
            Self::Block => "block",
            Self::Missing => "missing",
            Self::Name => "name",
            Self::Run => "run",
            Self::Mark => "mark",
            Self::Version => "version",
            Self::Unreadable => "unreadable",
        }
    }
}

impl fmt::Display for DamageKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
