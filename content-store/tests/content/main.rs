//! The content store through its public face: on files, in memory, after crashes and damage.
#![allow(clippy::unwrap_used)]

mod basics;
mod collecting;
mod crash;
mod damage;
mod golden;
mod model;
mod names;
mod runs;

use std::sync::Arc;

use bytes::Bytes;
use stemma_content_store::{
    ContentStore, Digest, MemoryStorage, OpenReport, Options, PutError, Stored, VerifyReport,
};

/// Packs so small that a few blobs fill them.
fn small_packs() -> Options {
    Options {
        pack_blob_bytes_max: 1024,
        pack_file_bytes_first: 4096,
        pack_file_bytes_max: 16 * 1024,
        open_packs_max: 2,
        ..Options::default()
    }
}

/// Bytes that differ with the seed and do not repeat.
fn blob(seed: u64, len: usize) -> Bytes {
    let mut bytes = vec![0; len];
    blake3::Hasher::new()
        .update(&seed.to_le_bytes())
        .finalize_xof()
        .fill(&mut bytes);
    bytes.into()
}

fn wait<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(future)
}

fn put(store: &ContentStore, bytes: &Bytes) -> Result<Stored, PutError> {
    wait(store.put(bytes.clone()))
}

fn read(store: &ContentStore, bytes: &Bytes) -> Option<Bytes> {
    store.read_all(&Digest::of(bytes), u64::MAX).unwrap()
}

fn open(storage: &MemoryStorage) -> (ContentStore, OpenReport) {
    ContentStore::open_on(Arc::new(storage.clone()), small_packs()).unwrap()
}

fn verify(store: &ContentStore) -> VerifyReport {
    store
        .verify(&mut |_| std::ops::ControlFlow::Continue(()), &mut |_, _| ())
        .unwrap()
}

/// Verifies a store without writing to it.
fn verify_only(storage: &MemoryStorage) -> VerifyReport {
    let (store, _) =
        ContentStore::open_read_only_on(Arc::new(storage.clone()), small_packs()).unwrap();
    verify(&store)
}
