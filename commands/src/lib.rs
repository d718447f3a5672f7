//! The only write path: load the state, decide, append, try again on a conflict.
//!
//! Nothing else in Stemma is handed an `Appender`. A request is one or more operations over one or
//! more streams; all of them take effect in one batch of the log, or none does.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod aggregates;
mod anchored;
mod answered;
mod commands;
mod environment;
mod error;
mod folded;
mod history;
mod in_flight;
mod plan;
mod replay;
mod request;
mod short;
mod text;

pub use answered::Answered;
pub use commands::{Commands, Dependencies, Options};
pub use environment::{Clock, Ids};
pub use error::CommandError;
pub use history::{AsOf, HistoryError, Past, PastState};
pub use request::{
    Change, CloneAnnotations, EntityTag, Operation, OperationResult, Precondition, Request, Target,
    Written,
};
pub use text::TextError;
