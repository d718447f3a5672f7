//! Reading everything and telling every damage with its place.
//!
//! Invariant: nothing is written, nothing stops at the first damage, and a writer at work beside
//! it is not mistaken for damage.

use std::collections::HashMap;
use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;

use crate::check::first_damage;
use crate::codec::prefix_u64;
use crate::digest::RootHash;
use crate::error::{DamageKind, VerifyError};
use crate::files::Files;
use crate::frame::{Check, stream_hash};
use crate::id::{LogId, Position};
use crate::index::{check_run_file, log_key};
use crate::mark::{Found, MARK_NAME, Mark};
use crate::merkle::Merkle;
use crate::options::Options;
use crate::reader::Head;
use crate::record::Record;
use crate::scan::{Group, Place, Scan, Step, end_of_bytes, good_frame_behind};
use crate::segment::{HEADER_BYTES, Seal, SegmentHeader, segment_first, segment_name};
use crate::storage::{Access, Storage, StorageFile, StoredFile, is_short, read_bytes};
use crate::verify_report::{Damage, Progress, TornTail, VerifyReport};
use crate::verify_tree::{TreeCheck, WrongHash};

/// Damages that are listed; further ones are counted.
const DAMAGES_MAX: usize = 10_000;

/// Bytes between two tellings of progress.
const PROGRESS_BYTES: u64 = 1 << 20;

/// Reads the whole log: every checksum, digest, link, root and seal, the head mark, the bytes
/// behind the end and the derived indexes. `on_record` sees each good record in order; `progress`
/// may break it off.
///
/// # Errors
/// Only when there is no log, its directory cannot be read, the system is short of memory or file
/// handles before any damage was found, or it was broken off; damage is in the report.
pub fn verify(
    storage: &Arc<dyn Storage>,
    options: &Options,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    on_record: &mut dyn FnMut(&Record),
) -> Result<VerifyReport, VerifyError> {
    let listing = list(&**storage)?;
    let mut segments: Vec<(u64, &StoredFile)> = listing
        .iter()
        .filter_map(|file| Some((segment_first(&file.name)?, file)))
        .collect();
    segments.sort_by_key(|(first, _)| *first);
    let mark = Mark::read(&**storage).map_err(|source| unread(MARK_NAME, source))?;
    if segments.is_empty() && matches!(mark, Found::Nothing) {
        return Err(VerifyError::Missing);
    }
    let log_id = segments.iter().find_map(|(_, file)| {
        let file = storage.open(&file.name, Access::Read).ok()?;
        Some(read_header(&*file).ok()?.ok()?.log_id)
    });
    let mut verifier = Verifier::new(storage, progress, on_record, log_id)?;
    verifier.report.segments = segments.len();
    verifier.report.bytes = segments.iter().map(|(_, file)| file.bytes).sum();
    let indexes = listing.iter().filter(|file| is_run(file));
    let index_bytes: u64 = indexes.map(|file| file.bytes).sum();
    verifier.bytes_total = verifier.report.bytes + index_bytes;
    verifier.report.cut_files = listing
        .iter()
        .filter(|file| file.name.starts_with("cut-"))
        .cloned()
        .collect();
    verifier.report.clean = matches!(mark, Found::Mark(_));
    verifier.marked_to = match &mark {
        Found::Nothing => None,
        Found::Mark(mark) => Some(mark.chain.end),
        Found::Garbled => Some(u64::MAX),
    };
    match verifier.read_all(&segments, mark, options) {
        // Damage that was found stands, however far it came.
        Err(VerifyError::Io { file, source, .. }) if verifier.has_damage() => {
            verifier.lose_track();
            verifier.report.ended = Some(format!("read {file}: {source}"));
        }
        read => read?,
    }
    Ok(verifier.finish())
}

fn list(storage: &dyn Storage) -> Result<Vec<StoredFile>, VerifyError> {
    storage.list().map_err(|source| VerifyError::Io {
        operation: "list",
        file: String::new(),
        source,
    })
}

