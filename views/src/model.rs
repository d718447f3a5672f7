//! What a projection feeds: a fold of the log, kept in rows.

use std::fmt::Debug;
use std::ops::Deref;
use std::path::Path;
use std::time::Duration;

use stemma_event_log::Record;

use crate::apply::{ApplyError, Prepared};
use crate::checkpointed::CheckpointedStore;
use crate::open::{OpenError, Opened, Options, open, open_existing};
use crate::store::StoreError;

/// A fold of the log in rows of one directory; clones share them.
pub trait Model: Clone + Debug + Deref<Target = CheckpointedStore> + Send + Sync + 'static {
    /// What it is called where people are told of it.
    const NAME: &'static str;

    /// The form of its keys and rows: another one means a rebuild.
    const FORM: u8;

    /// How long a projection lets records gather before it takes them up, while nobody waits for
    /// them: none for what writes wait for.
    const PACE: Duration;

    /// The model over rows that were opened.
    fn over(rows: CheckpointedStore, options: &Options) -> Self;

    /// Applies records, which follow one another; those below the end are passed over. Gives the
    /// new end. To be called by one thread at a time.
    ///
    /// # Errors
    /// [`ApplyError`] at the first record that cannot be applied; all before it are applied, and
    /// the rows stay at its position.
    ///
    /// # Panics
    /// When a record is missing before the first that is to be applied: positions are dense.
    fn apply(&self, records: &[Record]) -> Result<u64, ApplyError>;

    /// As [`Model::apply`], with payloads that were read ahead.
    ///
    /// # Errors
    /// As [`Model::apply`].
    ///
    /// # Panics
    /// As [`Model::apply`].
    fn apply_prepared(&self, records: Vec<Prepared>) -> Result<u64, ApplyError>;

    /// Makes an engine whose write failed ready for writing again. The rows may be at an earlier
    /// position afterwards, to be applied from there. No question is answered meanwhile.
    ///
    /// # Errors
    /// [`StoreError`]; to be tried again later.
    fn reopen(&self) -> Result<(), StoreError>;

    /// Opens the rows in a directory, making it when it is not there.
    ///
    /// An engine that fails or panics, and rows of another form, have the directory renamed to
    /// `<dir>.unusable-<n>`; the model is empty then, to be filled from the log. What another
    /// engine left in the directory is removed.
    ///
    /// # Errors
    /// [`OpenError`].
    fn open(dir: &Path, options: &Options) -> Result<Opened<Self>, OpenError> {
        open(dir, options)
    }

    /// Opens rows that are there, and moves nothing aside.
    ///
    /// # Errors
    /// [`OpenError`].
    fn open_existing(dir: &Path, options: &Options) -> Result<Self, OpenError> {
        open_existing(dir, options)
    }
}
