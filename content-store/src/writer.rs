//! The one thread that appends to packs: takes what has queued up, writes it, syncs once, tells all.
//!
//! Invariant: a group is written only after the one before it was synced, and nobody is told of a
//! blob before its group was.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use bytes::Bytes;

use crate::error::is_full;
use crate::index::Slot;
use crate::load::LastPack;
use crate::mark::Mark;
use crate::pack::{
    ENTRY_HEADER_BYTES, EntryHeader, Kind, PACK_HEADER_BYTES, PackPhase, PackState, SEAL_BYTES,
    STATE_DEAD, STATE_OFFSET, Seal, State, encode_entry, entry_bytes, pack_name,
};
use crate::packing::{Active, Prepared, prepare, save_run, take_back};
use crate::queue::{Queue, Reply, Taker};
use crate::vault::{Presence, Vault, lock};
use crate::{Digest, PutError};

/// Something the writer does.
pub(crate) enum Task {
    /// Appends a blob unless it is there; answers whether it was new. A blob that comes `from` a
    /// pack that will go is appended in any case.
    Append {
        digest: Digest,
        bytes: Bytes,
        from: Option<Slot>,
        reply: Reply<Result<bool, PutError>>,
    },
    /// Marks entries of a pack as dead, durably.
    Bury {
        pack: u32,
        offsets: Vec<u64>,
        reply: Reply<Result<(), PutError>>,
    },
}

impl Task {
    fn weight(&self) -> u64 {
        match self {
            Self::Append { bytes, .. } => ENTRY_HEADER_BYTES + size(bytes),
            Self::Bury { .. } => 0,
        }
    }
}

/// What will be written and synced together.
#[derive(Default)]
struct Group {
    bytes: Vec<u8>,
    members: Vec<Member>,
    by_digest: HashMap<Digest, usize>,
}

struct Member {
    digest: Digest,
    len: u32,
    slot: Slot,
    /// Slots that lead to damaged copies of this blob, or to copies in a pack that will go.
    replaces: Vec<Slot>,
    from: Option<Slot>,
    waiters: Vec<Waiter>,
}

struct Waiter {
    reply: Reply<Result<bool, PutError>>,
    new: bool,
}

/// The writer's state; lives in its thread.
pub(crate) struct Writer {
    vault: Arc<Vault>,
    queue: Arc<Queue<Task>>,
    /// Dropped with the writer, it tells those who still wait.
    taker: Taker<Task>,
    active: Option<Active>,
    /// Where the last pack ended, when there is no active one.
    last: Option<Mark>,
    next_number: u32,
    planned_bytes: u64,
    preparing: Option<JoinHandle<io::Result<Prepared>>>,
    indexing: Option<JoinHandle<()>>,
    group: Group,
}

fn size(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).expect("a length in memory fits 64 bits")
}

/// Lets nobody wait for a writer that is gone.
struct Abandon(Arc<Queue<Task>>);

impl Drop for Abandon {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Writer {
    /// A writer that goes on where `loaded` ends.
    pub(crate) fn new(
        vault: &Arc<Vault>,
        (queue, taker): (&Arc<Queue<Task>>, Taker<Task>),
        tail: LastPack,
    ) -> Self {
        Self {
            vault: Arc::clone(vault),
            queue: Arc::clone(queue),
            taker,
            active: tail.active,
            last: tail.mark,
            next_number: tail.mark.map_or(1, |last| last.pack + 1),
            planned_bytes: tail.planned_bytes,
            preparing: None,
            indexing: None,
            group: Group::default(),
        }
    }

    /// Starts the thread; it ends when the queue is closed.
    pub(crate) fn start(self) -> io::Result<JoinHandle<()>> {
        thread::Builder::new()
            .name("content-writer".to_owned())
            .spawn(move || self.run())
    }

