//! The engine's panics, made into errors.
//!
//! The engine checks the sums of its files only when it is opened; what is damaged later it may
//! meet by a panic. Nothing of ours is changed half: a query changes nothing, and a writer that
//! panicked is thrown away with all that it had not committed.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::error::SearchError;

/// Runs a piece of work.
///
/// # Errors
/// Its own, and [`SearchError::Damaged`] if it panicked.
pub(crate) fn guarded<T>(work: impl FnOnce() -> Result<T, SearchError>) -> Result<T, SearchError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let message = panic_message(panic.as_ref());
        Err(SearchError::Damaged { message })
    })
}

/// What a panic said.
pub(crate) fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without words".to_owned())
}
