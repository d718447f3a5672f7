//! The fold of the access log: which tokens there are, and which of them hold.
//!
//! Readers see each token whole, while one writer folds events in. Invariants: a change copies the
//! tokens of one shard and no others; of tokens that hold no more only the last
//! [`ENDED_KEPT_MAX`] are remembered, the log keeps all of them.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use arc_swap::ArcSwap;
use stemma_domain::access::Role;
use stemma_domain::time::Timestamp;
use stemma_domain::value::{PrincipalName, TenantName};
use stemma_event_log::Record;
use uuid::Uuid;

use crate::event::{ISSUED, REVOKED, SCHEMA_VERSION, TokenIssued, TokenRevoked, stream};
use crate::token::{SecretDigest, TokenId, TokenText};

/// Parts that the tokens are in, by the last byte of their ids, which is random.
const SHARDS: usize = 256;
/// Tokens that hold no more and are remembered.
pub(crate) const ENDED_KEPT_MAX: usize = 10_000;

/// A token, without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Which it is; of an issuer outside, who it is of.
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
    /// None of a token that an issuer outside vouches for.
    secret_digest: Option<SecretDigest>,
}

impl Token {
    /// A token that an issuer outside vouches for, from one time to another.
    pub(crate) fn vouched(
        issuer: &str,
        principal: PrincipalName,
        role: Role,
        tenant: Option<TenantName>,
        (issued_at, expires_at): (Timestamp, Timestamp),
    ) -> Self {
        // Of whom it is, so that what is counted of them goes on with their next one.
        let mut hasher = blake3::Hasher::new();
        for part in [issuer, principal.as_str()] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
        let mut id = [0; 16];
        id.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        Self {
            id: TokenId::new(Uuid::new_v8(id)),
            principal,
            role,
            tenant,
            issued_at,
            issued_by: issuer.to_owned(),
            expires_at: Some(expires_at),
            revoked_at: None,
            secret_digest: None,
        }
    }

    /// Whether an issuer outside vouches for it; else it is one of the registry's.
    pub fn is_vouched(&self) -> bool {
        self.secret_digest.is_none()
    }

    /// Whether it holds at a time.
    pub fn holds_at(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|expires| now < expires)
    }

    /// Whether it is the one whose text this is. The time that it takes depends on neither.
    pub(crate) fn is(&self, text: &TokenText) -> bool {
        self.secret_digest == Some(text.digest())
    }
}

type Shard = BTreeMap<TokenId, Arc<Token>>;

/// The tokens, for those who look them up.
pub(crate) struct Tokens(Vec<ArcSwap<Shard>>);

impl Default for Tokens {
    fn default() -> Self {
        Self((0..SHARDS).map(|_| ArcSwap::default()).collect())
    }
}

impl Tokens {
    pub(crate) fn get(&self, id: TokenId) -> Option<Arc<Token>> {
        self.shard(id).load().get(&id).cloned()
    }

    /// Every token that is remembered, in the order of their ids, which is that in which they were
    /// given out.
    pub(crate) fn all(&self) -> Vec<Arc<Token>> {
        let mut all = Vec::new();
        for shard in &self.0 {
            all.extend(shard.load().values().cloned());
        }
        all.sort_unstable_by_key(|token| token.id);
        all
    }

    fn shard(&self, id: TokenId) -> &ArcSwap<Shard> {
        &self.0[usize::from(id.as_u128().to_le_bytes()[0])]
    }

    fn put(&self, token: Token) {
        let shard = self.shard(token.id);
        let mut changed = Shard::clone(&shard.load());
        changed.insert(token.id, Arc::new(token));
        shard.store(Arc::new(changed));
    }

    fn forget(&self, id: TokenId) {
        let shard = self.shard(id);
        let mut changed = Shard::clone(&shard.load());
        changed.remove(&id);
        shard.store(Arc::new(changed));
    }
}

/// How far the log is folded, and what is to be known of the tokens to go on; in the hands of the
/// one who writes.
#[derive(Debug, Default)]
pub(crate) struct Fold {
    /// Events that are folded in.
    end: u64,
    /// Tokens that hold, as far as was looked at, and end at a time.
    ending: BTreeSet<(Timestamp, TokenId)>,
    /// Tokens that hold no more and are remembered, in the order in which that was seen.
    ended: VecDeque<TokenId>,
    has_forgotten: bool,
    /// Tokens that hold, as far as was looked at, of each tenant; of none for operators.
    holding: HashMap<Option<TenantName>, usize>,
}

impl Fold {
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    /// How many tokens hold.
    pub(crate) fn holding(&self) -> usize {
        self.holding.values().sum()
    }

    /// How many tokens of a tenant hold.
    pub(crate) fn holding_of(&self, tenant: &TenantName) -> usize {
        let tenant = Some(tenant.clone());
        self.holding.get(&tenant).copied().unwrap_or_default()
    }

    /// Of how many tenants tokens hold.
    pub(crate) fn tenants(&self) -> usize {
        self.holding.keys().flatten().count()
    }

