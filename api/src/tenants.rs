//! The tenants of a server: which one a request is of, opened when it is asked for.
//!
//! Invariant: a token decides the tenant, and nothing else does. A tenant that a request works on
//! stays open until the last byte of its answer is handed over.

use std::future::{Ready, ready};
use std::ops::Deref;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpMessage, HttpRequest};
use bytes::Bytes;
use stemma_domain::access::{Need, Sight};
use stemma_domain::value::TenantName;
use stemma_views::{Cursor, Page as Found, Seen};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::access::Caller;
use crate::error::{ApiError, Code};
use crate::page::Page;
use crate::query::MinPosition;
use crate::state::{AppState, Reflected};

/// Opens tenants, closes those that nobody uses, and deletes.
pub trait Tenants: Send + Sync {
    /// A tenant; one that is not open is begun to be opened. Waits for nothing.
    ///
    /// # Errors
    /// [`TenantError`].
    fn ask(&self, name: &TenantName) -> Result<Asked, TenantError>;

    /// Does something while a tenant is there: it is not deleted meanwhile. Blocks.
    ///
    /// # Errors
    /// [`TenantError::NotFound`]; then it was not done.
    fn while_there(&self, name: &TenantName, work: &mut dyn FnMut()) -> Result<(), TenantError>;

    /// Makes a tenant. Blocks.
    ///
    /// # Errors
    /// [`TenantError`].
    fn create(&self, name: &TenantName) -> Result<(), TenantError>;

    /// Lets nobody use a tenant any more, takes back all its tokens, and deletes all that is of it
    /// once those are done who work on it. Blocks for a moment, for that to come about.
    ///
    /// # Errors
    /// [`TenantError::NotFound`], and [`TenantError::Served`] for the one that the server was
    /// started for; after [`TenantError::Failed`] it may have begun, and then goes on by itself.
    fn delete(&self, name: &TenantName, by: &str, trace_id: &str) -> Result<Deletion, TenantError>;

    /// Every tenant, by name, and whether it is open.
    ///
    /// # Errors
    /// When the directory cannot be read.
    fn list(&self) -> Result<Vec<(TenantName, bool)>, TenantError>;

    /// The tenants beside the first, as they are now. Looking at one does not count as using it.
    fn others(&self) -> Others;
}

/// The tenants beside the first: those that are open, which stay so while this is held, and those
/// that could not be opened when they were last asked for, each with why. By name.
#[derive(Debug, Default)]
pub struct Others {
    /// Those that are open.
    pub open: Vec<(TenantName, InUse)>,
    /// Those that could not be opened.
    pub failed: Vec<(TenantName, String)>,
}

/// What came of something that was waited for; none while it is under way.
pub type Told = Option<Result<(), TenantError>>;

/// A tenant that was asked for.
pub enum Asked {
    /// It is open.
    Open(InUse),
    /// It is to be asked for again once this tells of success, or is dropped.
    UnderWay(watch::Receiver<Told>),
}

impl std::fmt::Debug for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Open(_) => "Open",
            Self::UnderWay(_) => "UnderWay",
        })
    }
}

/// How far a deletion is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deletion {
    /// The tenant is gone.
    Done,
    /// Requests still work on it; it goes by itself once they have ended.
    UnderWay,
}

/// Why a tenant is not there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TenantError {
    /// There is none of this name.
    #[error("there is no such tenant")]
    NotFound,
    /// There is one of this name already.
    #[error("there is a tenant of this name")]
    Exists,
    /// As many are open as may be, and all of them are in use.
    #[error("{max} tenants are open and in use, which is the most (tenants.open_max)")]
    Full {
        /// The most.
        max: usize,
    },
    /// There is one of this name that is being deleted.
    #[error("a tenant of this name is being deleted")]
    Leaving,
    /// The server stops.
    #[error("the server stops")]
    Stopping,
    /// The server was started for it.
    #[error("the server was started for it")]
    Served,
    /// It is not open yet.
    #[error("the tenant is being opened, which takes longer than {wait_ms_max} ms")]
    Slow {
        /// How long was waited.
        wait_ms_max: u64,
    },
    /// It could not be opened, made or deleted.
    #[error("{0}")]
    Failed(String),
}

impl From<TenantError> for ApiError {
    fn from(error: TenantError) -> Self {
        let code = match &error {
            TenantError::NotFound => Code::TenantNotFound,
            TenantError::Exists => Code::AlreadyExists,
            TenantError::Full { .. } => Code::TooManyTenants,
            TenantError::Leaving | TenantError::Served => Code::TenantInUse,
            TenantError::Stopping | TenantError::Slow { .. } => Code::TenantUnavailable,
            TenantError::Failed(_) => return Self::of(Code::TenantUnavailable).because(&error),
        };
        Self::new(code, error.to_string())
    }
}

/// Keeps a tenant open until it is dropped.
pub trait Usage: Send + Sync {}

/// A tenant that is used, and stays open for as long.
#[derive(Clone)]
pub struct InUse {
    state: AppState,
    usage: Option<Arc<dyn Usage>>,
}

impl std::fmt::Debug for InUse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InUse").finish_non_exhaustive()
    }
}

