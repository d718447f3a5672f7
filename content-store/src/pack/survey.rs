//! Reading a whole pack's headers and telling what is torn from what is damaged.
//!
//! Invariant: only what nobody can have been told of is ever called torn. The argument is in
//! `docs/format/content-store.md`, "Groups, and telling torn from damaged".

use std::io;

use super::format::{ENTRY_HEADER_BYTES, EntryHeader, Kind, PackHeader, SEAL_BYTES, Seal, State};
use super::walk::{Step, Walker};
use crate::storage::StorageFile;
use crate::{Damage, DamageKind, Digest};

/// A pack to look at.
pub(crate) struct Subject<'a> {
    pub(crate) file: &'a dyn StorageFile,
    pub(crate) number: u32,
    pub(crate) name: &'a str,
}

/// How a pack may end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tail {
    /// It must have a seal; nothing is torn.
    Sealed,
    /// It ended here when the store was closed properly; nothing is torn.
    Marked { end: u64 },
    /// It was being written when the process stopped; the last group may be torn.
    Open,
    /// It is durable up to here, and somebody is writing behind.
    Durable { end: u64 },
}

/// An entry with a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) offset: u64,
    pub(crate) group: u64,
    pub(crate) len: u32,
    pub(crate) digest: Digest,
    pub(crate) state: State,
}

/// What is in a pack.
pub(crate) struct Survey {
    pub(crate) planned_bytes: Option<u64>,
    /// The version, when it is one that is not known; nothing else is filled in then.
    pub(crate) unknown_version: Option<u32>,
    pub(crate) entries: Vec<Entry>,
    /// Where the last entry ends, the seal included.
    pub(crate) end: u64,
    pub(crate) seal: Option<Seal>,
    /// The last byte of a torn tail, which begins at `end`.
    pub(crate) torn_to: Option<u64>,
    pub(crate) damage: Vec<Damage>,
}

impl Survey {
    /// The digest of the digests so far, open for more.
    pub(crate) fn chain(&self) -> blake3::Hasher {
        let mut chain = blake3::Hasher::new();
        for entry in &self.entries {
            chain.update(entry.digest.as_bytes());
        }
        chain
    }
}

/// Reads all headers of a pack, and of the last group the payloads when it may be torn.
pub(crate) fn survey(subject: &Subject<'_>, tail: Tail) -> io::Result<Survey> {
    let mut survey = Survey {
        planned_bytes: None,
        unknown_version: None,
        entries: Vec::new(),
        end: 0,
        seal: None,
        torn_to: None,
        damage: Vec::new(),
    };
    read_header(subject, &mut survey)?;
    if survey.unknown_version.is_some() {
        return Ok(survey);
    }
    let limit = match tail {
        Tail::Marked { end } | Tail::Durable { end } => Some(end),
        Tail::Sealed | Tail::Open => None,
    };
    let mut walker = Walker::new(subject.file, subject.number, limit)?;
    loop {
        match walker.step()? {
            Step::Entry { offset, header } if header.kind == Kind::Seal => {
                survey.end = if take_seal(subject, &mut survey, offset, tail)? {
                    walker.at()
                } else {
                    offset
                };
                break;
            }
            Step::Entry { offset, header } => survey.entries.push(entry(offset, &header)),
            Step::Stop { offset, reason } => {
                if !pass(
                    subject,
                    &mut survey,
                    &mut walker,
                    tail,
                    &Gap { offset, reason },
                )? {
                    survey.end = offset;
                    break;
                }
            }
        }
    }
    settle(subject, &mut survey, tail)?;
    Ok(survey)
}

/// The seal of a pack whose file ends with one.
pub(crate) fn read_seal(subject: &Subject<'_>, len: u64) -> io::Result<Option<Seal>> {
    let Some(offset) = len.checked_sub(SEAL_BYTES) else {
        return Ok(None);
    };
    let bytes = read(subject.file, offset, SEAL_BYTES)?;
    Ok(Seal::decode(&bytes, subject.number, offset))
}

/// Where the last byte that is not zero stands, from an offset on.
pub(crate) fn last_nonzero(file: &dyn StorageFile, from: u64) -> io::Result<Option<u64>> {
    const STRIDE: u64 = 1024 * 1024;
    let (mut at, mut last) = (from, None);
    loop {
        let bytes = read(file, at, STRIDE)?;
        if bytes.is_empty() {
            return Ok(last);
        }
        if let Some(place) = bytes.iter().rposition(|byte| *byte != 0) {
            last = Some(at + u64::try_from(place).expect("a stride is small"));
        }
        at += u64::try_from(bytes.len()).expect("a stride is small");
    }
}

struct Gap {
    offset: u64,
    reason: Option<&'static str>,
}

