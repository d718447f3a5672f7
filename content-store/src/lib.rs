//! Immutable bytes by digest: ingest, read, verify, collect.
//!
//! A blob is named by the BLAKE3 digest of its bytes and stored once. Small blobs share pack files
//! under a group commit; large ones are files of their own. What was acknowledged is on disk, and
//! no byte is given out that does not match its digest. The layout is `docs/format/content-store.md`.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod blob;
mod collect;
mod cut;
mod damage;
mod digest;
mod error;
#[doc(hidden)]
pub mod fuzzing;
mod index;
mod ingest;
mod large;
mod load;
mod mark;
mod options;
mod pack;
mod packing;
mod pin;
mod queue;
mod stats;
mod storage;
mod store;
mod vault;
mod verify;
mod writer;

pub use blob::Blob;
pub use collect::Collected;
pub use cut::Cut;
pub use damage::{Damage, DamageKind};
pub use digest::{Digest, DigestError};
pub use error::{CollectError, OpenError, PutError, ReadError, VerifyError};
pub use ingest::Ingest;
pub use load::OpenReport;
pub use options::{Options, OptionsError};
pub use pin::Pin;
pub use stats::{ContentStats, Histogram};
pub use storage::{
    Directory, Fault, FileStorage, Listed, MemoryStorage, Operation, Storage, StorageFile,
};
pub use store::{ContentStore, StoreStatus, Stored};
pub use verify::{VerifyProgress, VerifyReport};