impl InUse {
    /// A tenant that is held open by `usage`.
    pub fn new(state: AppState, usage: Arc<dyn Usage>) -> Self {
        Self {
            state,
            usage: Some(usage),
        }
    }

    /// The tenant that the server was started for, which is open until it stops.
    pub(crate) fn always(state: AppState) -> Self {
        Self { state, usage: None }
    }

    /// The state of the tenant.
    pub fn state(&self) -> &AppState {
        &self.state
    }
}

/// The tenant that a request is served from, as whoever asks sees it; an extractor.
#[derive(Debug, Clone)]
pub(crate) struct Served {
    in_use: InUse,
    /// What whoever asks sees of it.
    sight: Sight,
}

impl Served {
    /// The tenant of this name, of those that `own` serves.
    pub(crate) async fn of(
        own: &AppState,
        name: Option<&TenantName>,
        sight: Sight,
    ) -> Result<Self, ApiError> {
        let access = own.access();
        let Some(name) = name.filter(|name| *name != access.tenant()) else {
            let in_use = InUse::always(own.clone());
            return Ok(Self { in_use, sight });
        };
        let Some(tenants) = own.tenants() else {
            return Err(ApiError::of(Code::TenantNotServed));
        };
        match opened(tenants.as_ref(), name, own.options().wait_ms_max).await {
            Ok(in_use) => Ok(Self { in_use, sight }),
            // Whoever has a token of a tenant that is gone is told no more than that.
            Err(TenantError::NotFound) => Err(ApiError::of(Code::TenantNotServed)),
            Err(error) => Err(error.into()),
        }
    }

    /// A cursor as whoever asks is given it.
    pub(crate) fn cursor(&self, cursor: &Cursor) -> String {
        self.cursors().told(cursor, &self.sight)
    }

    /// A page of a view's as whoever asks is given it.
    pub(crate) fn page<U, T>(&self, page: Found<U>, render: impl FnMut(U) -> T) -> Page<T> {
        Page::of(page, render, |cursor| self.cursor(cursor))
    }

    /// The tenants beside the one that the server was started for, for whoever operates the server:
    /// an admin of that one is told of no other.
    pub(crate) fn others(&self, caller: &Caller) -> Option<Others> {
        let is_first = self.in_use.usage.is_none();
        (is_first && caller.may(Need::Operate)).then(|| {
            self.tenants()
                .map_or_else(Others::default, |all| all.others())
        })
    }

    /// What whoever asks sees.
    pub(crate) fn sight(&self) -> &Sight {
        &self.sight
    }

    /// The views as they are now, as whoever asks sees them.
    pub(crate) fn seen(&self) -> Seen {
        self.projection().views().seen_by(&self.sight)
    }

    /// The same, once they have reached what the client asks for.
    pub(crate) async fn views_at(&self, wait: MinPosition) -> Result<Reflected, ApiError> {
        let views = self.views_reaching(wait).await?;
        let end = views.end();
        let views = views.seen_by(&self.sight);
        Ok(Reflected { views, end })
    }

    /// The same, once they hold `end` records, so that what the log holds up to there can be held
    /// against them. Whoever sees everything waits for nothing.
    pub(crate) async fn seen_after(&self, end: u64) -> Result<Seen, ApiError> {
        if self.sight != Sight::Everything && self.projection().views().end() < end {
            let timeout = Duration::from_millis(self.options().write_wait_ms);
            let reached = self.projection().wait_for(end, timeout).await;
            reached.map_err(|error| ApiError::of(Code::NotYet).because(&error))?;
        }
        Ok(self.seen())
    }

    /// A body that keeps the tenant open until it was handed over.
    pub(crate) fn until_sent(self, body: BoxBody) -> BoxBody {
        let is_empty = matches!(body.size(), BodySize::None | BodySize::Sized(0));
        if is_empty || self.in_use.usage.is_none() {
            return body;
        }
        BoxBody::new(Held {
            body,
            _served: self,
        })
    }
}

/// A tenant, once it is open. No thread waits for it.
async fn opened(
    tenants: &dyn Tenants,
    name: &TenantName,
    wait_ms_max: u64,
) -> Result<InUse, TenantError> {
    let until = Instant::now() + Duration::from_millis(wait_ms_max);
    loop {
        let mut told = match tenants.ask(name)? {
            Asked::Open(opened) => return Ok(opened),
            Asked::UnderWay(told) => told,
        };
        let ended = tokio::time::timeout_at(until, told.wait_for(Option::is_some)).await;
        let ended = ended.map_err(|_| TenantError::Slow { wait_ms_max })?;
        // Whoever was at it may have ended without a word.
        if let Ok(Err(error)) = ended.map(|told| told.clone().unwrap_or(Ok(()))) {
            return Err(error);
        }
    }
}

impl Deref for Served {
    type Target = AppState;

    fn deref(&self) -> &AppState {
        &self.in_use.state
    }
}

impl FromRequest for Served {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let served = request.extensions().get::<Self>().cloned();
        ready(served.ok_or_else(|| ApiError::of(Code::Internal)))
    }
}

struct Held {
    body: BoxBody,
    _served: Served,
}

impl MessageBody for Held {
    type Error = Box<dyn std::error::Error>;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Pin::new(&mut self.body).poll_next(cx)
    }
}
