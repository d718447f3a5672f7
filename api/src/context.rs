//! What surrounds a request: its trace, who asks, by which URL; and what every answer carries.
//!
//! Invariant: every answer has an `X-Request-ID`, and every failure is a problem, also those that
//! no handler of ours saw.

use std::borrow::Cow;
use std::cell::RefCell;
use std::future::{Ready, ready};
use std::ops::Deref;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::http::header::{
    ALLOW, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, HeaderMap, HeaderName,
    HeaderValue, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use actix_web::middleware::Next;
use actix_web::{FromRequest, HttpMessage, HttpRequest, web};

use stemma_access::By;
use stemma_domain::access::{Need, Role, Sight};
use stemma_telemetry::{Span, SpanContext, SpanKind};

use crate::access::{Caller, Entry, Leave, need_of};
use crate::connection::Link;
use crate::error::{ApiError, Code};
use crate::metrics::known_method;
use crate::pace::{self, Pace};
use crate::requests::RequestSeen;
use crate::state::AppState;
use crate::tenants::Served;

/// The header that carries the trace id.
pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The header of W3C Trace Context that names a trace and a span in it.
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// What a browser does with an answer that says nothing of its own: nothing in it runs, loads, or
/// is shown inside a page of somebody else's.
const POLICY: HeaderValue = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");
/// The header that says whose pages may put an answer into theirs.
const CROSS_ORIGIN_RESOURCE_POLICY: HeaderName =
    HeaderName::from_static("cross-origin-resource-policy");

/// Longest trace id that is taken from a client, in bytes.
pub(crate) const TRACE_ID_BYTES_MAX: usize = 128;
/// Longest `Host` that is taken as one of our names, in bytes.
const HOST_BYTES_MAX: usize = 255;

/// What surrounds a request; an extractor. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    shared: Arc<Surroundings>,
}

/// What there is to know of a request beside what it asks for.
#[derive(Debug)]
pub(crate) struct Surroundings {
    /// The trace that the request and all it causes belong to.
    pub(crate) trace_id: String,
    /// Who asks.
    pub(crate) actor: String,
    /// The same, with what they may do.
    pub(crate) caller: Caller,
    /// The URLs that we go by, for IRIs that name our resources.
    pub(crate) bases: Arc<[String]>,
    /// The span that answering is.
    pub(crate) span: SpanContext,
}

/// The pattern of the route that a request was led to, left with it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pattern(pub(crate) &'static str);

impl Pattern {
    /// That of a request; `none` where there is no such route. What was answered ahead of its
    /// route, such as a 429, is matched for it, which takes a while and is seldom.
    fn of(request: &HttpRequest) -> Cow<'static, str> {
        let left = request.extensions().get::<Self>().copied();
        left.map(|pattern| Cow::Borrowed(pattern.0))
            .or_else(|| request.match_pattern().map(Cow::Owned))
            .unwrap_or(Cow::Borrowed("none"))
    }
}

/// A request that was answered, for the counters.
#[derive(Debug, Clone)]
pub(crate) struct Answered<'a> {
    /// Its method.
    pub(crate) method: &'a str,
    /// The pattern of its route, not its path.
    pub(crate) route: Cow<'static, str>,
    /// The status of the answer.
    pub(crate) status: u16,
    /// From the request's head to the answer's.
    pub(crate) took: Duration,
}

impl Deref for Context {
    type Target = Surroundings;

    fn deref(&self) -> &Surroundings {
        &self.shared
    }
}

impl Surroundings {
    /// What surrounds a request, and the span that answering it is.
    fn of(headers: &HeaderMap, state: &AppState) -> (Self, Span) {
        let trace_id =
            trace_id(headers).unwrap_or_else(|| state.commands().new_id().as_simple().to_string());
        let bases = bases(headers, state.options().public_url.as_deref());
        let parent = headers.get(TRACEPARENT);
        let parent = parent.and_then(|parent| parent.to_str().ok());
        let span = Span::of(&trace_id, "request", SpanKind::Server).below(parent);
        let context = Self {
            span: span.context(),
            trace_id,
            actor: Caller::Everybody.actor().to_owned(),
            caller: Caller::Everybody,
            bases,
        };
        (context, span)
    }

