//! Holding a model against the log: the log is folded once more, into a store that is thrown
//! away, and every row compared.
//!
//! Invariant: nothing is written where the rows are. An engine writes as soon as it opens its
//! files, so it is given a copy of them.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use stemma_event_log::Reader;
use stemma_views::{CheckpointedStore, Model, OpenError, Options, hex};

use crate::fill::fill_to;
use crate::generation::{GenerationError, Generations};
use crate::projection::must_be_of_log;
use crate::rebuild::{RebuildError, RebuildPhase, RebuildProgress};

/// Rows that are compared at a time.
const SLICE_ROWS: usize = 4096;
/// Bytes of a file that are copied at a time.
const COPY_BYTES: usize = 64 << 10;
/// Most rows that are named; where there are more, the last says so.
const DAMAGES_MAX: usize = 100_000;

/// A row that is not what the log says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewDamage {
    /// `missing`, `surplus`, `differs`, `unreadable`, or `foreign` of views of another log.
    pub kind: &'static str,
    /// The file or directory below that of the model: `CURRENT`, or the generation.
    pub file: String,
    /// The row's key in hex; empty when it is about all of them.
    pub key: String,
    /// What was found, for people.
    pub detail: String,
}

/// Compares the rows of a model in `dir` with the fold of the log up to where they are. Changes nothing in
/// them; `scratch` is made, and removed again. Rows that are not there are not damaged.
///
/// # Errors
/// [`RebuildError`] when the rows are in use, when the log itself does not fold, when a directory
/// cannot be used, or when `progress` broke it off.
pub fn verify_model<M: Model>(
    reader: &Reader,
    dir: &Path,
    scratch: &Path,
    options: &Options,
    progress: &mut dyn FnMut(RebuildProgress) -> ControlFlow<()>,
) -> Result<Vec<ViewDamage>, RebuildError> {
    let whole = |file: &str, kind, detail: String| ViewDamage {
        kind,
        file: file.to_owned(),
        key: String::new(),
        detail,
    };
    let generations = Generations::at(dir);
    let current = match generations.current() {
        Ok(Some(current)) => current,
        Ok(None) if !generations.any()? => return Ok(Vec::new()),
        Ok(None) => {
            let detail = "CURRENT names no generation, though there are some";
            return Ok(vec![whole("CURRENT", "missing", detail.to_owned())]);
        }
        Err(error) if error.source.kind() == std::io::ErrorKind::InvalidData => {
            return Ok(vec![whole(
                "CURRENT",
                "unreadable",
                "CURRENT is not text".to_owned(),
            )]);
        }
        Err(error) => return Err(error.into()),
    };
    let _lock = generations.share()?.ok_or(RebuildError::InUse)?;
    let generation = current.file_name().unwrap_or_default();
    let generation = format!("{}/{}", generation.to_string_lossy(), options.engine);
    let scratch = Scratch::made(scratch)?;
    let copy = scratch.copy_of(&current)?;
    let live = match M::open_existing(&copy, options) {
        Ok(live) => live,
        // Of another engine: these rows are yet to be made.
        Err(OpenError::Missing { .. }) if current.is_dir() => return Ok(Vec::new()),
        Err(OpenError::Missing { .. }) => {
            let detail = "CURRENT names a generation that is not there";
            return Ok(vec![whole("CURRENT", "missing", detail.to_owned())]);
        }
        Err(OpenError::Unusable { reason, .. }) => {
            return Ok(vec![whole(&generation, "unreadable", reason)]);
        }
        Err(error) => return Err(error.into()),
    };
    if let Err(error) = must_be_of_log(&live, reader) {
        return Ok(vec![whole(&generation, "foreign", error.to_string())]);
    }
    let folded = M::open(&scratch.dir.join("folded"), options)?.model;
    folded.discard_when_unused();
    live.discard_when_unused();
    let end = live.end();
    fill_to(&folded, reader, end, &mut |applied| {
        let phase = RebuildPhase::Filling;
        let told = progress(RebuildProgress {
            applied,
            end,
            phase,
        });
        if told.is_break() {
            return Err(RebuildError::Cancelled);
        }
        Ok(())
    })?;
    compare(&live, &folded, &generation)
}