    /// Folds an event in.
    ///
    /// # Errors
    /// Why it does not fit; all is as it was then.
    pub(crate) fn apply(&mut self, record: &Record, tokens: &Tokens) -> Result<(), String> {
        if record.position().get() != self.end {
            return Err(format!("expected event {}", self.end));
        }
        let at = Timestamp::from_micros(record.recorded_at_us());
        let read = |error: serde_json::Error| error.to_string();
        let about = |id: TokenId| {
            if record.stream() == stream(id) {
                Ok(())
            } else {
                Err(format!(
                    "it is about {id}, in the stream {}",
                    record.stream()
                ))
            }
        };
        match (record.event_type(), record.schema_version()) {
            (ISSUED, SCHEMA_VERSION) => {
                let issued: TokenIssued = serde_json::from_slice(record.data()).map_err(read)?;
                about(issued.id)?;
                self.issue(issued, at, record.actor(), tokens)?;
            }
            (REVOKED, SCHEMA_VERSION) => {
                let revoked: TokenRevoked = serde_json::from_slice(record.data()).map_err(read)?;
                about(revoked.id)?;
                self.revoke(revoked.id, at, tokens)?;
            }
            (other, version) => return Err(format!("{other} of version {version} is not known")),
        }
        self.end += 1;
        self.end_those_over(at, tokens);
        Ok(())
    }

    /// Sees which tokens are over by a time.
    pub(crate) fn end_those_over(&mut self, now: Timestamp, tokens: &Tokens) {
        while let Some((_, id)) = self.ending.first().filter(|(at, _)| *at <= now).copied() {
            self.ending.pop_first();
            if let Some(token) = tokens.get(id) {
                self.end_one(&token, tokens);
            }
        }
    }

    /// A token holds no more.
    fn end_one(&mut self, token: &Token, tokens: &Tokens) {
        if let Some(holding) = self.holding.get_mut(&token.tenant) {
            *holding -= 1;
            if *holding == 0 {
                self.holding.remove(&token.tenant);
            }
        }
        self.ended.push_back(token.id);
        if self.ended.len() > ENDED_KEPT_MAX
            && let Some(oldest) = self.ended.pop_front()
        {
            tokens.forget(oldest);
            self.has_forgotten = true;
        }
    }

    fn issue(
        &mut self,
        issued: TokenIssued,
        at: Timestamp,
        by: &str,
        tokens: &Tokens,
    ) -> Result<(), String> {
        if issued.role.is_of_a_tenant() != issued.tenant.is_some() {
            return Err("its role and its tenant do not go together".to_owned());
        }
        if tokens.get(issued.id).is_some() {
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
            secret_digest: Some(issued.secret_digest),
        };
        if let Some(expires_at) = token.expires_at {
            self.ending.insert((expires_at, token.id));
        }
        *self.holding.entry(token.tenant.clone()).or_default() += 1;
        tokens.put(token);
        Ok(())
    }

    fn revoke(&mut self, id: TokenId, at: Timestamp, tokens: &Tokens) -> Result<(), String> {
        let Some(token) = tokens.get(id) else {
            // It may have been over for so long that it is not remembered.
            let never = format!("token {id} was never given out");
            return if self.has_forgotten {
                Ok(())
            } else {
                Err(never)
            };
        };
        if token.revoked_at.is_some() {
            return Err(format!("token {id} was taken back before"));
        }
        let was_holding = match token.expires_at {
            Some(expires_at) => self.ending.remove(&(expires_at, id)),
            None => true,
        };
        tokens.put(Token {
            revoked_at: Some(at),
            ..Token::clone(&token)
        });
        if was_holding {
            self.end_one(&token, tokens);
        }
        Ok(())
    }
}

#[cfg(test)]
mod timing;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_that_ended_long_ago_are_forgotten_and_none_that_holds_is() {
        let (mut fold, tokens) = (Fold::default(), Tokens::default());
        let at = Timestamp::from_micros(0);
        let issued = |n: usize| {
            let id = TokenId::new(Uuid::from_u128(n as u128));
            TokenIssued {
                expires_at: None,
                id,
                principal: PrincipalName::new("ada").unwrap(),
                role: Role::Reader,
                secret_digest: TokenText::new(id, [7; 32]).digest(),
                tenant: Some(TenantName::new("default").unwrap()),
            }
        };
        let all = ENDED_KEPT_MAX + 10;
        for n in 0..=all {
            fold.issue(issued(n), at, "ops", &tokens).unwrap();
        }
        assert_eq!(fold.holding(), all + 1);
        for n in 1..=all {
            fold.revoke(issued(n).id, at, &tokens).unwrap();
        }
        let kept = tokens.all();
        assert_eq!((kept.len(), fold.holding()), (ENDED_KEPT_MAX + 1, 1));
        assert!(kept[0].revoked_at.is_none());
        assert_eq!(kept[1].id, issued(11).id);
        // The log may take one back that was over for long.
        fold.revoke(issued(3).id, at, &tokens).unwrap();
        fold.revoke(issued(all).id, at, &tokens).unwrap_err();
    }
}