    /// Who changes tokens, in which trace.
    pub(crate) fn by(&self) -> By<'_> {
        By {
            issuer: self.caller.issuer(),
            actor: &self.actor,
            trace_id: &self.trace_id,
        }
    }

    /// What whoever asks sees.
    pub(crate) fn sight(&self) -> Sight {
        self.caller.sight()
    }

    /// The URL below which we are reached.
    pub(crate) fn base(&self) -> &str {
        self.bases.first().map_or("", String::as_str)
    }
}

/// Whether a text may be a trace id.
pub(crate) fn is_trace_id(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.:+/=@".contains(&b);
    (1..=TRACE_ID_BYTES_MAX).contains(&text.len()) && text.bytes().all(plain)
}

/// The client's own trace id: `X-Request-ID`, or the one in `traceparent` (W3C Trace Context).
fn trace_id(headers: &HeaderMap) -> Option<String> {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(id) = text(X_REQUEST_ID).filter(|id| is_trace_id(id)) {
        return Some(id.to_owned());
    }
    let mut parts = text(TRACEPARENT)?.split('-');
    let (version, id, parent) = (parts.next()?, parts.next()?, parts.next()?);
    let hex = |text: &str, len| {
        text.len() == len && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    let is_valid = hex(version, 2)
        && version != "ff"
        && hex(id, 32)
        && id.bytes().any(|b| b != b'0')
        && hex(parent, 16)
        && parts.next().is_some_and(|flags| hex(flags, 2));
    is_valid.then(|| id.to_owned())
}

fn bases(headers: &HeaderMap, public_url: Option<&str>) -> Arc<[String]> {
    if let Some(url) = public_url {
        return [url.trim_end_matches('/').to_owned()].into();
    }
    let Some(host) = headers.get(HOST) else {
        return Arc::default();
    };
    LATEST_BASES.with_borrow_mut(|latest| match latest {
        Some((of, bases)) if of == host => bases.clone(),
        _ => {
            let bases = bases_of_host(host);
            *latest = Some((host.clone(), bases.clone()));
            bases
        }
    })
}

thread_local! {
    /// The last `Host`, which most requests share, and the URLs that we go by there.
    static LATEST_BASES: RefCell<Option<(HeaderValue, Arc<[String]>)>> =
        const { RefCell::new(None) };
}

fn bases_of_host(host: &HeaderValue) -> Arc<[String]> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b".-:[]_".contains(&b);
    let is_name = |h: &&str| (1..=HOST_BYTES_MAX).contains(&h.len()) && h.bytes().all(plain);
    let host = host.to_str().ok().filter(is_name);
    host.map(|host| [format!("http://{host}"), format!("https://{host}")].into())
        .unwrap_or_default()
}

impl FromRequest for Context {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let context = request.extensions().get::<Self>().cloned();
        ready(context.ok_or_else(|| ApiError::of(Code::Internal)))
    }
}