fn unread(file: &str, source: io::Error) -> VerifyError {
    VerifyError::Io {
        operation: "read",
        file: file.to_owned(),
        source,
    }
}

fn read_header(file: &dyn StorageFile) -> io::Result<Result<SegmentHeader, DamageKind>> {
    Ok(SegmentHeader::decode(&read_bytes(file, 0, HEADER_BYTES)?))
}

/// Whether a file is an index.
fn is_run(file: &StoredFile) -> bool {
    file.name.strip_suffix(".run").is_some()
}

/// What the next record has to continue, as far as it is known.
struct Expected {
    position: u64,
    /// Whether the position is certain. Behind bytes that could not be read it is not, and what
    /// comes next is no further damage.
    is_certain: bool,
    digest: Option<[u8; 32]>,
    recorded_at_us: i64,
    merkle: Option<Merkle>,
}

struct Verifier<'a> {
    storage: &'a Arc<dyn Storage>,
    progress: &'a mut dyn FnMut(Progress) -> ControlFlow<()>,
    on_record: &'a mut dyn FnMut(&Record),
    log_key: [u8; 32],
    report: VerifyReport,
    expected: Expected,
    /// Whether all records so far were right, so that streams can be checked.
    whole: bool,
    /// Last revision and digest prefix of each stream, by hash.
    streams: HashMap<u64, (u64, u64)>,
    /// Up to where the log was closed when the check began: nothing before it can be torn.
    marked_to: Option<u64>,
    /// First position of the last segment and where its last frame ends.
    stands: (u64, u64),
    bytes_before: u64,
    bytes_told: u64,
    bytes_total: u64,
    is_stopped: bool,
    tree: TreeCheck,
}

/// Looks at a place once more, unless that was done.
fn looks_again(scan: &mut Scan<'_>, looked: &mut Option<u64>, at: u64) -> io::Result<bool> {
    if looked.replace(at) == Some(at) {
        return Ok(false);
    }
    scan.look_again()?;
    scan.go_to(at);
    Ok(true)
}

impl<'a> Verifier<'a> {
    fn new(
        storage: &'a Arc<dyn Storage>,
        progress: &'a mut dyn FnMut(Progress) -> ControlFlow<()>,
        on_record: &'a mut dyn FnMut(&Record),
        log_id: Option<LogId>,
    ) -> Result<Self, VerifyError> {
        let report = VerifyReport {
            log_id,
            records: 0,
            segments: 0,
            bytes: 0,
            head: None,
            root: None,
            clean: false,
            torn_tail: None,
            cut_files: Vec::new(),
            index_files: 0,
            damages: Vec::new(),
            damages_left_out: 0,
            ended: None,
        };
        let expected = Expected {
            position: 0,
            is_certain: true,
            digest: Some([0; 32]),
            recorded_at_us: i64::MIN,
            merkle: Some(Merkle::default()),
        };
        let (tree, unreadable) = TreeCheck::open(&**storage)?;
        let mut verifier = Self {
            storage,
            progress,
            on_record,
            log_key: log_id.map(log_key).unwrap_or_default(),
            report,
            expected,
            whole: true,
            streams: HashMap::new(),
            marked_to: None,
            stands: (0, 0),
            bytes_before: 0,
            bytes_told: 0,
            bytes_total: 0,
            is_stopped: false,
            tree,
        };
        verifier.wrong_hashes(unreadable, None);
        Ok(verifier)
    }

    fn read_all(
        &mut self,
        segments: &[(u64, &StoredFile)],
        mark: Found,
        options: &Options,
    ) -> Result<(), VerifyError> {
        let last = segments.len().saturating_sub(1);
        for (index, (first, file)) in segments.iter().enumerate() {
            self.segment(*first, file, index == last)?;
            if self.is_stopped {
                return Err(VerifyError::Stopped);
            }
            self.bytes_before += file.bytes;
        }
        self.check_mark(mark)?;
        self.check_indexes(options)
    }

