//! An issuer outside whose tokens count beside ours: JSON web tokens (RFC 7519, 8725).
//!
//! Invariants: a token counts if a key of the issuer signed it by an algorithm that is allowed, for
//! us, and only within its time; its keys are fetched by one thread and by no request; and what is
//! remembered of tokens is bounded.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, Validation};
use quick_cache::sync::Cache;
use serde_json::{Map, Value};
use stemma_domain::access::Role;
use stemma_domain::time::Timestamp;
use stemma_domain::value::{PrincipalName, TenantName};
use tokio::sync::watch;

use crate::jws;
use crate::keys::Keys;
use crate::registry::Sources;
use crate::state::Token;

/// Longest token of an issuer, in bytes.
const TOKEN_BYTES_MAX: usize = 8192;
/// Tokens that are remembered, so that their signatures are not looked at again.
const KNOWN_MAX: usize = 10_000;
/// Longest wait of a request for keys that are being fetched.
const FETCH_WAIT: Duration = Duration::from_secs(8);
/// Before keys that could not be had are fetched again.
const FETCH_AGAIN: Duration = Duration::from_secs(10);
/// The roles in the order in which they count where a token has several.
const ROLES: [Role; 5] = [
    Role::Operator,
    Role::Admin,
    Role::Writer,
    Role::Worker,
    Role::Reader,
];

/// What is known of an issuer.
#[derive(Debug, Clone)]
pub struct AuthoritySettings {
    /// What its tokens name as `iss`.
    pub issuer: String,
    /// What they must name as `aud`.
    pub audience: String,
    /// What they may be signed by.
    pub algorithms: Vec<SignedBy>,
    /// How far its clock may be from ours.
    pub skew: Duration,
    /// The claim that names the tenant; without one all are of `tenant`.
    pub tenant_claim: Option<String>,
    /// The tenant of those that need not name one.
    pub tenant: TenantName,
    /// The claim that names the role: a text, words in a text, or a list.
    pub role_claim: String,
    /// The claim that names the principal.
    pub principal_claim: String,
    /// Shortest time between two fetches for keys that are not known.
    pub refetch_min: Duration,
    /// How long keys are used before they are fetched again.
    pub refresh: Duration,
}

/// What a token is signed by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignedBy {
    /// RSA of 2,048 to 8,192 bits, PKCS #1, with SHA-256.
    Rs256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// Ed25519.
    EdDsa,
}

impl SignedBy {
    fn algorithm(self) -> Algorithm {
        match self {
            Self::Rs256 => Algorithm::RS256,
            Self::Es256 => Algorithm::ES256,
            Self::EdDsa => Algorithm::EdDSA,
        }
    }
}

/// Where an issuer's keys are had. Blocks, for no longer than a few seconds.
pub trait KeySource: Send + Sync {
    /// The JWK set as it is now, at most [`KEY_SET_BYTES_MAX`](crate::KEY_SET_BYTES_MAX) bytes.
    ///
    /// # Errors
    /// Why it cannot be had, without a secret.
    fn fetch(&self) -> Result<Vec<u8>, String>;
}

/// What is found of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It holds.
    Holds(Arc<Token>),
    /// It does not, and why.
    Refused(&'static str),
    /// It names a key that is not known (yet).
    KeyUnknown,
    /// No keys of the issuer could be had.
    NoKeys,
}

/// An issuer outside; clones share what is known of it.
#[derive(Clone)]
pub struct Authority {
    shared: Arc<Shared>,
}

struct Shared {
    settings: AuthoritySettings,
    source: Box<dyn KeySource>,
    sources: Arc<dyn Sources>,
    keys: ArcSwap<Keys>,
    /// Why the last fetch brought none.
    problem: Mutex<Option<String>>,
    known: Cache<[u8; 32], Known>,
    orders: Mutex<Orders>,
    ordered: Condvar,
    /// Counts the fetches that ended.
    fetched: watch::Sender<u64>,
}

/// A token that was found to hold, and the keys that it was held against: keys may be replaced while
/// a token is looked at, and those that replace them did not vouch for it.
#[derive(Clone)]
struct Known {
    keys: Arc<Keys>,
    token: Arc<Token>,
}

#[derive(Default)]
struct Orders {
    is_wanted: bool,
    is_over: bool,
    last: Option<Instant>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority")
            .field("settings", &self.shared.settings)
            .finish_non_exhaustive()
    }
}

