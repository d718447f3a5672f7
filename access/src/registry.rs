//! The tokens of a server, looked up by requests and changed through the log.
//!
//! Invariants: what is answered to a request is a fold of the log as it is on disk; a token that
//! was taken back is refused from the moment that this was told. The log is made with the first
//! token: a server without any leaves nothing behind.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use stemma_domain::access::Role;
use stemma_domain::time::Timestamp;
use stemma_domain::value::{PrincipalName, TenantName};
use stemma_event_log::{
    AppendError, Batch, EventType, ExpectedRevision, FileStorage, Log, Metadata, NewEvent, Options,
    Position, ReadLimit, Revision, StreamId,
};
use tokio::sync::watch;
use uuid::Uuid;

use crate::error::AccessError;
use crate::event::{ISSUED, REVOKED, SCHEMA_VERSION, TokenIssued, TokenRevoked, encode, stream};
use crate::state::{State, Token};
use crate::token::{TokenId, TokenText};

/// Most tokens that hold at a time.
const TOKENS_MAX: usize = 100_000;
/// Tokens that are taken back in one batch.
const REVOKED_AT_ONCE: usize = 1000;
/// Events that are folded in at a time.
const FOLDED: ReadLimit = ReadLimit {
    records: 1000,
    bytes: 1 << 20,
};
/// Size of a segment of this log.
const SEGMENT_BYTES: u64 = 1 << 20;

/// The time and what nobody can guess.
pub trait Sources: Send + Sync {
    /// What time it is.
    fn now(&self) -> Timestamp;

    /// An id that was never given before, later ones behind earlier ones.
    fn new_id(&self) -> Uuid;

    /// 32 random bytes.
    ///
    /// # Errors
    /// Why there are none.
    fn secret(&self) -> Result<[u8; 32], String>;
}

/// A token that is to be given out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewToken {
    /// Whose it is.
    pub principal: PrincipalName,
    /// What its holder is.
    pub role: Role,
    /// The tenant that it is of; an operator's is of none.
    pub tenant: Option<TenantName>,
    /// From when on it holds no more.
    pub expires_at: Option<Timestamp>,
}

/// Who changes tokens, and in which trace.
#[derive(Debug, Clone, Copy)]
pub struct By<'a> {
    /// What they are let in by.
    pub issuer: Issuer,
    /// The name that is recorded.
    pub actor: &'a str,
    /// The trace that it belongs to.
    pub trace_id: &'a str,
}

/// What somebody who changes tokens is let in by; looked at again when the change is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Issuer {
    /// Their own token, as long as it holds.
    Token(TokenId),
    /// That there are no tokens yet.
    NobodyYet,
    /// That they have the data in their hands.
    Data,
}

/// The tokens of a server; clones share them.
#[derive(Clone)]
pub struct Registry {
    shared: Arc<Shared>,
}

struct Shared {
    dir: PathBuf,
    sources: Arc<dyn Sources>,
    state: ArcSwap<State>,
    /// The log, once there is one; changed by one at a time.
    log: Mutex<Option<Log>>,
    /// Counts the changes.
    changes: watch::Sender<u64>,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry")
            .field("dir", &self.shared.dir)
            .finish_non_exhaustive()
    }
}

impl Registry {
    /// Opens the tokens in a directory. One that is not there is not made.
    ///
    /// # Errors
    /// [`AccessError::Open`] when the log is damaged or in use, [`AccessError::Unfit`] when it
    /// holds what does not fit.
    pub fn open(dir: &Path, sources: Arc<dyn Sources>) -> Result<Self, AccessError> {
        let registry = Self {
            shared: Arc::new(Shared {
                dir: dir.to_owned(),
                sources,
                state: ArcSwap::default(),
                log: Mutex::new(None),
                changes: watch::Sender::new(0),
            }),
        };
        if dir.is_dir() {
            let log = registry.open_log()?;
            registry.fold(&log)?;
            *registry.lock() = Some(log);
        }
        Ok(registry)
    }

    /// Whether no token was ever given out: then nobody is asked for one.
    pub fn is_unused(&self) -> bool {
        self.shared.state.load().end() == 0
    }

    /// The token whose text this is, if it holds now. What is no token, one that nobody was
    /// given, one that was taken back and one that is over are not told apart.
    pub fn authenticate(&self, text: &str) -> Option<Arc<Token>> {
        let text = TokenText::read(text)?;
        let state = self.shared.state.load();
        let token = state.token(text.id())?;
        let is_it = token.is(&text) && token.holds_at(self.shared.sources.now());
        is_it.then(|| Arc::clone(token))
    }

    /// A token by its id, whether it holds or not.
    pub fn token(&self, id: TokenId) -> Option<Arc<Token>> {
        self.shared.state.load().token(id).cloned()
    }

