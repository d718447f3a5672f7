//! Filling a model from the log: one thread reads and decodes ahead, another folds.
//!
//! Invariant: a model is at a position of the log whenever it is looked at; whatever ends the
//! filling, it holds the fold of all records before it.

use std::sync::mpsc;

use stemma_event_log::{ReadError, Reader};
use stemma_views::{ApplyError, Model, Prepared};

use crate::rebuild::RebuildError;
use crate::runner::{apply_with, causes, read};

/// Most records of one batch of a model that nobody reads yet.
const FILL_RECORDS: u64 = 8192;
/// Batches that are read ahead of the one that is being folded.
const BATCHES_AHEAD: usize = 1;

/// Applies all records below `end`; `between` is told how far the model is after each batch, and
/// may break off.
pub(crate) fn fill_to(
    model: &impl Model,
    reader: &Reader,
    end: u64,
    between: &mut dyn FnMut(u64) -> Result<(), RebuildError>,
) -> Result<(), RebuildError> {
    let start = model.end();
    if start >= end {
        return Ok(());
    }
    std::thread::scope(|scope| {
        let (batches, ready) = mpsc::sync_channel(BATCHES_AHEAD);
        scope.spawn(move || read_ahead(reader, start, end, &batches));
        // Broken off, the receiver goes, and with it the thread that reads.
        for batch in ready {
            let batch: Vec<Prepared> = batch?;
            apply_with(model, || model.apply_prepared(batch)).map_err(|error| failed(&error))?;
            between(model.end())?;
        }
        Ok(())
    })
}

/// Applies the next records below `end`, on this thread alone.
pub(crate) fn fill_some(model: &impl Model, reader: &Reader, end: u64) -> Result<(), RebuildError> {
    let records = read(reader, model.end(), next_count(model.end(), end))?;
    apply_with(model, || model.apply(&records)).map_err(|error| failed(&error))
}

fn read_ahead(
    reader: &Reader,
    start: u64,
    end: u64,
    batches: &mpsc::SyncSender<Result<Vec<Prepared>, ReadError>>,
) {
    let mut next = start;
    while next < end {
        let batch = read(reader, next, next_count(next, end));
        let is_last = batch.as_ref().map_or(true, Vec::is_empty);
        next += batch.as_ref().map_or(0, |batch| batch.len() as u64);
        let batch = batch.map(|batch| batch.into_iter().map(Prepared::of).collect());
        if batches.send(batch).is_err() || is_last {
            return;
        }
    }
}

fn next_count(next: u64, end: u64) -> usize {
    let left = end.saturating_sub(next).min(FILL_RECORDS);
    usize::try_from(left).expect("a batch's count fits")
}

fn failed(error: &ApplyError) -> RebuildError {
    RebuildError::Apply {
        position: error.position,
        reason: causes(error.reason.as_ref()),
    }
}