/// The middleware around everything.
pub(crate) async fn surround(
    state: web::Data<AppState>,
    mut request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let started = Instant::now();
    pace::hold(&mut request, Pace::of(state.options()));
    let under_way = request.conn_data::<Link>().map(Link::begin);
    let (mut surroundings, span) = Surroundings::of(request.headers(), &state);
    let public_url = state.options().public_url.as_deref();
    let access = state.access();
    let entry = access.entry(request.request(), public_url, started).await;
    if let Entry::Known(caller) = &entry {
        caller.actor().clone_into(&mut surroundings.actor);
        surroundings.caller = caller.clone();
    }
    let context = Context {
        shared: Arc::new(surroundings),
    };
    let leave = access.cors().and_then(|cors| {
        let asks_nobody = access.registry().is_unused();
        cors.leave(request.request(), asks_nobody)
    });
    let preflight = leave
        .as_ref()
        .and_then(|_| Leave::preflight(request.request()));
    let taken = access.take(request.request(), &entry, started);
    request.extensions_mut().insert(context.clone());
    request.extensions_mut().insert(entry);
    let mut answer = if let Err((limit, refused)) = taken {
        state.metrics().count_refused(limit);
        request.error_response(refused)
    } else if let Some(preflight) = preflight {
        request.into_response(preflight)
    } else if is_coded(request.headers()) {
        let detail = "bodies are taken as they are; leave Content-Encoding out";
        request.error_response(ApiError::new(Code::UnsupportedMediaType, detail))
    } else {
        next.call(request).await?.map_into_boxed_body()
    };
    let mut code = None;
    if let Some(error) = failure(&answer) {
        code = Some(error.code().name());
        log_internal(&error, &context.trace_id);
        let (request, _) = answer.into_parts();
        answer = ServiceResponse::new(request, error.response(&context.trace_id));
    }
    let headers = answer.headers_mut();
    if let Ok(value) = HeaderValue::from_str(&context.trace_id) {
        headers.insert(X_REQUEST_ID, value);
    }
    guard(headers);
    if let Some(cors) = access.cors() {
        cors.vary(headers);
    }
    if let Some(leave) = leave {
        leave.tell(headers);
    }
    report(&answer, &context, &state, started.elapsed());
    end(span, &answer, &context, code);
    let served = answer.request().extensions().get::<Served>().cloned();
    if let Some(served) = served {
        remember(&served, &answer, &context, code, started.elapsed());
    }
    Ok(match under_way {
        Some(under_way) => answer.map_body(|_, body| under_way.until_sent(body)),
        None => answer,
    })
}

/// Logs what of a failure is not for the client: as an error where it is ours.
fn log_internal(error: &ApiError, trace_id: &str) {
    let Some(internal) = error.internal() else {
        return;
    };
    let code = error.code().name();
    if error.code().is_of_the_server() {
        tracing::error!(trace_id, code, "{internal}");
    } else {
        tracing::debug!(trace_id, code, "{internal}");
    }
}

/// Tells browsers what they may not do with an answer.
fn guard(headers: &mut HeaderMap) {
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    let own = HeaderValue::from_static("same-origin");
    headers.insert(CROSS_ORIGIN_RESOURCE_POLICY, own);
    if !headers.contains_key(CONTENT_SECURITY_POLICY) {
        headers.insert(CONTENT_SECURITY_POLICY, POLICY);
    }
}

/// Whether a body comes in another coding than as it is.
fn is_coded(headers: &HeaderMap) -> bool {
    let coding = headers.get(CONTENT_ENCODING);
    coding.is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity"))
}

/// The failure that an answer stands for, where it is one and is not rendered yet.
fn failure(answer: &ServiceResponse<BoxBody>) -> Option<ApiError> {
    let status = answer.status();
    if let Some(error) = answer.response().error() {
        if let Some(error) = error.as_error::<ApiError>() {
            return Some(error.clone());
        }
        let code = match status.as_u16() {
            413 => Code::BodyTooLarge,
            415 => Code::UnsupportedMediaType,
            400..=499 => Code::MalformedRequest,
            _ => Code::Internal,
        };
        return Some(ApiError::of(code));
    }
    let is_bare = !answer.headers().contains_key(CONTENT_TYPE);
    match status.as_u16() {
        404 if is_bare => Some(ApiError::of(Code::RouteNotFound)),
        405 if is_bare => {
            let error = ApiError::of(Code::MethodNotAllowed);
            let allow = answer.headers().get(ALLOW).cloned();
            Some(match allow {
                Some(allow) => error.with_header(ALLOW, allow),
                None => error,
            })
        }
        400 if is_bare => Some(ApiError::of(Code::MalformedRequest)),
        500..=599 if is_bare => Some(ApiError::of(Code::Internal)),
        _ => None,
    }
}

