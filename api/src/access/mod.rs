//! Who asks, and whether they may.
//!
//! Invariant: the middleware asks here before any handler runs; a route that is not known here is
//! open to nobody.

mod caller;
mod cut;
mod needs;
mod origin;
mod tickets;

pub(crate) use caller::{Caller, SESSION_COOKIE};
pub(crate) use cut::{ended, until_ended};
pub(crate) use needs::{need_of, takes_tickets};
pub(crate) use tickets::TICKET_LIFE;

use actix_web::HttpRequest;
use stemma_access::Registry;
use stemma_domain::access::Need;
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
    /// Access to one tenant by the tokens of a registry.
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

    /// The tenant that is served.
    pub(crate) fn tenant(&self) -> &TenantName {
        &self.tenant
    }

    /// What opens a stream where no header can be sent.
    pub(crate) fn tickets(&self) -> &Tickets {
        &self.tickets
    }

    /// Who asks, once it is clear that they may; `bases` are the URLs that we go by.
    pub(crate) fn admit(
        &self,
        request: &HttpRequest,
        need: Need,
        bases: &[String],
        public_url: Option<&str>,
    ) -> Result<Caller, ApiError> {
        let shown = Shown::by(request);
        if !matches!(shown, Shown::Bearer(_)) {
            origin::check(request, bases)?;
        }
        if self.registry.is_unused() {
            if need != Need::Nothing {
                origin::check_host(request, public_url)?;
            }
            return Ok(Caller::Everybody);
        }
        let token = match shown {
            Shown::Nothing => None,
            Shown::Malformed => return Err(invalid()),
            Shown::Bearer(text) | Shown::Cookie(text) => {
                let token = self.registry.authenticate(&text);
                Some(token.ok_or_else(invalid)?)
            }
            Shown::Ticket(text) => {
                let id = self
                    .tickets
                    .holder(&text)
                    .filter(|id| self.registry.holds(*id));
                let token = id.and_then(|id| self.registry.token(id));
                Some(token.ok_or_else(invalid)?)
            }
        };
        let Some(token) = token else {
            return match need {
                Need::Nothing => Ok(Caller::Everybody),
                _ => Err(challenged(Code::TokenMissing, "")),
            };
        };
        if !token.role.may(need) {
            let detail = format!("the token's role is {}", token.role);
            return Err(ApiError::new(Code::RoleMissing, detail));
        }
        Ok(Caller::Holder(token))
    }
}

/// What one is told whose token does not hold, or no longer does.
pub(crate) fn invalid() -> ApiError {
    challenged(Code::TokenInvalid, ", error=\"invalid_token\"")
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
