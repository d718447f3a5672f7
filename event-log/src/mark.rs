//! The head mark: the file that vouches for the log's last byte after a clean stop.
//!
//! Invariant: a log that has been written to since it was opened has no mark.

use std::io;

use crate::chain::Chain;
use crate::codec::Fields;
use crate::id::LogId;
use crate::segment::{
    CHAIN_BYTES, FORMAT_VERSION, decode_chain, encode_chain, finish, has_checksum,
};
use crate::storage::{Access, Storage, read_bytes};

/// Name of the mark.
pub(crate) const MARK_NAME: &str = "head";
/// Its name while it is being written.
pub(crate) const MARK_DRAFT_NAME: &str = "head.new";

const MAGIC: &[u8; 8] = b"STEMHEAD";
pub(crate) const MARK_BYTES: usize = 8 + 4 + 4 + 16 + 8 + 8 + CHAIN_BYTES + 4;

/// Where the log ended when it was closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) log_id: LogId,
    /// First position of the last segment.
    pub(crate) segment: u64,
    /// End of the last group or seal in it.
    pub(crate) offset: u64,
    pub(crate) chain: Chain,
}

/// What was found where the mark should be.
pub(crate) enum Found {
    Nothing,
    Mark(Box<Mark>),
    Garbled,
}

impl Mark {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(MARK_BYTES);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(self.log_id.as_bytes());
        out.extend_from_slice(&self.segment.to_le_bytes());
        out.extend_from_slice(&self.offset.to_le_bytes());
        encode_chain(&mut out, &self.chain);
        finish(out)
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != MARK_BYTES || !has_checksum(bytes) {
            return None;
        }
        let mut fields = Fields::new(bytes);
        let magic = fields.array::<8>()?;
        let version = fields.u32()?;
        let _reserved = fields.u32()?;
        let log_id = LogId::from_bytes(fields.array()?);
        let segment = fields.u64()?;
        let offset = fields.u64()?;
        let chain = decode_chain(&mut fields)?;
        let known = &magic == MAGIC && version == FORMAT_VERSION;
        known.then_some(Self {
            log_id,
            segment,
            offset,
            chain,
        })
    }

    /// Reads bytes as a mark; what is one is read back from what it is written as.
    pub(crate) fn try_bytes(bytes: &[u8]) {
        if let Some(mark) = Self::decode(bytes) {
            assert_eq!(Self::decode(&mark.encode()), Some(mark));
        }
    }

    /// Writes the mark so that it is there whole or not at all.
    pub(crate) fn write(&self, storage: &dyn Storage) -> io::Result<()> {
        let file = storage.create(MARK_DRAFT_NAME)?;
        file.write_at(&self.encode(), 0)?;
        file.sync_data()?;
        storage.rename(MARK_DRAFT_NAME, MARK_NAME)?;
        storage.sync_dir()
    }

    /// Reads the mark.
    pub(crate) fn read(storage: &dyn Storage) -> io::Result<Found> {
        let file = match storage.open(MARK_NAME, Access::Read) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
            file => file?,
        };
        let bytes = read_bytes(&*file, 0, MARK_BYTES + 1)?;
        Ok(Self::decode(&bytes).map_or(Found::Garbled, |mark| Found::Mark(Box::new(mark))))
    }

    /// Removes the mark durably; it need not be there.
    pub(crate) fn remove(storage: &dyn Storage) -> io::Result<()> {
        match storage.remove(MARK_NAME) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        storage.sync_dir()
    }
}
