//! Removing blobs that nothing needs.
//!
//! Invariant: a blob leaves the index only in a moment in which it is neither live nor pinned nor
//! was pinned since the collection began; only then is anything on disk touched. What is live in a
//! pack is durable elsewhere before the pack goes, whether or not the index knew of it.

use std::io;
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, MutexGuard};

use crate::index::Slot;
use crate::large::{large_digest, large_name};
use crate::pack::{
    Entry, PackPhase, PackState, Run, State, Subject, Survey, Tail, entry_bytes, pack_name,
    run_name, survey,
};
use crate::pin::Collecting;
use crate::queue::{Queue, Reply};
use crate::storage::remove_if_there;
use crate::vault::{Found, Presence, Vault, lock};
use crate::writer::Task;
use crate::{CollectError, Digest, PutError};

/// Bytes of a pack on their way to another that are not yet acknowledged.
const MOVING_BYTES_MAX: u64 = 2 * 1024 * 1024;

/// What a collection did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Collected {
    /// Blobs removed.
    pub blobs_removed: u64,
    /// Bytes in them.
    pub bytes_removed: u64,
    /// Packs that were removed, what was live in them having been moved.
    pub packs_removed: u64,
    /// Blobs that were moved from them.
    pub blobs_moved: u64,
    /// Bytes of the files that were removed, less what was moved.
    pub disk_bytes_freed: u64,
    /// Packs left as they are because they are damaged.
    pub packs_damaged: u64,
}

/// What a collection asks whoever wants it.
pub(crate) struct Asks<'a> {
    pub(crate) settle: &'a dyn Fn() -> Result<(), String>,
    pub(crate) is_live: &'a dyn Fn(&Digest) -> bool,
    pub(crate) goes_on: &'a dyn Fn() -> bool,
}

/// Removes what is neither live nor pinned.
pub(crate) fn collect(
    vault: &Arc<Vault>,
    queue: &Queue<Task>,
    asks: &Asks<'_>,
) -> Result<Collected, CollectError> {
    let sweeping = lock(&vault.sweeping);
    let pins = vault.pins.collecting();
    (asks.settle)().map_err(|reason| CollectError::Unsettled { reason })?;
    let names = vault.storage.open_dir("packs").map_err(at("packs"))?;
    let mut sweep = Sweep {
        vault,
        queue,
        asks,
        pins,
        done: Collected::default(),
        _alone: sweeping,
    };
    sweep.large()?;
    let mut packs = vault.packs.numbers().into_iter();
    let swept = packs.try_for_each(|number| {
        sweep.goes_on()?;
        sweep.pack(number)
    });
    if sweep.done.packs_removed > 0 {
        names.sync().map_err(at("packs"))?;
    }
    swept?;
    tracing::info!(
        blobs_removed = sweep.done.blobs_removed,
        bytes_removed = sweep.done.bytes_removed,
        packs_removed = sweep.done.packs_removed,
        disk_bytes_freed = sweep.done.disk_bytes_freed,
        "collected"
    );
    Ok(sweep.done)
}

struct Sweep<'a> {
    vault: &'a Arc<Vault>,
    queue: &'a Queue<Task>,
    asks: &'a Asks<'a>,
    pins: Collecting<'a>,
    done: Collected,
    _alone: MutexGuard<'a, ()>,
}

fn at(file: &str) -> impl FnOnce(io::Error) -> CollectError {
    let file = file.to_owned();
    |source| CollectError::Io { file, source }
}

fn remove(vault: &Vault, name: &str) -> Result<(), CollectError> {
    remove_if_there(&*vault.storage, name).map_err(at(name))
}

