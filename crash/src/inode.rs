//! The bytes of one file: what reads see, what is on the medium, and what lies between.
//!
//! Invariant: what was synced can not be lost; a sector keeps what it held or takes one of the
//! contents that were written to it since, never a part of one.

use crate::dice::Dice;

/// Bytes that are lost or kept together.
const SECTOR_BYTES: usize = 512;

/// A file without its name.
#[derive(Debug, Clone, Default)]
pub(crate) struct Inode {
    /// What reads see.
    pub(crate) live: Vec<u8>,
    durable: Vec<u8>,
    /// What was done since the last sync.
    pending: Vec<Change>,
}

#[derive(Debug, Clone)]
enum Change {
    Write { at: usize, bytes: Vec<u8> },
    Length(usize),
}

/// How the medium deals with what was not synced.
#[derive(Debug, Clone, Copy)]
enum Fate {
    /// All of it came there.
    Kept,
    /// None of it did.
    Lost,
    /// The first writes came there, the last of them in part.
    Cut,
    /// Each sector came there or not.
    Torn,
    /// Each sector came there or not, older contents perhaps after newer ones.
    Shuffled,
    /// One write was left out.
    Dropped,
    /// All came there, and some older contents once more.
    Repeated,
}

const FATES: [Fate; 8] = [
    Fate::Kept,
    Fate::Lost,
    Fate::Lost,
    Fate::Cut,
    Fate::Torn,
    Fate::Shuffled,
    Fate::Dropped,
    Fate::Repeated,
];

fn put(target: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    let end = at + bytes.len();
    if target.len() < end {
        target.resize(end, 0);
    }
    target[at..end].copy_from_slice(bytes);
}

fn carry_out(target: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Write { at, bytes } => put(target, *at, bytes),
        Change::Length(bytes) => target.resize(*bytes, 0),
    }
}

/// A change sector by sector.
fn sectors(change: &Change, into: &mut Vec<Change>) {
    let Change::Write { at, bytes } = change else {
        into.push(change.clone());
        return;
    };
    let mut done = 0;
    while done < bytes.len() {
        let sector_end = (at + done) / SECTOR_BYTES * SECTOR_BYTES + SECTOR_BYTES;
        let end = bytes.len().min(sector_end - at);
        into.push(Change::Write {
            at: at + done,
            bytes: bytes[done..end].to_vec(),
        });
        done = end;
    }
}

/// How many bytes of a write are put down when it fails: up to the end of some sector.
pub(crate) fn whole_sectors(at: usize, bytes: usize, dice: &mut Dice) -> usize {
    let some = dice.below(bytes + 1);
    let end = (at + some) / SECTOR_BYTES * SECTOR_BYTES;
    end.saturating_sub(at)
}

impl Inode {
    pub(crate) fn read(&self, at: usize, bytes: &mut [u8]) -> usize {
        let rest = self.live.get(at..).unwrap_or_default();
        let count = rest.len().min(bytes.len());
        bytes[..count].copy_from_slice(&rest[..count]);
        count
    }

    pub(crate) fn write(&mut self, at: usize, bytes: &[u8]) {
        put(&mut self.live, at, bytes);
        let bytes = bytes.to_vec();
        self.pending.push(Change::Write { at, bytes });
    }

    pub(crate) fn set_len(&mut self, bytes: usize) {
        self.live.resize(bytes, 0);
        self.pending.push(Change::Length(bytes));
    }

    pub(crate) fn sync(&mut self) {
        for change in self.pending.drain(..) {
            carry_out(&mut self.durable, &change);
        }
    }

    /// Gives up what was not synced, by chance; true when any of it may be lost.
    pub(crate) fn settle(&mut self, dice: &mut Dice) -> bool {
        if self.pending.is_empty() {
            return false;
        }
        let fate = dice.pick(&FATES);
        let changes = std::mem::take(&mut self.pending);
        for change in chosen(&changes, fate, dice) {
            carry_out(&mut self.durable, &change);
        }
        !matches!(fate, Fate::Kept)
    }