    /// Whether anything was found that a log may not be written to with.
    fn has_damage(&self) -> bool {
        first_damage(&self.report).is_some()
    }

    fn wrong_hashes(&mut self, wrong: impl IntoIterator<Item = WrongHash>, position: Option<u64>) {
        for WrongHash { file, offset, kind } in wrong {
            self.damage(&file, offset, position, kind);
        }
    }

    fn damage(&mut self, file: &str, offset: u64, position: Option<u64>, kind: DamageKind) {
        if self.report.damages.len() == DAMAGES_MAX {
            self.report.damages_left_out += 1;
            return;
        }
        let detail = match position {
            Some(position) => format!("{kind} at position {position}"),
            None => kind.to_string(),
        };
        let position = position.map(Position::new);
        let file = file.to_owned();
        self.report.damages.push(Damage {
            part: "log",
            kind,
            file,
            offset,
            position,
            detail,
        });
    }

    /// Something was lost: what follows cannot be held against it.
    fn lose_track(&mut self) {
        self.expected.digest = None;
        self.expected.merkle = None;
        self.whole = false;
    }

    /// Something was lost, and how many records it was cannot be told.
    fn lose_place(&mut self) {
        self.lose_track();
        self.expected.is_certain = false;
    }

    fn segment(&mut self, first: u64, stored: &StoredFile, last: bool) -> Result<(), VerifyError> {
        let name = &stored.name;
        let opened = self.storage.open(name, Access::Read);
        // Of the file that is open: a writer may give the name of an empty one to another meanwhile.
        let read = opened.and_then(|file| Ok((read_header(&*file)?, file)));
        let (header, file) = match read {
            Ok(read) => read,
            Err(error) => return self.unreadable(name, first, error),
        };
        match &header {
            Ok(header) if self.is_foreign(header) => {
                self.damage(name, 0, Some(first), DamageKind::ForeignSegment);
                self.lose_place();
                return Ok(());
            }
            Ok(header) => self.check_start(name, first, header),
            Err(kind) => self.damage(name, 0, Some(first), *kind),
        }
        let planned_bytes = header.map_or(0, |header| header.planned_bytes);
        match self.groups(name, first, &*file, planned_bytes, last) {
            Ok(()) => Ok(()),
            Err(error) => self.unreadable(name, self.expected.position, error),
        }
    }

    /// Takes a segment that cannot be read as damaged, unless the system is only short of what it
    /// needs to read it: then nothing can be said of the log.
    fn unreadable(
        &mut self,
        name: &str,
        position: u64,
        error: io::Error,
    ) -> Result<(), VerifyError> {
        if is_short(&error) {
            return Err(unread(name, error));
        }
        self.damage(name, 0, Some(position), DamageKind::Unreadable);
        self.lose_place();
        Ok(())
    }

    /// Whether a segment is of another log. The first that can be read tells which log this is.
    fn is_foreign(&mut self, header: &SegmentHeader) -> bool {
        let log_id = *self.report.log_id.get_or_insert_with(|| {
            self.log_key = log_key(header.log_id);
            header.log_id
        });
        log_id != header.log_id
    }

    fn check_start(&mut self, name: &str, first: u64, header: &SegmentHeader) {
        let before = &header.before;
        if before.end != first {
            self.damage(name, 0, Some(first), DamageKind::SegmentHeader);
        }
        let position = self.expected.position;
        if position != first {
            if self.expected.is_certain && position < first {
                let name = segment_name(position);
                self.damage(&name, 0, Some(position), DamageKind::SegmentMissing);
            }
            self.lose_track();
        }
        let goes_back = self.expected.is_certain && position > before.end;
        let differs = goes_back
            || self
                .expected
                .digest
                .is_some_and(|digest| digest != before.digest)
            || self
                .expected
                .merkle
                .as_ref()
                .is_some_and(|merkle| *merkle != before.merkle);
        if differs {
            self.damage(name, 0, Some(first), DamageKind::Root);
        }
        self.expected = Expected {
            position: before.end,
            is_certain: true,
            digest: Some(before.digest),
            recorded_at_us: before.recorded_at_us,
            merkle: Some(before.merkle.clone()),
        };
    }

