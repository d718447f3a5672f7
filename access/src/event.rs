//! The events of the access log: JSON, fields in alphabetical order.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use stemma_domain::access::Role;
use stemma_domain::time::Timestamp;
use stemma_domain::value::{PrincipalName, TenantName};

use crate::token::{SecretDigest, TokenId};

/// Version of both payloads.
pub(crate) const SCHEMA_VERSION: u16 = 1;
/// A token was given out.
pub(crate) const ISSUED: &str = "token.issued";
/// A token was taken back.
pub(crate) const REVOKED: &str = "token.revoked";

/// A token was given out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TokenIssued {
    /// Until when it holds; for ever where none is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) expires_at: Option<Timestamp>,
    pub(crate) id: TokenId,
    pub(crate) principal: PrincipalName,
    pub(crate) role: Role,
    pub(crate) secret_digest: SecretDigest,
    /// The tenant that it is of; an operator's is of none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) tenant: Option<TenantName>,
}

/// A token was taken back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TokenRevoked {
    pub(crate) id: TokenId,
}

/// The stream of a token.
pub(crate) fn stream(id: TokenId) -> String {
    format!("token-{id}")
}

/// A payload as it is stored.
pub(crate) fn encode(payload: &impl Serialize) -> Bytes {
    serde_json::to_vec(payload)
        .expect("a payload is plain data")
        .into()
}
