//! The door of each route: whether who asks may, and which tenant it is about.

use std::convert::Infallible;

use actix_web::body::{BodyStream, BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::http::header::CONTENT_TYPE;
use actix_web::middleware::Next;
use actix_web::{HttpMessage, HttpRequest, ResponseError, web};
use stemma_domain::access::{Need, Role};

use super::caller::{Caller, Entry};
use super::streams::{self, Open};
use super::{cut, missing, need_of, sent};
use crate::context::Pattern;
use crate::error::{ApiError, Code};
use crate::state::AppState;
use crate::tenants::Served;

/// Lets a request through to the route of this pattern, if whoever sent it may.
pub(crate) async fn admitted(
    pattern: &'static str,
    mut request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let Some(state) = request.app_data::<web::Data<AppState>>().cloned() else {
        return Ok(request.error_response(ApiError::of(Code::Internal)));
    };
    request.extensions_mut().insert(Pattern(pattern));
    let need = need_of(request.method().as_str(), pattern);
    let entry = entry_of(request.request());
    let admitted = match admit(&entry, need) {
        // What is open to all is asked of no tenant but the first.
        Ok(caller) => {
            let tenant = caller.tenant().filter(|_| need != Need::Nothing);
            let served = Served::of(&state, tenant, caller.sight()).await;
            served.map(|served| (served, caller))
        }
        Err(refused) => Err(refused),
    };
    let (served, caller) = match admitted {
        Ok(admitted) => admitted,
        // As an answer, not as an error: those who stand around it have yet to add to it.
        Err(refused) => return Ok(request.error_response(refused)),
    };
    request.extensions_mut().insert(served.clone());
    let registry = state.access().registry();
    if need != Need::Nothing {
        sent::while_admitted(&mut request, caller.clone(), registry);
    }
    let is_read = request.method().is_safe();
    let is_of_head = request.method() == Method::HEAD;
    let opened = match open_stream(pattern, &request, &caller, &state) {
        Ok(opened) => opened,
        Err(refused) => return Ok(request.error_response(refused)),
    };
    let mut answer = next.call(request).await?.map_into_boxed_body();
    // It may have waited for something; what was written is written.
    if need != Need::Nothing && is_read && !caller.is_still_admitted(registry) {
        let (request, _) = answer.into_parts();
        let refused = super::invalid().error_response();
        return Ok(ServiceResponse::new(request, refused));
    }
    if is_of_head && is_stream(&answer) {
        // Nothing of it is sent, and so nobody would ever stop reading what has no end.
        return Ok(answer.map_body(|_, _| nothing()));
    }
    if need != Need::Nothing && is_stream(&answer) {
        answer = answer.map_body(|_, body| cut::until_ended(body, caller, registry, opened));
    }
    Ok(answer.map_body(|_, body| served.until_sent(body)))
}

/// Counts the stream that a route opens, until it ends; none where it opens none.
fn open_stream(
    pattern: &str,
    request: &ServiceRequest,
    caller: &Caller,
    state: &AppState,
) -> Result<Option<Open>, ApiError> {
    if !pattern.ends_with("stream") {
        return Ok(None);
    }
    let opened = state.access().open_stream(request.request(), caller);
    opened.map(Some).map_err(|limit| {
        state.metrics().count_refused(limit);
        streams::too_many(limit)
    })
}

/// What is answered where there is no route: whoever is not let in is not told so.
pub(crate) fn unknown(request: &HttpRequest) -> ApiError {
    match admit(&entry_of(request), Need::Token) {
        Ok(_) => ApiError::of(Code::RouteNotFound),
        Err(refused) => refused,
    }
}

fn entry_of(request: &HttpRequest) -> Entry {
    let entry = request.extensions().get::<Entry>().cloned();
    entry.unwrap_or(Entry::Nobody)
}

fn admit(entry: &Entry, need: Need) -> Result<Caller, ApiError> {
    match entry {
        Entry::Known(caller) if caller.may(need) => Ok(caller.clone()),
        _ if need == Need::Nothing => Ok(Caller::Everybody),
        Entry::Known(caller) => {
            let role = caller.role().map_or("none", |role| role.name());
            let suffice = Role::ALL.into_iter().filter(|role| role.may(need));
            let suffice: Vec<&str> = suffice.map(Role::name).collect();
            let suffice = suffice.join(" or ");
            let detail = format!("the token's role is {role}, and it takes {suffice}");
            Err(ApiError::new(Code::RoleMissing, detail))
        }
        Entry::Nobody => Err(missing()),
        Entry::Refused(refused) => Err(refused.clone()),
    }
}

/// The body of a stream that ends before it has begun.
fn nothing() -> BoxBody {
    let chunks = futures_util::stream::empty::<Result<web::Bytes, Infallible>>();
    BoxBody::new(BodyStream::new(chunks))
}

fn is_stream(answer: &ServiceResponse<BoxBody>) -> bool {
    let media_type = answer.headers().get(CONTENT_TYPE);
    media_type.is_some_and(|media_type| media_type == "text/event-stream")
}
