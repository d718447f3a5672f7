//! How much one may ask for: requests a second, and tries to be let in.
//!
//! Each limit is a bucket of its own for each token, or each address: one number, the time at which
//! the bucket is full again (GCRA). Invariants: a limit that is not set costs nothing; what is
//! remembered is bounded by `limits.remembered_max`, and whoever was forgotten, who asked least
//! lately, begins with a full bucket.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use actix_web::HttpRequest;
use actix_web::http::header::{HeaderValue, RETRY_AFTER};
use quick_cache::sync::Cache;

use super::caller::{Caller, Entry};
use crate::error::{ApiError, Code};
use crate::options::LimitOptions;

const NANOS_PER_S: u64 = 1_000_000_000;
/// What balancers and supervisors ask, who must not be told that all is not well.
const PROBES: [&str; 2] = ["/api/health/live", "/api/health/ready"];

/// Which limit refused a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Limit {
    /// Requests of one token.
    Token,
    /// Requests of one address without a token.
    Address,
    /// Tokens that do not hold, from one address.
    Failures,
    /// Open streams of one token, or of one address without one.
    Streams,
    /// Open streams of one tenant.
    TenantStreams,
}

impl Limit {
    /// Its name in the metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Address => "address",
            Self::Failures => "failures",
            Self::Streams => "streams",
            Self::TenantStreams => "tenant_streams",
        }
    }
}

/// A request that is refused since too many came before it.
#[derive(Debug)]
pub(crate) struct TooMany {
    /// By which limit.
    pub(crate) limit: Limit,
    /// When one more is taken, in seconds.
    after_s: u64,
}

impl TooMany {
    /// What its sender is told.
    pub(crate) fn error(&self) -> ApiError {
        let detail = match self.limit {
            Limit::Token => "the token sent more requests than it may (limits.token_per_s)",
            Limit::Failures => {
                "more tokens that do not hold came from this address than may (limits.failures_per_s)"
            }
            _ => {
                "more requests without a token came from this address than may (limits.address_per_s)"
            }
        };
        ApiError::new(Code::TooManyRequests, detail)
            .with_header(RETRY_AFTER, HeaderValue::from(self.after_s))
    }
}

/// The limits that are set.
#[derive(Debug)]
pub(crate) struct Limits {
    token: Option<Rate>,
    address: Option<Rate>,
    failures: Option<Rate>,
}

impl Limits {
    pub(crate) fn new(options: &LimitOptions) -> Self {
        let rate = |per_s: u64| {
            (per_s > 0).then(|| Rate::new(per_s, options.burst_s, options.remembered_max))
        };
        Self {
            token: rate(options.token_per_s),
            address: rate(options.address_per_s),
            failures: rate(options.failures_per_s),
        }
    }

    /// Counts a request, if there is room for it.
    pub(crate) fn take(
        &self,
        request: &HttpRequest,
        entry: &Entry,
        now: Instant,
    ) -> Result<(), TooMany> {
        let (limit, rate) = match entry {
            Entry::Known(Caller::Holder(_)) => (Limit::Token, &self.token),
            Entry::Refused(refused) if is_failure(refused.code()) => {
                (Limit::Failures, &self.failures)
            }
            _ => (Limit::Address, &self.address),
        };
        let Some(rate) = rate else { return Ok(()) };
        if PROBES.contains(&request.path()) {
            return Ok(());
        }
        let who = match entry {
            Entry::Known(Caller::Holder(token)) => token.id.as_u128(),
            _ => key_of(address_of(request)),
        };
        let taken = rate.take(who, now);
        taken.map_err(|after_s| TooMany { limit, after_s })
    }

    /// Whether so many tokens of an address did not hold that no signature of one is looked at.
    pub(crate) fn is_past_trying(&self, address: IpAddr, now: Instant) -> Option<TooMany> {
        let after_s = self.failures.as_ref()?.missing(key_of(address), now)?;
        Some(TooMany {
            limit: Limit::Failures,
            after_s,
        })
    }
}

/// Whether what was shown did not hold, or was not even looked at since so much else did not.
fn is_failure(code: Code) -> bool {
    matches!(code, Code::TokenInvalid | Code::TooManyRequests)
}

/// Where a request comes from: the other end of the connection, which is a proxy's where there is
/// one. Of IPv6 it is the network of 64 bits, which one subscriber has whole.
pub(crate) fn address_of(request: &HttpRequest) -> IpAddr {
    let peer = request.peer_addr().map(|peer| peer.ip().to_canonical());
    match peer {
        Some(IpAddr::V6(address)) => IpAddr::V6((address.to_bits() >> 64 << 64).into()),
        Some(address) => address,
        None => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    }
}

