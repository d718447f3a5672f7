//! One simulated disk under the log and the content store, so that a crash hits both at once.
//!
//! Invariant: only what was not synced can be lost: the bytes of a file until the file is synced,
//! a name until its directory is.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::dice::Dice;
use crate::figures::DiskFigures;
use crate::inode::{Inode, whole_sectors};
use crate::weather::{Class, Forecast, Kind, Outcome, Weather};

/// Longest that a write is held back.
const HELD_MAX: Duration = Duration::from_secs(1);
/// Longest that a change takes on a disk of uneven pace, in microseconds.
const LATE_US_MAX: u64 = 500;
/// How many changes there are for one that takes its time.
const LATE_ONE_IN: u64 = 8;
/// Operations and answers shown when a seed fails.
const TRACE_MAX: usize = 400;

/// How long changes take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// As long as they do.
    Even,
    /// Some of them longer, by chance, so that threads come in orders in which an idle machine
    /// never has them. Runs of one seed differ the more for it.
    Uneven,
}

/// A disk; clones share it.
#[derive(Clone)]
pub(crate) struct Disk(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    released: Condvar,
    pace: Pace,
    /// The seed of the disk, and how many changes were begun.
    seed: u64,
    begun: AtomicU64,
}

type Number = usize;

struct State {
    inodes: Vec<Inode>,
    /// The name that each file got last: it is renamed while it is open.
    names: Vec<String>,
    live: BTreeMap<String, Number>,
    durable: BTreeMap<String, Number>,
    /// What was done to names since their directories were synced.
    unsynced: Vec<NameChange>,
    weather: Weather,
    /// Writes to files of this class wait, and the first tells so.
    held: Option<(Class, Arc<Notify>)>,
    trace: VecDeque<String>,
    figures: DiskFigures,
}

#[derive(Debug, Clone)]
enum NameChange {
    Set(String, Number),
    Remove(String),
    Move(String, String, Number),
}

impl NameChange {
    fn apply(self, names: &mut BTreeMap<String, Number>) {
        match self {
            Self::Set(name, inode) => _ = names.insert(name, inode),
            Self::Remove(name) => _ = names.remove(&name),
            Self::Move(from, to, inode) => {
                names.remove(&from);
                names.insert(to, inode);
            }
        }
    }

    fn name(&self) -> &str {
        let (Self::Set(name, _) | Self::Remove(name) | Self::Move(_, name, _)) = self;
        name
    }
}

fn directory(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(directory, _)| directory)
}

fn place(offset: u64) -> io::Result<usize> {
    usize::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput.into())
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).expect("a length in memory fits 64 bits")
}

/// Whether an operation is carried out, and what its caller is told.
struct Verdict {
    done: bool,
    told: io::Result<()>,
}

impl State {
    fn decide(&mut self, kind: Kind, name: &str, detail: &dyn Fn() -> String) -> Verdict {
        let was_over = self.weather.has_ended();
        let outcome = self.weather.decide(kind, name);
        if was_over {
            let told = Err(io::Error::other("the disk is gone"));
            return Verdict { done: false, told };
        }
        let line = match outcome {
            Outcome::Done => format!("{kind:?} {name}{}", detail()),
            _ => format!("{kind:?} {name}{} -> {outcome:?}", detail()),
        };
        if kind.changes() || outcome != Outcome::Done {
            self.trace(line);
        }
        self.figures.count(kind, outcome);
        match outcome {
            Outcome::Done => Verdict {
                done: true,
                told: Ok(()),
            },
            Outcome::Fails { error, done } => Verdict {
                done,
                told: Err(io::Error::new(error, "a fault of the simulated disk")),
            },
            Outcome::Ends { done } => Verdict {
                done,
                told: Err(io::Error::other("the disk went away")),
            },
        }
    }

    fn inode(&mut self, name: &str) -> Number {
        self.inodes.push(Inode::default());
        self.names.push(name.to_owned());
        self.inodes.len() - 1
    }