    fn groups(
        &mut self,
        name: &str,
        first: u64,
        file: &dyn StorageFile,
        planned_bytes: u64,
        last: bool,
    ) -> io::Result<()> {
        let tag = self.report.log_id.as_ref().map(LogId::tag);
        let tag = tag.unwrap_or_default();
        let mut scan = Scan::new(file, tag, HEADER_BYTES as u64)?;
        let mut looked_again = None;
        self.stands = (first, scan.at());
        loop {
            let at = scan.at();
            // One that is not full yet keeps its planned length.
            let ends_early = scan.bytes() < planned_bytes;
            let is_cut = last && ends_early;
            let (kind, resume) = match scan.step()? {
                Step::Group(group) => {
                    if last && !is_whole(&group) {
                        let behind = good_frame_behind(file, tag, scan.at())?;
                        if behind.is_none() && !is_cut && self.may_be_torn()? {
                            return self.torn(name, file, at);
                        }
                        // What is behind it says that a writer is done with it.
                        if looks_again(&mut scan, &mut looked_again, at)? {
                            continue;
                        }
                    }
                    self.group(name, &group);
                    self.stands = (first, scan.at());
                    self.tell(scan.at());
                    if self.is_stopped {
                        return Ok(());
                    }
                    continue;
                }
                Step::Seal(seal) => {
                    self.stands = (first, scan.at());
                    return self.check_seal(name, file, &seal, first, at, scan.at());
                }
                Step::End if is_cut || (ends_early && at >= scan.bytes()) => {
                    self.lose(name, scan.bytes(), DamageKind::Truncated);
                    let Some(next) = good_frame_behind(file, tag, at + 8)? else {
                        return Ok(());
                    };
                    // A sealed one is as short, and this group is not there.
                    self.lose(name, at, DamageKind::AfterEnd);
                    scan.go_to(next);
                    continue;
                }
                Step::End if end_of_bytes(file, at)?.is_none() => {
                    if !last {
                        self.lose(name, at, DamageKind::Seal);
                    }
                    return Ok(());
                }
                Step::End => (DamageKind::AfterEnd, at + 8),
                Step::Bad { kind, resume } => (kind, resume),
            };
            let behind = good_frame_behind(file, tag, resume)?;
            if behind.is_none() && last && !is_cut && self.may_be_torn()? {
                return self.torn(name, file, at);
            }
            // The writer may have finished this group while it was being read.
            if last && looks_again(&mut scan, &mut looked_again, at)? {
                continue;
            }
            let Some(next) = behind else {
                let cut = is_cut.then_some((scan.bytes(), DamageKind::Truncated));
                let (at, kind) = cut.unwrap_or((at, kind));
                self.lose(name, at, kind);
                return Ok(());
            };
            self.lose(name, at, kind);
            scan.go_to(next);
        }
    }

    /// Tells of what cannot be read where the next record is to be, and goes on behind it.
    fn lose(&mut self, name: &str, at: u64, kind: DamageKind) {
        self.damage(name, at, Some(self.expected.position), kind);
        self.lose_place();
    }

    /// Whether what comes next, in the last segment, may be what a writer has not written wholly:
    /// the log was not closed, or has been opened since, and that was before.
    fn may_be_torn(&self) -> io::Result<bool> {
        match self.marked_to {
            None => Ok(true),
            Some(end) if self.expected.position < end => Ok(false),
            Some(_) => match Mark::read(&**self.storage) {
                Err(error) if is_short(&error) => Err(error),
                found => Ok(matches!(found, Ok(Found::Nothing))),
            },
        }
    }

