//! Settings: defaults, then file, then environment, then options; each with where it came from.

mod reference;
mod resolve;
mod setting;
mod settings;

pub(crate) use reference::reference;
pub(crate) use resolve::{Resolved, Settings, data_dir};
