//! Tokens given out and taken back, and what a browser makes of one.

use actix_web::cookie::{Cookie, SameSite};
use actix_web::http::header::CACHE_CONTROL;
use actix_web::web::{Path, Payload};
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;
use stemma_access::{AccessError, NewToken, Token, TokenId};
use stemma_domain::access::{Need, Role};
use stemma_domain::time::Timestamp;
use stemma_domain::value::{PrincipalName, TenantName};
use utoipa::ToSchema;

use crate::access::{Caller, SESSION_COOKIE, TICKET_LIFE};
use crate::body::{self, blocking};
use crate::context::Context;
use crate::error::{ApiError, Code, FieldProblem};
use crate::json::{Fields, checked, text};
use crate::page::Page;
use crate::query::Query;
use crate::tenants::{Served, TenantError};

/// A token, without its secret.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TokenBody {
    /// Its id.
    pub(crate) id: String,
    /// The token itself: in the answer that gives it out, and never again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) token: Option<String>,
    /// Whose it is.
    pub(crate) principal: String,
    /// `reader`, `writer`, `worker`, `admin` or `operator`.
    pub(crate) role: String,
    /// The tenant that it is of; an operator's is of none.
    pub(crate) tenant: Option<String>,
    /// When it was given out.
    pub(crate) issued_at: String,
    /// Who gave it out.
    pub(crate) issued_by: String,
    /// From when on it holds no more; null for ever.
    pub(crate) expires_at: Option<String>,
    /// When it was taken back; null while it was not.
    pub(crate) revoked_at: Option<String>,
}

/// What opens a stream for a minute.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TicketBody {
    /// For `?ticket=`.
    pub(crate) ticket: String,
    /// From when on it opens nothing; streams that it opened go on.
    pub(crate) expires_at: String,
}

impl From<&Token> for TokenBody {
    fn from(token: &Token) -> Self {
        Self {
            id: token.id.to_string(),
            token: None,
            principal: token.principal.to_string(),
            role: token.role.to_string(),
            tenant: token.tenant.as_ref().map(ToString::to_string),
            issued_at: token.issued_at.to_string(),
            issued_by: token.issued_by.clone(),
            expires_at: token.expires_at.as_ref().map(ToString::to_string),
            revoked_at: token.revoked_at.as_ref().map(ToString::to_string),
        }
    }
}

impl From<AccessError> for ApiError {
    fn from(error: AccessError) -> Self {
        match &error {
            AccessError::NotFound => Self::of(Code::TokenNotFound),
            AccessError::IssuerGone => Self::of(Code::TokenInvalid),
            AccessError::Append(append) => Self::from(append),
            AccessError::Tenant => Self::wrong("/tenant", &error),
            AccessError::Expired => Self::wrong("/expires_at", &error),
            AccessError::Untold { .. } => Self::of(Code::OutcomeUnknown).because(&error),
            AccessError::Full { .. } | AccessError::TenantFull { .. } => {
                Self::new(Code::LimitExceeded, error.to_string())
            }
            AccessError::Open(open) if open.is_full() => {
                Self::of(Code::StorageFull).because(&error)
            }
            AccessError::Open(_) => Self::of(Code::StorageUnavailable).because(&error),
            _ => Self::of(Code::Internal).because(&error),
        }
    }
}

impl ApiError {
    fn wrong(pointer: &str, error: &AccessError) -> Self {
        let field = FieldProblem::at(pointer, "INVALID_FIELD", error.to_string());
        Self::fields(Code::InvalidFields, vec![field])
    }
}

fn role(text: &str) -> Result<Role, String> {
    let names = Role::ALL.map(Role::name).join(", ");
    text.parse()
        .map_err(|()| format!("expected one of {names}"))
}

/// `POST /api/admin/tokens`
pub(crate) async fn issue(
    request: HttpRequest,
    payload: Payload,
    context: Context,
    state: Served,
) -> Result<HttpResponse, ApiError> {
    Query::none(request.query_string())?;
    let bytes_max = state.options().json_bytes_max;
    let (value, _) = body::json(&request, payload, bytes_max, &state).await?;
    let mut fields = Fields::of(value, "")?;
    let principal = fields.required("principal", checked(PrincipalName::new));
    let role = fields.required("role", |value| role(&text(value)?));
    let tenant = fields.optional("tenant", checked(TenantName::new));
    let expires_at = fields.optional("expires_at", |value| {
        let parsed = text(value)?.parse::<Timestamp>();
        parsed.map_err(|error| error.to_string())
    });
    fields.finish()?;
    let (Some(principal), Some(role)) = (principal, role) else {
        return Err(ApiError::of(Code::Internal));
    };
    let own = context.caller.only_tenant();
    let is_foreign = tenant.is_some() && tenant.as_ref() != own;
    if own.is_some() && (is_foreign || !role.is_of_a_tenant()) {
        let detail = "an admin gives out tokens of the tenant alone";
        return Err(ApiError::new(Code::RoleMissing, detail));
    }
    // An admin's is the own one; where nobody has one, that which the server was started for.
    let usual = || own.unwrap_or_else(|| state.access().tenant()).clone();
    let new = NewToken {
        principal,
        role,
        tenant: tenant.or_else(|| role.is_of_a_tenant().then(usual)),
        expires_at,
    };
    let registry = state.access().registry().clone();
    let tenants = state.tenants().cloned();
    let foreign = new
        .tenant
        .clone()
        .filter(|name| *name != *state.access().tenant());
    let issued = blocking(move || {
        let issue = || registry.issue(new.clone(), context.by());
        let Some(name) = foreign else {
            return Ok(issue());
        };
        // A tenant that is deleted meanwhile, and made again, would be open to its holder.
        let mut issued = Err(AccessError::NotFound);
        let tenants = tenants.ok_or(TenantError::NotFound)?;
        tenants.while_there(&name, &mut || issued = issue())?;
        Ok::<_, TenantError>(issued)
    });
    let (token, secret) = issued.await???;
    let mut told = TokenBody::from(&*token);
    told.token = Some(secret.expose());
    Ok(unkept(HttpResponse::Created()).json(told))
}