    /// Looks at the records of a group.
    fn group(&mut self, name: &str, group: &Group) {
        if self.expected.position != group.header.first {
            if self.expected.is_certain {
                let position = self.expected.position.min(group.header.first);
                self.damage(name, group.offset, Some(position), DamageKind::Chain);
            }
            self.lose_track();
        }
        self.expected.position = group.header.first;
        self.expected.is_certain = true;
        let (mut last_of_batch, mut is_readable) = (true, true);
        group.walk(Check::Digest, &mut |place, record| {
            match record {
                Ok(record) => {
                    last_of_batch = record.batch_index() + 1 == record.batch_count();
                    self.record(name, place, &record);
                }
                Err(kind) => {
                    is_readable = false;
                    self.damage(name, place.offset, Some(place.position), kind);
                    self.lose_track();
                }
            }
            self.expected.position = place.position + 1;
            true
        });
        if !last_of_batch && is_readable {
            let position = Some(self.expected.position);
            self.damage(name, group.offset, position, DamageKind::GroupShape);
        }
        // After a bad length the rest of the group is lost too.
        self.expected.position = group.header.first + u64::from(group.header.count);
    }

    fn record(&mut self, name: &str, place: Place, record: &Record) {
        let at = Some(place.position);
        let digest = *record.digest().as_bytes();
        if self
            .expected
            .digest
            .is_some_and(|digest| digest != *record.previous().as_bytes())
        {
            self.damage(name, place.offset, at, DamageKind::Chain);
        }
        if record.recorded_at_us() < self.expected.recorded_at_us {
            self.damage(name, place.offset, at, DamageKind::Time);
        }
        let hash = stream_hash(&self.log_key, record.stream());
        let revision = record.revision().get();
        let links = record
            .previous_in_stream()
            .map(|previous| prefix_u64(previous.as_bytes()));
        let before = self.streams.insert(hash, (revision, prefix_u64(&digest)));
        let continues = match (before, links) {
            (None, None) => true,
            (Some((last, prefix)), Some(link)) => last + 1 == revision && prefix == link,
            _ => false,
        };
        if !continues && self.whole {
            self.damage(name, place.offset, at, DamageKind::StreamChain);
        }
        self.expected.digest = Some(digest);
        self.expected.recorded_at_us = record.recorded_at_us();
        if let Some(merkle) = &mut self.expected.merkle {
            let (tree, mut wrong) = (&mut self.tree, Vec::new());
            merkle.push_seen(&digest, |height, hash| {
                wrong.extend(tree.compare(height, place.position, hash));
            });
            self.wrong_hashes(wrong, at);
        }
        self.report.records += 1;
        self.report.head = Some(Head {
            position: record.position(),
            digest: record.digest(),
            recorded_at_us: record.recorded_at_us(),
        });
        (self.on_record)(record);
    }

    fn check_seal(
        &mut self,
        name: &str,
        file: &dyn StorageFile,
        seal: &Seal,
        first: u64,
        at: u64,
        behind: u64,
    ) -> io::Result<()> {
        let expected = &self.expected;
        let root = expected.merkle.as_ref().map(Merkle::root);
        let fits = seal.first == first
            && (seal.end == expected.position || !expected.is_certain)
            && (seal.recorded_at_us == expected.recorded_at_us || !expected.is_certain)
            && expected.digest.is_none_or(|digest| digest == seal.digest)
            && root.is_none_or(|root| root == seal.root);
        if !fits {
            let position = seal.end.min(expected.position);
            self.damage(name, at, Some(position), DamageKind::Root);
        }
        if seal.end != self.expected.position {
            self.lose_track();
        }
        // Where the next segment begins is known, whatever was lost in this one.
        self.expected.position = seal.end;
        self.expected.is_certain = true;
        if end_of_bytes(file, behind)?.is_some() {
            self.damage(name, behind, None, DamageKind::AfterEnd);
        }
        Ok(())
    }

    fn torn(&mut self, name: &str, file: &dyn StorageFile, at: u64) -> io::Result<()> {
        let bytes = end_of_bytes(file, at)?.map_or(0, |end| end - at);
        self.report.torn_tail = Some(TornTail {
            file: name.to_owned(),
            offset: at,
            bytes,
        });
        Ok(())
    }

