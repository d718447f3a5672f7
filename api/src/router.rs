//! The whole surface in one place: every path, its methods, and who answers.
//!
//! Invariant: a path of ours asked with another method answers 405 and lists its methods.

use actix_web::guard::{Any, Get, Head};
use actix_web::http::header::{ALLOW, HeaderValue};
use actix_web::web::{self, ServiceConfig};
use actix_web::{HttpResponse, Resource, Route};

use crate::error::{ApiError, Code};
use crate::handlers::{annotations, batch, content, entity_types, resources};

/// Puts every route into an application.
pub fn configure(config: &mut ServiceConfig) {
    data(config);
    config.default_service(web::to(unknown_route));
}

/// Resources, annotations, entity types, batches.
fn data(config: &mut ServiceConfig) {
    config
        .service(
            at("/api/resources", "GET, HEAD, POST")
                .route(read().to(resources::list))
                .route(web::post().to(resources::create)),
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
                .route(web::put().to(resources::add_entity_type))
                .route(web::delete().to(resources::remove_entity_type)),
        )
        .service(
            at("/api/resources/{id}/clone", "POST").route(web::post().to(resources::clone)),
        )
        .service(
            at("/api/resources/{id}/referenced_by", "GET, HEAD")
                .route(read().to(resources::referenced_by)),
        )
        .service(
            at("/api/resources/{id}/annotations", "GET, HEAD, POST")
                .route(read().to(annotations::list))
                .route(web::post().to(annotations::add)),
        )
        .service(
            at("/api/resources/{id}/annotations/{aid}", "GET, HEAD, DELETE")
                .route(read().to(annotations::get))
                .route(web::delete().to(annotations::remove)),
        )
        .service(
            at("/api/resources/{id}/annotations/{aid}/body", "PATCH")
                .route(web::patch().to(annotations::change_body)),
        )
        .service(
            at("/api/entity_types", "GET, HEAD, POST")
                .route(read().to(entity_types::list))
                .route(web::post().to(entity_types::register)),
        )
        .service(at("/api/batch", "POST").route(web::post().to(batch::execute)));
}

/// A path and its methods.
fn at(path: &str, allow: &'static str) -> Resource {
    web::resource(path).default_service(web::to(move || wrong_method(allow)))
}

/// `GET`, and `HEAD`, which is `GET` without the body.
fn read() -> Route {
    web::route().guard(Any(Get()).or(Head()))
}

async fn wrong_method(allow: &'static str) -> Result<HttpResponse, ApiError> {
    let error = ApiError::new(Code::MethodNotAllowed, format!("allowed here: {allow}"));
    Err(error.with_header(ALLOW, HeaderValue::from_static(allow)))
}

async fn unknown_route() -> Result<HttpResponse, ApiError> {
    Err(ApiError::of(Code::RouteNotFound))
}
