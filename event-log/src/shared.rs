//! What the writer publishes and the readers see.
//!
//! Invariant: `end` is raised last, after everything below it can be found.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockWriteGuard};

use tokio::sync::watch;

use crate::chain::Chain;
use crate::error::ReadError;
use crate::files::Files;
use crate::id::LogId;
use crate::index::{Entry, Index, Place};
use crate::options::Options;
use crate::recovery::{Loaded, Tip};
use crate::segments::SegmentInfo;
use crate::stats::Counters;
use crate::storage::Storage;
use crate::tail::{Tail, TailGroup};

/// Whether the log takes batches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AppenderStatus {
    /// It does.
    Ok,
    /// It refuses them since a write or sync failed.
    Poisoned {
        /// What failed.
        reason: String,
    },
    /// It refuses them since records that were durable were found damaged.
    Damaged {
        /// What was found first.
        damage: String,
    },
    /// It was opened for reading only.
    ReadOnly {
        /// The damage that it ends before, if there is any.
        damage: Option<String>,
    },
}

/// Whether a log takes batches, and what is known of damage.
struct Standing {
    status: AppenderStatus,
    /// What was found damaged last, since the log took batches last. Another reason that was there
    /// before may be what the status names.
    damage: Option<String>,
    /// How often damage was found since the log was opened.
    n_found: u64,
}

/// Where a reader without a writer left off.
pub(crate) struct Follower {
    pub(crate) chain: Chain,
    pub(crate) tip: Option<Tip>,
}

pub(crate) struct Shared {
    pub(crate) log_id: LogId,
    pub(crate) files: Arc<Files>,
    pub(crate) index: Index,
    pub(crate) segments: RwLock<Vec<Arc<SegmentInfo>>>,
    pub(crate) tail: RwLock<Tail>,
    pub(crate) head: RwLock<Chain>,
    pub(crate) counters: Counters,
    standing: RwLock<Standing>,
    /// Whether damage is known; the writer looks at it for each group.
    is_damaged: AtomicBool,
    /// Present when the log was opened for reading only.
    pub(crate) follower: Mutex<Option<Follower>>,
    end: AtomicU64,
    changes: watch::Sender<u64>,
}

impl Shared {
    pub(crate) fn new(
        storage: &Arc<dyn Storage>,
        options: &Options,
        place: Place,
        loaded: &Loaded,
    ) -> Self {
        let files = Arc::new(Files::new(Arc::clone(storage), options.files_open_max));
        let end = loaded.chain.end;
        Self {
            log_id: loaded.log_id,
            index: Index::new(
                Arc::clone(&files),
                place,
                loaded.log_id,
                options.merge_runs_min,
            ),
            files,
            segments: RwLock::new(loaded.segments.clone()),
            tail: RwLock::new(Tail::new(options.tail_bytes_max)),
            head: RwLock::new(loaded.chain.clone()),
            counters: Counters::default(),
            standing: RwLock::new(Standing {
                status: AppenderStatus::Ok,
                damage: None,
                n_found: 0,
            }),
            is_damaged: AtomicBool::new(false),
            follower: Mutex::new(None),
            end: AtomicU64::new(end),
            changes: watch::Sender::new(end),
        }
    }

    pub(crate) fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    /// Whether the log takes batches.
    pub(crate) fn status(&self) -> AppenderStatus {
        let standing = self.standing.read();
        let standing = standing.unwrap_or_else(PoisonError::into_inner);
        standing.status.clone()
    }

    /// Has the log take no batches, for this reason.
    pub(crate) fn refuse_batches(&self, status: AppenderStatus) {
        self.standing().status = status;
    }

    /// Has the log take batches again, unless damage was found since it had been found so often:
    /// that may be where the log was read already. It takes none then, and what was found is given.
    pub(crate) fn take_batches(&self, n_found: u64) -> Result<(), String> {
        let mut standing = self.standing();
        let meanwhile = standing.damage.clone();
        if let Some(damage) = meanwhile.filter(|_| standing.n_found > n_found) {
            standing.status = AppenderStatus::Damaged {
                damage: damage.clone(),
            };
            return Err(damage);
        }
        standing.damage = None;
        standing.status = AppenderStatus::Ok;
        self.is_damaged.store(false, Ordering::Release);
        Ok(())
    }

    /// Has the log take no more batches, since a durable record is not what was written. What
    /// keeps it from taking any already stays as it is; that it is damaged is known until it takes
    /// batches again.
    pub(crate) fn stop_for_damage(&self, damage: String) {
        let mut standing = self.standing();
        if !self.is_damaged.swap(true, Ordering::AcqRel) {
            tracing::error!(damage, "log takes no more batches, since it is damaged");
        }
        standing.n_found += 1;
        standing.damage = Some(damage.clone());
        if standing.status == AppenderStatus::Ok {
            standing.status = AppenderStatus::Damaged { damage };
        }
    }

    /// The same for whatever a read says, if it is of damage.
    pub(crate) fn stop_if_damaged(&self, error: &ReadError) {
        if matches!(error, ReadError::Damaged { .. }) {
            self.stop_for_damage(error.to_string());
        }
    }

    /// How often damage was found since the log was opened.
    pub(crate) fn n_found(&self) -> u64 {
        let standing = self.standing.read();
        standing.unwrap_or_else(PoisonError::into_inner).n_found
    }

    pub(crate) fn is_damaged(&self) -> bool {
        self.is_damaged.load(Ordering::Acquire)
    }

    fn standing(&self) -> RwLockWriteGuard<'_, Standing> {
        let standing = self.standing.write();
        standing.unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn follow(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Makes records visible that are durable.
    pub(crate) fn publish(&self, chain: &Chain, entries: &[Entry], group: Option<TailGroup>) {
        self.index.extend(entries);
        if let Some(group) = group {
            self.tail
                .write()
                .unwrap_or_else(PoisonError::into_inner)
                .push(group);
        }
        self.head
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .clone_from(chain);
        self.end.store(chain.end, Ordering::Release);
        self.changes.send_replace(chain.end);
    }

    /// Adds a segment, or replaces the last one when it starts at the same position.
    pub(crate) fn add_segment(&self, info: Arc<SegmentInfo>) {
        let mut segments = self
            .segments
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        segments.pop_if(|last| last.first == info.first);
        segments.push(info);
    }

    /// The segment that holds a position below the end.
    pub(crate) fn segment_of(&self, position: u64) -> Arc<SegmentInfo> {
        let segments = self.segments.read().unwrap_or_else(PoisonError::into_inner);
        let behind = segments.partition_point(|segment| segment.first <= position);
        Arc::clone(
            &segments[behind
                .checked_sub(1)
                .expect("the first segment starts at 0")],
        )
    }
}
