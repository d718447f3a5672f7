//! One life of the product: the real log, content store and write path on the simulated disk.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use stemma_commands::{Clock, Commands, Dependencies, Ids, Options as CommandOptions};
use stemma_content_store::{
    ContentStore, OpenError as ContentOpenError, OpenReport as ContentReport,
    Options as ContentOptions,
};
use stemma_domain::time::Timestamp;
use stemma_event_log::{
    Appender, Log, LogId, OpenError as LogOpenError, OpenReport as LogReport,
    Options as LogOptions, ReadError, Reader,
};
use uuid::Uuid;

use crate::dice::Dice;
use crate::disk::Disk;
use crate::storages::{ContentStorage, LogStorage};

/// Time and identities that are the same in each run of a seed.
pub(crate) struct Ticks(AtomicU64);

impl Ticks {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(AtomicU64::new(1)))
    }
}

impl Clock for Ticks {
    fn now(&self) -> Timestamp {
        let tick = self.0.fetch_add(1, Ordering::Relaxed);
        Timestamp::from_micros(i64::try_from(tick).expect("a count of ticks is small"))
    }
}

impl Ids for Ticks {
    fn new_id(&self) -> Uuid {
        Uuid::from_u128(u128::from(self.0.fetch_add(1, Ordering::Relaxed)))
    }
}

/// Sizes so small that everything that happens now and then happens often.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) log: LogOptions,
    pub(crate) content: ContentOptions,
    pub(crate) commands: CommandOptions,
}

impl Settings {
    pub(crate) fn by(dice: &mut Dice) -> Self {
        const KIB: u64 = 1024;
        let segment_bytes_max = dice.pick(&[8 * KIB, 16 * KIB, 32 * KIB]);
        let log = LogOptions {
            log_id: Some(LogId::from_bytes([7; 16])),
            segment_bytes_first: 8 * KIB,
            segment_bytes_max,
            group_bytes_max: dice.pick(&[1024, 4096, 4 * 1024 * 1024]),
            tail_bytes_max: dice.pick(&[0, 4096, 1 << 20]),
            stream_heads_max: dice.pick(&[2, 1000]),
            files_open_max: dice.pick(&[2, 64]),
            check_bytes_max: dice.pick(&[0, 1 << 20]),
            merge_runs_min: 2,
            ..LogOptions::default()
        };
        let pack_blob_bytes_max = dice.pick(&[512, 2 * KIB, 4 * KIB]);
        let pack_file_bytes_first = 2 * pack_blob_bytes_max + 4 * KIB;
        let content = ContentOptions {
            pack_blob_bytes_max,
            pack_file_bytes_first,
            pack_file_bytes_max: dice.pick(&[pack_file_bytes_first, 32 * KIB]),
            group_bytes_max: dice.pick(&[4 * KIB, 1 << 20]),
            open_packs_max: dice.pick(&[1, 16]),
            rewrite_dead_percent: dice.pick(&[10, 50]),
            ingest_sync_bytes: 128 * KIB,
            ..ContentOptions::default()
        };
        let commands = CommandOptions {
            aggregate_cache_bytes: dice.pick(&[16 * KIB, 64 << 20]),
            ..CommandOptions::default()
        };
        Self {
            log,
            content,
            commands,
        }
    }
}

/// Why a process did not come up.
#[derive(Debug)]
pub(crate) enum StartError {
    /// The system refused, which it may while the weather is bad.
    Io(String),
    /// It says that what was durable is not there, which is never so.
    Wrong(String),
}

impl From<LogOpenError> for StartError {
    fn from(error: LogOpenError) -> Self {
        match error {
            LogOpenError::Io { .. } | LogOpenError::Index(ReadError::Io { .. }) => {
                Self::Io(format!("{error:?}"))
            }
            _ => Self::Wrong(format!("the log was not opened: {error:?}")),
        }
    }
}

impl From<ContentOpenError> for StartError {
    fn from(error: ContentOpenError) -> Self {
        match error {
            ContentOpenError::Io { .. } => Self::Io(format!("{error:?}")),
            _ => Self::Wrong(format!("the content store was not opened: {error:?}")),
        }
    }
}

/// What was found at the start.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) log: LogReport,
    pub(crate) content: ContentReport,
}

/// The product, running.
pub(crate) struct Process {
    pub(crate) commands: Commands,
    pub(crate) appender: Appender,
    pub(crate) reader: Reader,
    pub(crate) content: ContentStore,
}

impl Process {
    pub(crate) fn start(
        disk: &Disk,
        settings: &Settings,
        ticks: &Arc<Ticks>,
    ) -> Result<(Self, Found), StartError> {
        let storage = Arc::new(ContentStorage(disk.clone()));
        let (content, content_report) = ContentStore::open_on(storage, settings.content.clone())?;
        if !content_report.damage.is_empty() {
            let damage = &content_report.damage;
            return Err(StartError::Wrong(format!("damaged content: {damage:?}")));
        }
        let storage = Arc::new(LogStorage(disk.clone()));
        let log = Log::open(storage, settings.log.clone())?;
        let on = Dependencies {
            appender: log.appender.clone(),
            reader: log.reader.clone(),
            content: content.clone(),
            clock: Arc::<Ticks>::clone(ticks),
            ids: Arc::<Ticks>::clone(ticks),
        };
        let found = Found {
            log: log.report,
            content: content_report,
        };
        let process = Self {
            commands: Commands::new(on, settings.commands.clone()),
            appender: log.appender,
            reader: log.reader,
            content,
        };
        Ok((process, found))
    }

    /// Ends all its threads; tells whether the log was closed cleanly.
    pub(crate) fn stop(self) -> bool {
        let is_clean = self.appender.close().is_ok();
        self.content.close();
        is_clean
    }
}
