//! Opening: finding where the log ends, and cutting what a crash left half-written.
//!
//! Invariant: only a bad last group of the last segment, after an unclean stop, with nothing good
//! behind it, is cut; its bytes are kept in a file of their own. All else is an error.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use crate::chain::Chain;
use crate::codec::{round_up, to_usize};
use crate::error::{DamageKind, OpenError};
use crate::frame::Check;
use crate::id::{LogId, Position};
use crate::index::{Active, Entry, Sealed, log_key};
use crate::mark::{Found, MARK_DRAFT_NAME, MARK_NAME, Mark};
use crate::options::Options;
use crate::scan::{Scan, Step, end_of_bytes, good_frame_behind};
use crate::segment::{
    HEADER_BYTES, SEAL_BYTES, SPARE_NAME, Seal, SegmentHeader, segment_first, segment_name,
};
use crate::storage::{Access, Storage, StorageFile, StoredFile, read_bytes};

/// Bytes handled at a time where a region is copied or cleared.
const COPY_BYTES: usize = 1 << 20;

/// What is remembered of a segment while the log is open.
#[derive(Debug)]
pub(crate) struct SegmentInfo {
    pub(crate) first: u64,
    pub(crate) name: String,
    /// Recorded time of the record before its first.
    pub(crate) before_recorded_at_us: i64,
}

/// The segment that takes the next group.
pub(crate) struct Tip {
    pub(crate) info: Arc<SegmentInfo>,
    pub(crate) file: Arc<dyn StorageFile>,
    /// Where the next group goes.
    pub(crate) offset: u64,
    pub(crate) planned_bytes: u64,
}

/// Bytes of a torn tail that were taken out of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// The file that keeps them.
    pub file: String,
    /// The segment they were cut from.
    pub segment: String,
    /// Where they started in it.
    pub offset: u64,
    /// How many bytes.
    pub bytes: u64,
    /// The position that their first record would have had.
    pub position: Position,
}

/// What a log is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Writing. With `keep_end`, nothing from this position on is kept, good or not.
    Write { keep_end: Option<u64> },
    /// Reading, perhaps while another process writes.
    Read,
}

/// A log as it was found and, in [`Mode::Write`], mended.
pub(crate) struct Loaded {
    pub(crate) log_id: LogId,
    pub(crate) created: bool,
    /// Whether a head mark vouched for it.
    pub(crate) clean: bool,
    pub(crate) segments: Vec<Arc<SegmentInfo>>,
    pub(crate) sealed: Vec<Sealed>,
    pub(crate) chain: Chain,
    pub(crate) tip: Option<Tip>,
    /// Where the last frame ends in the last segment.
    pub(crate) offset: u64,
    pub(crate) last_planned_bytes: u64,
    pub(crate) active: Active,
    pub(crate) cut: Option<Cut>,
    pub(crate) listing: Vec<StoredFile>,
}

