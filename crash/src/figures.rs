//! What a run of seeds did, counted.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::AddAssign;

use crate::weather::{Kind, Outcome};

/// What was asked of the disk, and what it did.
#[derive(Debug, Clone, Default)]
pub(crate) struct DiskFigures {
    operations: u64,
    by_kind: BTreeMap<Kind, u64>,
    faults: BTreeMap<(Kind, &'static str), u64>,
    ends: BTreeMap<Kind, u64>,
    pub(crate) files_torn: u64,
    pub(crate) names_lost: u64,
}

impl DiskFigures {
    pub(crate) fn count(&mut self, kind: Kind, outcome: Outcome) {
        self.operations += 1;
        *self.by_kind.entry(kind).or_default() += 1;
        match outcome {
            Outcome::Done => {}
            Outcome::Fails { error, .. } => {
                let error = match error {
                    std::io::ErrorKind::StorageFull => "ENOSPC",
                    _ => "EIO",
                };
                *self.faults.entry((kind, error)).or_default() += 1;
            }
            Outcome::Ends { .. } => *self.ends.entry(kind).or_default() += 1,
        }
    }

    fn add(&mut self, other: &Self) {
        self.operations += other.operations;
        self.files_torn += other.files_torn;
        self.names_lost += other.names_lost;
        for (kind, count) in &other.by_kind {
            *self.by_kind.entry(*kind).or_default() += count;
        }
        for (fault, count) in &other.faults {
            *self.faults.entry(*fault).or_default() += count;
        }
        for (kind, count) in &other.ends {
            *self.ends.entry(*kind).or_default() += count;
        }
    }
}

/// What a run did.
#[derive(Debug, Clone, Default)]
pub struct Figures {
    /// Seeds that were run.
    pub seeds: u64,
    /// Times the power went.
    pub power_losses: u64,
    /// Times the process was killed.
    pub kills: u64,
    /// Times both were closed as they should be.
    pub closes: u64,
    /// Times log and content store were opened and held against the model.
    pub recoveries: u64,
    /// Times an open was cut short by another crash or a fault.
    pub recoveries_cut_short: u64,
    /// Times the log was recovered in place.
    pub reopens: u64,
    /// Times a torn tail was cut, of the log or of a pack.
    pub cuts: u64,
    /// Requests that were acknowledged.
    pub acknowledged: u64,
    /// Requests that were refused, nothing written.
    pub refused: u64,
    /// Requests of which nobody could tell what became.
    pub unknown: u64,
    /// Those of them that were found to have been carried out.
    pub unknown_done: u64,
    /// Requests that were sent again and got their first answer.
    pub replayed: u64,
    /// Events that were held against the model.
    pub events: u64,
    /// Blobs that were stored.
    pub blobs: u64,
    /// Collections of content, and the blobs that they removed.
    pub collections: u64,
    /// Blobs that collections removed.
    pub collected: u64,
    pub(crate) disk: DiskFigures,
}

impl Figures {
    pub(crate) fn add_disk(&mut self, disk: &DiskFigures) {
        self.disk.add(disk);
    }
}

impl AddAssign<&Self> for Figures {
    fn add_assign(&mut self, other: &Self) {
        self.seeds += other.seeds;
        self.power_losses += other.power_losses;
        self.kills += other.kills;
        self.closes += other.closes;
        self.recoveries += other.recoveries;
        self.recoveries_cut_short += other.recoveries_cut_short;
        self.reopens += other.reopens;
        self.cuts += other.cuts;
        self.acknowledged += other.acknowledged;
        self.refused += other.refused;
        self.unknown += other.unknown;
        self.unknown_done += other.unknown_done;
        self.replayed += other.replayed;
        self.events += other.events;
        self.blobs += other.blobs;
        self.collections += other.collections;
        self.collected += other.collected;
        self.disk.add(&other.disk);
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let disk = &self.disk;
        let rows = [
            ("seeds", self.seeds),
            ("power losses", self.power_losses),
            ("kills", self.kills),
            ("clean closes", self.closes),
            ("recoveries held against the model", self.recoveries),
            ("recoveries cut short", self.recoveries_cut_short),
            ("recoveries in place", self.reopens),
            ("torn tails cut", self.cuts),
            ("requests acknowledged", self.acknowledged),
            ("requests refused", self.refused),
            ("requests of unknown outcome", self.unknown),
            ("  of them found done", self.unknown_done),
            ("requests repeated, first answer given", self.replayed),
            ("events", self.events),
            ("blobs", self.blobs),
            ("collections", self.collections),
            ("blobs collected", self.collected),
            ("operations of the disk", disk.operations),
            ("files changed by a loss", disk.files_torn),
            ("names lost", disk.names_lost),
        ];
        for (what, count) in rows {
            writeln!(f, "{what:<40} {count:>12}")?;
        }
        for (kind, count) in &disk.by_kind {
            writeln!(f, "{:<40} {count:>12}", format!("operation {kind:?}"))?;
        }
        for ((kind, error), count) in &disk.faults {
            writeln!(f, "{:<40} {count:>12}", format!("{error} of {kind:?}"))?;
        }
        for (kind, count) in &disk.ends {
            writeln!(f, "{:<40} {count:>12}", format!("ended at {kind:?}"))?;
        }
        Ok(())
    }
}
