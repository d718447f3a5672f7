//! Who may do what on a server: its tokens, as events in a log of their own.
//!
//! A token is a text that its holder keeps; here only the digest of its secret is. What a role may
//! do is decided in `stemma_domain::access`. The events are drawn in `docs/format/access.md`.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod error;
mod event;
mod registry;
mod state;
mod token;

pub use error::AccessError;
pub use registry::{By, Issuer, NewToken, Registry, Sources};
pub use state::Token;
pub use token::{TokenId, TokenText};
