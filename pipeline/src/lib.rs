//! The stages that a document passes: validate, parse, chunk, embed, detect, index.
//!
//! What is pure and blocking: what a file is ([`validate`]), what it says ([`parse`]), in which
//! pieces ([`chunk`]). Strangers' files are opened in a process of their own ([`child`]), or by a
//! service that is asked over HTTP ([`service`]).

pub mod child;
pub mod chunk;
mod error;
pub mod fuzzing;
mod limits;
pub mod parse;
pub mod service;
pub mod stages;
pub mod validate;

pub use error::{Clock, DocumentError};
pub use limits::Limits;
