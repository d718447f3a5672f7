//! Finding out at open what is stored, and cutting what a crash left unfinished.
//!
//! Invariant: nothing that anybody was told of is removed. Damage is listed and left as it is, and a
//! damaged pack is never written to.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use crate::cut::{Cut, settle};
use crate::index::Slot;
use crate::large::large_digest;
use crate::mark::{MARK, Mark, Marking};
use crate::pack::{
    PACK_HEADER_BYTES, PackHeader, PackPhase, PackState, Run, SEAL_BYTES, Seal, State, Subject,
    Survey, Tail, pack_name, pack_number, read_seal, run_name, run_number, survey,
};
use crate::packing::Active;
use crate::storage::{Storage, StorageFile, remove_if_there};
use crate::{Damage, DamageKind, OpenError};

/// What was found when the store was opened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OpenReport {
    /// Whether the store was closed properly before.
    pub clean: bool,
    /// Pack files.
    pub pack_files: u64,
    /// Blobs in packs.
    pub packed_blobs: u64,
    /// Blobs in files of their own.
    pub large_files: u64,
    /// Torn tails that were cut; nobody had been told of what was in them.
    pub cut: Vec<Cut>,
    /// Damage that was met; the open reads little, so verify to find all.
    pub damage: Vec<Damage>,
    /// Runs that were missing or wrong and were made again.
    pub runs_rebuilt: u64,
    /// Files of unfinished writes that were removed.
    pub temporaries_removed: u64,
}

/// What an open may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Write,
    ReadOnly,
}

/// What is stored.
#[derive(Default)]
pub(crate) struct Loaded {
    pub(crate) slots: BTreeSet<Slot>,
    /// Those of them whose prefixes are not their own.
    pub(crate) equal_prefixes: BTreeSet<Slot>,
    pub(crate) packs: BTreeMap<u32, PackState>,
    pub(crate) packed_bytes: u64,
    pub(crate) large_files: u64,
    pub(crate) large_bytes: u64,
    pub(crate) tail: LastPack,
    pub(crate) report: OpenReport,
}

/// Where the writer goes on.
#[derive(Default)]
pub(crate) struct LastPack {
    /// The last pack, if it can take more.
    pub(crate) active: Option<Active>,
    /// Which it is and where it ends.
    pub(crate) mark: Option<Mark>,
    pub(crate) planned_bytes: u64,
}

/// Looks through a store's directory; with write access also recovers it.
pub(crate) fn load(storage: &dyn Storage, access: Access) -> Result<Loaded, OpenError> {
    let mut loader = Loader {
        storage,
        access,
        loaded: Loaded::default(),
        all: Vec::new(),
        mark: None,
    };
    loader.read_mark()?;
    if access == Access::Write {
        loader.prepare()?;
        loader.sync_names()?;
    }
    loader.packs()?;
    loader.large()?;
    if access == Access::Write {
        // Last, so that a crash in all this finds the mark again.
        Mark::remove(storage).map_err(at(MARK))?;
    }
    Ok(loader.finish())
}

struct Loader<'a> {
    storage: &'a dyn Storage,
    access: Access,
    loaded: Loaded,
    all: Vec<Slot>,
    mark: Option<Mark>,
}

fn at(file: &str) -> impl FnOnce(io::Error) -> OpenError {
    let file = file.to_owned();
    |source| OpenError::Io { file, source }
}

fn count(n: usize) -> u64 {
    u64::try_from(n).expect("a count in memory fits 64 bits")
}

