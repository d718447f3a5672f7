//! Settings: defaults, then file, then environment, then options; each with where it came from.

mod resolve;
mod settings;

pub(crate) use resolve::{Resolved, Settings, data_dir};
pub(crate) use settings::reference;