/// The thread that fetches keys; ends when it is dropped.
#[derive(Debug)]
pub struct Fetching {
    authority: Authority,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Drop for Fetching {
    fn drop(&mut self) {
        self.authority.lock().is_over = true;
        self.authority.shared.ordered.notify_all();
        // It has told what went wrong, if anything did.
        let _ = self.thread.take().map(std::thread::JoinHandle::join);
    }
}

impl Authority {
    /// An issuer whose keys are had from `source`, and are fetched once before this returns. Blocks
    /// for as long. Keys that cannot be had are fetched again, and again.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn follow(
        settings: AuthoritySettings,
        source: Box<dyn KeySource>,
        sources: Arc<dyn Sources>,
    ) -> std::io::Result<(Self, Fetching)> {
        jws::install();
        let authority = Self {
            shared: Arc::new(Shared {
                settings,
                source,
                sources,
                keys: ArcSwap::default(),
                problem: Mutex::default(),
                known: Cache::new(KNOWN_MAX),
                orders: Mutex::default(),
                ordered: Condvar::new(),
                fetched: watch::Sender::new(0),
            }),
        };
        authority.fetch();
        let own = authority.clone();
        let thread = std::thread::Builder::new()
            .name("issuer-keys".to_owned())
            .spawn(move || own.keep_fetching())?;
        let fetching = Fetching {
            authority: authority.clone(),
            thread: Some(thread),
        };
        Ok((authority, fetching))
    }

    /// Whether a text may be a token of an issuer: ours have no dots.
    pub fn may_be_one(text: &str) -> bool {
        text.bytes().filter(|byte| *byte == b'.').count() == 2
    }

    /// Why the last fetch brought no keys; none when it did. Those of an earlier one go on.
    pub fn problem(&self) -> Option<String> {
        let problem = self.shared.problem.lock();
        problem.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A token that was found to hold lately, and still does: asked before its signature is looked
    /// at.
    pub fn known(&self, text: &str) -> Option<Arc<Token>> {
        let known = self
            .shared
            .known
            .get(blake3::hash(text.as_bytes()).as_bytes())?;
        let is_current = Arc::ptr_eq(&known.keys, &self.shared.keys.load());
        let holds = is_current && known.token.holds_at(self.shared.sources.now());
        holds.then_some(known.token)
    }

    /// What is found of a token.
    pub fn verify(&self, text: &str) -> Verdict {
        if text.len() > TOKEN_BYTES_MAX {
            return Verdict::Refused("it is too long");
        }
        let Ok(header) = jsonwebtoken::decode_header(text) else {
            return Verdict::Refused("its head is not one of a signed token");
        };
        let allowed = &self.shared.settings.algorithms;
        if !allowed.iter().any(|by| by.algorithm() == header.alg) {
            return Verdict::Refused("it is signed by an algorithm that is not allowed");
        }
        let is_access = |typ: &str| {
            ["jwt", "at+jwt", "application/at+jwt"].contains(&typ.to_ascii_lowercase().as_str())
        };
        if header.crit.is_some() || !header.typ.as_deref().is_none_or(is_access) {
            return Verdict::Refused("it is a token of another kind");
        }
        let keys = self.shared.keys.load_full();
        if keys.is_empty() {
            return Verdict::NoKeys;
        }
        let Some(key) = keys.find(header.kid.as_deref(), header.alg) else {
            return Verdict::KeyUnknown;
        };
        let mut rules = Validation::new(key.algorithm);
        rules.set_issuer(&[&self.shared.settings.issuer]);
        rules.set_audience(&[&self.shared.settings.audience]);
        rules.set_required_spec_claims(&["iss", "aud", "exp"]);
        // By our clock, below.
        rules.validate_exp = false;
        let decoded = jsonwebtoken::decode::<Map<String, Value>>(text, &key.public, &rules);
        let found = decoded.map_err(|error| misfit(error.kind()));
        match found.and_then(|decoded| self.token(&decoded.claims)) {
            Ok(token) => {
                let token = Arc::new(token);
                self.remember(text, &keys, &token);
                Verdict::Holds(token)
            }
            Err(why) => Verdict::Refused(why),
        }
    }

    /// Has a token be known from now on, as far as the keys that vouched for it still count.
    fn remember(&self, text: &str, keys: &Arc<Keys>, token: &Arc<Token>) {
        let known = Known {
            keys: Arc::clone(keys),
            token: Arc::clone(token),
        };
        let digest = *blake3::hash(text.as_bytes()).as_bytes();
        self.shared.known.insert(digest, known);
    }

    /// Has the keys fetched, unless they were a moment ago, and waits until they are. Says whether
    /// there is something new to look at.
    pub async fn refetched(&self) -> bool {
        let mut fetched = self.shared.fetched.subscribe();
        {
            let mut orders = self.lock();
            let is_due = |last: Instant| last.elapsed() >= self.shared.settings.refetch_min;
            // Another request may have asked for what is under way.
            if !orders.is_wanted && !orders.last.is_none_or(is_due) {
                return false;
            }
            orders.is_wanted = true;
            self.shared.ordered.notify_all();
        }
        let told = tokio::time::timeout(FETCH_WAIT, fetched.changed()).await;
        matches!(told, Ok(Ok(())))
    }

    /// What a token's claims make of its holder.
    fn token(&self, claims: &Map<String, Value>) -> Result<Token, &'static str> {
        let settings = &self.shared.settings;
        let now = self.shared.sources.now();
        let skew = i64::try_from(settings.skew.as_micros()).unwrap_or(i64::MAX);
        let expires = time(claims.get("exp")).ok_or("its exp is no time")?;
        let expires_at = Timestamp::from_micros(expires.saturating_add(skew));
        if now >= expires_at {
            return Err("it is over");
        }
        if let Some(begins) = claims.get("nbf") {
            let begins = time(Some(begins)).ok_or("its nbf is no time")?;
            if now.micros().saturating_add(skew) < begins {
                return Err("it does not hold yet");
            }
        }
        let principal = claim(claims, &settings.principal_claim).and_then(Value::as_str);
        let principal = principal.ok_or("it names no principal")?;
        let principal = PrincipalName::new(principal).map_err(|_| "its principal is no name")?;
        let role = claim(claims, &settings.role_claim).and_then(role);
        let role = role.ok_or("it names no role that is known")?;
        let tenant = if role.is_of_a_tenant() {
            Some(self.tenant(claims)?)
        } else {
            None
        };
        let issued = time(claims.get("iat")).map_or(now, Timestamp::from_micros);
        Ok(Token::vouched(
            &settings.issuer,
            principal,
            role,
            tenant,
            (issued, expires_at),
        ))
    }