/// Goes past a place where no entry begins, when one begins further on that proves it damaged.
fn pass(
    subject: &Subject<'_>,
    survey: &mut Survey,
    walker: &mut Walker<'_>,
    tail: Tail,
    gap: &Gap,
) -> io::Result<bool> {
    let offset = gap.offset;
    let resumed = match tail {
        // Whatever belongs to the group in which the gap is may have come in any order.
        Tail::Open => walker.resume(|header| header.group > offset)?,
        _ => walker.resume(|_| true)?,
    };
    let detail = gap.reason.unwrap_or("zeros where an entry should begin");
    let should_go_on = match tail {
        Tail::Marked { end } | Tail::Durable { end } => offset < end,
        Tail::Sealed | Tail::Open => resumed,
    };
    if should_go_on {
        survey.damage.push(damage(
            subject,
            DamageKind::EntryHeader,
            offset,
            None,
            detail,
        ));
    } else if tail == Tail::Sealed {
        survey.damage.push(damage(
            subject,
            DamageKind::Seal,
            offset,
            None,
            "no seal where the entries end",
        ));
    }
    Ok(resumed)
}

fn settle(subject: &Subject<'_>, survey: &mut Survey, tail: Tail) -> io::Result<()> {
    let len = subject.file.len()?;
    if survey.seal.is_none() && survey.planned_bytes.is_some_and(|planned| len < planned) {
        let detail = "an unsealed pack must have its planned length";
        survey
            .damage
            .push(damage(subject, DamageKind::Truncated, len, None, detail));
    }
    if survey.seal.is_none() && tail == Tail::Open {
        cut_bad_payloads(subject, survey)?;
        survey.torn_to = last_nonzero(subject.file, survey.end)?;
        return Ok(());
    }
    if matches!(tail, Tail::Durable { .. }) {
        return Ok(());
    }
    if survey.damage.is_empty() && last_nonzero(subject.file, survey.end)?.is_some() {
        let end = survey.end;
        survey.damage.push(damage(
            subject,
            DamageKind::AfterEnd,
            end,
            None,
            "bytes behind the last entry",
        ));
    }
    Ok(())
}

/// Takes the end back to the first entry of the last group whose payload is not there.
fn cut_bad_payloads(subject: &Subject<'_>, survey: &mut Survey) -> io::Result<()> {
    let Some(group) = survey.entries.last().map(|entry| entry.group) else {
        return Ok(());
    };
    let first = survey.entries.partition_point(|entry| entry.offset < group);
    for at in first..survey.entries.len() {
        let entry = survey.entries[at];
        let len = u64::from(entry.len);
        let payload = read(subject.file, entry.offset + ENTRY_HEADER_BYTES, len)?;
        if entry.state == State::Unknown || Digest::of(&payload) != entry.digest {
            survey.end = entry.offset;
            survey.entries.truncate(at);
            break;
        }
    }
    Ok(())
}

fn read_header(subject: &Subject<'_>, survey: &mut Survey) -> io::Result<()> {
    match PackHeader::decode(&read(subject.file, 0, 64)?) {
        Ok(header) if header.number == subject.number => {
            survey.planned_bytes = Some(header.planned_bytes);
        }
        Ok(header) => {
            let detail = format!("header says pack {}", header.number);
            survey
                .damage
                .push(damage(subject, DamageKind::PackHeader, 16, None, &detail));
        }
        Err((DamageKind::Version, version)) => survey.unknown_version = Some(version),
        Err((kind, _)) => {
            survey.damage.push(damage(
                subject,
                kind,
                0,
                None,
                "header does not match its checksum",
            ));
        }
    }
    Ok(())
}

/// Takes a seal; false for one that is torn, of which only the header came to the disk.
fn take_seal(
    subject: &Subject<'_>,
    survey: &mut Survey,
    offset: u64,
    tail: Tail,
) -> io::Result<bool> {
    let bytes = read(subject.file, offset, SEAL_BYTES)?;
    let Some(seal) = Seal::decode(&bytes, subject.number, offset) else {
        if tail == Tail::Open {
            return Ok(false);
        }
        survey.damage.push(damage(
            subject,
            DamageKind::Seal,
            offset,
            None,
            "seal does not match its digest",
        ));
        return Ok(true);
    };
    let count = u64::try_from(survey.entries.len()).expect("entries fit memory");
    let fits = seal.count == count && seal.chain == *survey.chain().finalize().as_bytes();
    if !fits && survey.damage.is_empty() {
        let detail = "seal does not fit the entries before it";
        survey
            .damage
            .push(damage(subject, DamageKind::Seal, offset, None, detail));
    }
    survey.seal = Some(seal);
    Ok(true)
}

fn entry(offset: u64, header: &EntryHeader) -> Entry {
    let EntryHeader {
        group,
        len,
        digest,
        state,
        ..
    } = *header;
    Entry {
        offset,
        group,
        len,
        digest,
        state,
    }
}

fn damage(
    subject: &Subject<'_>,
    kind: DamageKind,
    offset: u64,
    digest: Option<Digest>,
    detail: &str,
) -> Damage {
    Damage {
        kind,
        file: subject.name.to_owned(),
        offset,
        digest,
        detail: detail.to_owned(),
    }
}

fn read(file: &dyn StorageFile, offset: u64, len: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(len).expect("parts of a pack fit memory")];
    let read = file.read_at(&mut bytes, offset)?;
    bytes.truncate(read);
    Ok(bytes)
}
