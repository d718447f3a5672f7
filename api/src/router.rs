//! The whole surface in one place: every path, its methods, and who answers.
//!
//! Invariant: a path of ours asked with another method answers 405 and lists its methods.

use std::future::{Ready, ready};

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceFactory, ServiceRequest, ServiceResponse};
use actix_web::guard::{Any, Get, Head};
use actix_web::http::header::{ALLOW, CONTENT_LENGTH, HeaderValue, TRANSFER_ENCODING};
use actix_web::middleware::{Next, from_fn};
use actix_web::web::{self, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse, Resource, Route};

use crate::accept;
use crate::access::{admitted, unknown};
use crate::error::{ApiError, Code};
use crate::handlers::{
    access, admin, annotations, backup, batch, content, cypher, docs, documents, entity_types,
    events, grants, graph, health, jobs, model_jobs, proofs, resources, search, stream, tenants,
    traces, workers,
};

/// Puts every route into an application.
pub fn configure(config: &mut ServiceConfig) {
    data(config);
    of_graph(config);
    history(config);
    of_documents(config);
    of_workers(config);
    of_access(config);
    operation(config);
    config.default_service(web::to(unknown_route));
}

/// Resources, annotations, entity types, batches.
fn data(config: &mut ServiceConfig) {
    config
        .service(
            at("/api/resources", "GET, HEAD, POST")
                .route(json(read().to(resources::list)))
                .route(web::post().to(resources::create)),
        )
        // Paths are tried in this order: those that are asked most come first.
        .service(
            at("/api/resources/{id}/annotations", "GET, HEAD, POST")
                .route(read().to(annotations::list))
                .route(web::post().to(annotations::add)),
        )
        .service(
            at("/api/resources/{id}", "GET, HEAD, PATCH")
                .route(read().to(resources::get))
                .route(web::patch().to(resources::patch)),
        )
        .service(
            at("/api/resources/{id}/content", "GET, HEAD, PUT")
                .route(read().to(content::get))
                .route(web::put().to(content::put)),
        )
        .service(
            at("/api/resources/{id}/entity_types/{type}", "PUT, DELETE")
                .route(bodyless(web::put().to(resources::add_entity_type)))
                .route(bodyless(web::delete().to(resources::remove_entity_type))),
        )
        .service(at("/api/resources/{id}/access", "PUT").route(web::put().to(grants::change)))
        .service(at("/api/resources/{id}/clone", "POST").route(web::post().to(resources::clone)))
        .service(
            at("/api/resources/{id}/referenced_by", "GET, HEAD")
                .route(json(read().to(resources::referenced_by))),
        )
        .service(
            at("/api/resources/{id}/annotations/{aid}", "GET, HEAD, DELETE")
                .route(read().to(annotations::get))
                .route(bodyless(web::delete().to(annotations::remove))),
        )
        .service(
            at("/api/resources/{id}/annotations/{aid}/body", "PATCH")
                .route(web::patch().to(annotations::change_body)),
        )
        .service(
            at("/api/entity_types", "GET, HEAD, POST")
                .route(json(read().to(entity_types::list)))
                .route(web::post().to(entity_types::register)),
        )
        .service(at("/api/batch", "POST").route(web::post().to(batch::execute_batch)));
}

/// The graph.
fn of_graph(config: &mut ServiceConfig) {
    let get = |path: &'static str| at(path, "GET, HEAD");
    config
        .service(get("/api/graph/nodes/{node}/neighbors").route(json(read().to(graph::neighbors))))
        .service(get("/api/graph/path").route(json(read().to(graph::path))))
        .service(at("/api/graph/query", "POST").route(json(web::post().to(cypher::query))))
        .service(get("/api/graph/stats").route(json(read().to(graph::stats))));
}

/// Events, streams, proofs.
fn history(config: &mut ServiceConfig) {
    let get = |path: &'static str| at(path, "GET, HEAD");
    config
        .service(get("/api/events").route(read().to(events::list)))
        .service(get("/api/events/stream").route(read().to(stream::all)))
        .service(get("/api/events/{digest}").route(read().to(events::get)))
        .service(get("/api/resources/{id}/events").route(read().to(events::of_resource)))
        .service(get("/api/resources/{id}/events/stream").route(read().to(stream::of_resource)))
        .service(
            get("/api/resources/{id}/annotations/{aid}/history")
                .route(read().to(events::of_annotation)),
        )
        .service(get("/api/log/checkpoint").route(read().to(proofs::checkpoint)))
        .service(get("/api/log/key").route(read().to(proofs::key)))
        .service(get("/api/log/proof/inclusion").route(json(read().to(proofs::inclusion))))
        .service(get("/api/log/proof/consistency").route(json(read().to(proofs::consistency))))
        .service(get("/api/log/tile/{level}/{tile:.*}").route(read().to(proofs::tile)));
}

