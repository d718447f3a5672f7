//! The system's time and randomness: their only home.

use std::time::{SystemTime, UNIX_EPOCH};

use stemma_access::Sources;
use stemma_commands::{Clock, Ids};
use stemma_domain::time::Timestamp;
use uuid::Uuid;

/// The system's clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SystemClock;

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods)] // the one home of the system's time
    fn now(&self) -> Timestamp {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
    }
}

/// Nanoseconds since 1970, by the system's clock.
pub(crate) fn now_ns() -> u64 {
    let micros = u64::try_from(SystemClock.now().micros()).unwrap_or(0);
    micros.saturating_mul(1000)
}

/// UUIDs of version 7.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SystemIds;

impl Ids for SystemIds {
    fn new_id(&self) -> Uuid {
        Uuid::now_v7()
    }
}

/// What tokens are made of and end by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SystemSources;

impl SystemSources {
    /// What time it is.
    pub(crate) fn now() -> Timestamp {
        SystemClock.now()
    }
}

impl Sources for SystemSources {
    fn now(&self) -> Timestamp {
        SystemClock.now()
    }

    fn new_id(&self) -> Uuid {
        SystemIds.new_id()
    }

    fn secret(&self) -> Result<[u8; 32], String> {
        random_seed().map_err(|error| error.to_string())
    }
}

/// Random bytes for a key.
///
/// # Errors
/// When the system has none to give.
pub(crate) fn random_seed() -> Result<[u8; 32], getrandom::Error> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed)?;
    Ok(seed)
}
