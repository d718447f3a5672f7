//! Why a token was not given out, taken back, or could not be looked up.

use stemma_event_log::{AppendError, OpenError, ReadError};

/// What went wrong with the access log.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AccessError {
    /// The log could not be opened.
    #[error("open the log of tokens")]
    Open(#[from] OpenError),
    /// The log could not be read; nothing was written.
    #[error("read the log of tokens")]
    Read(#[from] ReadError),
    /// An event does not fit those before it, or is none that is known.
    #[error("event {position} of the log of tokens: {problem}")]
    Unfit {
        /// Where it stands.
        position: u64,
        /// What is wrong with it.
        problem: String,
    },
    /// The log could not be written to; the error says whether anything was.
    #[error("write to the log of tokens")]
    Append(#[from] AppendError),
    /// The change is durable, but could not be read back: it counts once the log was reopened.
    #[error("the change was written, and could not be read back")]
    Untold {
        /// Why not.
        #[source]
        source: Box<AccessError>,
    },
    /// Whoever wanted the change is let in no more.
    #[error("the token that asked for this holds no more")]
    IssuerGone,
    /// There is no such token.
    #[error("there is no such token")]
    NotFound,
    /// An operator's token names a tenant, or another role's names none.
    #[error("an operator's token names no tenant, every other one does")]
    Tenant,
    /// It would be over before it begins.
    #[error("expires_at lies in the past")]
    Expired,
    /// As many tokens hold as may.
    #[error("{max} tokens hold, which is the most")]
    Full {
        /// The most.
        max: usize,
    },
    /// As many tokens of the tenant hold as may.
    #[error("{max} tokens of the tenant hold, which is the most")]
    TenantFull {
        /// The most.
        max: usize,
    },
    /// The system gave no random bytes.
    #[error("no random bytes for a secret: {0}")]
    NoRandomness(String),
}
