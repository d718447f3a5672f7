//! What of an index is on the medium, and not in the system's memory alone.
//!
//! Nothing is synced when it is committed. What a process leaves when it is killed is in the
//! system's memory and gets to the medium; only a machine that stops loses it, and leaves files
//! empty, torn or not at all. So now and then a commit is brought to the medium, and the list of it
//! kept beside: an index whose newest commit turns out not to be whole goes back to that one.
//!
//! Invariants: [`SYNCED`] names nothing that is not on the medium whole; no file that it names is
//! removed. While a directory has one owner no name is given twice, and what a new owner finds that
//! no list names is gone for good before it writes: a name has one content, whatever of it is lost.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::list::{sealed, unsealed};

/// The list of the newest commit.
pub(crate) const LIST: &str = "meta.json";
/// The list of the newest commit that is on the medium.
pub(crate) const SYNCED: &str = ".synced.json";
/// Lists that are being written.
pub(crate) const UNFINISHED: [&str; 2] = [".meta.json.new", ".synced.json.new"];

/// The files of a directory, by what is known of them.
#[derive(Debug)]
pub(crate) struct Medium {
    dir: PathBuf,
    /// Written to their ends, and not synced.
    unsynced: HashSet<PathBuf>,
    /// Those that the list on the medium may name.
    held: HashSet<PathBuf>,
    /// Of these, those that are no longer wanted.
    unwanted: Vec<PathBuf>,
}

/// What is brought to the medium at a time.
pub(crate) struct Batch {
    list: Vec<u8>,
    files: Vec<PathBuf>,
    unwanted: Vec<PathBuf>,
}

impl Medium {
    /// Nothing is known of the files that are there: the list on the medium may name any of them.
    pub(crate) fn of(dir: &Path) -> io::Result<Self> {
        let found: HashSet<PathBuf> = names(dir)?.into_iter().map(PathBuf::from).collect();
        Ok(Self {
            dir: dir.to_path_buf(),
            unsynced: found.clone(),
            held: found,
            unwanted: Vec::new(),
        })
    }

    /// Notes that a file is written to its end.
    pub(crate) fn written(&mut self, path: &Path) {
        self.unsynced.insert(path.to_path_buf());
    }

    /// Whether a file that is not wanted any more can go at once; else it goes when the list on the
    /// medium has been replaced.
    pub(crate) fn lets_go(&mut self, path: &Path) -> bool {
        if self.held.contains(path) {
            self.unwanted.push(path.to_path_buf());
            return false;
        }
        self.unsynced.remove(path);
        true
    }

    /// What is to be brought to the medium: the newest commit, and whatever is written by now. From
    /// here on no file of it goes.
    pub(crate) fn begin(&mut self) -> io::Result<Batch> {
        let list = fs::read(self.dir.join(LIST))?;
        if unsealed(&list).is_none() {
            return Err(not_as_written());
        }
        let files: Vec<_> = self.unsynced.drain().collect();
        self.held.extend(files.iter().cloned());
        let unwanted = std::mem::take(&mut self.unwanted);
        Ok(Batch {
            list,
            files,
            unwanted,
        })
    }

    /// Notes what came of a batch, whose files are to be synced once more if it failed.
    pub(crate) fn end(&mut self, batch: Batch, is_synced: bool) {
        if is_synced {
            batch.unwanted.iter().for_each(|path| {
                self.held.remove(path);
            });
        } else {
            self.unsynced.extend(batch.files);
            self.unwanted.extend(batch.unwanted);
        }
    }
}

impl Batch {
    /// Brings it to the medium, and removes what is not wanted any more.
    pub(crate) fn sync(&self, dir: &Path) -> io::Result<()> {
        for path in &self.files {
            File::open(dir.join(path))?.sync_all()?;
        }
        let is_there = fs::read(dir.join(SYNCED)).is_ok_and(|synced| synced == self.list);
        if !is_there {
            sync_dir(dir)?;
            let unfinished = dir.join(UNFINISHED[1]);
            fs::write(&unfinished, &self.list)?;
            File::open(&unfinished)?.sync_all()?;
            rename(&unfinished, &dir.join(SYNCED))?;
            sync_dir(dir)?;
        }
        for path in &self.unwanted {
            match fs::remove_file(dir.join(path)) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        if self.unwanted.is_empty() {
            return Ok(());
        }
        sync_dir(dir)
    }
}

/// The files of a directory that the engine may have made: none whose name begins with a dot.
pub(crate) fn names(dir: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') && name != LIST {
            names.push(name);
        }
    }
    Ok(names)
}

/// The text of the newest list.
pub(crate) fn read_list(dir: &Path) -> io::Result<Vec<u8>> {
    let bytes = fs::read(dir.join(LIST))?;
    let text = unsealed(&bytes).ok_or_else(not_as_written)?;
    Ok(text.to_vec())
}

/// Replaces the newest list, in one step, unless the machine stops.
pub(crate) fn write_list(dir: &Path, text: &[u8]) -> io::Result<()> {
    let unfinished = dir.join(UNFINISHED[0]);
    fs::write(&unfinished, sealed(text))?;
    rename(&unfinished, &dir.join(LIST))
}

/// Has the commit that is on the medium be the newest; false if there is none, or it is.
pub(crate) fn go_back(dir: &Path) -> io::Result<bool> {
    let Ok(synced) = fs::read(dir.join(SYNCED)) else {
        return Ok(false);
    };
    let is_newest = fs::read(dir.join(LIST)).is_ok_and(|list| list == synced);
    match unsealed(&synced) {
        Some(text) if !is_newest => write_list(dir, text).map(|()| true),
        _ => Ok(false),
    }
}

/// The home of renames of lists; what they owe to the medium is said above.
#[allow(clippy::disallowed_methods)]
fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

fn not_as_written() -> io::Error {
    io::Error::new(
        ErrorKind::InvalidData,
        "the list of segments is not as it was written",
    )
}