/// Documents, jobs of models, search.
fn of_documents(config: &mut ServiceConfig) {
    let get = |path: &'static str| at(path, "GET, HEAD");
    let post = |path: &'static str| at(path, "POST");
    config
        .service(post("/api/documents/upload").route(web::post().to(documents::upload)))
        .service(post("/api/documents/{id}/steps/{step}").route(web::post().to(documents::step)))
        .service(get("/api/documents/{id}").route(json(read().to(documents::get))))
        .service(get("/api/documents/{id}/text").route(read().to(documents::text)))
        .service(get("/api/documents/{id}/structure").route(json(read().to(documents::structure))))
        .service(get("/api/documents/{id}/chunks").route(json(read().to(documents::chunks))))
        .service(
            post("/api/resources/{id}/detect-annotations-stream")
                .route(bodyless(web::post().to(model_jobs::detect))),
        )
        .service(post("/api/generate-resource-stream").route(web::post().to(model_jobs::generate)))
        .service(get("/api/search").route(json(read().to(search::search))));
}

/// What workers outside ask.
fn of_workers(config: &mut ServiceConfig) {
    let call = |path: &'static str, route: Route| at(path, "POST").route(unconditional(route));
    config
        .service(call("/api/workers/claim", web::post().to(workers::claim)))
        .service(call(
            "/api/workers/jobs/{id}/heartbeat",
            web::post().to(workers::heartbeat),
        ))
        .service(call(
            "/api/workers/jobs/{id}/progress",
            web::post().to(workers::progress),
        ))
        .service(call(
            "/api/workers/jobs/{id}/complete",
            web::post().to(workers::complete),
        ))
        .service(call(
            "/api/workers/jobs/{id}/fail",
            web::post().to(workers::fail),
        ))
        .service(call(
            "/api/workers/jobs/{id}/release",
            web::post().to(workers::release),
        ))
        .service(call(
            "/api/workers/jobs/{id}/stages/{stage}",
            web::post().to(workers::stage),
        ));
}

/// Tokens, tenants, and what a browser makes of a token.
fn of_access(config: &mut ServiceConfig) {
    let post = |path: &'static str| at(path, "POST");
    config
        .service(
            at("/api/admin/tokens", "GET, HEAD, POST")
                .route(json(read().to(access::list)))
                .route(unconditional(web::post().to(access::issue))),
        )
        .service(
            at("/api/admin/tokens/{id}", "DELETE")
                .route(unconditional(bodyless(web::delete().to(access::revoke)))),
        )
        .service(
            at("/api/admin/tenants", "GET, HEAD, POST")
                .route(json(read().to(tenants::list)))
                .route(unconditional(web::post().to(tenants::create))),
        )
        .service(
            at("/api/admin/tenants/{name}", "DELETE")
                .route(unconditional(bodyless(web::delete().to(tenants::delete)))),
        )
        .service(
            at("/api/session", "POST, DELETE")
                .route(bare(web::post().to(access::begin_session)))
                .route(bare(web::delete().to(access::end_session))),
        )
        .service(
            post("/api/tickets").route(unconditional(bodyless(web::post().to(access::ticket)))),
        );
}

/// Jobs, administration, health, documents.
fn operation(config: &mut ServiceConfig) {
    let get = |path: &'static str| at(path, "GET, HEAD");
    let post = |path: &'static str| at(path, "POST");
    config
        .service(
            at("/api/jobs", "GET, HEAD, POST")
                .route(json(read().to(jobs::list)))
                .route(web::post().to(jobs::submit)),
        )
        .service(post("/api/jobs/{id}/retry").route(bodyless(web::post().to(jobs::retry))))
        .service(get("/api/jobs/{id}").route(json(read().to(jobs::get))))
        .service(get("/api/jobs/{id}/status").route(json(read().to(jobs::get))))
        .service(get("/api/jobs/{id}/events/stream").route(read().to(jobs::follow)))
        .service(post("/api/jobs/{id}/cancel").route(bodyless(web::post().to(jobs::cancel))))
        .service(post("/api/admin/rebuild/views").route(bare(web::post().to(admin::rebuild_views))))
        .service(post("/api/admin/rebuild/graph").route(bare(web::post().to(admin::rebuild_graph))))
        .service(
            post("/api/admin/rebuild/search").route(bare(web::post().to(admin::rebuild_search))),
        )
        .service(post("/api/admin/retry/search").route(bare(web::post().to(admin::retry_search))))
        .service(post("/api/admin/retry/graph").route(bare(web::post().to(admin::retry_graph))))
        .service(post("/api/admin/verify").route(bare(web::post().to(admin::verify))))
        .service(post("/api/admin/collect").route(bare(web::post().to(admin::collect))))
        .service(post("/api/admin/retry/views").route(bare(web::post().to(admin::retry_views))))
        .service(post("/api/admin/reopen/tokens").route(bare(web::post().to(admin::reopen_tokens))))
        .service(post("/api/admin/reopen/log").route(bare(web::post().to(admin::reopen_log))))
        .service(
            at("/api/admin/backup", "GET, HEAD, POST, DELETE")
                .route(json(read().to(backup::get)))
                .route(unconditional(web::post().to(backup::make)))
                .route(bare(web::delete().to(backup::stop))),
        )
        .service(get("/api/traces/{trace_id}").route(json(read().to(traces::get))))
        .service(get("/api/errors").route(json(read().to(traces::errors))))
        .service(get("/api/health").route(json(read().to(health::health))))
        .service(get("/api/health/live").route(read().to(health::live)))
        .service(get("/api/health/ready").route(read().to(health::ready)))
        .service(get("/metrics").route(read().to(health::metrics)))
        .service(get("/api/openapi.json").route(json(read().to(docs::document))))
        .service(get("/docs").route(read().to(docs::page)))
        .service(get("/docs/page.js").route(read().to(docs::script)))
        .service(get("/docs/page.css").route(read().to(docs::style)))
        .service(get("/").route(read().to(docs::home)));
}