    fn number(&self, name: &str) -> io::Result<Number> {
        let number = self.live.get(name).copied();
        number.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Lets chance decide over each name that was not synced.
    fn settle_names(&mut self) {
        let mut fates: BTreeMap<String, usize> = BTreeMap::new();
        for change in std::mem::take(&mut self.unsynced) {
            let name = change.name().to_owned();
            let directory = directory(&name).to_owned();
            let weather = &self.weather;
            let fate = *fates
                .entry(directory)
                .or_insert_with_key(|directory| weather.dice("names", directory).below(4));
            let is_kept = match fate {
                0 => true,
                1 => false,
                _ => weather.dice("name", &name).one_in(2),
            };
            if is_kept {
                change.apply(&mut self.durable);
            } else {
                self.figures.names_lost += 1;
            }
        }
    }

    fn trace(&mut self, line: String) {
        self.trace.push_back(line);
        if self.trace.len() > TRACE_MAX {
            self.trace.pop_front();
        }
    }
}

impl Disk {
    /// An empty disk.
    pub(crate) fn new(seed: u64, pace: Pace) -> Self {
        Self(Arc::new(Shared {
            state: Mutex::new(State {
                inodes: Vec::new(),
                names: Vec::new(),
                live: BTreeMap::new(),
                durable: BTreeMap::new(),
                unsynced: Vec::new(),
                weather: Weather::new(seed, Forecast::CALM),
                held: None,
                trace: VecDeque::new(),
                figures: DiskFigures::default(),
            }),
            released: Condvar::new(),
            pace,
            seed,
            begun: AtomicU64::new(0),
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state for a change, which takes as long as it does.
    fn state_to_change(&self) -> MutexGuard<'_, State> {
        self.take_time();
        self.state()
    }

    fn take_time(&self) {
        if self.0.pace == Pace::Even {
            return;
        }
        let begun = self.0.begun.fetch_add(1, Ordering::Relaxed);
        let mut dice = Dice::of(self.0.seed, "pace", begun);
        if dice.one_in(LATE_ONE_IN) {
            let late = dice.between(0, LATE_US_MAX);
            std::thread::sleep(Duration::from_micros(late));
        }
    }

    /// From here on the weather is another one.
    pub(crate) fn set_weather(&self, seed: u64, forecast: Forecast) {
        let mut state = self.state();
        state.weather = Weather::new(seed, forecast);
        state.trace(format!("-- {forecast:?}"));
    }

    pub(crate) fn forecast(&self) -> Forecast {
        self.state().weather.forecast()
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.state().weather.has_ended()
    }

    /// Nothing more happens on this disk, until it crashes or is restarted.
    pub(crate) fn end(&self) {
        self.state().weather.end();
        self.release();
    }

    pub(crate) fn note(&self, line: String) {
        self.state().trace(line);
    }

    /// The power went and came back: what was not synced is at the mercy of chance. Nobody may
    /// hold a file any more.
    pub(crate) fn crash(&self) {
        let mut state = self.state();
        state.settle_names();
        state.live = state.durable.clone();
        let State {
            inodes,
            names,
            durable,
            weather,
            figures,
            ..
        } = &mut *state;
        for (name, number) in durable {
            if inodes[*number].crash(&mut weather.dice("crash", name)) {
                figures.files_torn += 1;
            }
            names[*number].clone_from(name);
        }
        state.trace("-- the power went and came back".to_owned());
    }

    /// Another process comes: nothing is lost that the system holds.
    pub(crate) fn restart(&self) {
        self.state().trace("-- another process".to_owned());
    }

    /// The last operations, the newest last.
    pub(crate) fn trace(&self) -> String {
        let state = self.state();
        let lines: Vec<String> = state.trace.iter().map(|line| format!("  {line}")).collect();
        lines.join("\n")
    }

    pub(crate) fn figures(&self) -> DiskFigures {
        self.state().figures.clone()
    }

    /// Lets writes to files of this class wait; tells when the first does.
    pub(crate) fn hold(&self, class: Class) -> Arc<Notify> {
        let arrived = Arc::new(Notify::new());
        self.state().held = Some((class, Arc::clone(&arrived)));
        arrived
    }

    /// Lets those that wait go on.
    pub(crate) fn release(&self) {
        self.state().held = None;
        self.0.released.notify_all();
    }

    /// The state, once nothing holds writes to this file back.
    fn state_to_write(&self, name: &str) -> MutexGuard<'_, State> {
        let state = self.state_to_change();
        match &state.held {
            Some((class, arrived)) if *class == Class::of(name) && !state.weather.has_ended() => {
                arrived.notify_one();
            }
            _ => return state,
        }
        // Whoever is to release it may be waiting for a lock that this writer holds: a real disk
        // would have gone on.
        let waited = self
            .0
            .released
            .wait_timeout_while(state, HELD_MAX, |state| state.held.is_some());
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Makes a file, or empties the one that is there.
    pub(crate) fn create(&self, name: &str) -> io::Result<SimulatedFile> {
        let mut state = self.state_to_change();
        let verdict = state.decide(Kind::Create, name, &String::new);
        if verdict.done {
            if let Ok(number) = state.number(name) {
                state.inodes[number].set_len(0);
            } else {
                let number = state.inode(name);
                state.live.insert(name.to_owned(), number);
                state
                    .unsynced
                    .push(NameChange::Set(name.to_owned(), number));
            }
        }
        verdict.told?;
        let number = state.number(name)?;
        Ok(self.file(number))
    }

    pub(crate) fn open(&self, name: &str) -> io::Result<SimulatedFile> {
        let mut state = self.state();
        state.decide(Kind::Open, name, &String::new).told?;
        let number = state.number(name)?;
        Ok(self.file(number))
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.state().live.contains_key(name)
    }

    /// Names below a directory, without it, and lengths.
    pub(crate) fn list(&self, dir: &str) -> io::Result<Vec<(String, u64)>> {
        let mut state = self.state();
        state.decide(Kind::List, dir, &String::new).told?;
        let start = format!("{dir}/");
        let below = state.live.range(start.clone()..);
        let below = below.take_while(|(name, _)| name.starts_with(&start));
        let listed = below.map(|(name, number)| {
            let bytes = length(&state.inodes[*number].live);
            (name[start.len()..].to_owned(), bytes)
        });
        Ok(listed.collect())
    }

    pub(crate) fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state_to_change();
        let verdict = state.decide(Kind::Rename, to, &|| format!(" from {from}"));
        if verdict.done {
            let number = state.number(from)?;
            state.live.remove(from);
            state.live.insert(to.to_owned(), number);
            to.clone_into(&mut state.names[number]);
            let change = NameChange::Move(from.to_owned(), to.to_owned(), number);
            state.unsynced.push(change);
        }
        verdict.told
    }

    pub(crate) fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.state_to_change();
        if !state.weather.has_ended() {
            state.number(name)?;
        }
        let verdict = state.decide(Kind::Remove, name, &String::new);
        if verdict.done {
            state.live.remove(name);
            state.unsynced.push(NameChange::Remove(name.to_owned()));
        }
        verdict.told
    }

    pub(crate) fn make_dir(&self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        state.decide(Kind::MakeDir, name, &String::new).told
    }

    /// Fails as the opening of a file does; directories are there without being made.
    pub(crate) fn open_dir(&self, dir: &str) -> io::Result<()> {
        let mut state = self.state();
        state.decide(Kind::Open, dir, &String::new).told
    }

    /// Makes the names right in this directory durable; some of them when it fails.
    pub(crate) fn sync_dir(&self, dir: &str) -> io::Result<()> {
        let mut state = self.state_to_change();
        let verdict = state.decide(Kind::SyncDir, dir, &String::new);
        let mut dice = state.weather.dice("names", dir);
        let here = |change: &NameChange| directory(change.name()) == dir;
        let count = state.unsynced.iter().filter(|change| here(change)).count();
        // A file system puts them down in order.
        let mut left = match (&verdict.told, verdict.done) {
            (Ok(()), _) => count,
            (Err(_), true) => dice.below(count + 1),
            (Err(_), false) => 0,
        };
        for change in std::mem::take(&mut state.unsynced) {
            if left == 0 || !here(&change) {
                state.unsynced.push(change);
                continue;
            }
            left -= 1;
            if let NameChange::Move(from, _, inode) = &change {
                // What made the old name is no longer to come.
                let made = |other: &NameChange| matches!(other, NameChange::Set(name, number) if name == from && number == inode);
                state.unsynced.retain(|other| !made(other));
            }
            change.apply(&mut state.durable);
        }
        verdict.told
    }

    fn file(&self, number: Number) -> SimulatedFile {
        SimulatedFile {
            disk: self.clone(),
            number,
        }
    }
}

/// An open file of the disk.
pub(crate) struct SimulatedFile {
    disk: Disk,
    number: Number,
}

impl SimulatedFile {
    pub(crate) fn read(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.disk.state();
        let name = state.names[self.number].clone();
        let detail = || format!(" {}+{}", offset, bytes.len());
        state.decide(Kind::Read, &name, &detail).told?;
        Ok(state.inodes[self.number].read(place(offset)?, bytes))
    }

