//! Who asks, and whether they may.
//!
//! In two steps: around everything it is found out who asks ([`Access::entry`]); around each route,
//! once the router has found it, whether they may ([`admitted`]). Invariant: the step around a
//! route knows its pattern from the router and not from the path, so there is no way of writing a
//! path that leads past it.

mod caller;
mod cut;
mod guard;
mod needs;
mod origin;
mod sent;
mod tickets;

pub(crate) use caller::{Caller, Entry, SESSION_COOKIE};
pub(crate) use cut::ended;
pub(crate) use guard::{admitted, unknown};
pub(crate) use needs::{need_of, takes_tickets};
pub(crate) use sent::is_denied;
pub(crate) use tickets::TICKET_LIFE;

use actix_web::HttpRequest;
use stemma_access::Registry;
use stemma_domain::value::TenantName;

use crate::error::{ApiError, Code};
use caller::Shown;
use tickets::Tickets;

/// The tokens of the server, and what was made of them for a while.
#[derive(Debug)]
pub(crate) struct Access {
    registry: Registry,
    tenant: TenantName,
    tickets: Tickets,
}

impl Access {
    /// Access by the tokens of a registry, to `tenant` where a token names none.
    pub(crate) fn new(registry: Registry, tenant: TenantName) -> Self {
        Self {
            registry,
            tenant,
            tickets: Tickets::default(),
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

    /// Who asks, as far as it can be told.
    pub(crate) fn entry(&self, request: &HttpRequest, public_url: Option<&str>) -> Entry {
        let shown = Shown::by(request);
        let is_by_header = matches!(shown.first(), Some(Shown::Bearer(_)));
        if !is_by_header && let Err(refused) = origin::check(request, public_url) {
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
        let token = shown.iter().find_map(|shown| match shown {
            Shown::Malformed => None,
            Shown::Bearer(text) | Shown::Cookie(text) => self.registry.authenticate(text),
            Shown::Ticket(text) => {
                let id = self.tickets.holder(text);
                let id = id.filter(|id| self.registry.holds(*id))?;
                self.registry.token(id)
            }
        });
        match token {
            Some(token) => Entry::Known(Caller::Holder(token)),
            None => Entry::Refused(invalid()),
        }
    }
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
