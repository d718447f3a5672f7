//! The handlers, one module for each kind of thing: parse, command, wait for the views, render.

pub(crate) mod access;
pub(crate) mod admin;
pub(crate) mod annotations;
pub(crate) mod backup;
pub(crate) mod batch;
pub(crate) mod content;
pub(crate) mod cypher;
mod cypher_answer;
pub(crate) mod docs;
pub(crate) mod documents;
pub(crate) mod entity_types;
pub(crate) mod events;
pub(crate) mod grants;
pub(crate) mod graph;
pub(crate) mod health;
pub(crate) mod jobs;
pub(crate) mod model_jobs;
mod output;
pub(crate) mod proofs;
pub(crate) mod resources;
pub(crate) mod search;
pub(crate) mod stream;
pub(crate) mod tenants;
pub(crate) mod traced_stages;
pub(crate) mod traces;
mod uploaded;
pub(crate) mod workers;