impl Loader<'_> {
    fn read_mark(&mut self) -> Result<(), OpenError> {
        match Mark::load(self.storage).map_err(at(MARK))? {
            Marking::Absent => {}
            Marking::Present(mark) => self.mark = Some(mark),
            // Packs and large blobs name versions of their own: what this one hides is only whether
            // the stop was clean.
            Marking::Unknown { version } => {
                let detail = format!("mark of version {version}, which is not known");
                self.damage(DamageKind::Version, MARK, 0, &detail);
            }
            Marking::Damaged => self.damage(
                DamageKind::Mark,
                MARK,
                0,
                "mark does not match its checksum",
            ),
        }
        self.loaded.report.clean = self.mark.is_some();
        Ok(())
    }

    /// Makes the directories and empties `tmp`.
    fn prepare(&mut self) -> Result<(), OpenError> {
        let root = self.storage.open_dir("").map_err(at(""))?;
        for dir in ["packs", "blobs", "index", "tmp"] {
            self.storage.make_dir(dir).map_err(at(dir))?;
        }
        root.sync().map_err(at(""))?;
        for file in self.storage.list("tmp").map_err(at("tmp"))? {
            let name = format!("tmp/{}", file.name);
            self.storage.remove(&name).map_err(at(&name))?;
            self.loaded.report.temporaries_removed += 1;
        }
        Ok(())
    }

    /// After an unclean stop a name may be seen that is not durable: the process ended between a
    /// rename and the sync of its directory.
    fn sync_names(&mut self) -> Result<(), OpenError> {
        if self.mark.is_some() {
            return Ok(());
        }
        for dir in ["packs", "blobs"] {
            self.sync_dir(dir).map_err(at(dir))?;
        }
        for first in 0..=u8::MAX {
            let dir = format!("blobs/{first:02x}");
            if !self.storage.list(&dir).map_err(at(&dir))?.is_empty() {
                self.sync_dir(&dir).map_err(at(&dir))?;
            }
        }
        Ok(())
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.storage.open_dir(dir)?.sync()
    }

    /// Writes what was written last once more, after an unclean stop. It may be read from memory
    /// that never reached the disk (the process ended between a write and its sync, or the sync
    /// failed), and whoever puts it again would be told that it is there.
    fn write_again(&self, subject: &Subject<'_>, span: std::ops::Range<u64>) -> io::Result<()> {
        const STRIDE_BYTES: u64 = 1024 * 1024;
        if self.access == Access::ReadOnly || self.mark.is_some() || span.is_empty() {
            return Ok(());
        }
        let mut at = span.start;
        while at < span.end {
            let length = STRIDE_BYTES.min(span.end - at);
            let mut bytes = vec![0; usize::try_from(length).expect("a stride is small")];
            let read = subject.file.read_at(&mut bytes, at)?;
            subject.file.write_at(&bytes[..read], at)?;
            at += length;
        }
        subject.file.sync()
    }

    fn packs(&mut self) -> Result<(), OpenError> {
        let listed = self.storage.list("packs").map_err(at("packs"))?;
        let mut numbers: Vec<_> = listed
            .iter()
            .filter_map(|file| pack_number(&file.name))
            .collect();
        numbers.sort_unstable();
        let last = numbers.last().copied();
        for number in &numbers {
            self.pack(*number, Some(*number) == last)?;
        }
        if self.access == Access::Write {
            self.settle_runs(&numbers).map_err(at("index"))?;
        }
        if let Some(mark) = self
            .mark
            .filter(|mark| mark.pack > 0 && !numbers.contains(&mark.pack))
        {
            let detail = "this pack was the last one when the store was closed";
            self.damage(DamageKind::Missing, &pack_name(mark.pack), 0, detail);
        }
        self.loaded.report.pack_files = count(numbers.len());
        Ok(())
    }

    fn pack(&mut self, number: u32, is_last: bool) -> Result<(), OpenError> {
        let name = pack_name(number);
        let file = match self.storage.open(&name) {
            // A collection beside us removed it.
            Err(error)
                if error.kind() == io::ErrorKind::NotFound && self.access == Access::ReadOnly =>
            {
                return Ok(());
            }
            other => other.map_err(at(&name))?,
        };
        let subject = Subject {
            file: &*file,
            number,
            name: &name,
        };
        let len = file.len().map_err(at(&name))?;
        if self.sealed(&subject, len).map_err(at(&name))? {
            // The next pack is begun only behind a seal that is durable.
            return if is_last {
                self.write_again(&subject, len.saturating_sub(SEAL_BYTES)..len)
                    .map_err(at(&name))
            } else {
                Ok(())
            };
        }
        let tail = match self.mark {
            Some(mark) if mark.pack == number => Tail::Marked { end: mark.end },
            None if is_last => Tail::Open,
            Some(_) | None => Tail::Sealed,
        };
        let found = survey(&subject, tail).map_err(at(&name))?;
        if let Some(version) = found.unknown_version {
            return Err(OpenError::Unsupported {
                file: name,
                version,
            });
        }
        self.surveyed(&file, &subject, &found, is_last)
    }

    /// Takes a pack with a seal at its end by its run, without reading it.
    fn sealed(&mut self, subject: &Subject<'_>, len: u64) -> io::Result<bool> {
        let mut header = [0; 64];
        let read = subject.file.read_at(&mut header, 0)?;
        let Ok(header) = PackHeader::decode(&header[..read]) else {
            return Ok(false);
        };
        let Some(seal) = read_seal(subject, len)?.filter(|_| header.number == subject.number)
        else {
            return Ok(false);
        };
        let Some(run) = Run::load(self.storage, subject.number, &seal.chain) else {
            return Ok(false);
        };
        let state = PackState {
            phase: PackPhase::Sealed,
            disk_bytes: len,
            dead_bytes: run.dead_bytes,
            end: len,
        };
        self.loaded.packs.insert(subject.number, state);
        self.loaded.packed_bytes += run.live_bytes;
        self.loaded.tail.planned_bytes = header.planned_bytes;
        self.loaded.tail.mark = Some(Mark {
            pack: subject.number,
            end: len,
            chain: seal.chain,
        });
        self.all.extend(run.slots);
        Ok(true)
    }

    /// Takes a pack by what was read of it.
    fn surveyed(
        &mut self,
        file: &Arc<dyn StorageFile>,
        subject: &Subject<'_>,
        found: &Survey,
        is_last: bool,
    ) -> Result<(), OpenError> {
        let name = subject.name;
        let chain = found.chain();
        let mark = Mark {
            pack: subject.number,
            end: found.end,
            chain: *chain.finalize().as_bytes(),
        };
        let mut damage = found.damage.clone();
        let marked = self.mark.filter(|marked| marked.pack == subject.number);
        if damage.is_empty() && marked.is_some_and(|marked| marked != mark) {
            let detail = "entries are not those that were there at the close";
            damage.push(Damage {
                kind: DamageKind::Mark,
                file: name.to_owned(),
                offset: found.end,
                digest: None,
                detail: detail.to_owned(),
            });
        }
        let phase = match found.seal {
            Some(_) => PackPhase::Sealed,
            None if damage.is_empty() && is_last => PackPhase::Active,
            None => PackPhase::Stuck,
        };
        self.loaded.report.damage.extend(damage.iter().cloned());
        if self.access == Access::Write && damage.is_empty() {
            self.settle(subject, found, is_last).map_err(at(name))?;
        }
        let entries = self.take_entries(subject.number, found);
        let disk_bytes = file.len().map_err(at(name))?;
        let dead_bytes = found
            .entries
            .iter()
            .filter(|entry| entry.state == State::Dead);
        let dead_bytes = dead_bytes
            .map(|entry| crate::pack::entry_bytes(u64::from(entry.len)))
            .sum();
        let state = PackState {
            phase,
            disk_bytes,
            dead_bytes,
            end: found.end,
        };
        self.loaded.packs.insert(subject.number, state);
        self.loaded.tail.planned_bytes = found.planned_bytes.unwrap_or(disk_bytes);
        self.loaded.tail.mark = Some(mark);
        match found.seal {
            Some(seal) if damage.is_empty() => {
                let rebuilt = self.rebuild_run(subject.number, &seal, &entries, dead_bytes);
                rebuilt.map_err(at(&run_name(subject.number)))?;
            }
            // What is made of a damaged pack is made at each open, of what is whole in it.
            Some(_) if self.access == Access::Write => {
                let name = run_name(subject.number);
                remove_if_there(self.storage, &name).map_err(at(&name))?;
            }
            _ => {}
        }
        if phase == PackPhase::Active {
            self.loaded.tail.active = Some(Active {
                number: subject.number,
                file: Arc::clone(file),
                end: found.end,
                planned_bytes: self.loaded.tail.planned_bytes,
                chain,
                count: count(found.entries.len()),
                entries,
            });
        }
        Ok(())
    }

    /// Cuts what is to be cut, and of the last pack writes again what may be in memory only: a seal
    /// before the file is cut behind it, for one that is too short must have it; zeros once they
    /// stand where a torn tail was.
    fn settle(&mut self, subject: &Subject<'_>, found: &Survey, is_last: bool) -> io::Result<()> {
        let last_group = found.entries.last().map(|last| last.group);
        let from = last_group.unwrap_or(PACK_HEADER_BYTES);
        if is_last && found.seal.is_some() {
            self.write_again(subject, from..found.end)?;
        }
        let cut = settle(self.storage, subject, found)?;
        self.loaded.report.cut.extend(cut);
        if is_last && found.seal.is_none() {
            self.write_again(subject, from..subject.file.len()?)?;
        }
        Ok(())
    }

    fn take_entries(&mut self, number: u32, found: &Survey) -> Vec<(Slot, u32)> {
        let live = found
            .entries
            .iter()
            .filter(|entry| entry.state != State::Dead);
        let entries: Vec<_> = live
            .map(|entry| (Slot::packed(&entry.digest, number, entry.offset), entry.len))
            .collect();
        self.loaded.packed_bytes += entries.iter().map(|(_, len)| u64::from(*len)).sum::<u64>();
        self.all.extend(entries.iter().map(|(slot, _)| *slot));
        entries
    }

    /// Has the runs of before gone durably, once others are in their places: an entry whose mark of
    /// death a crash took away lives again, and a run without it must not come back when somebody
    /// was told that the blob is there. A pack that is gone leaves none to the next of its number.
    /// Synced at each open: another that ended early may have changed names. `packs` are in order.
    fn settle_runs(&self, packs: &[u32]) -> io::Result<()> {
        let listed = self.storage.list("index")?;
        let runs = listed.iter().filter_map(|file| run_number(&file.name));
        let dir = self.storage.open_dir("index")?;
        for orphan in runs.filter(|number| packs.binary_search(number).is_err()) {
            self.storage.remove(&run_name(orphan))?;
        }
        dir.sync()
    }

    /// Puts a run in the place of what is there; where it cannot be written, nothing.
    fn rebuild_run(
        &mut self,
        number: u32,
        seal: &Seal,
        entries: &[(Slot, u32)],
        dead_bytes: u64,
    ) -> io::Result<()> {
        self.loaded.report.runs_rebuilt += 1;
        if self.access == Access::ReadOnly {
            return Ok(());
        }
        let live_bytes = entries.iter().map(|(_, len)| u64::from(*len)).sum();
        let mut half = [0; 16];
        half.copy_from_slice(&seal.chain[..16]);
        let slots = entries.iter().map(|(slot, _)| *slot).collect();
        let mut run = Run {
            pack: number,
            live_bytes,
            dead_bytes,
            seal: half,
            slots,
        };
        let Err(error) = run.save(self.storage, &format!("tmp/run-{number}")) else {
            return Ok(());
        };
        tracing::warn!(file = run_name(number), %error, "run could not be written");
        remove_if_there(self.storage, &run_name(number))
    }

    fn large(&mut self) -> Result<(), OpenError> {
        for first in 0..=u8::MAX {
            let dir = format!("blobs/{first:02x}");
            for file in self.storage.list(&dir).map_err(at(&dir))? {
                let Some(digest) = large_digest(&dir, &file.name) else {
                    continue;
                };
                self.all.push(Slot::large(&digest));
                self.loaded.large_files += 1;
                self.loaded.large_bytes += file.bytes;
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Loaded {
        self.all.sort_unstable();
        for pair in self.all.windows(2) {
            if let [one, other] = pair
                && one.prefix == other.prefix
            {
                self.loaded
                    .equal_prefixes
                    .extend(pair.iter().filter(|slot| !slot.is_large()));
            }
        }
        self.loaded.report.large_files = self.loaded.large_files;
        self.loaded.report.packed_blobs = count(self.all.len()) - self.loaded.large_files;
        self.loaded.slots = self.all.into_iter().collect();
        self.loaded
    }

    fn damage(&mut self, kind: DamageKind, file: &str, offset: u64, detail: &str) {
        let damage = Damage {
            kind,
            file: file.to_owned(),
            offset,
            digest: None,
            detail: detail.to_owned(),
        };
        self.loaded.report.damage.push(damage);
    }
}
