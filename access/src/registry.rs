//! The tokens of a server, looked up by requests and changed through the log.
//!
//! Invariants: what is answered to a request is a fold of the log as it is on disk; a token that
//! was taken back is refused from the moment that this was told. The log is made with the first
//! token: a server without any leaves nothing behind.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use stemma_domain::access::Role;
use stemma_domain::time::Timestamp;
use stemma_domain::value::{PrincipalName, TenantName};
use stemma_event_log::{
    AppenderStatus, Batch, EventType, ExpectedRevision, FileStorage, Log, Metadata, NewEvent,
    Options, Position, ReadLimit, Revision, Storage, StreamId,
};
use tokio::sync::watch;
use uuid::Uuid;

use crate::authority::Authority;
use crate::error::AccessError;
use crate::event::{ISSUED, REVOKED, SCHEMA_VERSION, TokenIssued, TokenRevoked, encode, stream};
use crate::state::{Fold, Token, Tokens};
use crate::token::{TokenId, TokenText};

/// Most tokens that hold at a time.
const TOKENS_MAX: usize = 100_000;
/// Most of them that are of one tenant, so that none takes all.
const TENANT_TOKENS_MAX: usize = 50_000;
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
    /// The token of an issuer outside, until it ends.
    Until(Timestamp),
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
    /// Where the log lies: the directory, but in tests of what a disk may do.
    storage: Arc<dyn Storage>,
    sources: Arc<dyn Sources>,
    tokens: Tokens,
    /// Events that are folded in.
    end: AtomicU64,
    /// Of how many tenants tokens hold.
    tenants: AtomicUsize,
    /// Changed by one at a time.
    kept: Mutex<Kept>,
    /// Counts the changes.
    changes: watch::Sender<u64>,
    /// The issuer outside whose tokens count too.
    authority: OnceLock<Authority>,
}

