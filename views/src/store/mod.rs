//! The embedded store below the views: ordered keys, atomic batches, nothing more.
//!
//! Two engines stand behind one trait and one conformance suite, so that nobody is tied to the
//! troubles of one. Invariant: a batch is visible whole or not at all, and after a crash the store
//! holds some prefix of the batches committed.

mod lsm;
mod sled;

use std::fmt;
use std::ops::ControlFlow;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

/// An engine that holds views.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Engine {
    /// sled 0.34.
    Sled,
    /// lsm-tree 3, the default.
    #[default]
    LsmTree,
}

impl Engine {
    /// All engines.
    pub const ALL: [Self; 2] = [Self::Sled, Self::LsmTree];
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sled => "sled",
            Self::LsmTree => "lsm-tree",
        })
    }
}

impl FromStr for Engine {
    type Err = UnknownEngine;

    fn from_str(text: &str) -> Result<Self, UnknownEngine> {
        match text {
            "sled" => Ok(Self::Sled),
            "lsm-tree" => Ok(Self::LsmTree),
            _ => Err(UnknownEngine),
        }
    }
}

/// Not the name of an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected lsm-tree or sled")]
pub struct UnknownEngine;

/// Why the store could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The engine failed.
    #[error("{engine} failed")]
    Engine {
        /// Which engine.
        engine: Engine,
        /// What it said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Another process, or another handle in this one, has the directory open.
    #[error("{engine} is open elsewhere")]
    Locked {
        /// Which engine.
        engine: Engine,
    },
    /// The disk has no room. What is there is as it was.
    #[error("no room on the disk for {engine}")]
    Full {
        /// Which engine.
        engine: Engine,
    },
    /// A row is not of the form that this Stemma writes; a rebuild makes it anew.
    #[error("row {key:?} cannot be read: {problem}")]
    Row {
        /// The row's key, in hex.
        key: String,
        /// What is wrong with it.
        problem: String,
    },
}

/// A key and its value.
pub(crate) type Pair = (Vec<u8>, Vec<u8>);
/// Keys in order, each with its value.
pub(crate) type Scan<'a> = Box<dyn Iterator<Item = Result<Pair, StoreError>> + 'a>;
/// Looks at a key and its value, and may break off.
pub(crate) type Show<'a> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'a;
/// A value to put under a key, or none to remove the key.
pub(crate) type Change = (Vec<u8>, Option<Vec<u8>>);

/// The order in which keys are scanned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Forward,
    Backward,
}

/// What the views ask of an engine.
pub(crate) trait Store: Send + Sync {
    /// The value under a key.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;
    /// The keys from `from` on and before `to`; none when `to` is not behind `from`.
    fn scan(&self, from: &[u8], to: &[u8], direction: Direction) -> Scan<'_>;
    /// Shows the pairs from `from` on and before `to` in order, without copying them, until `show`
    /// breaks off.
    fn show(&self, from: &[u8], to: &[u8], show: &mut Show<'_>) -> Result<(), StoreError> {
        for pair in self.scan(from, to, Direction::Forward) {
            let (key, value) = pair?;
            if show(&key, &value).is_break() {
                break;
            }
        }
        Ok(())
    }
    /// Waits until the engine can take more, and has it do what it need not do while it is given a
    /// batch; readers go on meanwhile. To be called before each commit.
    fn make_room(&self) -> Result<(), StoreError> {
        Ok(())
    }
    /// Whether much is about to be written and little read, so that what the engine wrote is put in
    /// order later, where it can be.
    fn hold_merging(&self, _holds: bool) {}
    /// Makes all changes visible at once. Not durable by itself: the log is.
    fn commit(&self, changes: Vec<Change>) -> Result<(), StoreError>;
    /// Makes an engine whose write failed ready for writing again; what it holds then is some prefix
    /// of the batches committed. Nobody may be scanning.
    fn reopen(&self) -> Result<(), StoreError> {
        Ok(())
    }
    /// Writes what is committed to the disk.
    fn flush(&self) -> Result<(), StoreError>;
    /// Bytes on disk.
    fn disk_bytes(&self) -> u64;
}

