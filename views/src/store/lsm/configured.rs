//! How the engine's tables are laid out.

use std::path::Path;
use std::sync::Arc;

use lsm_tree::config::{
    BloomConstructionPolicy, CompressionPolicy, FilterPolicy, FilterPolicyEntry,
    PartitioningPolicy, PinningPolicy, RestartIntervalPolicy,
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
    // A filter or an index that is one block is a good part of a megabyte, of compressed tables up
    // to four. The cache takes no entry so large: it would be read and checked whole for each look.
    // New tables, where most looks end, have such ones, in memory, wherever they come to lie: the
    // engine counts a table's level from the first one below the new tables that is filled when it
    // writes it, and from the top when it opens it. Merged tables have theirs in pieces that the
    // cache takes, so that memory does not grow with them.
    let pieces = PartitioningPolicy::new([false, true]);
    let in_memory = PinningPolicy::all(true);
    // The counter of what the tree shows by itself is not used; see `visible`.
    Config::new(dir, numbers.clone(), SequenceNumberCounter::default())
        .with_compaction_filter_factory(Some(Arc::new(merging)))
        .use_cache(Arc::new(Cache::with_capacity_bytes(cache_bytes)))
        .filter_block_pinning_policy(in_memory.clone())
        .index_block_pinning_policy(in_memory)
        .filter_block_partitioning_policy(pieces.clone())
        .index_block_partitioning_policy(pieces)
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
