//! Tickets: what opens a stream for a minute, where a browser can send no header.
//!
//! They are in memory and end with the server. Invariants: a ticket is its token's for one minute,
//! and opens nothing once that is taken back; no tenant takes all that there may be.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use stemma_access::Token;
use stemma_domain::value::TenantName;

/// How long a ticket opens a stream.
pub(crate) const TICKET_LIFE: Duration = Duration::from_mins(1);
/// Most tickets that are remembered.
const TICKETS_MAX: usize = 100_000;
/// Most of them that are of one tenant.
const TENANT_TICKETS_MAX: usize = 50_000;

/// The tickets of the last minute.
#[derive(Debug, Default)]
pub(crate) struct Tickets {
    made: Mutex<Made>,
}

#[derive(Debug, Default)]
struct Made {
    by_digest: HashMap<blake3::Hash, (Arc<Token>, Instant)>,
    /// In the order in which they end.
    ending: VecDeque<(Instant, blake3::Hash)>,
    of_tenant: HashMap<Option<TenantName>, usize>,
}

impl Made {
    fn drop_those_over(&mut self, now: Instant) {
        while let Some((_, digest)) = self.ending.front().filter(|(ends, _)| *ends <= now) {
            if let Some((holder, _)) = self.by_digest.remove(digest)
                && let Some(count) = self.of_tenant.get_mut(&holder.tenant)
            {
                *count -= 1;
                if *count == 0 {
                    self.of_tenant.remove(&holder.tenant);
                }
            }
            self.ending.pop_front();
        }
    }
}

impl Tickets {
    /// Makes a ticket out of random bytes; none while there are as many as may be.
    pub(crate) fn make(&self, holder: &Arc<Token>, secret: &[u8; 32]) -> Option<String> {
        let text = URL_SAFE_NO_PAD.encode(secret);
        let now = Instant::now();
        let mut made = self.lock();
        made.drop_those_over(now);
        let of_tenant = made.of_tenant.get(&holder.tenant).copied();
        let of_tenant = of_tenant.unwrap_or_default();
        if made.by_digest.len() >= TICKETS_MAX || of_tenant >= TENANT_TICKETS_MAX {
            return None;
        }
        let (digest, ends) = (blake3::hash(text.as_bytes()), now + TICKET_LIFE);
        made.by_digest.insert(digest, (Arc::clone(holder), ends));
        made.ending.push_back((ends, digest));
        made.of_tenant.insert(holder.tenant.clone(), of_tenant + 1);
        Some(text)
    }

    /// Whose ticket it is, while it is one.
    pub(crate) fn holder(&self, text: &str) -> Option<Arc<Token>> {
        let made = self.lock();
        let (holder, ends) = made.by_digest.get(&blake3::hash(text.as_bytes()))?;
        (*ends > Instant::now()).then(|| Arc::clone(holder))
    }

    fn lock(&self) -> MutexGuard<'_, Made> {
        // Nothing panics between two changes that belong together.
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
