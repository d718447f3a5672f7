//! Copying a log: read and held against itself, then what is new of it written.
//!
//! Invariant: what is written is what was found right, and it goes on from what the last backup
//! took. A log that lost or changed what is in the target is damage.

use std::io;
use std::ops::{ControlFlow, Range};
use std::path::Path;
use std::sync::Arc;

use stemma_content_store::Digest;
use stemma_event_log::{
    Access, Extent, Extents, FileStorage, OpenError, Options, Record, Storage, VerifyError,
    VerifyReport, extents, verify,
};

use crate::clipped::{Clipped, Hashes};
use crate::error::BackupError;
use crate::manifest::{FileCopy, LogCopy, SegmentCopy};
use crate::names::{part_name, segment_digits};
use crate::work::Work;

/// How often a log is looked at before what does not fit in it is damage: its writer may be closing a
/// segment just then.
const LOOK_COUNT: usize = 3;
/// Bytes copied at a time.
const STEP_BYTES: usize = 1 << 20;

/// Where a log is, and what it is called.
pub(crate) struct LogSource<'a> {
    /// The tenant; none for the tokens.
    pub(crate) tenant: Option<&'a str>,
    /// The directory's name, as damage in it is told.
    pub(crate) part: &'static str,
    pub(crate) dir: &'a Path,
}

impl LogSource<'_> {
    fn storage(&self) -> Arc<dyn Storage> {
        Arc::new(FileStorage::new(self.dir))
    }

    /// How far the log reaches; none while it has no record.
    pub(crate) fn extents(&self) -> Result<Option<Extents>, BackupError> {
        let storage = self.storage();
        let is_damage = |found: &Result<_, _>| matches!(found, Err(OpenError::Damaged { .. }));
        let mut looks = (0..LOOK_COUNT).map(|_| extents(&*storage));
        let first = looks.next().expect("it is looked at");
        let found = if is_damage(&first) {
            looks.find(|found| !is_damage(found)).unwrap_or(first)
        } else {
            first
        };
        match found {
            Ok(extents) if extents.segments.is_empty() => Ok(None),
            Ok(extents) => Ok(Some(extents)),
            Err(OpenError::Missing) => Ok(None),
            Err(OpenError::Damaged {
                file,
                offset,
                position,
                kind,
            }) => Err(self.damaged(&file, offset, Some(position.get()), kind.to_string())),
            Err(source) => Err(BackupError::Log {
                tenant: self.tenant.unwrap_or(self.part).to_owned(),
                source,
            }),
        }
    }

    pub(crate) fn damaged(
        &self,
        file: &str,
        offset: u64,
        position: Option<u64>,
        detail: String,
    ) -> BackupError {
        BackupError::Damaged {
            tenant: self.tenant.map(str::to_owned),
            file: format!("{}/{file}", self.part),
            offset,
            position,
            detail,
        }
    }

    fn unreadable(&self, file: &str) -> impl FnOnce(io::Error) -> BackupError {
        let file = self.dir.join(file).display().to_string();
        move |source| BackupError::Io { file, source }
    }
}

/// A log that was read to its end and is right.
pub(crate) struct Examined {
    clipped: Clipped,
    segments: Vec<(Extent, u64)>,
    log_id: String,
    report: VerifyReport,
}

/// Reads a log and holds it against itself, and against what the last backup took of it.
pub(crate) fn examine(
    source: &LogSource<'_>,
    extents: &Extents,
    previous: Option<&LogCopy>,
    work: &mut Work<'_>,
    on_record: &mut dyn FnMut(&Record),
) -> Result<Examined, BackupError> {
    let taken = |file: &str| {
        let mut segments = previous.into_iter().flat_map(|log| &log.segments);
        segments.find(|segment| segment.name == file)
    };
    let of_extent = |extent: &Extent| {
        let mark = taken(&extent.file).map_or(0, |segment| segment.bytes);
        (extent.clone(), mark)
    };
    let segments: Vec<(Extent, u64)> = extents.segments.iter().map(of_extent).collect();
    if let Some(previous) = previous {
        goes_on(source, extents, previous)?;
    }
    let clipped = Arc::new(Clipped::new(source.storage(), &segments));
    let shown: Arc<dyn Storage> = Arc::clone(&clipped) as Arc<dyn Storage>;
    let mut stopped = None;
    let mut progress = |told: stemma_event_log::Progress| match work.tell(
        told.bytes_done,
        told.bytes_total,
        source.part,
    ) {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => {
            stopped = Some(error);
            ControlFlow::Break(())
        }
    };
    let report = verify(&shown, &Options::default(), &mut progress, on_record);
    drop(shown);
    let report = report.map_err(|error| match error {
        VerifyError::Stopped => stopped.take().unwrap_or(BackupError::Stopped),
        VerifyError::Io {
            file, source: why, ..
        } => source.unreadable(&file)(why),
        _ => source.damaged("", 0, None, "the log is gone".to_owned()),
    })?;
    is_right(source, &report, extents.end.get())?;
    for (extent, _) in &segments {
        let hashes = clipped.hashes(&extent.file);
        let hashes = hashes.map_err(source.unreadable(&extent.file))?;
        if let Some(before) = taken(&extent.file)
            && told(hashes.before) != before.digest
        {
            let detail = "it is not what the last backup took of it".to_owned();
            return Err(source.damaged(&extent.file, 0, None, detail));
        }
    }
    Ok(Examined {
        clipped: Arc::into_inner(clipped).expect("verification has ended"),
        segments,
        log_id: extents.log_id.to_string(),
        report,
    })
}