/// A directory for what is thrown away.
struct Scratch {
    dir: PathBuf,
}

impl Scratch {
    /// Makes it, without what a verification that was killed left behind.
    fn made(dir: &Path) -> Result<Self, GenerationError> {
        let failed = |doing| {
            move |source| GenerationError {
                doing,
                path: dir.to_path_buf(),
                source,
            }
        };
        match std::fs::remove_dir_all(dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(failed("remove")(error));
            }
            _ => {}
        }
        std::fs::create_dir_all(dir).map_err(failed("make"))?;
        let dir = dir.to_path_buf();
        Ok(Self { dir })
    }

    /// A copy of a generation, for an engine to open. There is none of a generation that is not
    /// there.
    fn copy_of(&self, generation: &Path) -> Result<PathBuf, GenerationError> {
        let copy = self.dir.join("live");
        if generation.is_dir() {
            copy_files(generation, &copy).map_err(|source| GenerationError {
                doing: "copy",
                path: generation.to_path_buf(),
                source,
            })?;
        }
        Ok(copy)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.dir) {
            tracing::warn!(%error, path = %self.dir.display(), "what was temporary stays on disk");
        }
    }
}

/// Copies files and directories; what is neither is none of an engine's.
fn copy_files(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let (kind, copy) = (entry.file_type()?, to.join(entry.file_name()));
        if kind.is_dir() {
            copy_files(&entry.path(), &copy)?;
        } else if kind.is_file() {
            copy_file(&entry.path(), &copy)?;
        }
    }
    Ok(())
}

/// Copies bytes and no permissions: an engine must be able to write a copy of what is read-only.
/// Zeros are left out where they can be, since engines reserve far more than they use.
fn copy_file(from: &Path, to: &Path) -> std::io::Result<()> {
    let (mut source, mut copy) = (File::open(from)?, File::create(to)?);
    let (mut piece, mut length) = (vec![0; COPY_BYTES], 0);
    loop {
        let read = source.read(&mut piece)?;
        if read == 0 {
            return copy.set_len(length);
        }
        let piece = &piece[..read];
        if piece.iter().any(|byte| *byte != 0) {
            copy.seek(SeekFrom::Start(length))?;
            copy.write_all(piece)?;
        }
        length += read as u64;
    }
}

fn compare(
    live: &CheckpointedStore,
    folded: &CheckpointedStore,
    file: &str,
) -> Result<Vec<ViewDamage>, RebuildError> {
    let mut damages = Vec::new();
    let mut rows = (Rows::of(live), Rows::of(folded));
    let (mut found, mut expected) = (rows.0.next()?, rows.1.next()?);
    while damages.len() < DAMAGES_MAX {
        let damage = |kind, key: &[u8], detail: &str| ViewDamage {
            kind,
            file: file.to_owned(),
            key: hex(key),
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
    if damages.len() == DAMAGES_MAX {
        damages.push(ViewDamage {
            kind: "differs",
            file: file.to_owned(),
            key: String::new(),
            detail: "and more rows beyond these; a rebuild makes all of them anew".to_owned(),
        });
    }
    Ok(damages)
}

/// A key and its value.
type Row = (Vec<u8>, Vec<u8>);

/// All rows of a model, slice by slice.
struct Rows<'a> {
    of: &'a CheckpointedStore,
    slice: std::vec::IntoIter<Row>,
    last: Option<Vec<u8>>,
    is_done: bool,
}

impl<'a> Rows<'a> {
    fn of(of: &'a CheckpointedStore) -> Self {
        Self {
            of,
            slice: Vec::new().into_iter(),
            last: None,
            is_done: false,
        }
    }

    fn next(&mut self) -> Result<Option<Row>, RebuildError> {
        if let Some(row) = self.slice.next() {
            return Ok(Some(row));
        }
        if self.is_done {
            return Ok(None);
        }
        let slice = self.of.rows_after(self.last.as_deref(), SLICE_ROWS)?;
        self.is_done = slice.len() < SLICE_ROWS;
        self.last = slice.last().map(|(key, _)| key.clone());
        self.slice = slice.into_iter();
        Ok(self.slice.next())
    }
}
