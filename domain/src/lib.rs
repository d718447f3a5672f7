//! Stemma's vocabulary and rules: identities, events, commands, `decide` and `evolve`.
//!
//! Everything here is pure: no clock, no randomness, no disk, no network. What a resource *is* is
//! decided by folding its events with [`resource::Resource::evolve`]; what may happen to it is
//! decided by [`resource::decide`]. The views, the write path and reading the past all call the
//! same two functions, so they cannot disagree.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod access;
pub mod annotation;
pub mod document;
pub mod entity_type;
pub mod event;
#[doc(hidden)]
pub mod fuzzing;
pub mod id;
pub mod job;
mod json_skip;
pub mod json_text;
mod json_write;
pub mod resource;
pub mod time;
pub mod value;