/// The log, once there is one, and how far it is folded.
#[derive(Default)]
struct Kept {
    log: Option<Log>,
    fold: Fold,
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
        Self::open_on(dir, Arc::new(FileStorage::new(dir)), sources)
    }

    fn open_on(
        dir: &Path,
        storage: Arc<dyn Storage>,
        sources: Arc<dyn Sources>,
    ) -> Result<Self, AccessError> {
        let registry = Self {
            shared: Arc::new(Shared {
                dir: dir.to_owned(),
                storage,
                sources,
                tokens: Tokens::default(),
                end: AtomicU64::new(0),
                tenants: AtomicUsize::new(0),
                kept: Mutex::default(),
                changes: watch::Sender::new(0),
                authority: OnceLock::new(),
            }),
        };
        if dir.is_dir() {
            let log = registry.open_log()?;
            let mut kept = registry.lock();
            registry.fold(&log, &mut kept.fold)?;
            kept.log = Some(log);
        }
        Ok(registry)
    }

    /// Has tokens of an issuer outside count beside these; said once, before the first request.
    pub fn trust(&self, authority: Authority) {
        // Only who starts the server says it.
        let _ = self.shared.authority.set(authority);
    }

    /// The issuer outside whose tokens count.
    pub fn authority(&self) -> Option<&Authority> {
        self.shared.authority.get()
    }

    /// Whether nobody is asked for a token: none was ever given out, and nobody outside gives any.
    pub fn is_unused(&self) -> bool {
        self.shared.end.load(Ordering::Acquire) == 0 && self.shared.authority.get().is_none()
    }

    /// Whether tokens of several tenants may hold, who then share what the server has.
    pub fn is_shared(&self) -> bool {
        self.shared.tenants.load(Ordering::Relaxed) > 1 || self.shared.authority.get().is_some()
    }

    /// Whether the log takes changes, and why not; none while there is no log.
    pub fn status(&self) -> Option<AppenderStatus> {
        self.lock().log.as_ref().map(|log| log.appender.status())
    }

    /// Has the log take changes again after a failed write or sync. Waits for its writer.
    ///
    /// # Errors
    /// [`AccessError::Open`], and what is wrong with what it then holds; it takes none then.
    pub fn reopen(&self) -> Result<(), AccessError> {
        let mut kept = self.lock();
        let Kept { log, fold } = &mut *kept;
        let Some(log) = log else { return Ok(()) };
        block_on(log.appender.reopen())?;
        self.fold(log, fold)
    }

    /// What time it is by the clock that tokens end by.
    pub fn now(&self) -> Timestamp {
        self.shared.sources.now()
    }

    /// The token whose text this is, if it holds now. What is no token, one that nobody was
    /// given, one that was taken back and one that is over are not told apart.
    pub fn authenticate(&self, text: &str) -> Option<Arc<Token>> {
        let text = TokenText::read(text)?;
        let token = self.token(text.id())?;
        let is_it = token.is(&text) && token.holds_at(self.shared.sources.now());
        is_it.then_some(token)
    }

    /// A token by its id, whether it holds or not; none of those that ended long ago.
    pub fn token(&self, id: TokenId) -> Option<Arc<Token>> {
        self.shared.tokens.get(id)
    }

    /// Whether a token that held still does.
    pub fn still_holds(&self, token: &Token) -> bool {
        if token.is_vouched() {
            return token.holds_at(self.shared.sources.now());
        }
        self.holds(token.id)
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

    /// Every token that was given out and holds, and the last ten thousand of those that hold no
    /// more, in the order in which they were given out.
    pub fn tokens(&self) -> Vec<Arc<Token>> {
        self.shared.tokens.all()
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
    /// [`AccessError`]; no token was given out, but for [`AccessError::Append`], which says, and
    /// [`AccessError::Untold`], after which there is one whose text nobody knows.
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
        let mut kept = self.lock();
        self.check(by.issuer)?;
        let Kept { log, fold } = &mut *kept;
        fold.end_those_over(now, &self.shared.tokens);
        if fold.holding() >= TOKENS_MAX {
            return Err(AccessError::Full { max: TOKENS_MAX });
        }
        if let Some(tenant) = &issued.tenant
            && fold.holding_of(tenant) >= TENANT_TOKENS_MAX
        {
            let max = TENANT_TOKENS_MAX;
            return Err(AccessError::TenantFull { max });
        }
        let log = match log {
            Some(log) => log,
            none => none.insert(self.open_log()?),
        };
        self.append(log, fold, vec![Change::issued(&issued)], by)?;
        let token = self.token(id).ok_or(AccessError::NotFound)?;
        Ok((token, text))
    }

    /// Takes a token back; one that was is left as it is. Blocks until it is durable.
    ///
    /// # Errors
    /// [`AccessError::NotFound`], or why it could not be written.
    pub fn revoke(&self, id: TokenId, by: By<'_>) -> Result<Arc<Token>, AccessError> {
        let mut kept = self.lock();
        self.check(by.issuer)?;
        let Kept { log, fold } = &mut *kept;
        let token = self.token(id).ok_or(AccessError::NotFound)?;
        let Some(log) = log.as_ref().filter(|_| token.revoked_at.is_none()) else {
            return Ok(token);
        };
        self.append(log, fold, vec![Change::revoked(id)], by)?;
        self.token(id).ok_or(AccessError::NotFound)
    }

    /// Takes back all tokens of a tenant, a thousand in one batch, and gives how many those were;
    /// none is given out meanwhile. Blocks until it is durable.
    ///
    /// # Errors
    /// Why it could not be written: then asking again takes back those that are left.
    pub fn revoke_all(&self, tenant: &TenantName, by: By<'_>) -> Result<usize, AccessError> {
        let mut kept = self.lock();
        self.check(by.issuer)?;
        let Kept { log, fold } = &mut *kept;
        let Some(log) = log else {
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
            self.append(log, fold, changes.collect(), by)?;
        }
        Ok(own.len())
    }

    /// Ends the log in good order.
    pub fn close(&self) {
        // What it holds is durable; a log that is not closed is read to its end at the next start.
        if let Some(log) = self.lock().log.take() {
            let _ = log.appender.close();
        }
    }

    /// Whether somebody may still change tokens; asked with the lock in hand.
    fn check(&self, issuer: Issuer) -> Result<(), AccessError> {
        let may = match issuer {
            Issuer::Token(id) => self.holds(id),
            Issuer::Until(end) => self.shared.sources.now() < end,
            Issuer::NobodyYet => self.is_unused(),
            Issuer::Data => true,
        };
        may.then_some(()).ok_or(AccessError::IssuerGone)
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        // What is in it is changed whole.
        self.shared
            .kept
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn open_log(&self) -> Result<Log, AccessError> {
        let storage = Arc::clone(&self.shared.storage);
        let options = Options {
            segment_bytes_first: SEGMENT_BYTES,
            segment_bytes_max: SEGMENT_BYTES,
            ..Options::default()
        };
        Ok(Log::open(storage, options)?)
    }

    /// Writes events about tokens as one batch, each at the revision that its token is to be at,
    /// and folds them in.
    fn append(
        &self,
        log: &Log,
        fold: &mut Fold,
        changes: Vec<Change>,
        by: By<'_>,
    ) -> Result<(), AccessError> {
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
        // A failed one may have left something to fold all the same.
        let folded = self.fold(log, fold);
        appended?;
        folded.map_err(|source| AccessError::Untold {
            source: Box::new(source),
        })
    }

    /// Folds in what is in the log and not in the tokens.
    fn fold(&self, log: &Log, fold: &mut Fold) -> Result<(), AccessError> {
        let folded = self.fold_all(log, fold);
        self.shared.end.store(fold.end(), Ordering::Release);
        self.shared.tenants.store(fold.tenants(), Ordering::Relaxed);
        self.shared.changes.send_modify(|changes| *changes += 1);
        folded
    }

    fn fold_all(&self, log: &Log, fold: &mut Fold) -> Result<(), AccessError> {
        loop {
            let records = log.reader.read(Position::new(fold.end()), FOLDED)?;
            if records.is_empty() {
                return Ok(());
            }
            for record in &records {
                let position = record.position().get();
                fold.apply(record, &self.shared.tokens)
                    .map_err(|problem| AccessError::Unfit { position, problem })?;
            }
        }
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
fn block_on<T>(waited: impl Future<Output = T>) -> T {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let mut context = std::task::Context::from_waker(&waker);
    let mut waited = std::pin::pin!(waited);
    loop {
        if let std::task::Poll::Ready(told) = waited.as_mut().poll(&mut context) {
            return told;
        }
        std::thread::park();
    }
}

#[cfg(test)]
mod tests;
