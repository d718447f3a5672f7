//! Opening a log.
//!
//! Invariant: at most one process writes to a log, by the lock on its lock file.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::appender::Appender;
use crate::check::check_all;
use crate::error::OpenError;
use crate::id::{LogId, Position};
use crate::index::{Active, Place};
use crate::options::Options;
use crate::queue::Queue;
use crate::reader::Reader;
use crate::recovery::{Loaded, Mode, load};
use crate::segment::segment_first;
use crate::segments::failed;
use crate::shared::{AppenderStatus, Follower, Shared};
use crate::storage::{LockOutcome, Storage};
use crate::torn::Cut;
use crate::writer::Writer;

/// Name of the lock file.
pub(crate) const LOCK_NAME: &str = "lock";

/// A log that is open for writing.
pub struct Log {
    /// Takes batches.
    pub appender: Appender,
    /// Reads records.
    pub reader: Reader,
    /// What was found when it was opened.
    pub report: OpenReport,
}

/// What was found when a log was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenReport {
    /// Which log it is.
    pub log_id: LogId,
    /// Whether it did not exist before.
    pub created: bool,
    /// Whether it had been closed cleanly.
    pub clean: bool,
    /// Number of records.
    pub end: Position,
    /// Number of segments.
    pub segments: usize,
    /// The torn tail that was cut.
    pub cut: Option<Cut>,
    /// Whether all records were read and held against their digests. Else only those of the last
    /// segment were, and [`Appender::check`] reads the others.
    pub checked: bool,
    /// Index files that were missing or wrong and were built anew.
    pub indexes_rebuilt: Vec<String>,
    /// How long opening took.
    pub took: Duration,
}

impl OpenReport {
    pub(crate) fn of(loaded: &Loaded, indexes_rebuilt: Vec<String>) -> Self {
        Self {
            log_id: loaded.log_id,
            created: loaded.created,
            clean: loaded.clean,
            end: Position::new(loaded.chain.end),
            segments: loaded.segments.len(),
            cut: loaded.cut.clone(),
            checked: false,
            indexes_rebuilt,
            took: Duration::ZERO,
        }
    }
}