    fn tenant(&self, claims: &Map<String, Value>) -> Result<TenantName, &'static str> {
        let Some(name) = &self.shared.settings.tenant_claim else {
            return Ok(self.shared.settings.tenant.clone());
        };
        let tenant = claim(claims, name).and_then(Value::as_str);
        let tenant = tenant.ok_or("it names no tenant")?;
        TenantName::new(tenant).map_err(|_| "its tenant is no name of one")
    }

    /// Fetches the keys; those that are there stay where it brings none.
    fn fetch(&self) {
        let read = self.shared.source.fetch().and_then(|set| Keys::read(&set));
        let mut problem = self
            .shared
            .problem
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *problem = match read {
            Ok(keys) => {
                self.shared.keys.store(Arc::new(keys));
                // A key that is gone vouches for nobody any more; what is held against it just now is
                // not known either (`Known`), and goes with time.
                self.shared.known.clear();
                None
            }
            Err(why) => Some(why),
        };
        drop(problem);
        let mut orders = self.lock();
        orders.last = Some(Instant::now());
        orders.is_wanted = false;
        drop(orders);
        self.shared.fetched.send_modify(|fetched| *fetched += 1);
    }

    fn keep_fetching(&self) {
        loop {
            let pause = match self.problem() {
                Some(_) => FETCH_AGAIN.min(self.shared.settings.refresh),
                None => self.shared.settings.refresh,
            };
            let orders = self.lock();
            let is_idle = |orders: &mut Orders| !orders.is_over && !orders.is_wanted;
            let waited = self
                .shared
                .ordered
                .wait_timeout_while(orders, pause, is_idle);
            let (orders, _) = waited.unwrap_or_else(PoisonError::into_inner);
            if orders.is_over {
                return;
            }
            drop(orders);
            self.fetch();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Orders> {
        // Each change is whole.
        self.shared
            .orders
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a token that could be read is refused before its claims are looked at. What it lacks is told
/// once its signature is right.
fn misfit(error: &ErrorKind) -> &'static str {
    match error {
        ErrorKind::MissingRequiredClaim(claim) => match claim.as_str() {
            "exp" => "it has no exp, or one that is no time: it would never end",
            "iss" => "it has no iss",
            "aud" => "it has no aud",
            _ => "a claim is missing",
        },
        _ => "its signature, issuer or audience is not right",
    }
}

/// A claim by its name, or by a JSON pointer to one inside another (`/realm_access/roles`).
fn claim<'a>(claims: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    let Some(path) = name.strip_prefix('/') else {
        return claims.get(name);
    };
    let (first, rest) = path.split_at(path.find('/').unwrap_or(path.len()));
    claims.get(first)?.pointer(rest)
}