    fn run(mut self) {
        let _abandon = Abandon(Arc::clone(&self.queue));
        let group_bytes_max = self.vault.options.group_bytes_max;
        while let Some(tasks) = self.taker.take(Task::weight, group_bytes_max) {
            for task in tasks {
                match task {
                    Task::Append {
                        digest,
                        bytes,
                        from,
                        reply,
                    } => self.append(digest, &bytes, from, reply),
                    Task::Bury {
                        pack,
                        offsets,
                        reply,
                    } => {
                        let done = self.bury(pack, &offsets);
                        reply.send(done);
                    }
                }
            }
            self.commit();
        }
        self.finish();
    }

    fn append(
        &mut self,
        digest: Digest,
        bytes: &Bytes,
        from: Option<Slot>,
        reply: Reply<Result<bool, PutError>>,
    ) {
        if let Some(error) = self.vault.poisoned() {
            return reply.send(Err(error));
        }
        if let Some(at) = self.group.by_digest.get(&digest) {
            let member = &mut self.group.members[*at];
            member.replaces.extend(from);
            return member.waiters.push(Waiter { reply, new: false });
        }
        let mut replaces = Vec::new();
        if from.is_none() {
            match self.vault.presence(&digest) {
                Presence::Intact => return reply.send(Ok(false)),
                Presence::Absent { damaged } => replaces = damaged,
            }
        }
        let needed = entry_bytes(size(bytes));
        if let Err(error) = self.make_room(needed) {
            return reply.send(Err(error));
        }
        let active = self
            .active
            .as_ref()
            .expect("make_room leaves a pack with room");
        let offset = active.end + size(&self.group.bytes);
        let len = u32::try_from(bytes.len()).expect("a packed blob has at most 128 KiB");
        let header = EntryHeader {
            kind: Kind::Blob,
            group: active.end,
            len,
            digest,
            state: State::Live,
        };
        encode_entry(&mut self.group.bytes, &header, bytes, active.number, offset);
        let slot = Slot::packed(&digest, active.number, offset);
        self.group
            .by_digest
            .insert(digest, self.group.members.len());
        let waiters = vec![Waiter { reply, new: true }];
        self.group.members.push(Member {
            digest,
            len,
            slot,
            replaces,
            from,
            waiters,
        });
    }

    /// Sees to it that an entry fits behind the group; may write the group and change packs.
    fn make_room(&mut self, needed: u64) -> Result<(), PutError> {
        let fits = |active: &Active, group: u64| {
            active.end + group + needed + SEAL_BYTES <= active.planned_bytes
        };
        if self
            .active
            .as_ref()
            .is_some_and(|active| fits(active, size(&self.group.bytes)))
        {
            return Ok(());
        }
        self.commit();
        if let Some(error) = self.vault.poisoned() {
            return Err(error);
        }
        if self.active.as_ref().is_some_and(|active| fits(active, 0)) {
            return Ok(());
        }
        if let Err(error) = self.end_pack() {
            self.vault.poison("seal a pack", &error);
            return Err(self.vault.poisoned().unwrap_or(PutError::Closed));
        }
        self.begin_pack(needed)
    }

    /// Writes and syncs the group, then lets the index and all who wait know.
    fn commit(&mut self) {
        if self.group.members.is_empty() {
            return;
        }
        let group = std::mem::take(&mut self.group);
        let active = self
            .active
            .as_mut()
            .expect("a group is only made behind a pack");
        let started = Instant::now();
        let written = active.file.write_at(&group.bytes, active.end);
        let result = match written {
            Ok(()) => active.file.sync().map_err(|error| {
                self.vault.poison("sync a pack", &error);
                PutError::from_io(error)
            }),
            Err(error) => Err(undo(&self.vault, active, &group, &error)),
        };
        if let Err(error) = result {
            let error = self.vault.poisoned().unwrap_or(error);
            for waiter in group.members.into_iter().flat_map(|member| member.waiters) {
                waiter.reply.send(Err(error.clone()));
            }
            return;
        }
        let counters = &self.vault.counters;
        counters.sync_time.add(started.elapsed());
        counters.groups.add(1);
        counters.group_bytes.add(size(&group.bytes));
        active.end += size(&group.bytes);
        for member in &group.members {
            active.chain.update(member.digest.as_bytes());
            active.count += 1;
            active.entries.push((member.slot, member.len));
            publish(&self.vault, member);
        }
        let end = active.end;
        self.vault
            .packs
            .change(active.number, |state| state.end = end);
        for waiter in group.members.into_iter().flat_map(|member| member.waiters) {
            waiter.reply.send(Ok(waiter.new));
        }
        self.prepare_early();
    }

