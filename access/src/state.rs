//! The fold of the access log: which tokens there are, and which of them hold.

use std::collections::BTreeMap;
use std::sync::Arc;

use stemma_domain::access::Role;
use stemma_domain::time::Timestamp;
use stemma_domain::value::{PrincipalName, TenantName};
use stemma_event_log::Record;

use crate::event::{ISSUED, REVOKED, SCHEMA_VERSION, TokenIssued, TokenRevoked, stream};
use crate::token::{SecretDigest, TokenId, TokenText};

/// A token, without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Which it is.
    pub id: TokenId,
    /// Whose it is.
    pub principal: PrincipalName,
    /// What its holder is.
    pub role: Role,
    /// The tenant that it is of; an operator's is of none.
    pub tenant: Option<TenantName>,
    /// When it was given out.
    pub issued_at: Timestamp,
    /// Who gave it out.
    pub issued_by: String,
    /// From when on it holds no more.
    pub expires_at: Option<Timestamp>,
    /// When it was taken back.
    pub revoked_at: Option<Timestamp>,
    secret_digest: SecretDigest,
}

impl Token {
    /// Whether it holds at a time.
    pub fn holds_at(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|expires| now < expires)
    }

    /// Whether it is the one whose text this is. The time that it takes depends on neither.
    pub(crate) fn is(&self, text: &TokenText) -> bool {
        self.secret_digest == text.digest()
    }
}

/// The tokens after some events.
#[derive(Debug, Clone, Default)]
pub(crate) struct State {
    tokens: BTreeMap<TokenId, Arc<Token>>,
    /// Events that are folded in.
    end: u64,
}

impl State {
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    pub(crate) fn token(&self, id: TokenId) -> Option<&Arc<Token>> {
        self.tokens.get(&id)
    }

    /// Every token that was ever given out, in the order of that.
    pub(crate) fn tokens(&self) -> impl Iterator<Item = &Arc<Token>> {
        self.tokens.values()
    }

    /// Folds an event in.
    ///
    /// # Errors
    /// Why it does not fit; the state is as it was then.
    pub(crate) fn apply(&mut self, record: &Record) -> Result<(), String> {
        if record.position().get() != self.end {
            return Err(format!("expected event {}", self.end));
        }
        let at = Timestamp::from_micros(record.recorded_at_us());
        let read = |error: serde_json::Error| error.to_string();
        let id = match (record.event_type(), record.schema_version()) {
            (ISSUED, SCHEMA_VERSION) => {
                let issued: TokenIssued = serde_json::from_slice(record.data()).map_err(read)?;
                self.issue(issued, at, record.actor())?
            }
            (REVOKED, SCHEMA_VERSION) => {
                let revoked: TokenRevoked = serde_json::from_slice(record.data()).map_err(read)?;
                self.revoke(revoked.id, at)?
            }
            (other, version) => return Err(format!("{other} of version {version} is not known")),
        };
        if record.stream() != stream(id) {
            return Err(format!(
                "it is about {id}, in the stream {}",
                record.stream()
            ));
        }
        self.end += 1;
        Ok(())
    }

    fn issue(&mut self, issued: TokenIssued, at: Timestamp, by: &str) -> Result<TokenId, String> {
        if issued.role.is_of_a_tenant() != issued.tenant.is_some() {
            return Err("its role and its tenant do not go together".to_owned());
        }
        if self.tokens.contains_key(&issued.id) {
            return Err(format!("token {} was given out before", issued.id));
        }
        let token = Token {
            id: issued.id,
            principal: issued.principal,
            role: issued.role,
            tenant: issued.tenant,
            issued_at: at,
            issued_by: by.to_owned(),
            expires_at: issued.expires_at,
            revoked_at: None,
            secret_digest: issued.secret_digest,
        };
        self.tokens.insert(token.id, Arc::new(token));
        Ok(issued.id)
    }

    fn revoke(&mut self, id: TokenId, at: Timestamp) -> Result<TokenId, String> {
        let token = self.tokens.get_mut(&id);
        let token = token.ok_or_else(|| format!("token {id} was never given out"))?;
        if token.revoked_at.is_some() {
            return Err(format!("token {id} was taken back before"));
        }
        Arc::make_mut(token).revoked_at = Some(at);
        Ok(id)
    }
}
