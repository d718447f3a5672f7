//! Backups: log and content copied to a target as of a position, and brought back.
//!
//! The layout of a target is `docs/format/backup.md`.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod archive;
mod backup;
mod checked;
mod clipped;
mod content_copy;
mod content_restore;
mod directory;
mod error;
mod log_copy;
mod log_restore;
mod manifest;
mod names;
mod place;
mod restore;
mod s3;
mod target;
mod work;

pub use backup::{BackedUp, Options, Sources, TenantSource, TenantTold, back_up};
pub use directory::DirectoryTarget;
pub use error::{BackupError, RestoreError, TargetError};
pub use manifest::{
    Archive, Body, FileCopy, Kind, LogCopy, Manifest, ManifestError, SegmentCopy, TenantCopy,
};
pub use place::{is_half_restored, restore_all, restore_tenant};
pub use restore::Restored;
pub use s3::{S3Options, S3OptionsError, S3Target, UrlStyle};
pub use target::{Draft, LockOutcome, Seen, Target};
pub use work::Reading;

/// Told how far the work is: done and total in bytes, and with what; says whether to go on.
pub type Tell<'a> = &'a mut dyn FnMut(u64, u64, &str) -> std::ops::ControlFlow<()>;