    /// Whether a token holds now.
    pub fn holds(&self, id: TokenId) -> bool {
        let now = self.shared.sources.now();
        self.token(id).is_some_and(|token| token.holds_at(now))
    }

    /// How long a token still holds, where that has an end.
    pub fn holds_for(&self, token: &Token) -> Option<std::time::Duration> {
        let left = token.expires_at?.micros() - self.shared.sources.now().micros();
        let left = u64::try_from(left).unwrap_or(0);
        Some(std::time::Duration::from_micros(left))
    }

    /// Every token that was ever given out, in the order of that.
    pub fn tokens(&self) -> Vec<Arc<Token>> {
        self.shared.state.load().tokens().cloned().collect()
    }

    /// 32 random bytes, for something else that nobody may guess.
    ///
    /// # Errors
    /// [`AccessError::NoRandomness`].
    pub fn secret(&self) -> Result<[u8; 32], AccessError> {
        let secret = self.shared.sources.secret();
        secret.map_err(AccessError::NoRandomness)
    }

    /// Changes when a token is given out or taken back.
    pub fn follow(&self) -> watch::Receiver<u64> {
        self.shared.changes.subscribe()
    }

    /// Gives out a token. Blocks until it is durable.
    ///
    /// # Errors
    /// [`AccessError`]; no token was given out, but for [`AccessError::Append`], which says.
    pub fn issue(&self, new: NewToken, by: By<'_>) -> Result<(Arc<Token>, TokenText), AccessError> {
        let now = self.shared.sources.now();
        if new.role.is_of_a_tenant() != new.tenant.is_some() {
            return Err(AccessError::Tenant);
        }
        if new.expires_at.is_some_and(|expires| expires <= now) {
            return Err(AccessError::Expired);
        }
        let secret = self.secret()?;
        let id = TokenId::new(self.shared.sources.new_id());
        let text = TokenText::new(id, secret);
        let issued = TokenIssued {
            expires_at: new.expires_at,
            id,
            principal: new.principal,
            role: new.role,
            secret_digest: text.digest(),
            tenant: new.tenant,
        };
        let mut log = self.lock();
        self.check(by.issuer)?;
        let holding = |token: &&Arc<Token>| token.holds_at(now);
        if self.shared.state.load().tokens().filter(holding).count() >= TOKENS_MAX {
            return Err(AccessError::Full { max: TOKENS_MAX });
        }
        let log = match &mut *log {
            Some(log) => log,
            none => none.insert(self.open_log()?),
        };
        self.append(log, vec![Change::issued(&issued)], by)?;
        let token = self.token(id).ok_or(AccessError::NotFound)?;
        Ok((token, text))
    }

    /// Takes a token back; one that was is left as it is. Blocks until it is durable.
    ///
    /// # Errors
    /// [`AccessError::NotFound`], or why it could not be written.
    pub fn revoke(&self, id: TokenId, by: By<'_>) -> Result<Arc<Token>, AccessError> {
        let log = self.lock();
        self.check(by.issuer)?;
        let token = self.token(id).ok_or(AccessError::NotFound)?;
        let Some(log) = log.as_ref().filter(|_| token.revoked_at.is_none()) else {
            return Ok(token);
        };
        self.append(log, vec![Change::revoked(id)], by)?;
        self.token(id).ok_or(AccessError::NotFound)
    }

    /// Takes back all tokens of a tenant, a thousand in one batch, and gives how many those were;
    /// none is given out meanwhile. Blocks until it is durable.
    ///
    /// # Errors
    /// Why it could not be written: then asking again takes back those that are left.
    pub fn revoke_all(&self, tenant: &TenantName, by: By<'_>) -> Result<usize, AccessError> {
        let log = self.lock();
        self.check(by.issuer)?;
        let Some(log) = log.as_ref() else {
            return Ok(0);
        };
        let all = self.tokens();
        let is_own =
            |token: &Token| token.tenant.as_ref() == Some(tenant) && token.revoked_at.is_none();
        let own: Vec<TokenId> = all
            .iter()
            .filter(|token| is_own(token))
            .map(|token| token.id)
            .collect();
        for ids in own.chunks(REVOKED_AT_ONCE) {
            let changes = ids.iter().map(|id| Change::revoked(*id));
            self.append(log, changes.collect(), by)?;
        }
        Ok(own.len())
    }

    /// Ends the log in good order.
    pub fn close(&self) {
        // What it holds is durable; a log that is not closed is read to its end at the next start.
        if let Some(log) = self.lock().take() {
            let _ = log.appender.close();
        }
    }