    fn check_mark(&mut self, mark: Found) -> Result<(), VerifyError> {
        let mark = match mark {
            Found::Nothing => return Ok(()),
            Found::Garbled => {
                self.damage(MARK_NAME, 0, None, DamageKind::HeadMark);
                return Ok(());
            }
            Found::Mark(mark) => mark,
        };
        let expected = &self.expected;
        let fits = Some(mark.log_id) == self.report.log_id
            && (mark.segment, mark.offset) == self.stands
            && mark.chain.end == expected.position
            && expected
                .digest
                .is_none_or(|digest| digest == mark.chain.digest)
            && expected
                .merkle
                .as_ref()
                .is_none_or(|merkle| *merkle == mark.chain.merkle);
        if fits {
            return Ok(());
        }
        match Mark::read(&**self.storage) {
            Ok(Found::Mark(now)) if now == mark => {
                self.damage(MARK_NAME, 0, Some(mark.chain.end), DamageKind::HeadMismatch);
            }
            Err(error) if is_short(&error) => return Err(unread(MARK_NAME, error)),
            // A writer that came meanwhile has removed it.
            _ => {}
        }
        Ok(())
    }

    /// Reads the indexes, and tells of each: they may be as large as the segments.
    fn check_indexes(&mut self, options: &Options) -> Result<(), VerifyError> {
        let files = Files::new(Arc::clone(self.storage), options.files_open_max);
        // Those that are there now: some were merged since it began.
        let listing = list(&**self.storage)?;
        for file in listing.iter().filter(|file| is_run(file)) {
            self.check_index(&files, &file.name)?;
            self.bytes_before += file.bytes;
            self.tell_now(self.bytes_before.min(self.bytes_total));
            if self.is_stopped && self.has_damage() {
                // All of the log itself was read, and what was found of it is to be told.
                return Ok(());
            }
            if self.is_stopped {
                return Err(VerifyError::Stopped);
            }
        }
        Ok(())
    }

    fn check_index(&mut self, files: &Files, name: &str) -> Result<(), VerifyError> {
        let (wrong, first) = match check_run_file(files, name) {
            Ok(checked) => checked,
            // Merged into another one meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) if is_short(&error) => return Err(unread(name, error)),
            Err(_) => {
                self.damage(name, 0, None, DamageKind::Unreadable);
                return Ok(());
            }
        };
        self.report.index_files += usize::from(wrong.is_empty());
        for offset in wrong {
            self.damage(name, offset, first, DamageKind::Index);
        }
        Ok(())
    }

    fn tell(&mut self, at: u64) {
        let bytes_done = self.bytes_before + at;
        if bytes_done - self.bytes_told >= PROGRESS_BYTES {
            self.tell_now(bytes_done);
        }
    }

    fn tell_now(&mut self, bytes_done: u64) {
        self.bytes_told = bytes_done;
        let (bytes_total, records) = (self.bytes_total, self.report.records);
        let told = (self.progress)(Progress {
            bytes_done,
            bytes_total,
            records,
        });
        self.is_stopped = told.is_break();
    }

    fn finish(mut self) -> VerifyReport {
        let (bytes_done, bytes_total) = (self.bytes_total, self.bytes_total);
        // All is done: there is nothing left to break off.
        let _ = (self.progress)(Progress {
            bytes_done,
            bytes_total,
            records: self.report.records,
        });
        // A root is that of all records as they were written, or there is none.
        let mut damages = self.report.damages.iter();
        let is_derived = damages.all(|damage| damage.kind == DamageKind::Index);
        let merkle = self.expected.merkle.filter(|_| self.whole && is_derived);
        self.report.root = merkle.map(|merkle| RootHash::from_bytes(merkle.root()));
        self.report
    }
}

/// Whether every record of a group is as its checksum says.
fn is_whole(group: &Group) -> bool {
    let mut is_whole = true;
    group.walk(Check::Checksum, &mut |_, record| {
        is_whole &= record.is_ok();
        is_whole
    });
    is_whole
}
