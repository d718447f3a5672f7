//! Rows that are opened while the log still is: an engine reads its own journal meanwhile.
//!
//! Invariant: nothing is made, moved or removed. What cannot be opened so is left to the start,
//! which knows the log and says what is wrong.

use std::path::{Path, PathBuf};

use stemma_views::{Model, Options, Views};

use crate::generation::{GenerationLock, Generations};

/// The generation in use, opened and held.
#[derive(Debug)]
pub struct Ahead<M: Model = Views> {
    pub(crate) generation: PathBuf,
    pub(crate) model: M,
    /// Behind the rows, so that it goes after them.
    pub(crate) lock: GenerationLock,
}

impl<M: Model> Ahead<M> {
    /// Opens the generation in use; none where there is none, where somebody else has it, or where
    /// it cannot be opened as it is.
    pub fn open(dir: &Path, options: &Options) -> Option<Self> {
        let generations = Generations::at(dir);
        if !dir.is_dir() {
            return None;
        }
        let lock = generations.lock().ok()??;
        let generation = generations.current().ok()??;
        let model = M::open_existing(&generation, options).ok()?;
        Some(Self {
            generation,
            model,
            lock,
        })
    }
}
