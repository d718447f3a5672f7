//! What a disk does to the operations asked of it: which fail, and when the power goes.
//!
//! Invariant: both are functions of the seed, the file and the count of that file's operations, so
//! that they change as little as possible with the order in which threads come.

use std::collections::BTreeMap;
use std::io;

use crate::dice::Dice;

/// What is asked of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Create,
    Open,
    Read,
    Write,
    Sync,
    Truncate,
    Length,
    List,
    Rename,
    Remove,
    SyncDir,
    MakeDir,
}

impl Kind {
    /// Whether it changes what a crash leaves.
    pub(crate) fn changes(self) -> bool {
        !matches!(self, Self::Open | Self::Read | Self::Length | Self::List)
    }

    /// Whether it gives a file another name, or takes it.
    fn is_of_names(self) -> bool {
        matches!(self, Self::Rename | Self::Remove)
    }

    /// Whether it may need room.
    fn needs_room(self) -> bool {
        matches!(
            self,
            Self::Create | Self::Write | Self::Sync | Self::Rename | Self::MakeDir | Self::Truncate
        )
    }
}

/// Files that are written by the same part of the product.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Class {
    /// Segments of the log.
    Segment,
    /// The log's spare segment, head mark and cuts.
    LogBeside,
    /// The log's indexes.
    Index,
    /// Packs of the content store.
    Pack,
    /// Large blobs, and files before they get their names.
    Blob,
    /// The content store's runs and mark.
    ContentBeside,
}

impl Class {
    pub(crate) fn of(name: &str) -> Self {
        if name.starts_with("log/index") {
            Self::Index
        } else if name.ends_with(".segment") {
            Self::Segment
        } else if name.starts_with("log") {
            Self::LogBeside
        } else if name.starts_with("content/packs") {
            Self::Pack
        } else if name.starts_with("content/blobs") || name.starts_with("content/tmp") {
            Self::Blob
        } else {
            Self::ContentBeside
        }
    }
}

/// What is to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Forecast {
    /// One operation in so many fails; none when nothing does.
    pub(crate) fault_one_in: Option<u64>,
    /// Whether operations that only look may fail as well.
    pub(crate) reads_fail: bool,
    /// This change of a file of this class fails, whatever else does.
    pub(crate) fault_at: Option<(Class, u64)>,
    /// The power goes, or the process is killed, with this change of a file of this class.
    pub(crate) end_at: Option<(Class, u64)>,
}

impl Forecast {
    pub(crate) const CALM: Self = Self {
        fault_one_in: None,
        reads_fail: false,
        fault_at: None,
        end_at: None,
    };

    /// Whether all goes well until the end.
    pub(crate) fn is_without_faults(self) -> bool {
        self.fault_one_in.is_none() && self.fault_at.is_none()
    }
}

/// What becomes of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    /// It fails; `done` tells whether it, or a part of it, was done all the same.
    Fails {
        error: io::ErrorKind,
        done: bool,
    },
    /// It fails, and nothing more happens on this disk.
    Ends {
        done: bool,
    },
}

/// The weather of one life of a process.
#[derive(Debug)]
pub(crate) struct Weather {
    seed: u64,
    forecast: Forecast,
    changes: BTreeMap<Class, u64>,
    operations: BTreeMap<String, u64>,
    /// Whether one rename or removal in three fails, which else hardly any does: there are few.
    names_fail: bool,
    has_ended: bool,
}

impl Weather {
    pub(crate) fn new(seed: u64, forecast: Forecast) -> Self {
        Self {
            seed,
            forecast,
            changes: BTreeMap::new(),
            operations: BTreeMap::new(),
            names_fail: forecast.fault_one_in.is_some() && Dice::of(seed, "names", 0).one_in(3),
            has_ended: false,
        }
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Nothing happens from here on.
    pub(crate) fn end(&mut self) {
        self.has_ended = true;
    }

    pub(crate) fn forecast(&self) -> Forecast {
        self.forecast
    }

    /// Throws for one thing of a file.
    pub(crate) fn dice(&self, what: &str, name: &str) -> Dice {
        let count = self.operations.get(name).copied().unwrap_or_default();
        Dice::of(self.seed ^ Dice::of(0, what, 0).next(), name, count)
    }

    /// Decides over the next operation of a file.
    pub(crate) fn decide(&mut self, kind: Kind, name: &str) -> Outcome {
        if self.has_ended {
            return Outcome::Ends { done: false };
        }
        if !kind.changes() && !self.forecast.reads_fail {
            return Outcome::Done;
        }
        let count = match self.operations.get_mut(name) {
            Some(count) => count,
            None => self.operations.entry(name.to_owned()).or_default(),
        };
        *count += 1;
        let mut must_fail = false;
        if kind.changes() {
            let class = Class::of(name);
            let changes = self.changes.entry(class).or_default();
            *changes += 1;
            let this = Some((class, *changes));
            if self.forecast.end_at == this {
                self.has_ended = true;
                let done = self.dice("end", name).one_in(2);
                return Outcome::Ends { done };
            }
            must_fail = self.forecast.fault_at == this;
        }
        let mut dice = self.dice("fault", name);
        let by_chance = self
            .forecast
            .fault_one_in
            .is_some_and(|one_in| dice.one_in(one_in));
        let by_chance = by_chance || self.names_fail && kind.is_of_names() && dice.one_in(3);
        if !must_fail && !by_chance {
            return Outcome::Done;
        }
        let is_full = kind.needs_room() && dice.one_in(2);
        let error = if is_full {
            io::ErrorKind::StorageFull
        } else {
            io::ErrorKind::Other
        };
        let done = kind == Kind::Write || dice.one_in(4);
        Outcome::Fails { error, done }
    }
}
