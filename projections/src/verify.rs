//! Holding the views against the log: the log is folded once more, into a store that is thrown
//! away, and every row compared.

use std::path::Path;

use stemma_event_log::Reader;
use stemma_views::{Options, Views};

use crate::generation::Generations;
use crate::rebuild::{RebuildError, RebuildPhase, RebuildProgress, fill_some};

/// Rows that are compared at a time.
const SLICE_ROWS: usize = 4096;
/// Most rows that are named.
const DAMAGES_MAX: usize = 1000;

/// A row that is not what the log says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewDamage {
    /// `missing`, `surplus`, `differs` or `unreadable`.
    pub kind: &'static str,
    /// The row's key in hex; empty when the views cannot be read at all.
    pub key: String,
    /// What was found, for people.
    pub detail: String,
}

/// Compares the views in `dir` with the fold of the log up to where they are. Changes nothing in
/// them; `scratch` is made and removed again.
///
/// # Errors
/// [`RebuildError`] when the log itself does not fold, or a directory cannot be used.
pub fn verify_views(
    reader: &Reader,
    dir: &Path,
    scratch: &Path,
    options: &Options,
    progress: &mut dyn FnMut(RebuildProgress),
) -> Result<Vec<ViewDamage>, RebuildError> {
    let Some(current) = Generations::at(dir).current()?.filter(|dir| dir.exists()) else {
        return Ok(Vec::new());
    };
    let opened = Views::open(&current, options)?;
    if let stemma_views::OpenState::Replaced { reason, .. } = opened.state {
        let damage = ViewDamage { kind: "unreadable", key: String::new(), detail: reason };
        return Ok(vec![damage]);
    }
    let live = opened.views;
    verify_against(&live, reader, scratch, options, progress)
}

/// The same for views that are open.
fn verify_against(
    live: &Views,
    reader: &Reader,
    scratch: &Path,
    options: &Options,
    progress: &mut dyn FnMut(RebuildProgress),
) -> Result<Vec<ViewDamage>, RebuildError> {
    let folded = Views::open(scratch, options)?.views;
    let end = reader.end().get();
    while fill_some(live, reader)? {}
    while folded.end() < live.end() && fill_some(&folded, reader)? {
        progress(RebuildProgress { applied: folded.end(), end, phase: RebuildPhase::Filling });
    }
    let compared = compare(live, &folded);
    drop(folded);
    if let Err(error) = std::fs::remove_dir_all(scratch) {
        tracing::warn!(%error, "a scratch directory of the verification stays");
    }
    compared
}

fn compare(live: &Views, folded: &Views) -> Result<Vec<ViewDamage>, RebuildError> {
    let mut damages = Vec::new();
    let mut rows = (Rows::of(live), Rows::of(folded));
    let (mut found, mut expected) = (rows.0.next()?, rows.1.next()?);
    while damages.len() < DAMAGES_MAX {
        let damage = |kind, key: &[u8], detail: &str| ViewDamage {
            kind,
            key: key.iter().map(|byte| format!("{byte:02x}")).collect(),
            detail: detail.to_owned(),
        };
        match (&found, &expected) {
            (None, None) => break,
            (Some((key, _)), Some((wanted, _))) if key == wanted => {
                if found != expected {
                    damages.push(damage("differs", key, "the row is not what the log says"));
                }
                (found, expected) = (rows.0.next()?, rows.1.next()?);
            }
            (Some((key, _)), wanted) if wanted.as_ref().is_none_or(|(wanted, _)| key < wanted) => {
                damages.push(damage("surplus", key, "the log knows no such row"));
                found = rows.0.next()?;
            }
            (_, Some((wanted, _))) => {
                damages.push(damage("missing", wanted, "the row is not there"));
                expected = rows.1.next()?;
            }
            (Some(_), None) => break,
        }
    }
    Ok(damages)
}

/// All rows of views, slice by slice.
struct Rows<'a> {
    views: &'a Views,
    slice: std::vec::IntoIter<(Vec<u8>, Vec<u8>)>,
    last: Option<Vec<u8>>,
    is_done: bool,
}

impl<'a> Rows<'a> {
    fn of(views: &'a Views) -> Self {
        Self { views, slice: Vec::new().into_iter(), last: None, is_done: false }
    }

    fn next(&mut self) -> Result<Option<(Vec<u8>, Vec<u8>)>, RebuildError> {
        if let Some(row) = self.slice.next() {
            return Ok(Some(row));
        }
        if self.is_done {
            return Ok(None);
        }
        let slice = self.views.rows_after(self.last.as_deref(), SLICE_ROWS)?;
        self.is_done = slice.len() < SLICE_ROWS;
        self.last = slice.last().map(|(key, _)| key.clone());
        self.slice = slice.into_iter();
        Ok(self.slice.next())
    }
}
