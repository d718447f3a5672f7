//! End-to-end tests: the real binary, driven over HTTP and from its command line.
#![allow(missing_docs, clippy::expect_used)]

mod annotations;
mod batch;
mod content;
mod events;
mod resources;
mod stream;
