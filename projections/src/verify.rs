//! Holding a model against the log: the log is folded once more, into a store that is thrown
//! away, and every row compared.
//!
//! Invariant: nothing is written where the rows are. An engine writes as soon as it opens its
//! files, so it is given a copy of them.

use std::cmp::Ordering;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use stemma_event_log::Reader;
use stemma_views::{CheckpointedStore, Model, OpenError, Options, StoreError, hex};

use crate::fill::fill_to;
use crate::generation::{GenerationError, Generations};
use crate::projection::must_be_of_log;
use crate::rebuild::{RebuildError, RebuildPhase, RebuildProgress};
use crate::runner::causes;

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

/// Holds the rows of a model against those that the log folds to.
fn compare(
    live: &CheckpointedStore,
    folded: &CheckpointedStore,
    file: &str,
) -> Result<Vec<ViewDamage>, RebuildError> {
    let mut comparing = Comparing {
        live: Rows::of(live),
        folded: Rows::of(folded),
        found: None,
        expected: None,
        file,
        damages: Vec::new(),
    };
    comparing.next_expected()?;
    comparing.next_found()?;
    while comparing.damages.len() < DAMAGES_MAX && comparing.step()?.is_continue() {}
    let mut damages = comparing.damages;
    if damages.len() >= DAMAGES_MAX {
        damages.push(ViewDamage {
            kind: "differs",
            file: file.to_owned(),
            key: String::new(),
            detail: "and more rows beyond these; a rebuild makes all of them anew".to_owned(),
        });
    }
    Ok(damages)
}

/// A comparison, at the next row of each side.
struct Comparing<'a> {
    live: Rows<'a>,
    folded: Rows<'a>,
    found: Option<Row>,
    expected: Option<Row>,
    file: &'a str,
    damages: Vec<ViewDamage>,
}

impl Comparing<'_> {
    fn damaged(&mut self, kind: &'static str, key: &[u8], detail: &str) {
        self.damages.push(ViewDamage {
            kind,
            file: self.file.to_owned(),
            key: hex(key),
            detail: detail.to_owned(),
        });
    }

    /// Holds one row against one, and goes on behind it; breaks at the end of both.
    fn step(&mut self) -> Result<ControlFlow<()>, RebuildError> {
        let order = match (&self.found, &self.expected) {
            (None, None) => return Ok(ControlFlow::Break(())),
            (Some((key, _)), Some((wanted, _))) => key.cmp(wanted),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
        };
        if order.is_eq() && self.found != self.expected {
            let key = self.expected.take().map_or_else(Vec::new, |(key, _)| key);
            self.damaged("differs", &key, "the row is not what the log says");
        }
        if order.is_lt()
            && let Some((key, _)) = self.found.take()
        {
            self.damaged("surplus", &key, "the log knows no such row");
        }
        if order.is_gt()
            && let Some((key, _)) = self.expected.take()
        {
            self.damaged("missing", &key, "the row is not there");
        }
        if order.is_ge() {
            self.next_expected()?;
        }
        if order.is_le() {
            self.next_found()?;
        }
        Ok(ControlFlow::Continue(()))
    }

    fn next_expected(&mut self) -> Result<(), RebuildError> {
        self.expected = self.folded.next()?;
        Ok(())
    }

    /// Goes on behind what cannot be read, which is told: at the first of the rows that the log says
    /// are to come behind which others can be.
    fn next_found(&mut self) -> Result<(), RebuildError> {
        let why = match self.live.next_whatever_comes() {
            Ok(found) => {
                self.found = found;
                return Ok(());
            }
            Err(why) => why,
        };
        self.found = None;
        let (mut first, mut passed_over) = (None, 0_u64);
        while let Some((wanted, _)) = self.expected.take() {
            self.next_expected()?;
            passed_over += 1;
            self.live.go_on_behind(&wanted);
            let next = self.live.next_whatever_comes();
            first.get_or_insert(wanted);
            if let Ok(found) = next {
                self.found = found;
                break;
            }
        }
        let rows = match passed_over {
            0 => "what stands behind the last row that the log knows of".to_owned(),
            1 => "the row".to_owned(),
            more => format!("the row and {} behind it", more - 1),
        };
        let detail = format!("{rows} cannot be read: {why}");
        self.damaged("unreadable", &first.unwrap_or_default(), &detail);
        Ok(())
    }
}

/// A key and its value.
type Row = (Vec<u8>, Vec<u8>);

/// All rows of a model, slice by slice.
struct Rows<'a> {
    of: &'a CheckpointedStore,
    slice: std::vec::IntoIter<Row>,
    at_once: usize,
    last: Option<Vec<u8>>,
    is_done: bool,
}

impl<'a> Rows<'a> {
    fn of(of: &'a CheckpointedStore) -> Self {
        Self {
            of,
            slice: Vec::new().into_iter(),
            at_once: SLICE_ROWS,
            last: None,
            is_done: false,
        }
    }

    fn next(&mut self) -> Result<Option<Row>, StoreError> {
        if let Some(row) = self.slice.next() {
            return Ok(Some(row));
        }
        if self.is_done {
            return Ok(None);
        }
        let slice = self.of.rows_after(self.last.as_deref(), self.at_once)?;
        self.is_done = slice.len() < self.at_once;
        if let Some((key, _)) = slice.last() {
            self.last = Some(key.clone());
        }
        self.slice = slice.into_iter();
        Ok(self.slice.next())
    }

    /// The next row of rows that may be damaged, or why it cannot be read; what stands before that
    /// is given first.
    fn next_whatever_comes(&mut self) -> Result<Option<Row>, String> {
        let mut next = || {
            // An engine may take damage for a mistake of its own.
            let next = catch_unwind(AssertUnwindSafe(|| self.next()));
            let next = next.map_err(|_| "the engine panicked".to_owned())?;
            next.map_err(|error| causes(&error))
        };
        next().or_else(|why| {
            if self.at_once == 1 {
                return Err(why);
            }
            // One by one up to it.
            self.at_once = 1;
            self.next_whatever_comes()
        })
    }

    fn go_on_behind(&mut self, key: &[u8]) {
        *self = Self {
            last: Some(key.to_vec()),
            ..Self::of(self.of)
        };
    }
}
