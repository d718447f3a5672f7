//! A store of format version 1 that must be written and read the same for ever.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use stemma_content_store::{ContentStore, Digest, MemoryStorage, Options};

use crate::{blob, put, read, verify, verify_only};

fn dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/format-1")
}

fn options() -> Options {
    Options {
        pack_blob_bytes_max: 300,
        pack_file_bytes_first: 1024,
        pack_file_bytes_max: 2048,
        ..Options::default()
    }
}

fn blobs() -> Vec<Bytes> {
    let mut blobs = vec![Bytes::from_static(b"Eppur si muove"), Bytes::new()];
    blobs.extend((0..8).map(|seed| blob(seed, 250)));
    blobs.push(blob(100, 301));
    blobs.push(blob(101, 128 * 1024 + 5));
    blobs
}

fn written() -> MemoryStorage {
    let storage = MemoryStorage::default();
    let (store, _) = ContentStore::open_on(Arc::new(storage.clone()), options()).unwrap();
    for bytes in blobs() {
        put(&store, &bytes).unwrap();
    }
    let dead = Digest::of(&blobs()[3]);
    store.collect(&|digest| *digest != dead).unwrap();
    drop(store);
    storage
}

#[test]
fn a_store_of_fixed_blobs_has_the_bytes_of_the_golden_one() {
    let storage = written();
    let mut golden = Vec::new();
    for sub in ["", "packs", "index"] {
        for found in std::fs::read_dir(dir().join(sub)).unwrap() {
            let found = found.unwrap();
            if found.file_type().unwrap().is_file() {
                let name = found.file_name().into_string().unwrap();
                golden.push(if sub.is_empty() {
                    name
                } else {
                    format!("{sub}/{name}")
                });
            }
        }
    }
    for found in std::fs::read_dir(dir().join("blobs")).unwrap() {
        let sub = found.unwrap();
        for file in std::fs::read_dir(sub.path()).unwrap() {
            let (sub, file) = (sub.file_name(), file.unwrap().file_name());
            golden.push(format!(
                "blobs/{}/{}",
                sub.to_str().unwrap(),
                file.to_str().unwrap()
            ));
        }
    }
    golden.sort();
    assert_eq!(storage.names(), golden);
    for name in golden {
        assert!(
            storage.bytes(&name).unwrap() == std::fs::read(dir().join(&name)).unwrap(),
            "{name}"
        );
    }
}

#[test]
fn the_golden_store_is_whole_and_gives_its_blobs() {
    let (store, report) = ContentStore::open_read_only(&dir(), options()).unwrap();
    assert!(report.clean && report.damage.is_empty());
    for (n, bytes) in blobs().iter().enumerate() {
        assert_eq!(
            read(&store, bytes).as_ref(),
            (n != 3).then_some(bytes),
            "blob {n}"
        );
    }
    let found = verify(&store);
    assert_eq!((found.damage.len(), found.blobs), (0, 11));
    assert_eq!(verify_only(&written()).blobs, 11);
}

/// Writes the golden store anew when `STEMMA_WRITE_GOLDEN` says where; else checks that writing
/// twice gives the same bytes.
#[test]
fn writing_twice_gives_the_same_bytes() {
    let (one, other) = (written(), written());
    assert_eq!(one.names(), other.names());
    for name in one.names() {
        assert!(one.bytes(&name) == other.bytes(&name), "{name}");
        if let Some(target) = std::env::var_os("STEMMA_WRITE_GOLDEN") {
            let path = Path::new(&target).join(&name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, one.bytes(&name).unwrap()).unwrap();
        }
    }
}