/// Whether a request is the affair of the tenant that it was served from. What is open to all is
/// served from the first, whoever asks; an operator looks after the server, and is of no tenant.
fn is_of_tenant(request: &HttpRequest, caller: &Caller) -> bool {
    let need = need_of(request.method().as_str(), &Pattern::of(request));
    let is_of_server = matches!(need, Need::Nothing | Need::Operate);
    !is_of_server && caller.role().is_none_or(Role::is_of_a_tenant)
}

/// Remembers a request that wrote, or failed, in its tenant: nobody else is to see it there.
fn remember(
    served: &Served,
    answer: &ServiceResponse<BoxBody>,
    context: &Context,
    code: Option<&'static str>,
    took: Duration,
) {
    let request = answer.request();
    let is_plain_read = request.method().is_safe() && code.is_none();
    if is_plain_read || !is_of_tenant(request, &context.caller) {
        return;
    }
    served.requests().keep(RequestSeen {
        at: served.commands().now(),
        trace_id: &context.trace_id,
        actor: &context.actor,
        method: request.method().as_str(),
        path: request.path(),
        status: answer.status().as_u16(),
        took_us: u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
        code,
    });
}

/// Ends the span of a request.
fn end(mut span: Span, answer: &ServiceResponse<BoxBody>, context: &Context, code: Option<&str>) {
    if !span.is_recorded() {
        return;
    }
    let request = answer.request();
    let route = Pattern::of(request);
    let status = answer.status();
    span.rename(format!(
        "{} {route}",
        known_method(request.method().as_str())
    ));
    span.note("http.request.method", request.method().as_str());
    span.note("http.route", &*route);
    span.note("http.response.status_code", status.as_u16());
    span.note("stemma.actor", context.actor.as_str());
    if let Some(code) = code {
        span.note("error.type", code);
        if status.is_server_error() {
            span.fail(code);
        }
    }
    span.end();
}

fn report(answer: &ServiceResponse<BoxBody>, context: &Context, state: &AppState, took: Duration) {
    let request = answer.request();
    let (route, status) = (Pattern::of(request), answer.status().as_u16());
    let method = request.method().as_str();
    state.metrics().count_answer(Answered {
        method,
        route,
        status,
        took,
    });
    let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    tracing::debug!(
        method,
        path = request.path(),
        status,
        took_us = micros,
        trace_id = context.trace_id,
        "answered"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pairs = pairs.iter().map(|(name, value)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        });
        pairs.collect()
    }

    #[test]
    fn a_trace_id_comes_from_either_header_and_never_from_a_bad_one() {
        let parent = (
            "traceparent",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        );
        let id = "4bf92f3577b34da6a3ce929d0e0e4736".to_owned();
        assert_eq!(trace_id(&headers(&[parent])), Some(id.clone()));
        let both = headers(&[parent, ("x-request-id", "mine-1")]);
        assert_eq!(trace_id(&both), Some("mine-1".to_owned()));
        let bad = headers(&[parent, ("x-request-id", "two words")]);
        assert_eq!(trace_id(&bad), Some(id));
        for bad in [
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf9-00f067aa0ba902b7-01",
            "",
        ] {
            assert_eq!(trace_id(&headers(&[("traceparent", bad)])), None, "{bad}");
        }
    }

    #[test]
    fn we_go_by_the_configured_url_else_by_the_requests_host() {
        let own = headers(&[("host", "127.0.0.1:7070")]);
        assert_eq!(
            *bases(&own, Some("https://stemma.example/")),
            ["https://stemma.example"]
        );
        for _ in 0..2 {
            assert_eq!(
                *bases(&own, None),
                ["http://127.0.0.1:7070", "https://127.0.0.1:7070"]
            );
        }
        assert!(bases(&headers(&[("host", "a b")]), None).is_empty());
    }
}