/// How a walk to the end of the last segment ended.
pub(crate) struct TipScan {
    pub(crate) end: TipEnd,
    pub(crate) offset: u64,
    /// The last good frame, to be written again.
    last: Option<(u64, Bytes)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TipEnd {
    Zeros,
    Sealed,
    /// The first group that must not be kept.
    Stopped,
    Bad {
        kind: DamageKind,
        resume: u64,
    },
}

/// Names the file and the operation in an error.
pub(crate) fn failed(operation: &'static str, file: &str) -> impl FnOnce(io::Error) -> OpenError {
    let file = file.to_owned();
    move |source| OpenError::Io {
        operation,
        file,
        source,
    }
}

fn damaged(file: &str, offset: u64, position: u64, kind: DamageKind) -> OpenError {
    OpenError::Damaged {
        file: file.to_owned(),
        offset,
        position: Position::new(position),
        kind,
    }
}

/// Finds the log's end and mends it where it may be mended.
pub(crate) fn load(
    storage: &dyn Storage,
    options: &Options,
    mode: Mode,
) -> Result<Loaded, OpenError> {
    let mut listing = storage.list().map_err(failed("list", ""))?;
    let mut created = false;
    if mode != Mode::Read {
        storage.sync_dir().map_err(failed("sync", ""))?;
        remove_leftovers(storage, &listing)?;
    }
    if !listing
        .iter()
        .any(|file| segment_first(&file.name).is_some())
    {
        if listing.iter().any(|file| file.name == MARK_NAME) {
            return Err(damaged(&segment_name(0), 0, 0, DamageKind::SegmentMissing));
        }
        if mode == Mode::Read {
            return Err(OpenError::Missing);
        }
        create_first(storage, options)?;
        created = true;
        listing = storage.list().map_err(failed("list", ""))?;
    }
    let mark = match Mark::read(storage).map_err(failed("read", MARK_NAME))? {
        Found::Nothing => None,
        Found::Mark(mark) => Some(*mark),
        Found::Garbled => return Err(damaged(MARK_NAME, 0, 0, DamageKind::HeadMark)),
    };
    let (mut headers, sealed) = check_segments(storage, &listing)?;
    let (info, header) = headers.pop().expect("there is at least one segment");
    let mut segments: Vec<_> = headers.into_iter().map(|(info, _)| info).collect();
    segments.push(Arc::clone(&info));
    let mut loaded = Loaded {
        log_id: header.log_id,
        created,
        clean: created,
        segments,
        sealed,
        active: Active::new(info.first),
        chain: header.before.clone(),
        tip: None,
        offset: HEADER_BYTES as u64,
        last_planned_bytes: header.planned_bytes,
        cut: None,
        listing,
    };
    load_last(storage, mode, &mut loaded, &info, &header, mark)?;
    Ok(loaded)
}

fn remove_leftovers(storage: &dyn Storage, listing: &[StoredFile]) -> Result<(), OpenError> {
    for file in listing {
        let draft = [SPARE_NAME, MARK_DRAFT_NAME].contains(&file.name.as_str())
            || (file.name.starts_with("index/") && file.name.strip_suffix(".new").is_some());
        if draft {
            storage
                .remove(&file.name)
                .map_err(failed("remove", &file.name))?;
        }
    }
    Ok(())
}

fn create_first(storage: &dyn Storage, options: &Options) -> Result<(), OpenError> {
    let header = SegmentHeader {
        log_id: options.log_id.unwrap_or_else(LogId::random),
        planned_bytes: options.segment_bytes_first,
        before: Chain::default(),
    };
    let file = prewrite(storage, header.planned_bytes).map_err(failed("prepare", SPARE_NAME))?;
    let activated = write_header(&*file, &header).and_then(|()| name_segment(storage, 0));
    activated.map_err(failed("create", &segment_name(0)))
}

/// Writes a file of zeros that is to become a segment.
pub(crate) fn prewrite(storage: &dyn Storage, bytes: u64) -> io::Result<Arc<dyn StorageFile>> {
    let write = || {
        let file = storage.create(SPARE_NAME)?;
        clear(&*file, 0, bytes)?;
        file.sync_data()?;
        Ok(file)
    };
    let written = write();
    if written.is_err() {
        // Half a file is of no use, and may be what fills the disk. It need not be there.
        let _ = storage.remove(SPARE_NAME);
    }
    written
}

/// Writes zeros between two places.
pub(crate) fn clear(file: &dyn StorageFile, from: u64, to: u64) -> io::Result<()> {
    let zeros = vec![0; COPY_BYTES.min(to_usize(to.saturating_sub(from)))];
    let mut at = from;
    while at < to {
        let count = zeros.len().min(to_usize(to - at));
        file.write_at(&zeros[..count], at)?;
        at += count as u64;
    }
    Ok(())
}

/// Writes a segment's header into a prepared file and makes it durable.
pub(crate) fn write_header(file: &dyn StorageFile, header: &SegmentHeader) -> io::Result<()> {
    file.write_at(&header.encode(), 0)?;
    file.sync_data()
}

/// Gives the prepared file its name as a segment.
pub(crate) fn name_segment(storage: &dyn Storage, first: u64) -> io::Result<()> {
    storage.rename(SPARE_NAME, &segment_name(first))?;
    storage.sync_dir()
}

type Headers = Vec<(Arc<SegmentInfo>, SegmentHeader)>;

/// Reads every header and checks that each segment leads up to the next.
fn check_segments(
    storage: &dyn Storage,
    listing: &[StoredFile],
) -> Result<(Headers, Vec<Sealed>), OpenError> {
    let mut names: Vec<(u64, &StoredFile)> = listing
        .iter()
        .filter_map(|file| Some((segment_first(&file.name)?, file)))
        .collect();
    names.sort_by_key(|(first, _)| *first);
    let mut headers: Headers = Vec::with_capacity(names.len());
    let mut sealed = Vec::new();
    for (first, stored) in names {
        let name = &stored.name;
        let file = storage
            .open(name, Access::Read)
            .map_err(failed("open", name))?;
        let bytes = read_bytes(&*file, 0, HEADER_BYTES).map_err(failed("read", name))?;
        let header = SegmentHeader::decode(&bytes).map_err(|kind| damaged(name, 0, first, kind))?;
        if header.before.end != first {
            return Err(damaged(name, 0, first, DamageKind::SegmentHeader));
        }
        match headers.last() {
            None if first != 0 => {
                return Err(damaged(&segment_name(0), 0, 0, DamageKind::SegmentMissing));
            }
            None => {}
            Some((_, before)) if before.log_id != header.log_id => {
                return Err(damaged(name, 0, first, DamageKind::ForeignSegment));
            }
            Some((before, _)) => {
                check_seal(storage, before, &header)?;
                sealed.push(Sealed {
                    name: before.name.clone(),
                    first: before.first,
                    end: first,
                    end_digest: header.before.digest,
                });
            }
        }
        let info = SegmentInfo {
            first,
            name: name.clone(),
            before_recorded_at_us: header.before.recorded_at_us,
        };
        headers.push((Arc::new(info), header));
    }
    Ok((headers, sealed))
}

/// Checks that a segment's seal is what the next one starts from.
fn check_seal(
    storage: &dyn Storage,
    info: &SegmentInfo,
    next: &SegmentHeader,
) -> Result<(), OpenError> {
    let name = &info.name;
    let file = storage
        .open(name, Access::Read)
        .map_err(failed("open", name))?;
    let expected = Seal::of(info.first, &next.before);
    let tag = next.log_id.tag();
    let bytes = file.bytes().map_err(failed("read", name))?;
    if let Some(at) = bytes.checked_sub(SEAL_BYTES as u64) {
        let end = read_bytes(&*file, at, SEAL_BYTES).map_err(failed("read", name))?;
        if Seal::decode(&end, tag, at) == Some(expected) {
            return Ok(());
        }
    }
    // The crash may have come before the file was cut to its size; else tell where it is wrong.
    let mut scan = Scan::new(&*file, tag, HEADER_BYTES as u64).map_err(failed("read", name))?;
    let mut position = info.first;
    loop {
        let at = scan.at();
        match scan.step().map_err(failed("read", name))? {
            Step::Group(group) => {
                position = group
                    .header
                    .first
                    .saturating_add(u64::from(group.header.count));
            }
            Step::Seal(seal) if seal == expected => return Ok(()),
            Step::Seal(seal) if seal.end < next.before.end => {
                let missing = segment_name(seal.end);
                return Err(damaged(&missing, 0, seal.end, DamageKind::SegmentMissing));
            }
            Step::Seal(_) | Step::End => {
                return Err(damaged(name, at, position, DamageKind::Seal));
            }
            Step::Bad { kind, .. } => return Err(damaged(name, at, position, kind)),
        }
    }
}

fn load_last(
    storage: &dyn Storage,
    mode: Mode,
    loaded: &mut Loaded,
    info: &Arc<SegmentInfo>,
    header: &SegmentHeader,
    mark: Option<Mark>,
) -> Result<(), OpenError> {
    let access = if mode == Mode::Read {
        Access::Read
    } else {
        Access::Write
    };
    let name = &info.name;
    let file = storage.open(name, access).map_err(failed("open", name))?;
    // A mark vouches for the tree, so that only the checksums are left to look at. A reader
    // beside a writer may meet a mark that is being removed and looks at everything.
    let check = if mark.is_some() && mode != Mode::Read {
        Check::Checksum
    } else {
        Check::Digest
    };
    let keep_end = if let Mode::Write { keep_end } = mode {
        keep_end
    } else {
        None
    };
    let walk = Walk {
        file: &*file,
        log_id: header.log_id,
        check,
        keep_end,
    };
    let from = HEADER_BYTES as u64;
    let active = &mut loaded.active;
    let scan = walk
        .to_end(from, &mut loaded.chain, &mut |entry| active.push(&entry))
        .map_err(failed("read", name))?;
    loaded.offset = scan.offset;
    let bytes = file.bytes().map_err(failed("read", name))?;
    if scan.end != TipEnd::Sealed && bytes < header.planned_bytes {
        return Err(damaged(
            name,
            bytes,
            loaded.chain.end,
            DamageKind::Truncated,
        ));
    }
    match mark {
        Some(mark) => settle_marked(storage, mode, loaded, &walk, &scan, info, &mark)?,
        None => settle_unmarked(storage, mode, loaded, &walk, &scan, info)?,
    }
    if mode != Mode::Read && !loaded.clean {
        // A process that died between a write and its sync leaves bytes that can be read but need
        // not be on disk. Only the last frame can be such; writing it again makes it durable.
        if let Some((offset, frame)) = &scan.last {
            file.write_at(frame, *offset)
                .map_err(failed("write", name))?;
        }
        file.sync_data().map_err(failed("sync", name))?;
    }
    if scan.end == TipEnd::Sealed {
        let (first, end) = (info.first, loaded.chain.end);
        let end_digest = loaded.chain.digest;
        loaded.sealed.push(Sealed {
            name: name.clone(),
            first,
            end,
            end_digest,
        });
        loaded.active = Active::new(end);
    } else {
        loaded.tip = Some(Tip {
            info: Arc::clone(info),
            file: Arc::clone(&file),
            offset: scan.offset,
            planned_bytes: header.planned_bytes,
        });
    }
    Ok(())
}

/// After a clean stop every byte must be as the mark says.
fn settle_marked(
    storage: &dyn Storage,
    mode: Mode,
    loaded: &mut Loaded,
    walk: &Walk<'_>,
    scan: &TipScan,
    info: &SegmentInfo,
    mark: &Mark,
) -> Result<(), OpenError> {
    let chain = &mut loaded.chain;
    let behind = end_of_bytes(walk.file, scan.offset).map_err(failed("read", &info.name))?;
    let kind = match scan.end {
        TipEnd::Bad { kind, .. } => Some(kind),
        _ if mark.log_id != walk.log_id => Some(DamageKind::ForeignSegment),
        _ if (mark.segment, mark.offset) != (info.first, scan.offset)
            || (mark.chain.end, mark.chain.digest) != (chain.end, chain.digest)
            || mark.chain.recorded_at_us != chain.recorded_at_us =>
        {
            Some(DamageKind::HeadMismatch)
        }
        _ if behind.is_some() => Some(DamageKind::AfterEnd),
        _ => None,
    };
    let Some(kind) = kind else {
        chain.merkle = mark.chain.merkle.clone();
        loaded.clean = true;
        return Ok(());
    };
    let stale = mode == Mode::Read
        && !matches!(Mark::read(storage), Ok(Found::Mark(again)) if *again == *mark);
    if stale {
        return Ok(());
    }
    Err(damaged(&info.name, scan.offset, chain.end, kind))
}

fn settle_unmarked(
    storage: &dyn Storage,
    mode: Mode,
    loaded: &mut Loaded,
    walk: &Walk<'_>,
    scan: &TipScan,
    info: &SegmentInfo,
) -> Result<(), OpenError> {
    let name = &info.name;
    let read = |error| failed("read", name)(error);
    let Some(end) = end_of_bytes(walk.file, scan.offset).map_err(read)? else {
        return Ok(());
    };
    let (kind, resume) = match scan.end {
        TipEnd::Bad { kind, resume } => (kind, resume),
        TipEnd::Sealed => {
            return Err(damaged(
                name,
                scan.offset,
                loaded.chain.end,
                DamageKind::AfterEnd,
            ));
        }
        TipEnd::Zeros | TipEnd::Stopped => (DamageKind::GroupHeader, scan.offset),
    };
    let tag = walk.log_id.tag();
    let good = match scan.end {
        TipEnd::Stopped => None,
        _ => good_frame_behind(walk.file, tag, resume).map_err(read)?,
    };
    match mode {
        Mode::Write { .. } if good.is_none() => {
            let position = loaded.chain.end;
            loaded.cut = Some(cut_tail(
                storage,
                walk.file,
                name,
                scan.offset..end,
                position,
            )?);
            Ok(())
        }
        // The writer may have finished the group while it was being read.
        Mode::Read if good.is_none() || is_good_now(walk, scan.offset).map_err(read)? => Ok(()),
        _ => Err(damaged(name, scan.offset, loaded.chain.end, kind)),
    }
}

fn is_good_now(walk: &Walk<'_>, offset: u64) -> io::Result<bool> {
    let mut scan = Scan::new(walk.file, walk.log_id.tag(), offset)?;
    Ok(match scan.step()? {
        Step::Group(group) => {
            let mut good = true;
            group.walk(Check::Digest, &mut |_, record| {
                good &= record.is_ok();
                good
            });
            good
        }
        Step::Seal(_) => true,
        Step::End | Step::Bad { .. } => false,
    })
}

/// Copies the bytes of a torn tail to a file of their own, then clears them.
fn cut_tail(
    storage: &dyn Storage,
    file: &dyn StorageFile,
    segment: &str,
    range: std::ops::Range<u64>,
    position: u64,
) -> Result<Cut, OpenError> {
    let taken: Vec<String> = storage
        .list()
        .map_err(failed("list", ""))?
        .into_iter()
        .map(|file| file.name)
        .collect();
    let named = |n: u64| format!("cut-{position}-{n}.bytes");
    let mut n = 0;
    while taken.contains(&named(n)) {
        n += 1;
    }
    let name = named(n);
    let copy = || {
        let kept = storage.create(&name)?;
        let mut at = range.start;
        while at < range.end {
            let count = COPY_BYTES.min(to_usize(range.end - at));
            let bytes = read_bytes(file, at, count)?;
            kept.write_at(&bytes, at - range.start)?;
            at += count as u64;
        }
        kept.sync_data()?;
        storage.sync_dir()
    };
    copy().map_err(failed("write", &name))?;
    let cleared = clear(file, range.start, range.end).and_then(|()| file.sync_data());
    cleared.map_err(failed("clear", segment))?;
    let bytes = range.end - range.start;
    tracing::warn!(
        segment,
        offset = range.start,
        bytes,
        position,
        file = name,
        "torn tail cut"
    );
    Ok(Cut {
        file: name,
        segment: segment.to_owned(),
        offset: range.start,
        bytes,
        position: Position::new(position),
    })
}

/// A walk over a segment to its end that checks what it passes.
pub(crate) struct Walk<'a> {
    pub(crate) file: &'a dyn StorageFile,
    pub(crate) log_id: LogId,
    pub(crate) check: Check,
    pub(crate) keep_end: Option<u64>,
}