    /// Whether somebody may still change tokens; asked with the lock in hand.
    fn check(&self, issuer: Issuer) -> Result<(), AccessError> {
        let may = match issuer {
            Issuer::Token(id) => self.holds(id),
            Issuer::NobodyYet => self.is_unused(),
            Issuer::Data => true,
        };
        may.then_some(()).ok_or(AccessError::IssuerGone)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Log>> {
        // What is in it is changed whole.
        self.shared
            .log
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn open_log(&self) -> Result<Log, AccessError> {
        let storage = Arc::new(FileStorage::new(&self.shared.dir));
        let options = Options {
            segment_bytes_first: SEGMENT_BYTES,
            segment_bytes_max: SEGMENT_BYTES,
            ..Options::default()
        };
        Ok(Log::open(storage, options)?)
    }

    /// Writes events about tokens as one batch, each at the revision that its token is to be at,
    /// and folds them in.
    fn append(&self, log: &Log, changes: Vec<Change>, by: By<'_>) -> Result<(), AccessError> {
        let (events, expected) = changes.into_iter().map(Change::into_parts).unzip();
        let batch = Batch {
            events,
            expected,
            idempotency: None,
            metadata: Metadata {
                actor: by.actor.to_owned(),
                trace_id: by.trace_id.to_owned(),
                ..Metadata::default()
            },
            proposed_at_us: self.shared.sources.now().micros(),
            order: None,
        };
        let appended = block_on(log.appender.append(batch));
        self.fold(log)?;
        appended?;
        Ok(())
    }

    /// Folds in what is in the log and not in the state.
    fn fold(&self, log: &Log) -> Result<(), AccessError> {
        let mut state = State::clone(&self.shared.state.load());
        loop {
            let records = log.reader.read(Position::new(state.end()), FOLDED)?;
            if records.is_empty() {
                break;
            }
            for record in &records {
                let position = record.position().get();
                state
                    .apply(record)
                    .map_err(|problem| AccessError::Unfit { position, problem })?;
            }
        }
        self.shared.state.store(Arc::new(state));
        self.shared.changes.send_modify(|changes| *changes += 1);
        Ok(())
    }
}

/// One change of one token, to be written.
struct Change {
    id: TokenId,
    event_type: &'static str,
    data: bytes::Bytes,
    expected: ExpectedRevision,
}

impl Change {
    fn issued(issued: &TokenIssued) -> Self {
        Self {
            id: issued.id,
            event_type: ISSUED,
            data: encode(issued),
            expected: ExpectedRevision::NoStream,
        }
    }

    fn revoked(id: TokenId) -> Self {
        Self {
            id,
            event_type: REVOKED,
            data: encode(&TokenRevoked { id }),
            expected: ExpectedRevision::Exact(Revision::new(0)),
        }
    }

    fn into_parts(self) -> (NewEvent, (StreamId, ExpectedRevision)) {
        const PLAIN: &str = "the name of a token's stream and event is plain";
        let stream = StreamId::new(stream(self.id)).expect(PLAIN);
        let event = NewEvent {
            stream: stream.clone(),
            event_type: EventType::new(self.event_type).expect(PLAIN),
            schema_version: SCHEMA_VERSION,
            data: self.data,
        };
        (event, (stream, self.expected))
    }
}

/// Waits for the log's writer, which is a thread of its own and needs nobody to drive it.
fn block_on(
    append: impl Future<Output = Result<stemma_event_log::Committed, AppendError>>,
) -> Result<stemma_event_log::Committed, AppendError> {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let mut context = std::task::Context::from_waker(&waker);
    let mut append = std::pin::pin!(append);
    loop {
        if let std::task::Poll::Ready(appended) = append.as_mut().poll(&mut context) {
            return appended;
        }
        std::thread::park();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, AtomicU8, Ordering};

    use super::*;

    #[derive(Default)]
    struct Fixed {
        now: AtomicI64,
        given: AtomicU8,
    }

    impl Sources for Fixed {
        fn now(&self) -> Timestamp {
            Timestamp::from_micros(self.now.load(Ordering::Relaxed))
        }

        fn new_id(&self) -> Uuid {
            Uuid::from_u128(self.given.fetch_add(1, Ordering::Relaxed).into())
        }

        fn secret(&self) -> Result<[u8; 32], String> {
            Ok([self.given.load(Ordering::Relaxed); 32])
        }
    }

    fn by(trace_id: &str) -> By<'_> {
        By {
            issuer: Issuer::Data,
            actor: "ops",
            trace_id,
        }
    }

    fn reader(principal: &str) -> NewToken {
        NewToken {
            principal: PrincipalName::new(principal).unwrap(),
            role: Role::Reader,
            tenant: Some(TenantName::new("default").unwrap()),
            expires_at: None,
        }
    }

    #[test]
    fn a_token_holds_until_it_is_taken_back_and_over_a_restart() {
        let place = tempfile::tempdir().unwrap();
        let dir = place.path().join("access");
        let sources = Arc::new(Fixed::default());
        let registry = Registry::open(&dir, sources.clone()).unwrap();
        assert!(registry.is_unused() && !dir.exists());
        let (kept, kept_text) = registry.issue(reader("ada"), by("t1")).unwrap();
        let (gone, gone_text) = registry.issue(reader("bob"), by("t2")).unwrap();
        let follow = registry.follow();
        assert_eq!(
            registry.authenticate(&gone_text.expose()),
            Some(Arc::clone(&gone))
        );
        let revoked = registry.revoke(gone.id, by("t3")).unwrap();
        assert!(revoked.revoked_at.is_some() && follow.has_changed().unwrap());
        assert_eq!(registry.revoke(gone.id, by("t4")).unwrap(), revoked);
        registry.close();
        drop(registry);
        let again = Registry::open(&dir, sources).unwrap();
        assert!(!again.is_unused());
        assert_eq!(again.authenticate(&gone_text.expose()), None);
        assert_eq!(again.authenticate(&kept_text.expose()), Some(kept));
        assert_eq!(again.tokens().len(), 2);
        assert!(matches!(
            again.revoke(TokenId::new(Uuid::from_u128(99)), by("t")),
            Err(AccessError::NotFound)
        ));
    }

    #[test]
    fn all_tokens_of_a_tenant_are_taken_back_and_no_others() {
        let place = tempfile::tempdir().unwrap();
        let registry = Registry::open(place.path(), Arc::new(Fixed::default())).unwrap();
        let south = TenantName::new("south").unwrap();
        let other = NewToken {
            tenant: Some(south.clone()),
            ..reader("bob")
        };
        assert_eq!(registry.revoke_all(&south, by("t")).unwrap(), 0);
        let (kept, _) = registry.issue(reader("ada"), by("t")).unwrap();
        let gone = [(), ()].map(|()| registry.issue(other.clone(), by("t")).unwrap().0);
        assert_eq!(registry.revoke_all(&south, by("t")).unwrap(), 2);
        assert!(registry.holds(kept.id));
        assert!(gone.iter().all(|token| !registry.holds(token.id)));
        assert_eq!(registry.revoke_all(&south, by("t")).unwrap(), 0);
    }

    #[test]
    fn another_secret_of_the_same_id_is_refused_and_a_token_ends_on_time() {
        let place = tempfile::tempdir().unwrap();
        let sources = Arc::new(Fixed::default());
        let registry = Registry::open(place.path(), sources.clone()).unwrap();
        let new = NewToken {
            expires_at: Some(Timestamp::from_micros(1000)),
            ..reader("ada")
        };
        let (token, text) = registry.issue(new.clone(), by("t")).unwrap();
        let forged = TokenText::new(token.id, [99; 32]);
        assert_eq!(registry.authenticate(&forged.expose()), None);
        sources.now.store(999, Ordering::Relaxed);
        assert!(registry.authenticate(&text.expose()).is_some());
        sources.now.store(1000, Ordering::Relaxed);
        assert_eq!(registry.authenticate(&text.expose()), None);
        assert!(matches!(
            registry.issue(new, by("t")),
            Err(AccessError::Expired)
        ));
    }

    #[test]
    fn whoever_holds_no_more_gives_out_nothing_and_takes_nothing_back() {
        let place = tempfile::tempdir().unwrap();
        let registry = Registry::open(place.path(), Arc::new(Fixed::default())).unwrap();
        let nobody = By {
            issuer: Issuer::NobodyYet,
            ..by("t")
        };
        let (first, _) = registry.issue(reader("ada"), nobody).unwrap();
        let held = By {
            issuer: Issuer::Token(first.id),
            ..by("t")
        };
        let (second, _) = registry.issue(reader("bob"), held).unwrap();
        registry.revoke(first.id, held).unwrap();
        for gone in [nobody, held] {
            let refused = registry.issue(reader("eve"), gone);
            assert!(matches!(refused, Err(AccessError::IssuerGone)));
            let refused = registry.revoke(second.id, gone);
            assert!(matches!(refused, Err(AccessError::IssuerGone)));
        }
        assert_eq!(registry.tokens().len(), 2);
    }

    #[test]
    fn an_operator_is_of_no_tenant_and_everybody_else_is_of_one() {
        let place = tempfile::tempdir().unwrap();
        let registry = Registry::open(place.path(), Arc::new(Fixed::default())).unwrap();
        let operator = NewToken {
            role: Role::Operator,
            ..reader("ada")
        };
        let stateless = NewToken {
            tenant: None,
            ..reader("ada")
        };
        for wrong in [operator, stateless] {
            let refused = registry.issue(wrong, by("t"));
            assert!(matches!(refused, Err(AccessError::Tenant)));
        }
        assert!(registry.is_unused());
    }
}
