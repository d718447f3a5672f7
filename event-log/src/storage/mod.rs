//! The medium a log lies on: a real directory, or one in memory that can fail.

mod file;
mod medium;
mod memory;

pub use file::FileStorage;
pub use medium::{Access, LockOutcome, Storage, StorageFile, StoredFile};
pub(crate) use medium::{is_full, is_short, read_bytes};
pub(crate) use memory::Scratch;
pub use memory::{Fate, Faults, Loss, MemoryStorage, Operation, OperationKind};