/// An answer that nobody keeps a copy of.
fn unkept(mut response: actix_web::HttpResponseBuilder) -> actix_web::HttpResponseBuilder {
    response.insert_header((CACHE_CONTROL, "no-store"));
    response
}

/// `GET /api/admin/tokens`
pub(crate) async fn list(
    request: HttpRequest,
    context: Context,
    state: Served,
) -> Result<HttpResponse, ApiError> {
    let mut query = Query::parse(request.query_string())?;
    let limit = query.limit(state.options());
    let after: Option<TokenId> =
        query.read("cursor", "a cursor of this list", |text| text.parse().ok());
    query.finish()?;
    let own = context.caller.only_tenant();
    let tokens = state.access().registry().tokens();
    let visible = tokens
        .iter()
        .filter(|token| after.is_none_or(|after| token.id > after) && is_visible(token, own));
    let visible = visible.map(AsRef::as_ref);
    let page = Page::first_of(
        visible,
        limit,
        |token: &&Token| token.id.to_string(),
        TokenBody::from,
    );
    Ok(unkept(HttpResponse::Ok()).json(page))
}

fn is_visible(token: &Token, own: Option<&TenantName>) -> bool {
    own.is_none() || token.tenant.as_ref() == own
}

/// `DELETE /api/admin/tokens/{id}`
pub(crate) async fn revoke(
    request: HttpRequest,
    id: Path<String>,
    context: Context,
    state: Served,
) -> Result<HttpResponse, ApiError> {
    Query::none(request.query_string())?;
    let id = id.parse::<TokenId>();
    let id =
        id.map_err(|_| ApiError::new(Code::InvalidId, "expected the id of a token, a UUID"))?;
    let registry = state.access().registry().clone();
    let token = registry.token(id);
    let own = context.caller.only_tenant();
    if !token.is_some_and(|token| is_visible(&token, own)) {
        return Err(ApiError::of(Code::TokenNotFound));
    }
    let revoked = blocking(move || registry.revoke(id, context.by()));
    revoked.await??;
    Ok(HttpResponse::NoContent().finish())
}

/// `POST /api/session`: the token that came in the header, as a cookie.
pub(crate) async fn begin_session(
    request: HttpRequest,
    context: Context,
) -> Result<HttpResponse, ApiError> {
    Query::none(request.query_string())?;
    let header = request.headers().get("authorization");
    let header = header.and_then(|value| value.to_str().ok()?.split_once(' '));
    let (Some((_, token)), Caller::Holder(_)) = (header, &context.caller) else {
        let detail = "send the token as `Authorization: Bearer`";
        return Err(ApiError::new(Code::TokenMissing, detail));
    };
    let cookie = session_cookie(token.trim().to_owned(), &context);
    let mut response = unkept(HttpResponse::NoContent());
    Ok(response.cookie(cookie).finish())
}

/// `DELETE /api/session`: the browser forgets the cookie; the token holds.
pub(crate) async fn end_session(
    request: HttpRequest,
    context: Context,
) -> Result<HttpResponse, ApiError> {
    Query::none(request.query_string())?;
    let mut cookie = session_cookie(String::new(), &context);
    cookie.make_removal();
    let mut response = unkept(HttpResponse::NoContent());
    Ok(response.cookie(cookie).finish())
}

fn session_cookie(token: String, context: &Context) -> Cookie<'static> {
    Cookie::build(SESSION_COOKIE, token)
        .path("/")
        .http_only(true)
        .same_site(SameSite::Strict)
        .secure(context.base().starts_with("https://"))
        .finish()
}

/// `POST /api/tickets`
pub(crate) async fn ticket(
    request: HttpRequest,
    context: Context,
    state: Served,
) -> Result<HttpResponse, ApiError> {
    Query::none(request.query_string())?;
    let Caller::Holder(token) = &context.caller else {
        let detail = "while the server has no tokens, streams are open without a ticket";
        return Err(ApiError::new(Code::TokenMissing, detail));
    };
    if !token.role.may(Need::Read) {
        let detail = format!("the token's role is {}, which opens no stream", token.role);
        return Err(ApiError::new(Code::RoleMissing, detail));
    }
    let secret = state.access().registry().secret()?;
    let ticket = state.access().tickets().make(token, &secret);
    let ticket = ticket.ok_or_else(|| ApiError::of(Code::TooManyTickets))?;
    let life = i64::try_from(TICKET_LIFE.as_micros()).unwrap_or(i64::MAX);
    // By the clock that tokens end by, which no write holds still.
    let now = state.access().registry().now();
    let expires = Timestamp::from_micros(now.micros().saturating_add(life));
    let told = TicketBody {
        ticket,
        expires_at: expires.to_string(),
    };
    Ok(unkept(HttpResponse::Created()).json(told))
}