fn key_of(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// A rate, and how much of it each has used.
#[derive(Debug)]
struct Rate {
    /// From one request to the next.
    interval_ns: u64,
    /// How far ahead of the rate one may be.
    ahead_ns: u64,
    /// What times are counted from.
    began: Instant,
    /// For each the time at which the bucket is full again. Those who were not asked for lately
    /// leave for others.
    full_at_ns: Cache<u128, Arc<AtomicU64>>,
}

impl Rate {
    fn new(per_s: u64, burst_s: u64, remembered_max: usize) -> Self {
        let interval_ns = (NANOS_PER_S / per_s).max(1);
        Self {
            interval_ns,
            ahead_ns: (burst_s * NANOS_PER_S).max(interval_ns),
            began: Instant::now(),
            full_at_ns: Cache::new(remembered_max),
        }
    }

    fn now_ns(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.began);
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX / 2)
    }

    /// Takes one out of a bucket, or says after how many seconds there is one.
    fn take(&self, who: u128, now: Instant) -> Result<(), u64> {
        let now_ns = self.now_ns(now);
        let bucket = match self.full_at_ns.get(&who) {
            Some(bucket) => bucket,
            None => self
                .full_at_ns
                .get_or_insert_with(&who, || Ok::<_, std::convert::Infallible>(Arc::default()))
                .unwrap_or_default(),
        };
        let one_more = |full_at_ns: u64| {
            let full_at_ns = full_at_ns.max(now_ns) + self.interval_ns;
            (full_at_ns - now_ns <= self.ahead_ns).then_some(full_at_ns)
        };
        let taken = bucket.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        taken
            .map(|_| ())
            .map_err(|full_at_ns| self.wait_s(full_at_ns, now_ns))
    }

    /// After how many seconds there is one in a bucket that is empty; none of one that is not.
    fn missing(&self, who: u128, now: Instant) -> Option<u64> {
        let now_ns = self.now_ns(now);
        let full_at_ns = self.full_at_ns.get(&who)?.load(Ordering::Relaxed);
        let is_empty = full_at_ns.max(now_ns) + self.interval_ns - now_ns > self.ahead_ns;
        is_empty.then(|| self.wait_s(full_at_ns, now_ns))
    }

    /// From now until there is one, in seconds, rounded up.
    fn wait_s(&self, full_at_ns: u64, now_ns: u64) -> u64 {
        let free_at_ns = (full_at_ns + self.interval_ns).saturating_sub(self.ahead_ns);
        free_at_ns
            .saturating_sub(now_ns)
            .div_ceil(NANOS_PER_S)
            .max(1)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_bucket_holds_its_burst_and_fills_at_its_rate() {
        let rate = Rate::new(10, 2, 100);
        let at = |ms: u64| rate.began + Duration::from_millis(ms);
        let taken = |who, ms| (0..100).filter(|_| rate.take(who, at(ms)).is_ok()).count();
        assert_eq!(taken(1, 0), 20);
        // Somebody else's bucket is another.
        assert_eq!(taken(2, 0), 20);
        assert_eq!(rate.take(1, at(0)), Err(1));
        assert_eq!(rate.missing(1, at(0)), Some(1));
        assert_eq!(rate.missing(3, at(0)), None);
        assert_eq!(taken(1, 1000), 10);
        assert_eq!(taken(1, 60_000), 20);
    }

    #[test]
    fn a_rate_below_its_burst_says_how_long_to_wait() {
        let rate = Rate::new(1, 10, 100);
        let now = rate.began;
        for _ in 0..10 {
            assert_eq!(rate.take(7, now), Ok(()));
        }
        assert_eq!(rate.take(7, now), Err(1));
        // Who is refused is not put further back.
        assert_eq!(rate.take(7, now), Err(1));
        assert_eq!(rate.take(7, now + Duration::from_secs(1)), Ok(()));
    }

    #[test]
    fn no_more_are_remembered_than_may_be() {
        let rate = Rate::new(1, 1, 64);
        for who in 0..10_000 {
            let _ = rate.take(who, rate.began);
        }
        assert!(rate.full_at_ns.len() <= 64, "{}", rate.full_at_ns.len());
    }

    #[test]
    fn a_network_of_ipv6_is_one_address() {
        let of = |peer: &str| {
            let request = actix_web::test::TestRequest::default();
            address_of(&request.peer_addr(peer.parse().unwrap()).to_http_request())
        };
        assert_eq!(of("[2001:db8::1]:1"), of("[2001:db8::ffff:0:0:2]:9"));
        assert_ne!(of("[2001:db8::1]:1"), of("[2001:db8:0:1::1]:1"));
        assert_eq!(of("[::ffff:10.0.0.1]:1"), of("10.0.0.1:2"));
    }
}
