//! Reading everything and hashing it again.
//!
//! Invariant: all damage is found, not only the first; derived files are compared with what they
//! are derived from; nothing is written. Beside another process that writes, what it has not yet
//! synced is no damage.

use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;

use crate::error::is_short;
use crate::index::Slot;
use crate::large::{BLOCK_BYTES, LargeFile, large_digest, large_name};
use crate::load::Access;
use crate::mark::{MARK, Mark, Marking};
use crate::pack::{
    ENTRY_HEADER_BYTES, Entry, PackPhase, Run, State, Subject, Survey, Tail, entry_bytes,
    pack_name, pack_number, read_seal, run_name, survey,
};
use crate::storage::StorageFile;
use crate::vault::{Vault, lock};
use crate::{Damage, DamageKind, Digest, ReadError, VerifyError};

/// How far a verification is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerifyProgress {
    /// Bytes of files dealt with.
    pub done_bytes: u64,
    /// Bytes of all files.
    pub total_bytes: u64,
}

/// What a verification found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// Blobs that are whole, each copy counted.
    pub blobs: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// All that is wrong.
    pub damage: Vec<Damage>,
    /// Files with torn tails that were cut at an open.
    pub cut_files: Vec<String>,
    /// Bytes at the end of the last pack that were not acknowledged: a group being written, or a
    /// torn tail that the next open will cut.
    pub unsettled_bytes: u64,
    /// Why not all of it was read, where damage had been found by then: the system was short of what
    /// it takes to look further. Blobs that were not met may be there.
    pub ended: Option<String>,
}

/// Reads and hashes all of a store.
pub(crate) fn verify(
    vault: &Arc<Vault>,
    access: Access,
    progress: &mut dyn FnMut(VerifyProgress) -> ControlFlow<()>,
    on_blob: &mut dyn FnMut(&Digest, u64),
) -> Result<VerifyReport, VerifyError> {
    let _alone = lock(&vault.sweeping);
    let at = VerifyProgress {
        done_bytes: 0,
        total_bytes: 0,
    };
    let mut check = Check {
        vault,
        access,
        report: VerifyReport::default(),
        at,
        progress,
        on_blob,
        is_stopped: false,
    };
    match check.all() {
        // Damage that was found stands, however far it came.
        Err(VerifyError::Io { file, source }) if !check.report.damage.is_empty() => {
            check.report.ended = Some(format!("read {file}: {source}"));
        }
        read => read?,
    }
    Ok(check.report)
}

struct PackFile {
    number: u32,
    bytes: u64,
}

struct LargeBlob {
    digest: Digest,
    bytes: u64,
}

struct Check<'a> {
    vault: &'a Arc<Vault>,
    access: Access,
    report: VerifyReport,
    at: VerifyProgress,
    progress: &'a mut dyn FnMut(VerifyProgress) -> ControlFlow<()>,
    on_blob: &'a mut dyn FnMut(&Digest, u64),
    is_stopped: bool,
}

/// What was found in one pack.
#[derive(Default)]
struct Findings {
    whole: Vec<(Digest, u64)>,
    damage: Vec<Damage>,
    unsettled_bytes: u64,
}

fn at(file: &str) -> impl FnOnce(io::Error) -> VerifyError {
    let file = file.to_owned();
    |source| VerifyError::Io { file, source }
}

fn damage(
    kind: DamageKind,
    file: &str,
    offset: u64,
    digest: Option<Digest>,
    detail: &str,
) -> Damage {
    Damage {
        kind,
        file: file.to_owned(),
        offset,
        digest,
        detail: detail.to_owned(),
    }
}

