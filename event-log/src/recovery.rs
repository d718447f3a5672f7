//! Opening: finding where the log ends, and cutting what a crash left half-written.
//!
//! Invariant: only a bad last group of the last segment, after an unclean stop, with nothing good
//! behind it, is cut; its bytes are kept in a file of their own. All else is an error.

use std::io;
use std::sync::Arc;

use crate::chain::Chain;
use crate::error::{DamageKind, OpenError};
use crate::frame::Check;
use crate::id::LogId;
use crate::index::{Active, Sealed};
use crate::mark::{Found, MARK_DRAFT_NAME, MARK_NAME, Mark};
use crate::options::Options;
use crate::prepare::{clear, name_segment, prewrite, write_header};
use crate::scan::{Place, end_of_bytes, good_frame_behind};
use crate::segment::{HEADER_BYTES, SPARE_NAME, SegmentHeader, segment_first, segment_name};
use crate::segments::{SegmentInfo, check_segments, damaged, failed};
use crate::storage::{Access, Storage, StorageFile, StoredFile};
use crate::torn::{Cut, cut_tail};
use crate::walk::{TipEnd, TipScan, Walk, is_good_now};

/// The segment that takes the next group.
pub(crate) struct Tip {
    pub(crate) info: Arc<SegmentInfo>,
    pub(crate) file: Arc<dyn StorageFile>,
    /// Where the next group goes.
    pub(crate) offset: u64,
    pub(crate) planned_bytes: u64,
}

/// What a log is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Writing. With `keep_end`, nothing from this position on is kept, good or not.
    Write { keep_end: Option<u64> },
    /// Reading, perhaps while another process writes.
    Read,
    /// Reading what stands before the first damage, while nobody writes. With `last`, segments
    /// that start behind this position are left out: damage was found before them.
    WholePart { last: Option<u64> },
}

impl Mode {
    fn writes(self) -> bool {
        matches!(self, Self::Write { .. })
    }

    fn is_whole_part(self) -> bool {
        matches!(self, Self::WholePart { .. })
    }
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
    /// What the log ends before, in [`Mode::WholePart`].
    pub(crate) damage: Option<OpenError>,
    pub(crate) listing: Vec<StoredFile>,
}

/// Finds the log's end and mends it where it may be mended.
pub(crate) fn load(
    storage: &dyn Storage,
    options: &Options,
    mode: Mode,
) -> Result<Loaded, OpenError> {
    let mut listing = storage.list().map_err(failed("list", ""))?;
    let mut created = false;
    if mode.writes() {
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
        if !mode.writes() {
            return Err(OpenError::Missing);
        }
        create_first(storage, options)?;
        created = true;
        listing = storage.list().map_err(failed("list", ""))?;
    }
    let mut garbled = None;
    let mark = match Mark::read(storage).map_err(failed("read", MARK_NAME))? {
        Found::Nothing => None,
        Found::Mark(mark) => Some(*mark),
        Found::Garbled if mode.is_whole_part() => {
            // A mark is there, so the log was closed: whatever is missing at its end is damage.
            garbled = Some(damaged(MARK_NAME, 0, 0, DamageKind::HeadMark));
            None
        }
        Found::Garbled => return Err(damaged(MARK_NAME, 0, 0, DamageKind::HeadMark)),
    };
    let mut damage = garbled;
    if let Mode::WholePart { last } = mode {
        let is_before = |file: &StoredFile| {
            let first = segment_first(&file.name);
            last.zip(first).is_none_or(|(last, first)| first <= last)
        };
        listing.retain(is_before);
        damage = drop_behind_damage(storage, &mut listing)?.or(damage);
    }
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
        damage,
        listing,
    };
    match load_last(storage, mode, &mut loaded, &info, &header, mark) {
        // The walk has taken up what stands before the damage.
        Err(error @ OpenError::Damaged { .. }) if mode.is_whole_part() => {
            loaded.damage.get_or_insert(error);
        }
        loaded => loaded?,
    }
    Ok(loaded)
}

/// Takes the segments off the list that do not lead on from those before them; tells the first
/// damage.
fn drop_behind_damage(
    storage: &dyn Storage,
    listing: &mut Vec<StoredFile>,
) -> Result<Option<OpenError>, OpenError> {
    let mut first_damage = None;
    loop {
        let Err(error) = check_segments(storage, listing) else {
            return Ok(first_damage);
        };
        let OpenError::Damaged { position, .. } = &error else {
            return Err(error);
        };
        let position = position.get();
        let is_whole =
            |file: &StoredFile| segment_first(&file.name).is_none_or(|first| first < position);
        let n_before = listing.len();
        listing.retain(is_whole);
        let is_empty = !listing
            .iter()
            .any(|file| segment_first(&file.name).is_some());
        // A segment may claim what stands before its own place; then nobody can tell what is whole.
        if is_empty || listing.len() == n_before {
            return Err(error);
        }
        // Each round looks at fewer segments, so what it finds stands before what was found.
        first_damage = Some(error);
    }
}

