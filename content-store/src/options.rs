//! The store's limits, with their defaults and the ranges in which they make sense.

use crate::large::BLOCK_BYTES;
use crate::pack::{ENTRY_HEADER_BYTES, PACK_HEADER_BYTES, SEAL_BYTES, entry_bytes};

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const GIB: u64 = 1024 * MIB;

/// Limits of a content store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Blobs of at most so many bytes go into packs. Default 64 KiB, at most 128 KiB.
    pub pack_blob_bytes_max: u64,
    /// Planned bytes of the first pack; each further one has twice as many. Default 1 MiB.
    pub pack_file_bytes_first: u64,
    /// Planned bytes of a pack at most. Default 64 MiB, at most 4 GiB.
    pub pack_file_bytes_max: u64,
    /// Bytes of one blob at most. Default 16 GiB, at most 1 TiB.
    pub upload_bytes_max: u64,
    /// Small blobs that may wait for the writer; who comes later waits to get in. Default 1,024.
    pub queue_max: usize,
    /// Payload bytes written as one group at most (one blob may always go). Default 4 MiB.
    pub group_bytes_max: u64,
    /// Pack files held open for reading at most. Default 128.
    pub open_packs_max: usize,
    /// A pack is rewritten when at least this share of it is dead. Default 50 percent.
    pub rewrite_dead_percent: u64,
    /// While a large blob comes in it is synced each so many bytes, lest the last sync take
    /// long. Default 64 MiB.
    pub ingest_sync_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            pack_blob_bytes_max: 64 * KIB,
            pack_file_bytes_first: MIB,
            pack_file_bytes_max: 64 * MIB,
            upload_bytes_max: 16 * GIB,
            queue_max: 1024,
            group_bytes_max: 4 * MIB,
            open_packs_max: 128,
            rewrite_dead_percent: 50,
            ingest_sync_bytes: 64 * MIB,
        }
    }
}

/// An option is outside its range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("option {option} is {value}, must be from {min} to {max}")]
pub struct OptionsError {
    /// The field's name.
    pub option: &'static str,
    /// What it was set to.
    pub value: u64,
    /// The least it may be.
    pub min: u64,
    /// The most it may be.
    pub max: u64,
}

impl Options {
    /// Says which option is out of range, if any is.
    ///
    /// # Errors
    /// The first option that is.
    pub fn validate(&self) -> Result<(), OptionsError> {
        let count = |value: usize| u64::try_from(value).unwrap_or(u64::MAX);
        let pack_min =
            PACK_HEADER_BYTES + entry_bytes(self.pack_blob_bytes_max.min(BLOCK_BYTES)) + SEAL_BYTES;
        let checks = [
            (
                "pack_blob_bytes_max",
                self.pack_blob_bytes_max,
                0,
                BLOCK_BYTES,
            ),
            (
                "pack_file_bytes_max",
                self.pack_file_bytes_max,
                pack_min,
                4 * GIB,
            ),
            (
                "pack_file_bytes_first",
                self.pack_file_bytes_first,
                pack_min,
                self.pack_file_bytes_max,
            ),
            ("upload_bytes_max", self.upload_bytes_max, 1, 1024 * GIB),
            ("queue_max", count(self.queue_max), 1, 1 << 20),
            (
                "group_bytes_max",
                self.group_bytes_max,
                ENTRY_HEADER_BYTES,
                256 * MIB,
            ),
            ("open_packs_max", count(self.open_packs_max), 1, 1 << 16),
            ("rewrite_dead_percent", self.rewrite_dead_percent, 1, 100),
            (
                "ingest_sync_bytes",
                self.ingest_sync_bytes,
                BLOCK_BYTES,
                GIB,
            ),
        ];
        for (option, value, min, max) in checks {
            if !(min..=max).contains(&value) {
                return Err(OptionsError {
                    option,
                    value,
                    min,
                    max,
                });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(Options::default().validate(), Ok(()));
    }

    #[test]
    fn an_option_out_of_range_is_named_with_its_range() {
        let options = Options {
            rewrite_dead_percent: 0,
            ..Options::default()
        };
        let expected = OptionsError {
            option: "rewrite_dead_percent",
            value: 0,
            min: 1,
            max: 100,
        };
        assert_eq!(options.validate(), Err(expected));
    }

    #[test]
    fn a_pack_must_have_room_for_the_largest_blob_it_may_get() {
        let options = Options {
            pack_file_bytes_first: 64 * KIB,
            ..Options::default()
        };
        assert_eq!(
            options.validate().map_err(|error| error.option),
            Err("pack_file_bytes_first")
        );
    }
}