/// Whether a log still has what the last backup took of it, as far as lengths tell.
fn goes_on(
    source: &LogSource<'_>,
    extents: &Extents,
    previous: &LogCopy,
) -> Result<(), BackupError> {
    for taken in &previous.segments {
        let is_there = |extent: &&Extent| extent.file == taken.name;
        let bytes = extents
            .segments
            .iter()
            .find(is_there)
            .map_or(0, |extent| extent.bytes);
        if bytes < taken.bytes {
            let (had, end) = (taken.bytes, previous.end);
            let detail = format!(
                "the last backup took {had} bytes of it, up to {end} events; the log has {} events",
                extents.end
            );
            return Err(source.damaged(&taken.name, bytes, Some(extents.end.get()), detail));
        }
    }
    Ok(())
}

fn is_right(source: &LogSource<'_>, report: &VerifyReport, end: u64) -> Result<(), BackupError> {
    if let Some(damage) = report.damages.first() {
        let position = damage.position.map(stemma_event_log::Position::get);
        let detail = damage.detail.clone();
        return Err(source.damaged(&damage.file, damage.offset, position, detail));
    }
    if let Some(torn) = &report.torn_tail {
        let detail = "a group that was whole is not any more".to_owned();
        return Err(source.damaged(&torn.file, torn.offset, Some(report.records), detail));
    }
    if report.records != end {
        let detail = format!("{} events are read of {end}", report.records);
        return Err(source.damaged("", 0, Some(report.records), detail));
    }
    Ok(())
}

fn told(hash: blake3::Hash) -> String {
    Digest::from_bytes(*hash.as_bytes()).to_string()
}

/// Writes what the target lacks of a log, into this directory of it.
pub(crate) fn write(
    source: &LogSource<'_>,
    examined: &Examined,
    previous: Option<&LogCopy>,
    dir: &str,
    work: &mut Work<'_>,
) -> Result<LogCopy, BackupError> {
    let mut segments = Vec::with_capacity(examined.segments.len());
    for (extent, mark) in &examined.segments {
        let name = &extent.file;
        let hashes = examined.clipped.hashes(name);
        let hashes = hashes.map_err(source.unreadable(name))?;
        let mut before = previous.into_iter().flat_map(|log| &log.segments);
        let before = before.find(|segment| segment.name == *name);
        let mut parts = before.map_or_else(Vec::new, |segment| segment.parts.clone());
        if extent.bytes > *mark {
            let first = segment_digits(name).expect("the log names segments so");
            let part = Part {
                name: part_name(dir, first, *mark),
                span: *mark..extent.bytes,
                hashes,
            };
            parts.push(part.write(source, examined, name, work)?);
        }
        segments.push(SegmentCopy {
            name: name.clone(),
            bytes: extent.bytes,
            planned_bytes: extent.planned_bytes,
            digest: told(hashes.whole),
            parts,
        });
    }
    let report = &examined.report;
    let head = report.head.map(|head| head.digest.to_string());
    let root = report.root.map(|root| root.to_string());
    Ok(LogCopy {
        id: examined.log_id.clone(),
        end: report.records,
        head: head.expect("a log with segments has a record"),
        root: root.expect("a log without damage has a root"),
        segments,
    })
}

/// Bytes of a segment that the target lacks.
struct Part {
    name: String,
    span: Range<u64>,
    hashes: Hashes,
}

impl Part {
    fn write(
        &self,
        source: &LogSource<'_>,
        examined: &Examined,
        segment: &str,
        work: &mut Work<'_>,
    ) -> Result<FileCopy, BackupError> {
        let file = examined.clipped.open(segment, Access::Read);
        let file = file.map_err(source.unreadable(segment))?;
        let mut draft = work.begin(&self.name)?;
        let mut bytes = vec![0; STEP_BYTES];
        let mut at = self.span.start;
        while at < self.span.end {
            work.tell(at, self.span.end, "copying the log")?;
            let step = (self.span.end - at).min(STEP_BYTES as u64);
            let step = usize::try_from(step).expect("a step is small");
            let read = file.read_at(&mut bytes[..step], at);
            let read = read.map_err(source.unreadable(segment))?;
            if read == 0 {
                let detail = "it ends while it is read".to_owned();
                return Err(source.damaged(segment, at, None, detail));
            }
            draft.write(&bytes[..read])?;
            at += read as u64;
        }
        let copied = work.finish(draft)?;
        // Read once to be held against itself, and once more to be copied.
        if copied.digest != told(self.hashes.tail) {
            let detail = "it reads otherwise than a moment before".to_owned();
            return Err(source.damaged(segment, self.span.start, None, detail));
        }
        Ok(copied)
    }
}
