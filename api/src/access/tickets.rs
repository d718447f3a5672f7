//! Tickets: what opens a stream for a minute, where a browser can send no header.
//!
//! They are in memory and end with the server. Invariant: a ticket is its token's for one minute,
//! and opens nothing once that is taken back.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use stemma_access::TokenId;

/// How long a ticket opens a stream.
pub(crate) const TICKET_LIFE: Duration = Duration::from_mins(1);
/// Most tickets that are remembered.
const TICKETS_MAX: usize = 100_000;

/// The tickets of the last minute, by the digests of their texts.
#[derive(Debug, Default)]
pub(crate) struct Tickets {
    by_digest: Mutex<HashMap<blake3::Hash, (TokenId, Instant)>>,
}

impl Tickets {
    /// Makes a ticket out of random bytes; none while there are as many as may be.
    pub(crate) fn make(&self, holder: TokenId, secret: &[u8; 32]) -> Option<String> {
        let text = URL_SAFE_NO_PAD.encode(secret);
        let now = Instant::now();
        let mut tickets = self.lock();
        if tickets.len() >= TICKETS_MAX {
            tickets.retain(|_, (_, ends)| *ends > now);
        }
        if tickets.len() >= TICKETS_MAX {
            return None;
        }
        tickets.insert(blake3::hash(text.as_bytes()), (holder, now + TICKET_LIFE));
        Some(text)
    }

    /// Whose ticket it is, while it is one.
    pub(crate) fn holder(&self, text: &str) -> Option<TokenId> {
        let tickets = self.lock();
        let (holder, ends) = tickets.get(&blake3::hash(text.as_bytes()))?;
        (*ends > Instant::now()).then_some(*holder)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<blake3::Hash, (TokenId, Instant)>> {
        // Each change is one call.
        self.by_digest
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
