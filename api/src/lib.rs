//! The HTTP surface: routes, wire types, live streams, the OpenAPI document.
//!
//! A handler parses, hands a command over, waits for the views and renders; it decides nothing.
//! What a status, a code and a title are is decided in `error` alone.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod accept;
mod access;
mod body;
mod conditional;
mod connection;
mod context;
mod cursors;
mod documents;
mod error;
#[doc(hidden)]
pub mod fuzzing;
mod graph_gate;
mod handlers;
mod idempotency;
mod jobs;
mod json;
mod metrics;
mod openapi;
mod options;
mod outputs;
mod pace;
mod page;
mod query;
mod range;
mod requests;
mod router;
mod server;
mod server_metrics;
mod sse;
mod state;
mod tenant_metrics;
mod tenants;
mod wire;
mod write;

pub use documents::{DocumentOptions, Documents, Search};
pub use error::{ApiError, Code, FieldProblem};
pub use handlers::admin::collect_content;
pub use handlers::backup::Backups;
pub use handlers::proofs::Proofs;
pub use jobs::{JobBody, JobError, Jobs};
pub use metrics::Metrics;
pub use openapi::document;
pub use options::{LimitOptions, Options, OptionsError, SseOptions};
pub use router::configure;
pub use server::{Running, run};
pub use server_metrics::{Figure, FigureValue, Figures};
pub use sse::pass_on;
pub use state::{AppState, Parts, Shutdown, Tell, Verifier};
pub use tenants::{Asked, Deletion, InUse, Others, TenantError, Tenants, Told, Usage};