impl Sweep<'_> {
    fn needs(&self, digest: &Digest) -> bool {
        self.pins.keeps(digest) || (self.asks.is_live)(digest)
    }

    fn goes_on(&self) -> Result<(), CollectError> {
        (self.asks.goes_on)()
            .then_some(())
            .ok_or(CollectError::Stopped)
    }

    fn large(&mut self) -> Result<(), CollectError> {
        for first in 0..=u8::MAX {
            let dir = format!("blobs/{first:02x}");
            let mut names = None;
            let mut swept = Ok(());
            for file in self.vault.storage.list(&dir).map_err(at(&dir))? {
                let Some(digest) = large_digest(&dir, &file.name) else {
                    continue;
                };
                swept = swept.and_then(|()| self.goes_on());
                if swept.is_err() {
                    break;
                }
                if self.needs(&digest) {
                    continue;
                }
                if names.is_none() {
                    names = Some(self.vault.storage.open_dir(&dir).map_err(at(&dir))?);
                }
                self.remove_large(&digest, file.bytes)?;
            }
            if let Some(names) = names {
                names.sync().map_err(at(&dir))?;
            }
            swept?;
        }
        Ok(())
    }

    fn remove_large(&mut self, digest: &Digest, bytes: u64) -> Result<(), CollectError> {
        // Held until the file is gone, lest a new one of the same name go with it.
        let _names = lock(&self.vault.naming);
        let slot = Slot::large(digest);
        let known = self.vault.index.contains(&slot);
        if !self
            .pins
            .unless_kept(digest, || self.vault.index.change(&[], &[slot]))
        {
            return Ok(());
        }
        if known {
            self.vault.counters.large_files.take(1);
            self.vault.counters.large_bytes.take(bytes);
        }
        remove(self.vault, &large_name(digest))?;
        self.vault.note_healed(digest);
        self.done.blobs_removed += 1;
        self.done.bytes_removed += bytes;
        self.done.disk_bytes_freed += bytes;
        Ok(())
    }

    fn pack(&mut self, number: u32) -> Result<(), CollectError> {
        let name = pack_name(number);
        let Some(state) = self.vault.packs.state(number) else {
            return Ok(());
        };
        let file = self
            .vault
            .packs
            .file(&*self.vault.storage, number)
            .map_err(at(&name))?;
        let Some(file) = file else { return Ok(()) };
        let subject = Subject {
            file: &*file,
            number,
            name: &name,
        };
        let found = survey(&subject, Tail::Durable { end: state.end }).map_err(at(&name))?;
        let sorted = self.sort(number, &found);
        if !sorted.left_out.is_empty() {
            self.take_up(number, &sorted.left_out)?;
        }
        if !found.damage.is_empty() || state.phase == PackPhase::Stuck {
            // What was unlinked stays on disk: nothing is written where not all is understood.
            self.done.packs_damaged += 1;
            return Ok(());
        }
        if !sorted.bury.is_empty() {
            self.remove_run(number)?;
            self.bury(number, sorted.bury.clone())?;
        }
        self.vault
            .packs
            .change(number, |state| state.dead_bytes = sorted.dead_bytes);
        let percent = self.vault.options.rewrite_dead_percent;
        let much_is_dead =
            sorted.dead_bytes.saturating_mul(100) >= state.disk_bytes.saturating_mul(percent);
        if state.phase == PackPhase::Sealed && (much_is_dead || sorted.live.is_empty()) {
            return self.rewrite(number, &state, &sorted.live);
        }
        let is_changed = !(sorted.bury.is_empty() && sorted.left_out.is_empty());
        if state.phase == PackPhase::Sealed && is_changed {
            self.save_run(number, &found, &sorted);
        }
        Ok(())
    }

    /// Takes out of the index what is not needed, and says what is left.
    fn sort(&mut self, number: u32, found: &Survey) -> Sorted {
        let mut sorted = Sorted::default();
        for entry in &found.entries {
            let slot = Slot::packed(&entry.digest, number, entry.offset);
            let len = u64::from(entry.len);
            if entry.state == State::Dead {
                self.vault.index.change(&[], &[slot]);
                sorted.dead_bytes += entry_bytes(len);
                continue;
            }
            let known = self.vault.index.contains(&slot);
            if !known && self.is_left_out(&entry.digest) {
                sorted.left_out.push((slot, len));
                sorted.live.push(*entry);
                continue;
            }
            if known && (self.needs(&entry.digest) || !self.unlink(entry, slot)) {
                sorted.live.push(*entry);
                continue;
            }
            sorted.bury.push(entry.offset);
            sorted.dead_bytes += entry_bytes(len);
        }
        sorted
    }

    /// Whether a blob that the index does not lead to is needed and nowhere else.
    fn is_left_out(&self, digest: &Digest) -> bool {
        self.needs(digest) && matches!(self.vault.presence(digest), Presence::Absent { .. })
    }

    /// Has the index lead to blobs that a pack's run leaves out: no error in what is derived is to
    /// end in the death of what is live. That run is gone first, durably.
    fn take_up(&self, pack: u32, left_out: &[(Slot, u64)]) -> Result<(), CollectError> {
        let count = left_out.len();
        tracing::warn!(
            pack,
            count,
            "blobs of a pack that the index does not lead to"
        );
        let _runs = lock(&self.vault.run_files);
        let index = self.vault.storage.open_dir("index").map_err(at("index"))?;
        remove(self.vault, &run_name(pack))?;
        index.sync().map_err(at("index"))?;
        let slots: Vec<_> = left_out.iter().map(|(slot, _)| *slot).collect();
        self.vault.index.change(&slots, &[]);
        let bytes = left_out.iter().map(|(_, bytes)| bytes).sum();
        self.vault.counters.packed_bytes.add(bytes);
        Ok(())
    }

    fn unlink(&mut self, entry: &Entry, slot: Slot) -> bool {
        if !self
            .pins
            .unless_kept(&entry.digest, || self.vault.index.change(&[], &[slot]))
        {
            return false;
        }
        let len = u64::from(entry.len);
        self.vault.counters.packed_bytes.take(len);
        self.vault.note_healed(&entry.digest);
        self.done.blobs_removed += 1;
        self.done.bytes_removed += len;
        true
    }

    fn bury(&self, pack: u32, offsets: Vec<u64>) -> Result<(), CollectError> {
        let (sender, answer) = mpsc::channel();
        let task = Task::Bury {
            pack,
            offsets,
            reply: Reply::Thread(sender),
        };
        self.queue
            .push_blocking(task)
            .map_err(|_| PutError::Closed)?;
        answer.recv().map_err(|_| PutError::Closed)??;
        Ok(())
    }

    /// Moves what is live to the active pack and removes this one.
    fn rewrite(
        &mut self,
        number: u32,
        state: &PackState,
        live: &[Entry],
    ) -> Result<(), CollectError> {
        let mut moving = Moving {
            answers: Vec::new(),
            bytes: 0,
        };
        let mut moved_bytes = 0;
        for entry in live {
            let slot = Slot::packed(&entry.digest, number, entry.offset);
            let Ok(Found::Blob(bytes)) = self.vault.read_slot(&slot, &entry.digest) else {
                moving.settle()?;
                self.done.packs_damaged += 1;
                return Ok(());
            };
            let (sender, answer) = mpsc::channel();
            let reply = Reply::Thread(sender);
            let task = Task::Append {
                digest: entry.digest,
                bytes,
                from: Some(slot),
                reply,
            };
            self.queue
                .push_blocking(task)
                .map_err(|_| PutError::Closed)?;
            moving.answers.push(answer);
            moving.bytes += u64::from(entry.len);
            moved_bytes += entry_bytes(u64::from(entry.len));
            if moving.bytes >= MOVING_BYTES_MAX {
                moving.settle()?;
            }
        }
        moving.settle()?;
        let left = live.iter().any(|entry| {
            self.vault
                .index
                .contains(&Slot::packed(&entry.digest, number, entry.offset))
        });
        assert!(!left, "what was moved is found in its new place");
        let removed = remove(self.vault, &pack_name(number));
        // In any case: a removal that fails may have been carried out, and the mark of a proper
        // close must name no pack that is gone. One that stayed is collected after the next open.
        self.vault.packs.remove(number);
        removed?;
        self.remove_run(number)?;
        self.done.packs_removed += 1;
        self.done.blobs_moved +=
            u64::try_from(live.len()).expect("a length in memory fits 64 bits");
        self.done.disk_bytes_freed += state.disk_bytes.saturating_sub(moved_bytes);
        Ok(())
    }

    /// Removes a pack's run. One that the writer makes from here on knows what was unlinked.
    fn remove_run(&self, number: u32) -> Result<(), CollectError> {
        let _runs = lock(&self.vault.run_files);
        remove(self.vault, &run_name(number))
    }

    fn save_run(&self, pack: u32, found: &Survey, sorted: &Sorted) {
        let _runs = lock(&self.vault.run_files);
        let Some(chain) = found.seal.map(|seal| seal.chain) else {
            return;
        };
        let mut seal = [0; 16];
        seal.copy_from_slice(&chain[..16]);
        let slots = sorted
            .live
            .iter()
            .map(|entry| Slot::packed(&entry.digest, pack, entry.offset));
        let live_bytes = sorted.live.iter().map(|entry| u64::from(entry.len)).sum();
        let mut run = Run {
            pack,
            live_bytes,
            dead_bytes: sorted.dead_bytes,
            seal,
            slots: slots.collect(),
        };
        if let Err(error) = run.save(&*self.vault.storage, &Vault::temporary()) {
            tracing::warn!(pack, %error, "run could not be written");
        }
    }
}

/// The entries of a pack by what becomes of them.
#[derive(Default)]
struct Sorted {
    live: Vec<Entry>,
    /// Those of them that the index does not lead to, with their lengths.
    left_out: Vec<(Slot, u64)>,
    /// Offsets of those that are to be marked dead.
    bury: Vec<u64>,
    /// Bytes of those, and of those that were dead before.
    dead_bytes: u64,
}

/// Blobs on their way to another pack.
struct Moving {
    answers: Vec<Receiver<Result<bool, PutError>>>,
    bytes: u64,
}

impl Moving {
    /// Waits until all are durable.
    fn settle(&mut self) -> Result<(), CollectError> {
        // All of them, whatever became of the first: none is to be under way when this is over.
        let answers: Vec<_> = self.answers.drain(..).map(|answer| answer.recv()).collect();
        self.bytes = 0;
        for answer in answers {
            answer.map_err(|_| PutError::Closed)??;
        }
        Ok(())
    }
}
