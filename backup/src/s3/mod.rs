//! A target in a store of objects that speaks S3.

mod draft;
#[cfg(test)]
mod fake_store;
mod lease;
mod options;
mod reader;
mod store;
mod target;

pub use options::{S3Options, S3OptionsError, UrlStyle};
pub use target::S3Target;
