//! What of an index is on the medium, and not in the system's memory alone.
//!
//! Nothing is synced when it is committed. What a process leaves when it is killed is in the
//! system's memory and gets to the medium; only a machine that stops loses it, and leaves files
//! empty, torn or not at all. So now and then a commit is brought to the medium, and the list of it
//! kept beside: an index whose newest commit turns out not to be whole goes back to that one.
//!
//! Invariants: [`SYNCED`] names nothing that is not on the medium whole; no file that it names is
//! removed. A sync that failed is not tried again: the system tells once that it could not write
//! what it had, and the next one would succeed over the loss. While a directory has one owner no
//! name is given twice, and what a new owner finds that no list names is gone for good before it
//! writes: a name has one content, whatever of it is lost.

use std::collections::HashSet;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::list::{Named, sealed, unsealed};

/// The list of the newest commit.
pub(crate) const LIST: &str = "meta.json";
/// The list of the newest commit that is on the medium.
pub(crate) const SYNCED: &str = ".synced.json";
/// Lists that are being written.
pub(crate) const UNFINISHED: [&str; 2] = [".meta.json.new", ".synced.json.new"];

/// How what is written gets to the medium.
pub(crate) trait Disk: fmt::Debug + Send + Sync {
    /// Replaces what a file holds.
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;

    /// Waits until a file, or a directory, is on the medium as it is.
    fn sync(&self, file: &File, path: &Path) -> io::Result<()>;
}

/// The system's.
#[derive(Debug)]
pub(crate) struct SystemDisk;

impl Disk for SystemDisk {
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        fs::write(path, bytes)
    }

    fn sync(&self, file: &File, _: &Path) -> io::Result<()> {
        file.sync_all()
    }
}

/// The files of a directory, by what is known of them.
#[derive(Debug)]
pub(crate) struct Medium {
    dir: PathBuf,
    /// Written to their ends, and not synced.
    unsynced: HashSet<PathBuf>,
    /// Those whose sync failed: what of them is on the medium is not known, and will not be.
    lost: HashSet<PathBuf>,
    /// Those that the list on the medium may name.
    held: HashSet<PathBuf>,
    /// Of these, those that are no longer wanted.
    unwanted: Vec<PathBuf>,
}

/// What is brought to the medium at a time.
pub(crate) struct Batch {
    list: Vec<u8>,
    files: Vec<PathBuf>,
    /// Of these, those that were not held before.
    newly_held: Vec<PathBuf>,
    lost: Option<PathBuf>,
    unwanted: Vec<PathBuf>,
    progress: Progress,
}

/// How far a batch got.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// The list on the medium is the one from before.
    Begun,
    /// It may be either.
    Replacing,
    Done,
}

impl Medium {
    /// Of the files that are there those are held that the list on the medium names.
    pub(crate) fn of(dir: &Path) -> io::Result<Self> {
        let found: HashSet<PathBuf> = names(dir)?.into_iter().map(PathBuf::from).collect();
        let held = match synced(dir) {
            Some(named) => found
                .iter()
                .filter(|path| named.has(path))
                .cloned()
                .collect(),
            None => found.clone(),
        };
        Ok(Self {
            dir: dir.to_path_buf(),
            unsynced: found,
            lost: HashSet::new(),
            held,
            unwanted: Vec::new(),
        })
    }

    /// Those whose sync failed.
    pub(crate) fn lost(&self) -> HashSet<PathBuf> {
        self.lost.clone()
    }

    /// Notes whose sync failed before.
    pub(crate) fn remember(&mut self, lost: HashSet<PathBuf>) {
        self.unsynced.retain(|path| !lost.contains(path));
        self.lost = lost;
    }

    /// Notes that a file is written to its end.
    pub(crate) fn written(&mut self, path: &Path) {
        self.unsynced.insert(path.to_path_buf());
    }

    /// Whether a file that is not wanted any more can go at once; else it goes when the list on the
    /// medium has been replaced.
    pub(crate) fn lets_go(&mut self, path: &Path) -> bool {
        self.unsynced.remove(path);
        self.lost.remove(path);
        let is_held = self.held.contains(path);
        if is_held {
            self.unwanted.push(path.to_path_buf());
        }
        !is_held
    }