impl Check<'_> {
    fn all(&mut self) -> Result<(), VerifyError> {
        let packs = self.packs()?;
        let large = self.large()?;
        let bytes = packs
            .iter()
            .map(|pack| pack.bytes)
            .chain(large.iter().map(|file| file.bytes));
        self.at.total_bytes = bytes.sum();
        self.mark(&packs)?;
        let last = packs.iter().map(|pack| pack.number).max();
        for pack in &packs {
            self.pack(pack.number, Some(pack.number) == last)?;
            self.advance(pack.bytes);
            self.go_on()?;
        }
        for file in large {
            self.large_file(&file.digest, file.bytes)?;
            self.go_on()?;
        }
        Ok(())
    }

    fn packs(&mut self) -> Result<Vec<PackFile>, VerifyError> {
        let mut packs = Vec::new();
        for file in self.vault.storage.list("packs").map_err(at("packs"))? {
            let name = format!("packs/{}", file.name);
            if let Some(number) = pack_number(&file.name) {
                packs.push(PackFile {
                    number,
                    bytes: file.bytes,
                });
            } else if file.name.starts_with("cut-") {
                self.report.cut_files.push(name);
            } else {
                self.report.damage.push(damage(
                    DamageKind::Name,
                    &name,
                    0,
                    None,
                    "not the name of a pack",
                ));
            }
        }
        packs.sort_unstable_by_key(|pack| pack.number);
        Ok(packs)
    }

    fn large(&mut self) -> Result<Vec<LargeBlob>, VerifyError> {
        let mut large = Vec::new();
        for first in 0..=u8::MAX {
            let dir = format!("blobs/{first:02x}");
            for file in self.vault.storage.list(&dir).map_err(at(&dir))? {
                if let Some(digest) = large_digest(&dir, &file.name) {
                    large.push(LargeBlob {
                        digest,
                        bytes: file.bytes,
                    });
                } else {
                    let name = format!("{dir}/{}", file.name);
                    let detail = "not the name of a blob of this directory";
                    self.report
                        .damage
                        .push(damage(DamageKind::Name, &name, 0, None, detail));
                }
            }
        }
        Ok(large)
    }

    fn mark(&mut self, packs: &[PackFile]) -> Result<(), VerifyError> {
        let kind = match Mark::load(&*self.vault.storage).map_err(at(MARK))? {
            Marking::Present(mark)
                if mark.pack > 0 && packs.iter().all(|pack| pack.number != mark.pack) =>
            {
                let detail = "this pack was the last one when the store was closed";
                self.report.damage.push(damage(
                    DamageKind::Missing,
                    &pack_name(mark.pack),
                    0,
                    None,
                    detail,
                ));
                return Ok(());
            }
            Marking::Present(_) | Marking::Absent => return Ok(()),
            Marking::Unknown { .. } => DamageKind::Version,
            Marking::Damaged => DamageKind::Mark,
        };
        self.report.damage.push(damage(
            kind,
            MARK,
            0,
            None,
            "mark does not match its checksum or version",
        ));
        Ok(())
    }

    fn pack(&mut self, number: u32, is_last: bool) -> Result<(), VerifyError> {
        let mut found = self.look_at_pack(number, is_last)?;
        if !found.damage.is_empty() && self.access == Access::ReadOnly {
            // Another process may have sealed, marked or removed it while it was read.
            found = self.look_at_pack(number, is_last)?;
        }
        for (digest, len) in &found.whole {
            self.report.blobs += 1;
            self.report.bytes += len;
            if self.is_found(number, digest) {
                (self.on_blob)(digest, *len);
            }
        }
        for damage in &found.damage {
            if let Some(digest) = &damage.digest {
                let (file, offset, kind) = (damage.file.clone(), damage.offset, damage.kind);
                self.vault.note_damage(
                    digest,
                    &ReadError::Damaged {
                        digest: *digest,
                        file,
                        offset,
                        kind,
                    },
                );
            }
        }
        self.report.unsettled_bytes += found.unsettled_bytes;
        self.report.damage.append(&mut found.damage);
        Ok(())
    }

    /// Whether a reader is led to a blob that stands in a pack. Of one that was sealed when the store
    /// was opened the index knows all that is live, or its run leaves out what it must not. A hint
    /// where another process collects: who misses a blob looks once more after a refresh.
    fn is_found(&self, number: u32, digest: &Digest) -> bool {
        let state = self.vault.packs.state(number);
        if state.is_none_or(|state| state.phase != PackPhase::Sealed) {
            return true;
        }
        let slots = self.vault.index.find(digest);
        // What cannot be looked at is told as what it is.
        slots.iter().any(|slot| slot.pack == number) || self.vault.contains(digest).unwrap_or(true)
    }

    fn look_at_pack(&self, number: u32, is_last: bool) -> Result<Findings, VerifyError> {
        let name = pack_name(number);
        let mut findings = Findings::default();
        let done = self.vault.storage.open(&name).and_then(|file| {
            let subject = Subject {
                file: &*file,
                number,
                name: &name,
            };
            let Some(tail) = self.tail(&subject, is_last)? else {
                return Ok(());
            };
            let found = survey(&subject, tail)?;
            self.check_pack(&subject, &found, tail, &mut findings)
        });
        Ok(match done {
            // Collected since the directory was listed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Findings::default(),
            Err(error) if is_short(&error) => return Err(at(&name)(error)),
            Err(error) => {
                findings.damage.push(damage(
                    DamageKind::Unreadable,
                    &name,
                    0,
                    None,
                    &error.to_string(),
                ));
                findings
            }
            Ok(()) => findings,
        })
    }

    /// How the pack may end; nothing when it came after the verification began.
    fn tail(&self, subject: &Subject<'_>, is_last: bool) -> io::Result<Option<Tail>> {
        if self.access == Access::Write {
            return Ok(self
                .vault
                .packs
                .state(subject.number)
                .map(|state| match state.phase {
                    PackPhase::Active => Tail::Durable { end: state.end },
                    PackPhase::Sealed | PackPhase::Stuck => Tail::Sealed,
                }));
        }
        if read_seal(subject, subject.file.len()?)?.is_some() {
            return Ok(Some(Tail::Sealed));
        }
        Ok(Some(match Mark::load(&*self.vault.storage)? {
            Marking::Present(mark) if mark.pack == subject.number => Tail::Marked { end: mark.end },
            Marking::Present(_) => Tail::Sealed,
            _ if is_last => Tail::Open,
            _ => Tail::Sealed,
        }))
    }

    fn check_pack(
        &self,
        subject: &Subject<'_>,
        found: &Survey,
        tail: Tail,
        findings: &mut Findings,
    ) -> io::Result<()> {
        if let Some(version) = found.unknown_version {
            let detail = format!("format version {version} is not known");
            findings
                .damage
                .push(damage(DamageKind::Version, subject.name, 8, None, &detail));
            return Ok(());
        }
        findings.damage.extend(found.damage.iter().cloned());
        findings.unsettled_bytes = found.torn_to.map_or(0, |to| to + 1 - found.end);
        for entry in &found.entries {
            check_entry(subject, entry, findings);
        }
        if tail == Tail::Sealed
            && let Some(seal) = found.seal
        {
            self.check_run(subject.number, &seal.chain, &found.entries, findings)?;
        }
        Ok(())
    }

    /// A run may be absent; one that is there must be whole and lead to entries of its pack.
    fn check_run(
        &self,
        number: u32,
        chain: &[u8; 32],
        entries: &[Entry],
        findings: &mut Findings,
    ) -> io::Result<()> {
        let name = run_name(number);
        let run = match self.vault.storage.open(&name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) if is_short(&error) => return Err(error),
            opened => opened
                .ok()
                .and_then(|file| Run::of_file(&*file, number, chain)),
        };
        let detail = match run {
            None => "does not match its checksum or its pack",
            Some(run) => {
                let slots = entries
                    .iter()
                    .map(|entry| Slot::packed(&entry.digest, number, entry.offset));
                let slots: std::collections::HashSet<_> = slots.collect();
                if run.slots.iter().all(|slot| slots.contains(slot)) {
                    return Ok(());
                }
                "leads to entries that its pack does not have"
            }
        };
        findings
            .damage
            .push(damage(DamageKind::Run, &name, 0, None, detail));
        Ok(())
    }

    fn large_file(&mut self, digest: &Digest, bytes: u64) -> Result<(), VerifyError> {
        let before = self.at.done_bytes;
        let result = match LargeFile::open(&*self.vault.storage, digest) {
            Ok(Some(file)) => self.blocks(digest, &file),
            // Collected since the directory was listed.
            Ok(None) => return Ok(()),
            Err(error) => Err(error),
        };
        match result {
            Ok(len) => {
                self.report.blobs += 1;
                self.report.bytes += len;
                (self.on_blob)(digest, len);
            }
            Err(ReadError::Io { file, source }) if is_short(&source) => {
                let source = io::Error::new(source.kind(), source);
                return Err(VerifyError::Io { file, source });
            }
            Err(error) => self.large_damage(digest, &error),
        }
        self.advance((before + bytes).saturating_sub(self.at.done_bytes));
        Ok(())
    }

    /// Checks each block, reporting all that are damaged but the last, which is the result.
    fn blocks(&mut self, digest: &Digest, file: &LargeFile) -> Result<u64, ReadError> {
        let mut last = None;
        for block_index in 0..file.n_blocks() {
            if let Err(error) = file.check_block(block_index)
                && let Some(earlier) = last.replace(error)
            {
                self.large_damage(digest, &earlier);
            }
            self.advance(BLOCK_BYTES.min(file.len()));
        }
        last.map_or(Ok(file.len()), Err)
    }

    fn large_damage(&mut self, digest: &Digest, error: &ReadError) {
        self.vault.note_damage(digest, error);
        let name = large_name(digest);
        self.report.damage.push(match error {
            ReadError::Damaged { offset, kind, .. } => damage(
                *kind,
                &name,
                *offset,
                Some(*digest),
                "does not match the digest",
            ),
            ReadError::Unsupported { version, .. } => {
                let detail = format!("format version {version} is not known");
                damage(DamageKind::Version, &name, 0, Some(*digest), &detail)
            }
            other => damage(
                DamageKind::Unreadable,
                &name,
                0,
                Some(*digest),
                &other.to_string(),
            ),
        });
    }

    fn advance(&mut self, bytes: u64) {
        self.at.done_bytes = self
            .at
            .done_bytes
            .saturating_add(bytes)
            .min(self.at.total_bytes);
        self.is_stopped |= (self.progress)(self.at).is_break();
    }

    fn go_on(&self) -> Result<(), VerifyError> {
        if self.is_stopped {
            return Err(VerifyError::Stopped);
        }
        Ok(())
    }
}

