//! Live streams: events of the log as Server-Sent Events, from any position, without gap or repeat.

mod filter;
mod frame;
mod hub;
mod stream;

pub(crate) use filter::Filter;
pub(crate) use frame::Frames;
pub(crate) use hub::Hub;
pub use hub::pass_on;
pub(crate) use stream::{Start, Subject, open};
