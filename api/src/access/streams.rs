//! Open streams, counted by who opened them.
//!
//! Invariant: as long as a stream is open it stands for one of its opener and one of its tenant, so
//! what is remembered is bounded by the streams that the server takes at all.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use stemma_access::TokenId;
use stemma_domain::value::TenantName;

use super::limits::Limit;
use crate::error::{ApiError, Code};
use crate::options::SseOptions;

/// Who opened a stream.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Opener {
    /// The holder of a token.
    Token(TokenId),
    /// Somebody without one, at an address.
    Address(IpAddr),
    /// All tokens of a tenant together.
    Tenant(TenantName),
}

/// How many streams each has open.
#[derive(Debug)]
pub(crate) struct Streams {
    /// Most of one token, or address; 0 for no limit.
    own_max: usize,
    /// Most of one tenant; 0 for half of all where there are several.
    tenant_max: usize,
    /// Most of all.
    all_max: usize,
    open: Mutex<HashMap<Opener, usize>>,
}

/// A stream that is open; counted until it is dropped.
#[derive(Debug)]
pub(crate) struct Open {
    streams: Arc<Streams>,
    openers: [Opener; 2],
}

impl Streams {
    pub(crate) fn new(options: &SseOptions) -> Self {
        Self {
            own_max: options.token_streams_max,
            tenant_max: options.tenant_streams_max,
            all_max: options.streams_max,
            open: Mutex::default(),
        }
    }

    /// Counts a stream, if there is room for it. `has_others` says whether other tenants may want
    /// streams too.
    pub(crate) fn open(
        self: &Arc<Self>,
        own: Opener,
        tenant: TenantName,
        has_others: bool,
    ) -> Result<Open, Limit> {
        let tenant_max = match self.tenant_max {
            0 if has_others => (self.all_max / 2).max(1),
            0 => usize::MAX,
            tenant_max => tenant_max,
        };
        let own_max = if self.own_max == 0 {
            usize::MAX
        } else {
            self.own_max
        };
        let tenant = Opener::Tenant(tenant);
        let mut open = self.lock();
        let count = |opener: &Opener| open.get(opener).copied().unwrap_or_default();
        if count(&own) >= own_max {
            return Err(Limit::Streams);
        }
        if count(&tenant) >= tenant_max {
            return Err(Limit::TenantStreams);
        }
        let openers = [own, tenant];
        for opener in &openers {
            *open.entry(opener.clone()).or_default() += 1;
        }
        Ok(Open {
            streams: Arc::clone(self),
            openers,
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Opener, usize>> {
        // Counts are raised and lowered whole.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut open = self.streams.lock();
        for opener in &self.openers {
            let Some(count) = open.get_mut(opener) else {
                continue;
            };
            *count -= 1;
            if *count == 0 {
                open.remove(opener);
            }
        }
    }
}

/// What somebody is told who may open no more.
pub(crate) fn too_many(limit: Limit) -> ApiError {
    let detail = match limit {
        Limit::TenantStreams => {
            "as many streams of the tenant are open as may be (sse.tenant_streams_max)"
        }
        _ => "as many streams of the token are open as may be (sse.token_streams_max)",
    };
    ApiError::new(Code::StreamsExceeded, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn streams(own_max: usize, tenant_max: usize) -> Arc<Streams> {
        Arc::new(Streams::new(&SseOptions {
            streams_max: 4,
            token_streams_max: own_max,
            tenant_streams_max: tenant_max,
            ..SseOptions::default()
        }))
    }

    fn at(last: u8) -> Opener {
        Opener::Address(IpAddr::from([10, 0, 0, last]))
    }

    fn tenant(name: &str) -> TenantName {
        TenantName::new(name).unwrap()
    }

    #[test]
    fn a_stream_makes_room_when_it_ends_and_leaves_nothing_behind() {
        let streams = streams(1, 2);
        let first = streams.open(at(1), tenant("north"), false).unwrap();
        let refused = streams.open(at(1), tenant("north"), false);
        assert_eq!(refused.unwrap_err(), Limit::Streams);
        let second = streams.open(at(2), tenant("north"), false).unwrap();
        let refused = streams.open(at(3), tenant("north"), false);
        assert_eq!(refused.unwrap_err(), Limit::TenantStreams);
        drop(first);
        let third = streams.open(at(1), tenant("north"), false).unwrap();
        drop((second, third));
        assert!(streams.lock().is_empty());
    }

    #[test]
    fn one_of_several_tenants_has_half_of_all_and_an_only_one_has_all() {
        let streams = streams(0, 0);
        let open = |name: &str, others| streams.open(at(1), tenant(name), others);
        let half = [(), ()].map(|()| open("north", true).unwrap());
        assert_eq!(open("north", true).unwrap_err(), Limit::TenantStreams);
        let other = open("south", true).unwrap();
        let more = [(), ()].map(|()| open("north", false).unwrap());
        drop((half, other, more));
        assert!(streams.lock().is_empty());
    }
}
