//! Large blobs: files of their own, whose blocks can be checked one at a time.

mod file;
mod tree;

pub(crate) use file::{LargeFile, encode_trailer, large_digest, large_dir, large_name, try_large};
pub(crate) use tree::{BLOCK_BYTES, block_value, root};
