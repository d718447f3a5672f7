//! Pack files: their bytes, how they are walked and surveyed, which of them are open.

mod format;
mod run;
mod survey;
mod table;
mod walk;

pub(crate) use format::{
    ALIGN_BYTES, ENTRY_HEADER_BYTES, EntryHeader, Kind, PACK_HEADER_BYTES, PackHeader, SEAL_BYTES,
    STATE_DEAD, STATE_OFFSET, Seal, State, encode_entry, entry_bytes, entry_checksum, pack_name,
    pack_number, run_name, run_number,
};
pub(crate) use run::Run;
pub(crate) use survey::{Entry, Subject, Survey, Tail, last_nonzero, read_seal, survey};
pub(crate) use table::{PackPhase, PackState, Packs};