impl Walk<'_> {
    /// Takes up whole groups from `from` on for as long as they are good.
    pub(crate) fn to_end(
        &self,
        from: u64,
        chain: &mut Chain,
        on_entry: &mut dyn FnMut(Entry),
    ) -> io::Result<TipScan> {
        let key = log_key(self.log_id);
        let tag = self.log_id.tag();
        let mut scan = Scan::new(self.file, tag, from)?;
        let mut last = None;
        let mut entries = Vec::new();
        loop {
            let offset = scan.at();
            let end = match scan.step()? {
                Step::Group(group) => {
                    let first = group.header.first;
                    if self.keep_end.is_some_and(|keep_end| first >= keep_end) {
                        TipEnd::Stopped
                    } else {
                        let before = chain.clone();
                        let mut fault = None;
                        entries.clear();
                        group.walk(self.check, &mut |place, record| {
                            let entry = record.and_then(|record| {
                                chain.accept(&record, self.check)?;
                                Entry::of(&record, place.offset, &key)
                                    .ok_or(DamageKind::RecordFields)
                            });
                            match entry {
                                Ok(entry) => entries.push(entry),
                                Err(kind) => fault = Some(kind),
                            }
                            fault.is_none()
                        });
                        match fault {
                            None => {
                                entries.drain(..).for_each(&mut *on_entry);
                                last = Some((offset, group.bytes));
                                continue;
                            }
                            Some(kind) => {
                                *chain = before;
                                TipEnd::Bad {
                                    kind,
                                    resume: scan.at(),
                                }
                            }
                        }
                    }
                }
                Step::Seal(seal) => {
                    let matches = seal.end == chain.end && seal.digest == chain.digest;
                    let root = self.check == Check::Checksum || seal.root == chain.merkle.root();
                    if matches && root {
                        last = Some((offset, seal.encode(tag, offset).into()));
                        TipEnd::Sealed
                    } else {
                        TipEnd::Bad {
                            kind: DamageKind::Root,
                            resume: scan.at(),
                        }
                    }
                }
                Step::End => TipEnd::Zeros,
                Step::Bad { kind, resume } => TipEnd::Bad { kind, resume },
            };
            let offset = if end == TipEnd::Sealed {
                scan.at()
            } else {
                offset
            };
            return Ok(TipScan { end, offset, last });
        }
    }
}

/// Bytes a segment needs to take one group of this size and its seal.
pub(crate) fn segment_bytes_for(group_bytes: u64) -> u64 {
    let header = HEADER_BYTES as u64;
    round_up(header + group_bytes + SEAL_BYTES as u64, header)
}