    /// What is to be brought to the medium: the newest commit, and whatever is written by now. From
    /// here on no file of it goes.
    pub(crate) fn begin(&mut self) -> io::Result<Batch> {
        let list = fs::read(self.dir.join(LIST))?;
        let named = unsealed(&list).and_then(Named::of);
        let named = named.ok_or_else(not_as_written)?;
        if let Some(path) = self.lost.iter().find(|path| named.has(path)) {
            let reason = format!("an earlier sync of {} failed", path.display());
            return Err(io::Error::other(reason));
        }
        let files: Vec<_> = self.unsynced.drain().collect();
        let newly_held = files
            .iter()
            .filter(|path| self.held.insert((*path).clone()));
        Ok(Batch {
            newly_held: newly_held.cloned().collect(),
            list,
            files,
            lost: None,
            unwanted: std::mem::take(&mut self.unwanted),
            progress: Progress::Begun,
        })
    }

    /// Notes what came of a batch, whose files are to be synced once more if it failed. Gives those
    /// that are wanted no more and can go at once.
    pub(crate) fn end(&mut self, batch: Batch) -> Vec<PathBuf> {
        if batch.progress == Progress::Done {
            batch.unwanted.iter().for_each(|path| {
                self.held.remove(path);
            });
            return Vec::new();
        }
        self.unwanted.extend(batch.unwanted);
        let wanted = batch.files.into_iter();
        let wanted = wanted.filter(|path| !self.unwanted.contains(path));
        let (lost, unsynced): (Vec<_>, Vec<_>) =
            wanted.partition(|path| batch.lost.as_ref() == Some(path));
        self.lost.extend(lost);
        self.unsynced.extend(unsynced);
        if batch.progress == Progress::Begun {
            batch.newly_held.iter().for_each(|path| {
                self.held.remove(path);
            });
        }
        let unwanted = std::mem::take(&mut self.unwanted).into_iter();
        let (kept, gone) = unwanted.partition(|path| self.held.contains(path));
        self.unwanted = kept;
        gone
    }
}

