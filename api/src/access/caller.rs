//! Whoever sent a request, and what they showed of themselves.

use std::sync::Arc;

use actix_web::HttpRequest;
use actix_web::http::header::{AUTHORIZATION, COOKIE};
use stemma_access::{Issuer, Registry, Token};
use stemma_domain::access::{Need, Role, Sight};
use stemma_domain::value::TenantName;

use super::needs::takes_tickets;
use crate::error::ApiError;

/// The cookie that holds a browser's token.
pub(crate) const SESSION_COOKIE: &str = "stemma_session";
/// Who acts where nobody has said who they are.
const ANONYMOUS: &str = "anonymous";

/// Who asks, before it is known what for.
#[derive(Debug, Clone)]
pub(crate) enum Entry {
    /// Somebody, or everybody.
    Known(Caller),
    /// Somebody who shows nothing where everybody is asked for a token.
    Nobody,
    /// Somebody who shows what does not hold, or comes from where nobody should.
    Refused(ApiError),
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Caller {
    /// Anybody: the server has no tokens, or the route needs none.
    Everybody,
    /// The holder of a token.
    Holder(Arc<Token>),
}

impl Caller {
    /// The name that events are written under.
    pub(crate) fn actor(&self) -> &str {
        match self {
            Self::Everybody => ANONYMOUS,
            Self::Holder(token) => token.principal.as_str(),
        }
    }

    /// The role of their token.
    pub(crate) fn role(&self) -> Option<Role> {
        match self {
            Self::Everybody => None,
            Self::Holder(token) => Some(token.role),
        }
    }

    /// What they see of the tenant that they are let into.
    pub(crate) fn sight(&self) -> Sight {
        match self {
            Self::Everybody => Sight::Everything,
            Self::Holder(token) => token.role.sight(&token.principal),
        }
    }

    /// What they are let in by, for changes of tokens.
    pub(crate) fn issuer(&self) -> Issuer {
        match self {
            Self::Everybody => Issuer::NobodyYet,
            Self::Holder(token) => match token.expires_at.filter(|_| token.is_vouched()) {
                Some(end) => Issuer::Until(end),
                None => Issuer::Token(token.id),
            },
        }
    }

    /// Whether they may do what needs this.
    pub(crate) fn may(&self, need: Need) -> bool {
        match self {
            Self::Everybody => true,
            Self::Holder(token) => token.role.may(need),
        }
    }

    /// The tenant that they are let into; none for that which the server was started for.
    pub(crate) fn tenant(&self) -> Option<&TenantName> {
        match self {
            Self::Everybody => None,
            Self::Holder(token) => token.tenant.as_ref(),
        }
    }

    /// The one tenant that they may give tokens for; none for all of them.
    pub(crate) fn only_tenant(&self) -> Option<&TenantName> {
        match self {
            Self::Holder(token) if token.role != Role::Operator => token.tenant.as_ref(),
            _ => None,
        }
    }

    /// Whether they would be let in now as they were.
    pub(crate) fn is_still_admitted(&self, registry: &Registry) -> bool {
        match self {
            Self::Everybody => registry.is_unused(),
            Self::Holder(token) => registry.still_holds(token),
        }
    }
}

/// What a request shows of who sent it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Shown {
    /// An `Authorization` that is no bearer's.
    Malformed,
    Bearer(String),
    Cookie(String),
    Ticket(String),
}

impl Shown {
    /// What is read of a request, in the order in which it counts. Where there is a header, nothing
    /// else does.
    pub(super) fn by(request: &HttpRequest) -> Vec<Self> {
        if let Some(value) = request.headers().get(AUTHORIZATION) {
            let text = value.to_str().unwrap_or_default();
            let is_bearer = |(scheme, _): &(&str, &str)| scheme.eq_ignore_ascii_case("bearer");
            return vec![match text.split_once(' ').filter(is_bearer) {
                Some((_, token)) => Self::Bearer(token.trim().to_owned()),
                None => Self::Malformed,
            }];
        }
        let cookies = request.headers().get_all(COOKIE);
        let cookies = cookies.filter_map(|value| value.to_str().ok());
        let mut pairs = cookies.flat_map(|text| text.split(';'));
        let session = pairs.find_map(|pair| {
            let (name, value) = pair.trim().split_once('=')?;
            (name == SESSION_COOKIE && !value.is_empty()).then(|| value.to_owned())
        });
        let mut shown: Vec<Self> = session.map(Self::Cookie).into_iter().collect();
        let mut pairs = request.query_string().split('&');
        // Which route it is takes longer to find out than whether there is a ticket.
        if let Some(ticket) = pairs.find_map(|pair| pair.strip_prefix("ticket="))
            && takes_tickets(
                request.method().as_str(),
                request.match_pattern().as_deref(),
            )
        {
            shown.push(Self::Ticket(ticket.to_owned()));
        }
        shown
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn a_header_counts_before_a_cookie_and_what_is_no_bearers_is_not_passed_over() {
        let shown = |headers: &[(&'static str, &'static str)]| {
            let request = headers
                .iter()
                .fold(TestRequest::default(), |request, header| {
                    request.insert_header(*header)
                });
            Shown::by(&request.to_http_request())
        };
        let cookie = ("cookie", "a=b; stemma_session=c");
        assert_eq!(shown(&[cookie]), [Shown::Cookie("c".to_owned())]);
        let both = [("authorization", "bearer t"), cookie];
        assert_eq!(shown(&both), [Shown::Bearer("t".to_owned())]);
        assert_eq!(
            shown(&[("authorization", "Basic YTpi"), cookie]),
            [Shown::Malformed]
        );
        assert_eq!(shown(&[("cookie", "xstemma_session=c")]), []);
    }
}