fn remove_leftovers(storage: &dyn Storage, listing: &[StoredFile]) -> Result<(), OpenError> {
    for file in listing {
        let draft = [SPARE_NAME, MARK_DRAFT_NAME].contains(&file.name.as_str())
            || (file.name.starts_with("index/") && file.name.strip_suffix(".new").is_some());
        if draft {
            match storage.remove(&file.name) {
                // An index that was being merged beside a reopening, and has its name by now.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                removed => removed.map_err(failed("remove", &file.name))?,
            }
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

fn load_last(
    storage: &dyn Storage,
    mode: Mode,
    loaded: &mut Loaded,
    info: &Arc<SegmentInfo>,
    header: &SegmentHeader,
    mark: Option<Mark>,
) -> Result<(), OpenError> {
    let access = if mode.writes() {
        Access::Write
    } else {
        Access::Read
    };
    let name = &info.name;
    let file = storage.open(name, access).map_err(failed("open", name))?;
    // A mark vouches for the tree, so that only the checksums are left to look at. A reader
    // beside a writer may meet a mark that is being removed and looks at everything.
    let check = if mark.is_some() && mode.writes() {
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
    // Asked for before it is read: a writer that seals it meanwhile cuts it to its size.
    let bytes = file.bytes().map_err(failed("read", name))?;
    let active = &mut loaded.active;
    let scan = walk
        .to_end(from, &mut loaded.chain, &mut |entry| active.push(&entry))
        .map_err(failed("read", name))?;
    loaded.offset = scan.offset;
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
    if mode.writes() && !loaded.clean {
        // A write whose sync failed, or never came, can be read but need not be on disk. Only the
        // last frame can be such, and the zeros behind it, where a torn tail was cleared; writing
        // both again makes them durable.
        if let Some((offset, frame)) = &scan.last {
            file.write_at(frame, *offset)
                .map_err(failed("write", name))?;
        }
        clear(&*file, scan.offset, bytes).map_err(failed("clear", name))?;
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
    let name = info.name.as_str();
    let behind = end_of_bytes(walk.file, scan.offset).map_err(failed("read", name))?;
    let is_at_mark = mark.log_id == walk.log_id
        && (mark.segment, mark.offset) == (info.first, scan.offset)
        && (mark.chain.end, mark.chain.digest) == (chain.end, chain.digest)
        && mark.chain.recorded_at_us == chain.recorded_at_us;
    let damage = match scan.end {
        TipEnd::Bad { kind, place, .. } => Some(damaged(name, place.offset, place.position, kind)),
        _ if behind.is_some() => Some(damaged(name, scan.offset, chain.end, DamageKind::AfterEnd)),
        // The mark is what does not fit the log, which is whole in itself.
        _ if !is_at_mark => Some(damaged(
            MARK_NAME,
            0,
            mark.chain.end,
            DamageKind::HeadMismatch,
        )),
        _ => None,
    };
    let Some(damage) = damage else {
        chain.merkle = mark.chain.merkle.clone();
        loaded.clean = true;
        return Ok(());
    };
    let stale = mode == Mode::Read
        && !matches!(Mark::read(storage), Ok(Found::Mark(again)) if *again == *mark);
    if stale {
        return Ok(());
    }
    Err(damage)
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
    let here = Place {
        offset: scan.offset,
        position: loaded.chain.end,
    };
    let (kind, place, resume) = match scan.end {
        TipEnd::Bad {
            kind,
            place,
            resume,
        } => (kind, place, resume),
        TipEnd::Sealed => {
            return Err(damaged(
                name,
                here.offset,
                here.position,
                DamageKind::AfterEnd,
            ));
        }
        TipEnd::Zeros | TipEnd::Stopped => (DamageKind::GroupHeader, here, scan.offset),
    };
    let damage = || damaged(name, place.offset, place.position, kind);
    let tag = walk.log_id.tag();
    let good = match scan.end {
        TipEnd::Stopped => None,
        _ => good_frame_behind(walk.file, tag, resume).map_err(read)?,
    };
    match mode {
        // What was acknowledged is never cut, however it reads.
        Mode::Write {
            keep_end: Some(keep_end),
        } if loaded.chain.end < keep_end => Err(damage()),
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
        // A torn tail that nobody was told of is no damage.
        Mode::WholePart { .. } if good.is_none() => Ok(()),
        // The writer may have finished the group while it was being read.
        Mode::Read if good.is_none() || is_good_now(walk, scan.offset).map_err(read)? => Ok(()),
        _ => Err(damage()),
    }
}

#[cfg(test)]
mod tests;