/// The role that a claim names: the first, in the order of [`ROLES`], of those that it names.
fn role(claim: &Value) -> Option<Role> {
    let is_named = |role: &Role| match claim {
        Value::String(words) => words.split(' ').any(|word| word == role.name()),
        Value::Array(names) => names.iter().any(|name| name == role.name()),
        _ => false,
    };
    ROLES.into_iter().find(is_named)
}

/// A time in seconds since 1970, in microseconds.
#[expect(
    clippy::cast_possible_truncation,
    reason = "a time beyond what fits is as far as can be"
)]
fn time(claim: Option<&Value>) -> Option<i64> {
    let seconds = claim?.as_f64().filter(|seconds| *seconds >= 0.0)?;
    Some((seconds * 1e6) as i64)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A set of one key, and a clock that stands.
    struct Still;

    impl KeySource for Still {
        fn fetch(&self) -> Result<Vec<u8>, String> {
            let key = json!({
                "kty": "OKP", "crv": "Ed25519", "kid": "a",
                "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
            });
            Ok(json!({ "keys": [key] }).to_string().into_bytes())
        }
    }

    impl Sources for Still {
        fn now(&self) -> Timestamp {
            Timestamp::from_micros(0)
        }

        fn new_id(&self) -> uuid::Uuid {
            uuid::Uuid::nil()
        }

        fn secret(&self) -> Result<[u8; 32], String> {
            Ok([0; 32])
        }
    }

    /// Found by reading: keys were replaced between the look at a signature and the note that the
    /// token is known, and a token of a key that is gone let in until the keys after those came.
    #[test]
    fn a_token_that_was_held_against_keys_that_are_gone_by_now_is_not_known() {
        let tenant = TenantName::new("default").unwrap();
        let settings = AuthoritySettings {
            issuer: "https://issuer.example".to_owned(),
            audience: "stemma".to_owned(),
            algorithms: vec![SignedBy::EdDsa],
            skew: Duration::ZERO,
            tenant_claim: None,
            tenant: tenant.clone(),
            role_claim: "roles".to_owned(),
            principal_claim: "sub".to_owned(),
            refetch_min: Duration::from_mins(1),
            refresh: Duration::from_mins(10),
        };
        let sources = Arc::new(Still);
        let followed = Authority::follow(settings, Box::new(Still), sources);
        let (authority, _fetching) = followed.unwrap();
        let token = Arc::new(Token::vouched(
            "https://issuer.example",
            PrincipalName::new("ada").unwrap(),
            Role::Reader,
            Some(tenant),
            (Timestamp::from_micros(0), Timestamp::from_micros(1)),
        ));
        let before = authority.shared.keys.load_full();
        authority.remember("a.b.c", &before, &token);
        assert_eq!(authority.known("a.b.c").as_ref(), Some(&token));
        authority.fetch();
        assert_eq!(authority.known("a.b.c"), None);
        // Whoever began before the fetch is only now done.
        authority.remember("a.b.c", &before, &token);
        assert_eq!(authority.known("a.b.c"), None);
        let now = authority.shared.keys.load_full();
        authority.remember("a.b.c", &now, &token);
        assert_eq!(authority.known("a.b.c"), Some(token));
    }

    #[test]
    fn a_claim_is_found_by_its_name_and_inside_another_by_a_pointer() {
        let claims =
            json!({ "https://x.example/role": "reader", "realm": { "roles": ["a", "writer"] } });
        let claims = claims.as_object().unwrap();
        let role_of = |name: &str| claim(claims, name).and_then(role);
        assert_eq!(role_of("https://x.example/role"), Some(Role::Reader));
        assert_eq!(role_of("/realm/roles"), Some(Role::Writer));
        assert_eq!(role_of("/realm/none"), None);
        assert_eq!(role_of("roles"), None);
    }

    #[test]
    fn of_several_roles_the_first_counts_and_what_is_none_is_none() {
        assert_eq!(role(&json!("reader admin")), Some(Role::Admin));
        assert_eq!(role(&json!(["worker", "reader"])), Some(Role::Worker));
        for none in [
            json!("Admin"),
            json!(["administrator"]),
            json!(7),
            json!(null),
            json!(""),
        ] {
            assert_eq!(role(&none), None, "{none}");
        }
    }

    #[test]
    fn a_time_is_a_number_of_seconds_and_nothing_else() {
        assert_eq!(time(Some(&json!(1.5))), Some(1_500_000));
        assert_eq!(time(Some(&json!(1e300))), Some(i64::MAX));
        for none in [json!("1"), json!(-1), json!(null), json!([1])] {
            assert_eq!(time(Some(&none)), None, "{none}");
        }
        assert_eq!(time(None), None);
    }
}
