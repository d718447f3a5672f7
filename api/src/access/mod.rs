//! Who asks, and whether they may.
//!
//! In two steps: around everything it is found out who asks ([`Access::entry`]); around each route,
//! once the router has found it, whether they may ([`admitted`]). Invariant: the step around a
//! route knows its pattern from the router and not from the path, so there is no way of writing a
//! path that leads past it.

mod caller;
mod cors;
mod cut;
mod guard;
mod limits;
mod needs;
mod origin;
mod sent;
mod streams;
mod tickets;

pub(crate) use caller::{Caller, Entry, SESSION_COOKIE};
pub(crate) use cors::{Cors, Leave};
pub(crate) use cut::ended;
pub(crate) use guard::{admitted, unknown};
pub(crate) use limits::Limit;
pub(crate) use needs::{need_of, takes_tickets};
pub(crate) use sent::is_denied;
pub(crate) use tickets::TICKET_LIFE;

use std::sync::Arc;
use std::time::Instant;

use actix_web::HttpRequest;
use stemma_access::{Authority, Registry, Token, Verdict};
use stemma_domain::value::TenantName;

use crate::error::{ApiError, Code};
use crate::options::Options;
use caller::Shown;
use limits::{Limits, TooMany, address_of};
use streams::{Open, Opener, Streams};
use tickets::Tickets;

/// What tells callers from each other: named by `Vary` where one may keep an answer that another
/// may not see.
pub(crate) const BY_CALLER: &str = "authorization, cookie";

/// The tokens of the server, and what was made of them for a while.
#[derive(Debug)]
pub(crate) struct Access {
    registry: Registry,
    tenant: TenantName,
    tickets: Tickets,
    limits: Limits,
    streams: Arc<Streams>,
    cors: Option<Cors>,
}

impl Access {
    /// Access by the tokens of a registry, to `tenant` where a token names none.
    pub(crate) fn new(registry: Registry, tenant: TenantName, options: &Options) -> Self {
        Self {
            registry,
            tenant,
            tickets: Tickets::default(),
            limits: Limits::new(&options.limits),
            streams: Arc::new(Streams::new(&options.sse)),
            // The options were held against their rules.
            cors: Cors::read(&options.cors_origins).unwrap_or_default(),
        }
    }

    /// The tokens.
    pub(crate) fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The tenant that the server was started for.
    pub(crate) fn tenant(&self) -> &TenantName {
        &self.tenant
    }

    /// What opens a stream where no header can be sent.
    pub(crate) fn tickets(&self) -> &Tickets {
        &self.tickets
    }

    /// Pages of others that are let in.
    pub(crate) fn cors(&self) -> Option<&Cors> {
        self.cors.as_ref()
    }

    /// Counts a request, or says that too many came before it.
    pub(crate) fn take(
        &self,
        request: &HttpRequest,
        entry: &Entry,
        now: Instant,
    ) -> Result<(), (Limit, ApiError)> {
        let taken = self.limits.take(request, entry, now);
        taken.map_err(|refused| (refused.limit, refused.error()))
    }

    /// Counts a stream that is to be opened, or says why there are too many.
    fn open_stream(&self, request: &HttpRequest, caller: &Caller) -> Result<Open, Limit> {
        let own = match caller {
            Caller::Holder(token) => Opener::Token(token.id),
            Caller::Everybody => Opener::Address(address_of(request)),
        };
        let tenant = caller.tenant().unwrap_or(&self.tenant).clone();
        self.streams.open(own, tenant, self.registry.is_shared())
    }

    /// Who asks, as far as it can be told. Waits only where a token names a key of its issuer that
    /// is not known yet.
    pub(crate) async fn entry(
        &self,
        request: &HttpRequest,
        public_url: Option<&str>,
        now: Instant,
    ) -> Entry {
        let shown = Shown::by(request);
        let is_by_header = matches!(shown.first(), Some(Shown::Bearer(_)));
        if !is_by_header && let Err(refused) = origin::check(request, public_url, self.cors()) {
            return Entry::Refused(refused);
        }
        if self.registry.is_unused() {
            return match origin::check_host(request, public_url) {
                Ok(()) => Entry::Known(Caller::Everybody),
                Err(refused) => Entry::Refused(refused),
            };
        }
        if shown.is_empty() {
            return Entry::Nobody;
        }
        let mut refused = None;
        for shown in &shown {
            let found = match shown {
                Shown::Malformed => Ok(None),
                Shown::Bearer(text) | Shown::Cookie(text) => {
                    match self
                        .registry
                        .authority()
                        .filter(|_| Authority::may_be_one(text))
                    {
                        Some(authority) => vouched(authority, text, || {
                            self.limits.is_past_trying(address_of(request), now)
                        })
                        .await
                        .map(Some),
                        None => Ok(self.registry.authenticate(text)),
                    }
                }
                Shown::Ticket(text) => {
                    let holder = self.tickets.holder(text);
                    Ok(holder.filter(|token| self.registry.still_holds(token)))
                }
            };
            match found {
                Ok(Some(token)) => return Entry::Known(Caller::Holder(token)),
                Ok(None) => {}
                Err(why) => refused = Some(why),
            }
        }
        Entry::Refused(refused.unwrap_or_else(invalid))
    }
}

/// The token of an issuer outside, if it holds. `is_past_trying` says whether its signature is not
/// to be looked at any more.
async fn vouched(
    authority: &Authority,
    text: &str,
    is_past_trying: impl Fn() -> Option<TooMany>,
) -> Result<Arc<Token>, ApiError> {
    if let Some(known) = authority.known(text) {
        return Ok(known);
    }
    if let Some(too_many) = is_past_trying() {
        return Err(too_many.error());
    }
    let mut verdict = authority.verify(text);
    let is_key_missing = matches!(verdict, Verdict::KeyUnknown | Verdict::NoKeys);
    if is_key_missing && authority.refetched().await {
        verdict = authority.verify(text);
    }
    match verdict {
        Verdict::Holds(token) => Ok(token),
        Verdict::Refused(why) => Err(invalid_since(why)),
        // An issuer that is out of reach may have the key.
        Verdict::KeyUnknown if authority.problem().is_none() => {
            Err(invalid_since("its issuer has no such key"))
        }
        Verdict::KeyUnknown | Verdict::NoKeys => Err(ApiError::of(Code::IssuerUnavailable)),
    }
}

/// What one is told whose token of an issuer outside does not hold.
fn invalid_since(why: &str) -> ApiError {
    use actix_web::http::header::{HeaderValue, WWW_AUTHENTICATE};
    let challenge = "Bearer realm=\"stemma\", error=\"invalid_token\"";
    ApiError::new(
        Code::TokenInvalid,
        format!("the token does not hold: {why}"),
    )
    .with_header(WWW_AUTHENTICATE, HeaderValue::from_static(challenge))
}

/// What one is told whose token does not hold, or no longer does.
pub(crate) fn invalid() -> ApiError {
    challenged(Code::TokenInvalid, ", error=\"invalid_token\"")
}

/// What somebody is answered who showed no token.
fn missing() -> ApiError {
    challenged(Code::TokenMissing, "")
}

/// A refusal that says how to do better (RFC 6750).
fn challenged(code: Code, more: &str) -> ApiError {
    use actix_web::http::header::{HeaderValue, WWW_AUTHENTICATE};
    let error = ApiError::of(code);
    match HeaderValue::from_str(&format!("Bearer realm=\"stemma\"{more}")) {
        Ok(challenge) => error.with_header(WWW_AUTHENTICATE, challenge),
        Err(_) => error,
    }
}
