//! The system's time and randomness: their only home.

use std::time::{SystemTime, UNIX_EPOCH};

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

/// UUIDs of version 7.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SystemIds;

impl Ids for SystemIds {
    fn new_id(&self) -> Uuid {
        Uuid::now_v7()
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