    /// A write that fails has put down a part, as real ones may.
    pub(crate) fn write(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let name = self.disk.state().names[self.number].clone();
        let mut state = self.disk.state_to_write(&name);
        let at = place(offset)?;
        let detail = || format!(" {}+{}", offset, bytes.len());
        let verdict = state.decide(Kind::Write, &name, &detail);
        if verdict.done {
            let written = match &verdict.told {
                Ok(()) => bytes,
                Err(_) => {
                    let mut dice = state.weather.dice("part", &name);
                    &bytes[..whole_sectors(at, bytes.len(), &mut dice)]
                }
            };
            state.inodes[self.number].write(at, written);
        }
        verdict.told
    }

    pub(crate) fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.state_to_change();
        let name = state.names[self.number].clone();
        let verdict = state.decide(Kind::Sync, &name, &String::new);
        let mut dice: Dice = state.weather.dice("sync", &name);
        let has_ended = state.weather.has_ended();
        let inode = &mut state.inodes[self.number];
        match (&verdict.told, verdict.done) {
            (Ok(()), _) => inode.sync(),
            // The medium has it, and nobody was told.
            (Err(_), true) => inode.sync(),
            (Err(_), false) if !has_ended => inode.fail_sync(&mut dice),
            (Err(_), false) => {}
        }
        verdict.told
    }

    pub(crate) fn set_len(&self, bytes: u64) -> io::Result<()> {
        let mut state = self.disk.state_to_change();
        let name = state.names[self.number].clone();
        let verdict = state.decide(Kind::Truncate, &name, &|| format!(" {bytes}"));
        if verdict.done {
            let bytes = place(bytes)?;
            state.inodes[self.number].set_len(bytes);
        }
        verdict.told
    }

    pub(crate) fn len(&self) -> io::Result<u64> {
        let mut state = self.disk.state();
        let name = state.names[self.number].clone();
        state.decide(Kind::Length, &name, &String::new).told?;
        Ok(length(&state.inodes[self.number].live))
    }
}