fn check_entry(subject: &Subject<'_>, entry: &Entry, findings: &mut Findings) {
    let digest = Some(entry.digest);
    if entry.state == State::Unknown {
        let detail = "state is neither live nor dead";
        findings.damage.push(damage(
            DamageKind::State,
            subject.name,
            entry.offset,
            digest,
            detail,
        ));
    }
    if entry.state == State::Dead {
        return;
    }
    let bytes = match read_payload(subject.file, entry) {
        Ok(bytes) => bytes,
        Err(error) => {
            let detail = error.to_string();
            findings.damage.push(damage(
                DamageKind::Unreadable,
                subject.name,
                entry.offset,
                digest,
                &detail,
            ));
            return;
        }
    };
    let (payload, padding) = bytes.split_at(
        bytes
            .len()
            .min(usize::try_from(entry.len).expect("32 bits fit")),
    );
    if Digest::of(payload) != entry.digest {
        let detail = "payload does not match its digest";
        findings.damage.push(damage(
            DamageKind::Payload,
            subject.name,
            entry.offset,
            digest,
            detail,
        ));
        return;
    }
    findings.whole.push((entry.digest, u64::from(entry.len)));
    if padding.iter().any(|byte| *byte != 0) {
        let detail = "bytes behind the payload are not zero";
        findings.damage.push(damage(
            DamageKind::Padding,
            subject.name,
            entry.offset,
            None,
            detail,
        ));
    }
}

fn read_payload(file: &dyn StorageFile, entry: &Entry) -> io::Result<Vec<u8>> {
    let len = entry_bytes(u64::from(entry.len)) - ENTRY_HEADER_BYTES;
    let mut bytes = vec![0; usize::try_from(len).expect("32 bits fit")];
    let read = file.read_at(&mut bytes, entry.offset + ENTRY_HEADER_BYTES)?;
    bytes.truncate(read);
    Ok(bytes)
}
