//! A queue over a log in memory, for tests.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use stemma_commands::{Clock, Commands, Dependencies, Ids};
use stemma_content_store::{
    ContentStore, MemoryStorage as ContentMemory, Options as ContentOptions,
};
use stemma_domain::time::Timestamp;
use stemma_event_log::{Log, MemoryStorage, Options as LogOptions};
use stemma_jobs::Queue;
use uuid::Uuid;

struct Ticks(AtomicU64);

impl Clock for Ticks {
    fn now(&self) -> Timestamp {
        let tick = self.0.fetch_add(1, Ordering::Relaxed);
        Timestamp::from_micros(i64::try_from(tick).unwrap())
    }
}

impl Ids for Ticks {
    fn new_id(&self) -> Uuid {
        Uuid::from_u128(u128::from(self.0.fetch_add(1, Ordering::Relaxed)))
    }
}

/// One that knows of no job.
pub(crate) fn queue() -> Queue {
    let log = Log::open(Arc::new(MemoryStorage::default()), LogOptions::default()).unwrap();
    let content = Arc::new(ContentMemory::default());
    let (content, _) = ContentStore::open_on(content, ContentOptions::default()).unwrap();
    let ticks = Arc::new(Ticks(AtomicU64::new(1)));
    let on = Dependencies {
        appender: log.appender,
        reader: log.reader,
        content,
        clock: ticks.clone(),
        ids: ticks,
    };
    let commands = Commands::new(on, stemma_commands::Options::default());
    let queue = Queue::new(commands, stemma_jobs::Options::default());
    assert!(queue.load(0, Vec::new()));
    queue
}
