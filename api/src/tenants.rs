//! The tenants of a server: which one a request is of, opened when it is asked for.
//!
//! Invariant: a token decides the tenant, and nothing else does. A tenant that a request works on
//! stays open until the last byte of its answer is handed over.

use std::future::{Ready, ready};
use std::ops::Deref;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpMessage, HttpRequest};
use bytes::Bytes;
use stemma_domain::value::TenantName;

use crate::body::blocking;
use crate::error::{ApiError, Code};
use crate::state::AppState;

/// Opens tenants, and closes those that nobody uses.
pub trait Tenants: Send + Sync {
    /// A tenant that is open already; none when it would have to be opened or waited for.
    fn opened(&self, name: &TenantName) -> Option<InUse>;

    /// A tenant, opened if it is not. Blocks for as long as that takes.
    ///
    /// # Errors
    /// [`TenantError`].
    fn open(&self, name: &TenantName) -> Result<InUse, TenantError>;

    /// Makes a tenant.
    ///
    /// # Errors
    /// [`TenantError`].
    fn create(&self, name: &TenantName) -> Result<(), TenantError>;

    /// Closes a tenant and deletes all that is of it. Blocks until it is gone.
    ///
    /// # Errors
    /// [`TenantError::Busy`] while requests work on it; [`TenantError::Served`] for the one that
    /// the server was started for.
    fn delete(&self, name: &TenantName) -> Result<(), TenantError>;

    /// Every tenant, by name, and whether it is open.
    ///
    /// # Errors
    /// When the directory cannot be read.
    fn list(&self) -> Result<Vec<(TenantName, bool)>, TenantError>;
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
    /// Requests, streams or jobs work on it.
    #[error("requests, streams or jobs work on it")]
    Busy,
    /// The server was started for it.
    #[error("the server was started for it")]
    Served,
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
            TenantError::Busy | TenantError::Served => Code::TenantInUse,
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

/// The tenant that a request is served from; an extractor.
#[derive(Debug, Clone)]
pub(crate) struct Served(InUse);

impl Served {
    /// The tenant of this name, of those that `own` serves.
    pub(crate) async fn of(own: &AppState, name: Option<&TenantName>) -> Result<Self, ApiError> {
        let access = own.access();
        let Some(name) = name.filter(|name| *name != access.tenant()) else {
            return Ok(Self(InUse::always(own.clone())));
        };
        let Some(tenants) = own.tenants() else {
            return Err(ApiError::of(Code::TenantNotServed));
        };
        if let Some(opened) = tenants.opened(name) {
            return Ok(Self(opened));
        }
        let (tenants, name) = (Arc::clone(tenants), name.clone());
        let opened = blocking(move || tenants.open(&name)).await?;
        match opened {
            Ok(opened) => Ok(Self(opened)),
            // Whoever has a token of a tenant that is gone is told no more than that.
            Err(TenantError::NotFound) => Err(ApiError::of(Code::TenantNotServed)),
            Err(error) => Err(error.into()),
        }
    }

    /// A body that keeps the tenant open until it was handed over.
    pub(crate) fn until_sent(self, body: BoxBody) -> BoxBody {
        let is_empty = matches!(body.size(), BodySize::None | BodySize::Sized(0));
        if is_empty || self.0.usage.is_none() {
            return body;
        }
        BoxBody::new(Held {
            body,
            _served: self,
        })
    }
}

impl Deref for Served {
    type Target = AppState;

    fn deref(&self) -> &AppState {
        &self.0.state
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
