//! Read models: what the log says, in the form in which it is asked for.
//!
//! Everything here can be thrown away and made again from the log, so the store below may be one
//! that forgives itself much. `docs/format/views.md` describes the rows.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod apply;
mod checkpointed;
mod cursor;
mod digest;
#[doc(hidden)]
pub mod fuzzing;
pub mod graph;
mod job_feed;
mod key;
mod list;
mod model;
mod open;
mod processing;
mod query;
mod row;
mod seen;
mod share;
mod store;
mod touches;
mod traces;
mod views;
mod walk;

pub use apply::{ApplyError, Prepared, Reason};
pub use checkpointed::CheckpointedStore;
pub use cursor::{Cursor, CursorError, from_hex};
pub use digest::{StateDigest, StateHasher};
pub use job_feed::{ChangedJobs, JobFeed};
pub use key::hex;
pub use model::Model;
pub use open::{OpenError, OpenState, Opened, Options};
pub use processing::{JobCounts, JobQuery, day_of};
pub use query::{
    Archived, EntityTypeRow, Page, ReferenceRelation, ReferencedBy, ResourceQuery, Sort,
};
pub use seen::{Seen, tells_grants};
pub use share::{Share, give_way};
pub use store::{Engine, StoreError};
pub use traces::{TRACE_WINDOW_US, told_time};
pub use views::{QueryError, Views, ViewsStats};
