//! Who may do what on a server: its tokens, as events in a log of their own, and those of an issuer
//! outside that it trusts.
//!
//! A token is a text that its holder keeps; here only the digest of its secret is. What a role may
//! do is decided in `stemma_domain::access`. The events are drawn in `docs/format/access.md`.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod authority;
mod error;
mod event;
mod jws;
mod keys;
mod registry;
mod state;
mod token;

pub use authority::{Authority, AuthoritySettings, Fetching, KeySource, SignedBy, Verdict};
pub use error::AccessError;
pub use keys::KEY_SET_BYTES_MAX;
pub use registry::{By, Issuer, NewToken, Registry, Sources};
pub use state::Token;
pub use token::{TokenId, TokenText};