    /// Prepares the next pack beside the writing, once this one is half full.
    fn prepare_early(&mut self) {
        let half_full = self
            .active
            .as_ref()
            .is_some_and(|active| active.end > active.planned_bytes / 2);
        if !half_full || self.preparing.is_some() {
            return;
        }
        let (vault, number, planned_bytes) = (
            Arc::clone(&self.vault),
            self.next_number,
            self.next_planned_bytes(),
        );
        let work = move || prepare(&vault, number, planned_bytes);
        // Without a thread it is prepared when it is needed.
        self.preparing = thread::Builder::new()
            .name("content-prepare".to_owned())
            .spawn(work)
            .ok();
    }

    fn next_planned_bytes(&self) -> u64 {
        let options = &self.vault.options;
        let doubled = self
            .planned_bytes
            .saturating_mul(2)
            .min(options.pack_file_bytes_max);
        doubled.max(options.pack_file_bytes_first)
    }

    /// Prepares the next pack: as large as is planned, or as the disk has room for, so that the last
    /// of the room is used before anything is refused.
    fn prepare_now(&self, needed: u64) -> io::Result<Prepared> {
        let least = PACK_HEADER_BYTES + needed + SEAL_BYTES;
        let mut bytes = self.next_planned_bytes().max(least);
        loop {
            match prepare(&self.vault, self.next_number, bytes) {
                Err(error) if is_full(&error) && bytes > least => bytes = (bytes / 2).max(least),
                prepared => return prepared,
            }
        }
    }

    /// Gives the next pack its name. A full disk refuses only what waits now, and no pack has got
    /// the name then, durably: a mark of a proper close would deny that it is there.
    fn begin_pack(&mut self, needed: u64) -> Result<(), PutError> {
        let packs = self.vault.storage.open_dir("packs");
        let packs = packs.map_err(PutError::from_io)?;
        let prepared = match self.preparing.take().map(JoinHandle::join) {
            Some(Ok(Ok(prepared))) => prepared,
            _ => self.prepare_now(needed).map_err(PutError::from_io)?,
        };
        let storage = &self.vault.storage;
        let name = pack_name(prepared.number);
        if let Err(error) = storage.rename(&prepared.temporary, &name) {
            let _ = storage.remove(&prepared.temporary);
            if let Err(error) = take_back(&**storage, &*packs, &name) {
                self.vault.poison("take back the name of a pack", &error);
            }
            return Err(self
                .vault
                .poisoned()
                .unwrap_or_else(|| PutError::from_io(error)));
        }
        if let Err(error) = packs.sync() {
            self.vault.poison("sync the directory of packs", &error);
            return Err(self.vault.poisoned().unwrap_or(PutError::Closed));
        }
        let disk_bytes = prepared.planned_bytes;
        let state = PackState {
            phase: PackPhase::Active,
            disk_bytes,
            dead_bytes: 0,
            end: PACK_HEADER_BYTES,
        };
        self.vault.packs.insert(prepared.number, state);
        self.next_number = prepared.number + 1;
        self.planned_bytes = prepared.planned_bytes;
        self.active = Some(Active {
            number: prepared.number,
            file: prepared.file,
            end: PACK_HEADER_BYTES,
            planned_bytes: prepared.planned_bytes,
            chain: blake3::Hasher::new(),
            count: 0,
            entries: Vec::new(),
        });
        Ok(())
    }