impl Batch {
    /// Brings it to the medium, and removes what is not wanted any more.
    pub(crate) fn sync(&mut self, dir: &Path, disk: &dyn Disk) -> io::Result<()> {
        for path in &self.files {
            let place = dir.join(path);
            let file = File::open(&place)?;
            if let Err(error) = disk.sync(&file, &place) {
                self.lost = Some(path.clone());
                return Err(error);
            }
        }
        let is_there = fs::read(dir.join(SYNCED)).is_ok_and(|synced| synced == self.list);
        let unfinished = dir.join(UNFINISHED[1]);
        if !is_there {
            sync_dir(dir, disk)?;
            disk.write(&unfinished, &self.list)?;
            disk.sync(&File::open(&unfinished)?, &unfinished)?;
        }
        // Also where it was there: it may have been put there by one who could not sync it.
        self.progress = Progress::Replacing;
        if !is_there {
            rename(&unfinished, &dir.join(SYNCED))?;
        }
        sync_dir(dir, disk)?;
        for path in &self.unwanted {
            match fs::remove_file(dir.join(path)) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        if !self.unwanted.is_empty() {
            sync_dir(dir, disk)?;
        }
        self.progress = Progress::Done;
        Ok(())
    }
}

/// The files that the list on the medium names: none where there is no list that one could go back
/// to. `None` if that is not known.
fn synced(dir: &Path) -> Option<Named> {
    match fs::read(dir.join(SYNCED)) {
        Ok(list) => unsealed(&list).map_or_else(|| Some(Named::default()), Named::of),
        Err(error) if error.kind() == ErrorKind::NotFound => Some(Named::default()),
        Err(_) => None,
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
    let synced = match fs::read(dir.join(SYNCED)) {
        Ok(synced) => synced,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
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

/// Brings to the medium what names are in a directory.
pub(crate) fn sync_dir(dir: &Path, disk: &dyn Disk) -> io::Result<()> {
    disk.sync(&File::open(dir)?, dir)
}

fn not_as_written() -> io::Error {
    io::Error::new(
        ErrorKind::InvalidData,
        "the list of segments is not as it was written",
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::{Arc, Mutex};

    use stemma_domain::id::ResourceId;
    use stemma_domain::value::ResourceName;

    use super::*;
    use crate::open::open_on;
    use crate::{
        Change, Checkpoint, Facets, OpenError, OpenState, Opened, Options, Passages, SearchIndex,
    };

    const EIO: i32 = 5;
    const EMFILE: i32 = 24;
    const ENOSPC: i32 = 28;

    /// What fails of a disk, and how.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Fails {
        Nothing,
        Write(i32),
        SyncOfFiles(i32),
        SyncOfDirectory(i32),
        SyncOfReplacedList(i32),
        /// Once this file is gone.
        SyncOfDirectoryWithout(&'static str, i32),
    }

    #[derive(Debug)]
    struct Failing(Mutex<Fails>);

    impl Failing {
        fn will(&self, fails: Fails) {
            *self.0.lock().unwrap() = fails;
        }
    }

    impl Disk for Failing {
        fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
            match *self.0.lock().unwrap() {
                Fails::Write(code) => Err(io::Error::from_raw_os_error(code)),
                _ => fs::write(path, bytes),
            }
        }

        fn sync(&self, _: &File, path: &Path) -> io::Result<()> {
            match *self.0.lock().unwrap() {
                Fails::SyncOfFiles(code) if !path.is_dir() => {
                    Err(io::Error::from_raw_os_error(code))
                }
                Fails::SyncOfDirectory(code) if path.is_dir() => {
                    Err(io::Error::from_raw_os_error(code))
                }
                Fails::SyncOfDirectoryWithout(name, code)
                    if path.is_dir() && !path.join(name).exists() =>
                {
                    Err(io::Error::from_raw_os_error(code))
                }
                Fails::SyncOfReplacedList(code)
                    if path.is_dir()
                        && fs::read(path.join(SYNCED))? == fs::read(path.join(LIST))? =>
                {
                    Err(io::Error::from_raw_os_error(code))
                }
                _ => Ok(()),
            }
        }
    }

    struct Place {
        dir: tempfile::TempDir,
        failing: Arc<Failing>,
    }

    impl Place {
        fn new() -> Self {
            Self {
                dir: tempfile::tempdir().unwrap(),
                failing: Arc::new(Failing(Mutex::new(Fails::Nothing))),
            }
        }

        fn path(&self) -> PathBuf {
            self.dir.path().join("search")
        }

        fn open(&self) -> Result<Opened, OpenError> {
            let disk = Arc::clone(&self.failing) as Arc<dyn Disk>;
            open_on(&self.path(), &Options::default(), &disk)
        }

        fn index(&self) -> SearchIndex {
            let opened = self.open().unwrap();
            assert!(matches!(
                opened.state,
                OpenState::Fresh | OpenState::Existing
            ));
            opened.index
        }

        fn read(&self, name: &str) -> Vec<u8> {
            fs::read(self.path().join(name)).unwrap()
        }

        /// The engine's files.
        fn files(&self) -> BTreeSet<String> {
            names(&self.path()).unwrap().into_iter().collect()
        }

        fn is_alone(&self) -> bool {
            fs::read_dir(self.dir.path()).unwrap().count() == 1
        }
    }

    fn put(index: &SearchIndex, numbers: &[u128], end: u64) {
        let facets = Facets {
            name: ResourceName::new("name").unwrap(),
            collection: None,
            entity_types: BTreeSet::new(),
            archived: false,
            note: Vec::new(),
        };
        let changes = numbers.iter().map(|number| Change::Put {
            resource: ResourceId::new(uuid::Uuid::from_u128(*number)),
            facets: facets.clone(),
            passages: Passages::Text(format!("words at {end}")),
        });
        let checkpoint = Checkpoint { end, last: None };
        index.apply(changes.collect(), checkpoint).unwrap();
    }

    /// The sync was part of opening, and its failure was taken for damage: the index went back to
    /// an older commit, or was moved aside, though all of it had just been verified.
    #[test]
    fn a_sync_that_fails_when_an_index_is_opened_says_nothing_against_it() {
        for code in [EIO, EMFILE, ENOSPC] {
            let place = Place::new();
            let index = place.index();
            put(&index, &[1], 1);
            index.sync().unwrap();
            put(&index, &[2], 2);
            let (digest, files) = (index.digest().unwrap(), place.files());
            drop(index);
            let synced = place.read(SYNCED);
            place.failing.will(Fails::SyncOfFiles(code));
            let index = place.index();
            assert_eq!(index.digest().unwrap(), digest);
            assert_eq!((place.files(), place.read(SYNCED)), (files, synced));
            put(&index, &[3], 3);
            drop(index);
            place.failing.will(Fails::Nothing);
            assert_eq!(place.index().checkpoint().end, 3);
            assert_eq!(place.read(SYNCED), place.read(LIST));
            assert!(place.is_alone());
        }
    }

    #[test]
    fn an_index_is_not_opened_where_removed_files_could_come_back() {
        let place = Place::new();
        put(&place.index(), &[1], 1);
        let begun = place.path().join("begun");
        fs::write(&begun, "and not ended").unwrap();
        place.failing.will(Fails::SyncOfDirectory(EIO));
        assert!(matches!(place.open(), Err(OpenError::Directory { .. })));
        // Nor is anything removed while the list that names it may be the one on the medium.
        assert!(begun.exists());
        let fails = Fails::SyncOfDirectoryWithout("begun", EIO);
        place.failing.will(fails);
        assert!(matches!(place.open(), Err(OpenError::Directory { .. })));
        place.failing.will(Fails::Nothing);
        assert_eq!(place.index().checkpoint().end, 1);
        assert!(place.is_alone() && !begun.exists());
    }

    /// All that was found was held to be named by the list on the medium: nothing was removed before
    /// that list was replaced, for which there was no room.
    #[test]
    fn what_a_failed_commit_left_goes_though_the_list_on_the_medium_cannot_be_replaced() {
        let place = Place::new();
        let index = place.index();
        // So many that the one that is written anew does not have the segment merged.
        put(&index, &[1, 2, 3, 4], 1);
        index.sync().unwrap();
        let (list, whole) = (place.read(LIST), place.files());
        put(&index, &[1], 2);
        drop(index);
        fs::write(place.path().join(LIST), &list).unwrap();
        assert!(place.files().iter().any(|name| name.contains(".del")));
        fs::write(place.path().join("begun"), "and not ended").unwrap();
        // As if another commit had been brought there before.
        fs::remove_file(place.path().join(SYNCED)).unwrap();
        place.failing.will(Fails::Write(ENOSPC));
        let index = place.index();
        assert_eq!(place.files(), whole);
        put(&index, &[1], 3);
        index.sync().unwrap_err();
        place.failing.will(Fails::Nothing);
        index.sync().unwrap();
        assert_eq!(place.read(SYNCED), place.read(LIST));
    }

    #[test]
    fn only_files_of_the_list_on_the_medium_wait_until_it_can_be_replaced() {
        let place = Place::new();
        let index = place.index();
        put(&index, &[1], 1);
        index.sync().unwrap();
        let synced = place.files();
        put(&index, &[2], 2);
        let second = &place.files() - &synced;
        drop(index);
        place.failing.will(Fails::Write(ENOSPC));
        let index = place.index();
        // Of neither segment anything is left.
        put(&index, &[1, 2], 3);
        assert!(place.files().is_superset(&synced));
        assert!(place.files().is_disjoint(&second));
        place.failing.will(Fails::Nothing);
        index.sync().unwrap();
        assert!(place.files().is_disjoint(&synced));
    }

    /// The next sync found the new list where it belongs, and removed what the old one named, which
    /// was the one on the medium.
    #[test]
    fn files_of_the_list_before_stay_until_the_one_in_its_place_is_on_the_medium() {
        let place = Place::new();
        let index = place.index();
        put(&index, &[1], 1);
        index.sync().unwrap();
        let synced = place.files();
        put(&index, &[1], 2);
        place.failing.will(Fails::SyncOfReplacedList(EIO));
        for _ in 0..2 {
            index.sync().unwrap_err();
            assert_eq!(place.read(SYNCED), place.read(LIST));
            assert!(place.files().is_superset(&synced));
        }
        // Either list may be the one on the medium.
        let of_both = place.files();
        put(&index, &[1], 3);
        assert!(place.files().is_superset(&of_both));
        place.failing.will(Fails::Nothing);
        index.sync().unwrap();
        assert!(place.files().is_disjoint(&of_both));
    }

    /// The system tells of what it could not write once: the next sync of the same file succeeded,
    /// and the list named what was not on the medium.
    #[test]
    fn a_file_whose_sync_failed_is_not_believed_until_no_list_names_it() {
        let place = Place::new();
        let index = place.index();
        let synced = place.read(SYNCED);
        put(&index, &[1], 1);
        place.failing.will(Fails::SyncOfFiles(EIO));
        index.sync().unwrap_err();
        place.failing.will(Fails::Nothing);
        index.sync().unwrap_err();
        // Nor by the next writer.
        index.writing().writer = None;
        put(&index, &[2], 2);
        index.sync().unwrap_err();
        assert_eq!(place.read(SYNCED), synced);
        put(&index, &[1, 2], 3);
        index.sync().unwrap();
        assert_eq!(place.read(SYNCED), place.read(LIST));
    }

    /// The writer that a failed change had dropped was asked, and did nothing.
    #[test]
    fn a_sync_after_a_change_that_failed_brings_the_newest_commit_to_the_medium() {
        let place = Place::new();
        let index = place.index();
        put(&index, &[1], 1);
        index.writing().writer = None;
        assert_ne!(place.read(SYNCED), place.read(LIST));
        index.sync().unwrap();
        assert_eq!(place.read(SYNCED), place.read(LIST));
    }
}
