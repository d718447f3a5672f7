//! Bringing a log back, byte for byte as it was taken.
//!
//! Invariant: a log that was brought back is right by itself: its chain, its tree and its end are
//! what the manifest says.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use stemma_content_store::Digest;
use stemma_event_log::{FileStorage, Options, Record, Storage, VerifyError, verify};

use crate::checked::Checked;
use crate::error::RestoreError;
use crate::manifest::{LogCopy, SegmentCopy};
use crate::restore::Bringing;

/// Says what was done with which file when it failed.
pub(crate) fn at(operation: &'static str, file: &Path) -> impl FnOnce(io::Error) -> RestoreError {
    let file = file.display().to_string();
    move |source| RestoreError::Io {
        operation,
        file,
        source,
    }
}

/// Brings a log back into a directory that is not there yet.
pub(crate) fn bring(
    log: &LogCopy,
    dir: &Path,
    bringing: &mut Bringing<'_>,
    on_record: &mut dyn FnMut(&Record),
) -> Result<(), RestoreError> {
    let storage: Arc<dyn Storage> = Arc::new(FileStorage::new(dir));
    storage.create_dirs().map_err(at("make", dir))?;
    for segment in &log.segments {
        bring_segment(segment, &dir.join(&segment.name), bringing)?;
    }
    storage.sync_dir().map_err(at("sync", dir))?;
    check(log, &storage, bringing, on_record)
}

fn bring_segment(
    segment: &SegmentCopy,
    path: &Path,
    bringing: &mut Bringing<'_>,
) -> Result<(), RestoreError> {
    let mut options = OpenOptions::new();
    let created = options.write(true).create_new(true).open(path);
    let mut file: File = created.map_err(at("make", path))?;
    let mut hash = blake3::Hasher::new();
    for part in &segment.parts {
        let opened = Checked::open(bringing.target, part);
        let mut checked = opened.map_err(|error| bringing.refused(error))?;
        loop {
            let bytes = checked.next(u64::MAX);
            let bytes = bytes.map_err(|error| bringing.refused(error))?;
            if bytes.is_empty() {
                break;
            }
            file.write_all(bytes).map_err(at("write", path))?;
            hash.update(bytes);
            bringing.advance(bytes.len() as u64, "log")?;
        }
    }
    if Digest::from_bytes(*hash.finalize().as_bytes()).to_string() != segment.digest {
        return Err(bringing.damaged(&segment.name, "is not the sum of its parts"));
    }
    if let Some(planned) = segment.planned_bytes {
        file.set_len(planned).map_err(at("lengthen", path))?;
    }
    file.sync_all().map_err(at("sync", path))
}

/// Reads the whole log, and holds it against the manifest.
fn check(
    log: &LogCopy,
    storage: &Arc<dyn Storage>,
    bringing: &mut Bringing<'_>,
    on_record: &mut dyn FnMut(&Record),
) -> Result<(), RestoreError> {
    let mut progress = |_| match bringing.advance(0, "checking the log") {
        Ok(()) => ControlFlow::Continue(()),
        Err(_) => ControlFlow::Break(()),
    };
    let report = verify(storage, &Options::default(), &mut progress, on_record);
    let report = report.map_err(|error| match error {
        VerifyError::Stopped => RestoreError::Stopped,
        error => RestoreError::Log(error),
    })?;
    if let Some(damage) = report.damages.first() {
        let problem = format!("is wrong at {}: {}", damage.offset, damage.detail);
        return Err(bringing.damaged(&damage.file, &problem));
    }
    let head = report.head.map(|head| head.digest.to_string());
    let root = report.root.map(|root| root.to_string());
    let fits = report.records == log.end
        && report.torn_tail.is_none()
        && report.log_id.map(|id| id.to_string()).as_ref() == Some(&log.id)
        && head.as_ref() == Some(&log.head)
        && root.as_ref() == Some(&log.root);
    if !fits {
        let (records, end) = (report.records, log.end);
        let problem =
            format!("has {records} events or another root, not {end} and that of the manifest");
        return Err(bringing.damaged(&format!("log {}", log.id), &problem));
    }
    Ok(())
}