impl Log {
    /// Opens a log for writing, creating it if there is none, and recovers it after a crash.
    ///
    /// # Errors
    /// [`OpenError::Locked`] while another process has it open. [`OpenError::Damaged`] when bytes
    /// that were durable are gone or wrong: nothing is cut then. Sealed segments are read to
    /// their last byte while they are small, see [`Options::check_bytes_max`]; of larger logs
    /// [`Appender::check`] finds what is wrong with them.
    #[allow(
        clippy::needless_pass_by_value,
        reason = "callers hand both over to the log"
    )]
    pub fn open(storage: Arc<dyn Storage>, options: Options) -> Result<Self, OpenError> {
        let started = Instant::now();
        options.check()?;
        storage.create_dirs().map_err(failed("create", ""))?;
        let pid = std::process::id().to_string();
        let lock = match storage
            .lock(LOCK_NAME, &pid)
            .map_err(failed("lock", LOCK_NAME))?
        {
            LockOutcome::Acquired(lock) => lock,
            LockOutcome::Held { holder } => {
                return Err(OpenError::Locked {
                    pid: holder.trim().parse().ok(),
                });
            }
        };
        let mode = Mode::Write { keep_end: None };
        let mut loaded = load(&*storage, &options, mode)?;
        let is_small = sealed_bytes(&loaded) <= options.check_bytes_max;
        if is_small {
            check_all(&storage, &options)?;
        }
        let (shared, mut report) = share(&storage, &options, Place::Disk, &mut loaded)?;
        report.checked = is_small;
        let appender =
            start(&shared, &options, loaded, lock).map_err(failed("start the writer of", ""))?;
        report.took = started.elapsed();
        Ok(Self {
            appender,
            reader: Reader::new(shared),
            report,
        })
    }

    /// Opens a log for reading up to the first damage that opening meets. Nothing is written, and
    /// nothing is mended: this is for serving what is whole while someone decides what to do.
    ///
    /// # Errors
    /// [`OpenError::Damaged`] when not even the first record is whole.
    #[allow(
        clippy::needless_pass_by_value,
        reason = "callers hand both over to the log"
    )]
    pub fn open_whole_part(
        storage: Arc<dyn Storage>,
        options: Options,
    ) -> Result<WholePart, OpenError> {
        let started = Instant::now();
        options.check()?;
        let (mut last, mut met) = (None, None);
        let (loaded, shared, mut report) = loop {
            let mut loaded = load(&*storage, &options, Mode::WholePart { last })?;
            match share(&storage, &options, Place::Memory, &mut loaded) {
                Ok((shared, report)) => break (loaded, shared, report),
                // An index that has to be made anew meets damage that headers and seals do not
                // show: what stands before it is still whole.
                Err(OpenError::Damaged {
                    file,
                    offset,
                    position,
                    kind,
                }) if segment_first(&file) != last => {
                    last = segment_first(&file);
                    met = Some(OpenError::Damaged {
                        file,
                        offset,
                        position,
                        kind,
                    });
                }
                Err(error) => return Err(error),
            }
        };
        let damage = met.or(loaded.damage);
        shared.refuse_batches(AppenderStatus::ReadOnly {
            damage: damage.as_ref().map(ToString::to_string),
        });
        report.took = started.elapsed();
        let log = Self {
            appender: Appender::refusing(Arc::clone(&shared), &options),
            reader: Reader::new(shared),
            report,
        };
        Ok(WholePart { log, damage })
    }

    /// Opens a log for reading, also while another process writes to it. Nothing is written.
    /// What was written later is seen after [`Reader::refresh`]. A group that the other process has
    /// written and not yet synced may be among it: a crash can take back what nobody was told of.
    #[allow(
        clippy::needless_pass_by_value,
        reason = "callers hand both over to the log"
    )]
    pub fn open_read_only(
        storage: Arc<dyn Storage>,
        options: Options,
    ) -> Result<(Reader, OpenReport), OpenError> {
        let started = Instant::now();
        options.check()?;
        let mut loaded = load(&*storage, &options, Mode::Read)?;
        let (shared, mut report) = share(&storage, &options, Place::Memory, &mut loaded)?;
        let follower = Follower {
            chain: loaded.chain,
            tip: loaded.tip,
        };
        *shared
            .follower
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner) = Some(follower);
        report.took = started.elapsed();
        Ok((Reader::new(shared), report))
    }
}

/// Bytes of the segments that opening takes at their seals' word.
fn sealed_bytes(loaded: &Loaded) -> u64 {
    let last = loaded.segments.last().map(|last| last.name.as_str());
    let segments = loaded
        .listing
        .iter()
        .filter(|file| segment_first(&file.name).is_some() && Some(file.name.as_str()) != last);
    segments.map(|file| file.bytes).sum()
}

/// A log of which only what stands before the first damage is shown.
pub struct WholePart {
    /// The log, whose appender refuses every batch.
    pub log: Log,
    /// What it ends before; none when all of it is whole as far as opening tells. Records in
    /// older segments are held against their digests when they are read.
    pub damage: Option<OpenError>,
}

impl std::fmt::Debug for WholePart {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("WholePart")
            .field("damage", &self.damage)
            .finish_non_exhaustive()
    }
}

fn share(
    storage: &Arc<dyn Storage>,
    options: &Options,
    place: Place,
    loaded: &mut Loaded,
) -> Result<(Arc<Shared>, OpenReport), OpenError> {
    let shared = Shared::new(storage, options, place, loaded);
    let active = std::mem::replace(&mut loaded.active, Active::new(0));
    let sealed = std::mem::take(&mut loaded.sealed);
    let rebuilt = shared
        .index
        .load(sealed, active)
        .map_err(OpenError::of_index)?;
    let report = OpenReport::of(loaded, rebuilt);
    Ok((Arc::new(shared), report))
}

fn start(
    shared: &Arc<Shared>,
    options: &Options,
    loaded: Loaded,
    lock: Box<dyn Send + Sync>,
) -> std::io::Result<Appender> {
    let (queue, taker) = Queue::new(options.queue_max);
    let queue = Arc::new(queue);
    let writer = Writer::new(
        Arc::clone(shared),
        (Arc::clone(&queue), taker),
        options.clone(),
        loaded,
        lock,
    )?;
    let thread = std::thread::Builder::new()
        .name("log-writer".to_owned())
        .spawn(move || writer.run())?;
    Ok(Appender::new(Arc::clone(shared), queue, options, thread))
}