    /// What a sync that fails leaves: chance took what was not synced, no later sync brings it
    /// back, and reads may see it for a while.
    pub(crate) fn fail_sync(&mut self, dice: &mut Dice) {
        self.settle(dice);
        if dice.one_in(2) {
            self.live.clone_from(&self.durable);
        }
    }

    /// What reads see after a crash, once chance has settled what was not synced.
    pub(crate) fn crash(&mut self, dice: &mut Dice) -> bool {
        let is_changed = self.settle(dice);
        self.live.clone_from(&self.durable);
        is_changed
    }
}

/// The changes that come to the medium, in the order in which they do.
fn chosen(changes: &[Change], fate: Fate, dice: &mut Dice) -> Vec<Change> {
    let mut parts = Vec::new();
    match fate {
        Fate::Lost => {}
        Fate::Kept => parts.extend_from_slice(changes),
        Fate::Dropped => {
            let dropped = dice.below(changes.len());
            let kept = changes.iter().enumerate();
            parts.extend(
                kept.filter(|(at, _)| *at != dropped)
                    .map(|(_, c)| c.clone()),
            );
        }
        Fate::Cut => {
            let whole = dice.below(changes.len());
            parts.extend_from_slice(&changes[..whole]);
            let mut last = Vec::new();
            sectors(&changes[whole], &mut last);
            last.truncate(dice.below(last.len() + 1));
            parts.append(&mut last);
        }
        Fate::Torn | Fate::Shuffled => {
            changes
                .iter()
                .for_each(|change| sectors(change, &mut parts));
            // A length that came before or after other writes is a matter of the file system, not
            // of the medium, and those keep the order.
            let has_length = parts.iter().any(|part| matches!(part, Change::Length(_)));
            if matches!(fate, Fate::Shuffled) && !has_length {
                for at in (1..parts.len()).rev() {
                    parts.swap(at, dice.below(at + 1));
                }
            }
            let kept_of_eight = dice.pick(&[1, 4, 7]);
            parts.retain(|_| dice.below(8) < kept_of_eight);
        }
        Fate::Repeated => {
            parts.extend_from_slice(changes);
            let has_length = parts.iter().any(|part| matches!(part, Change::Length(_)));
            if !has_length {
                let mut again = Vec::new();
                changes
                    .iter()
                    .for_each(|change| sectors(change, &mut again));
                again.retain(|_| dice.one_in(4));
                parts.append(&mut again);
            }
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_synced_outlives_every_crash_and_a_sector_is_never_torn() {
        for seed in 0..2_000 {
            let mut dice = Dice::new(seed);
            let mut inode = Inode::default();
            inode.write(0, &[1; 2000]);
            inode.sync();
            inode.write(1500, &[2; 1500]);
            inode.write(1500, &[3; 700]);
            inode.crash(&mut dice);
            assert_eq!(inode.live[..1500], [1; 1500]);
            for sector in inode.live[1500..].chunk_by(|one, other| one == other) {
                assert!(sector.iter().all(|byte| *byte <= 3));
            }
            for (at, pair) in inode.live.windows(2).enumerate() {
                let at = at + 1;
                let is_edge = at.is_multiple_of(SECTOR_BYTES) || [1500, 2000, 2200].contains(&at);
                assert!(pair[0] == pair[1] || is_edge, "seed {seed}: torn at {at}");
            }
        }
    }

    #[test]
    fn a_failed_sync_loses_what_no_later_sync_brings_back() {
        let lost = (0..100).filter(|seed| {
            let mut dice = Dice::new(*seed);
            let mut inode = Inode::default();
            inode.write(0, &[1; 600]);
            inode.fail_sync(&mut dice);
            inode.sync();
            inode.crash(&mut dice);
            inode.live != [1; 600]
        });
        assert!((20..90).contains(&lost.count()));
    }
}