    /// Ends the active pack and has its run written.
    fn end_pack(&mut self) -> io::Result<()> {
        let Some(active) = self.active.take() else {
            return Ok(());
        };
        let chain = *active.chain.finalize().as_bytes();
        let bytes = Seal {
            count: active.count,
            chain,
        }
        .encode(active.number, active.end);
        active.file.write_at(&bytes, active.end)?;
        active.file.sync()?;
        let len = active.end + SEAL_BYTES;
        active.file.set_len(len)?;
        self.last = Some(Mark {
            pack: active.number,
            end: len,
            chain,
        });
        self.vault.packs.change(active.number, |state| {
            state.phase = PackPhase::Sealed;
            state.disk_bytes = len;
            state.end = len;
        });
        if let Some(indexing) = self.indexing.take() {
            let _ = indexing.join();
        }
        let vault = Arc::clone(&self.vault);
        let work = move || save_run(&vault, active.number, &chain, &active.entries);
        // Without a run the pack is read at the next open.
        self.indexing = thread::Builder::new()
            .name("content-run".to_owned())
            .spawn(work)
            .ok();
        Ok(())
    }

    fn bury(&mut self, pack: u32, offsets: &[u64]) -> Result<(), PutError> {
        if let Some(error) = self.vault.poisoned() {
            return Err(error);
        }
        let file = match &self.active {
            // The same file that groups are synced through, so that no failure is missed.
            Some(active) if active.number == pack => Some(Arc::clone(&active.file)),
            _ => self
                .vault
                .packs
                .file(&*self.vault.storage, pack)
                .map_err(PutError::from_io)?,
        };
        let Some(file) = file else { return Ok(()) };
        let written = offsets
            .iter()
            .try_for_each(|offset| file.write_at(&STATE_DEAD, offset + STATE_OFFSET));
        written.and_then(|()| file.sync()).map_err(|error| {
            self.vault.poison("mark dead blobs", &error);
            PutError::from_io(error)
        })
    }

    /// Leaves the mark of a proper close, unless something failed.
    fn finish(mut self) {
        if let Some(indexing) = self.indexing.take() {
            let _ = indexing.join();
        }
        if let Some(Ok(Ok(prepared))) = self.preparing.take().map(JoinHandle::join) {
            let _ = self.vault.storage.remove(&prepared.temporary);
        }
        // The queue is closed, so that no large blob gets its name any more but one that is about to:
        // nothing is to be named behind the mark.
        drop(lock(&self.vault.naming));
        if self.vault.poison_reason().is_some() {
            return;
        }
        let here = self.active.as_ref().map(|active| {
            let chain = *active.chain.finalize().as_bytes();
            Mark {
                pack: active.number,
                end: active.end,
                chain,
            }
        });
        let last = here
            .or(self.last)
            .filter(|last| self.vault.packs.state(last.pack).is_some());
        let mark = last.unwrap_or(Mark {
            pack: 0,
            end: 0,
            chain: [0; 32],
        });
        if let Err(error) = mark.save(&*self.vault.storage, &Vault::temporary()) {
            tracing::warn!(%error, "mark of a proper close could not be written");
        }
    }
}

/// Clears what a failed write may have left, so that the next group can take its place; a full disk
/// then poisons nothing.
fn undo(vault: &Vault, active: &Active, group: &Group, error: &io::Error) -> PutError {
    let zeros = vec![0; group.bytes.len()];
    let cleared = active
        .file
        .write_at(&zeros, active.end)
        .and_then(|()| active.file.sync());
    let refusal = PutError::from_io(io::Error::new(error.kind(), error.to_string()));
    if !matches!(refusal, PutError::Full { .. }) || cleared.is_err() {
        vault.poison("write to a pack", error);
    }
    refusal
}

fn publish(vault: &Vault, member: &Member) {
    let len = u64::from(member.len);
    if let Some(from) = &member.from {
        vault.index.change(&[], &member.replaces);
        if !vault.index.relocate(from, member.slot) {
            let dead = entry_bytes(len);
            vault
                .packs
                .change(member.slot.pack, |state| state.dead_bytes += dead);
        }
        return;
    }
    vault.index.change(&[member.slot], &member.replaces);
    vault.counters.packed_bytes.add(len);
    for _ in &member.replaces {
        vault.counters.packed_bytes.take(len);
    }
    vault.note_healed(&member.digest);
}