/// Opens an engine's directory, making it when it is not there.
pub(crate) fn open(
    engine: Engine,
    dir: &Path,
    cache_bytes: u64,
    memtable_bytes: u64,
    holds_merging: bool,
) -> Result<Arc<dyn Store>, StoreError> {
    Ok(match engine {
        Engine::Sled => Arc::new(sled::SledStore::open(dir, cache_bytes)?),
        Engine::LsmTree => {
            let sizes = lsm::Sizes {
                cache: cache_bytes,
                memtable: memtable_bytes,
            };
            Arc::new(lsm::LsmStore::open(dir, sizes, holds_merging)?)
        }
    })
}

/// Bytes of all files below a directory, as far as they can be read.
fn directory_bytes(dir: &Path) -> u64 {
    let Ok(listed) = std::fs::read_dir(dir) else {
        return 0;
    };
    listed
        .flatten()
        .map(|found| match found.metadata() {
            Ok(metadata) if metadata.is_dir() => directory_bytes(&found.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What every engine must do, each in a directory of its own.
    fn check(expect: impl Fn(&dyn Fn() -> Arc<dyn Store>)) {
        for engine in Engine::ALL {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("store");
            expect(&|| open(engine, &path, 8 << 20, 8 << 20, false).unwrap());
        }
    }

    fn put(key: &str, value: &str) -> Change {
        (key.into(), Some(value.into()))
    }

    fn keys(scan: Scan<'_>) -> Vec<String> {
        scan.map(|pair| String::from_utf8(pair.unwrap().0).unwrap())
            .collect()
    }

    #[test]
    fn keys_are_scanned_in_order_both_ways_and_the_end_is_exclusive() {
        check(|open| {
            let store = open();
            store
                .commit(
                    ["b", "a", "c", "ca"]
                        .iter()
                        .map(|key| put(key, "v"))
                        .collect(),
                )
                .unwrap();
            assert_eq!(
                keys(store.scan(b"a", b"ca", Direction::Forward)),
                ["a", "b", "c"]
            );
            assert_eq!(
                keys(store.scan(b"b", b"d", Direction::Backward)),
                ["ca", "c", "b"]
            );
            assert!(keys(store.scan(b"x", b"y", Direction::Forward)).is_empty());
        });
    }

    #[test]
    fn a_range_that_ends_before_it_begins_is_empty() {
        check(|open| {
            let store = open();
            store.commit(vec![put("b", "v")]).unwrap();
            for direction in [Direction::Forward, Direction::Backward] {
                assert!(keys(store.scan(b"c", b"a", direction)).is_empty());
                assert!(keys(store.scan(b"b", b"b", direction)).is_empty());
            }
        });
    }

    #[test]
    fn a_directory_that_is_open_is_locked_and_free_again_afterwards() {
        for engine in Engine::ALL {
            let dir = tempfile::tempdir().unwrap();
            let store = open(engine, dir.path(), 8 << 20, 8 << 20, false).unwrap();
            store.commit(vec![put("a", "1")]).unwrap();
            let refused = open(engine, dir.path(), 8 << 20, 8 << 20, false)
                .map(|_| ())
                .unwrap_err();
            assert!(matches!(refused, StoreError::Locked { .. }), "{refused:?}");
            assert_eq!(store.get(b"a").unwrap().as_deref(), Some(&b"1"[..]));
        }
    }

    #[test]
    fn a_batch_puts_replaces_and_removes_at_once() {
        check(|open| {
            let store = open();
            store.commit(vec![put("a", "1"), put("b", "1")]).unwrap();
            store
                .commit(vec![put("a", "2"), (b"b".to_vec(), None), put("c", "")])
                .unwrap();
            assert_eq!(store.get(b"a").unwrap().as_deref(), Some(&b"2"[..]));
            assert_eq!(store.get(b"b").unwrap(), None);
            assert_eq!(store.get(b"c").unwrap().as_deref(), Some(&b""[..]));
        });
    }

    #[test]
    fn what_was_flushed_is_there_after_opening_again() {
        check(|open| {
            let store = open();
            store.commit(vec![put("kept", "value")]).unwrap();
            store.flush().unwrap();
            drop(store);
            assert_eq!(open().get(b"kept").unwrap().as_deref(), Some(&b"value"[..]));
        });
    }
}