/// What answers at a path.
trait Answering:
    ServiceFactory<
        ServiceRequest,
        Config = (),
        Response = ServiceResponse<BoxBody>,
        Error = actix_web::Error,
        InitError = (),
    >
{
}

impl<T> Answering for T where
    T: ServiceFactory<
            ServiceRequest,
            Config = (),
            Response = ServiceResponse<BoxBody>,
            Error = actix_web::Error,
            InitError = (),
        >
{
}

/// A path and its methods, behind its door.
fn at(path: &'static str, allow: &'static str) -> Resource<impl Answering> {
    web::resource(path)
        .default_service(web::to(move || wrong_method(allow)))
        .wrap(from_fn(move |request, next: Next<BoxBody>| {
            admitted(path, request, next)
        }))
}

/// `GET`, and `HEAD`, which is `GET` without the body.
fn read() -> Route {
    web::route().guard(Any(Get()).or(Head()))
}

/// A route that gives JSON and nothing else.
fn json(route: Route) -> Route {
    route.wrap(from_fn(json_is_accepted))
}

async fn json_is_accepted(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    // As an answer, not as an error: those who stand around it have yet to add to it.
    if let Err(error) = accept::choose(request.request(), &["application/json"]) {
        return Ok(request.error_response(error));
    }
    Ok(next.call(request).await?.map_into_boxed_body())
}

/// A route that changes something and takes no body: one that comes is refused, not passed over.
fn bodyless(route: Route) -> Route {
    route.wrap(from_fn(no_body_came))
}

async fn no_body_came(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let headers = request.headers();
    let is_sent = headers.contains_key(TRANSFER_ENCODING)
        || headers
            .get(CONTENT_LENGTH)
            .is_some_and(|length| length != "0");
    if is_sent {
        let detail = "this route takes no body";
        return Ok(request.error_response(ApiError::new(Code::UnsupportedMediaType, detail)));
    }
    Ok(next.call(request).await?.map_into_boxed_body())
}

/// A route that keeps no answers to give again and knows no revisions: who counts on either is
/// refused, not passed over. What a token is told once cannot be told again; a worker's call is safe
/// to repeat by its fencing token; and an operator's work may be asked for where the log takes no
/// writes, so that no key could be kept.
fn unconditional(route: Route) -> Route {
    route.wrap(from_fn(no_condition_came))
}

async fn no_condition_came(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let conditions = ["idempotency-key", "if-match", "if-none-match"];
    let came = conditions
        .iter()
        .find(|name| request.headers().contains_key(**name));
    if let Some(name) = came {
        let detail = format!("this route cannot keep {name}; leave it out. Nothing was done");
        return Ok(request.error_response(ApiError::new(Code::MalformedHeader, detail)));
    }
    Ok(next.call(request).await?.map_into_boxed_body())
}

/// A route whose path says all there is to say.
fn bare(route: Route) -> Route {
    unconditional(bodyless(route))
}

fn wrong_method(allow: &'static str) -> Ready<Result<HttpResponse, ApiError>> {
    let error = ApiError::new(Code::MethodNotAllowed, format!("allowed here: {allow}"));
    ready(Err(
        error.with_header(ALLOW, HeaderValue::from_static(allow))
    ))
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "handlers are given what they take"
)]
fn unknown_route(request: HttpRequest) -> Ready<Result<HttpResponse, ApiError>> {
    ready(Err(unknown(&request)))
}
