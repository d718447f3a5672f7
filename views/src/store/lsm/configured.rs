//! How the engine's tables are laid out.

use std::path::Path;
use std::sync::Arc;

use lsm_tree::config::{
    BloomConstructionPolicy, CompressionPolicy, FilterPolicy, FilterPolicyEntry, PinningPolicy,
    RestartIntervalPolicy,
};
use lsm_tree::{Cache, CompressionType, Config, SequenceNumberCounter};

use super::steps::Merging;

/// Sizes and policies: rows are short, looked up by key more often than scanned, and many looks
/// are for rows that are not there.
pub(super) fn configured(
    dir: &Path,
    numbers: &SequenceNumberCounter,
    cache_bytes: u64,
    merging: Merging,
) -> Config {
    // A table's filter is one block, a good part of a megabyte, on all levels but the last ones,
    // where it is cut up. Left to the cache, which takes no entry so large, it would be read and
    // checked whole for each look at a key. In memory it takes ten bits a row.
    let whole = PinningPolicy::new([true, true, true, false]);
    // The counter of what the tree shows by itself is not used; see `visible`.
    Config::new(dir, numbers.clone(), SequenceNumberCounter::default())
        .with_compaction_filter_factory(Some(Arc::new(merging)))
        .use_cache(Arc::new(Cache::with_capacity_bytes(cache_bytes)))
        .filter_block_pinning_policy(whole.clone())
        .index_block_pinning_policy(whole)
        .data_block_restart_interval_policy(RestartIntervalPolicy::new([10, 16]))
        .data_block_compression_policy(CompressionPolicy::new([
            CompressionType::None,
            CompressionType::None,
            CompressionType::Lz4,
        ]))
        .filter_policy(FilterPolicy::new([
            FilterPolicyEntry::Bloom(BloomConstructionPolicy::FalsePositiveRate(0.0001)),
            FilterPolicyEntry::Bloom(BloomConstructionPolicy::BitsPerKey(10.0)),
        ]))
}
