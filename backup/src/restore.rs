//! Bringing a tenant back into a directory where nobody looks.
//!
//! Invariant: when this has returned well, what stands there is right by itself and durable: log,
//! content and key are what the manifest says, and no content is missing that an event names.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::ops::ControlFlow;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use stemma_content_store::{Digest, Options as ContentOptions};
use stemma_event_log::Record;

use crate::Tell;
use crate::backup::{TenantTold, name_content, read_manifest};
use crate::checked::{CheckError, read_whole};
use crate::content_copy::Named;
use crate::directory::{make_dirs, sync_dir};
use crate::error::RestoreError;
use crate::log_restore::at;
use crate::manifest::{FileCopy, Manifest, TenantCopy};
use crate::target::Target;
use crate::{content_restore, log_restore};

/// Marks a tenant that has jobs to go on with; a server looks for it when it starts.
const UNFINISHED: &str = "unfinished";

/// What was restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// When the backup was made, in RFC 3339.
    pub made_at: String,
    /// Each tenant, by name.
    pub tenants: Vec<TenantTold>,
    /// Bytes that were read of the backup.
    pub bytes: u64,
}

/// Work on a backup that is being brought back.
pub(crate) struct Bringing<'a> {
    pub(crate) target: &'a dyn Target,
    pub(crate) content: &'a ContentOptions,
    tell: Tell<'a>,
    pub(crate) done_bytes: u64,
    total_bytes: u64,
}

impl<'a> Bringing<'a> {
    /// Of these files.
    pub(crate) fn of(
        files: &[&FileCopy],
        target: &'a dyn Target,
        content: &'a ContentOptions,
        tell: Tell<'a>,
    ) -> Self {
        Self {
            target,
            content,
            tell,
            done_bytes: 0,
            total_bytes: files.iter().map(|file| file.bytes).sum(),
        }
    }

    /// Counts bytes that are done, and tells of it.
    pub(crate) fn advance(&mut self, bytes: u64, what: &str) -> Result<(), RestoreError> {
        self.done_bytes += bytes;
        match (self.tell)(self.done_bytes, self.total_bytes, what) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(RestoreError::Stopped),
        }
    }

    pub(crate) fn damaged(&self, name: &str, problem: &str) -> RestoreError {
        RestoreError::Damaged {
            name: name.to_owned(),
            target: self.target.told(),
            problem: problem.to_owned(),
        }
    }

    pub(crate) fn refused(&self, error: CheckError) -> RestoreError {
        match error {
            CheckError::Damaged { name, problem } => self.damaged(&name, &problem),
            CheckError::Target(error) => RestoreError::Target(error),
        }
    }
}

/// Reads what a target holds.
pub(crate) fn manifest(target: &dyn Target) -> Result<Manifest, RestoreError> {
    let told = || target.told();
    let bytes = read_manifest(target)?.ok_or_else(|| RestoreError::Missing { target: told() })?;
    Manifest::parse(&bytes).map_err(|source| RestoreError::Manifest {
        target: told(),
        source,
    })
}

/// Brings a tenant back into a directory that may hold a lock and nothing else.
pub(crate) fn tenant(
    copy: &TenantCopy,
    dir: &Path,
    bringing: &mut Bringing<'_>,
) -> Result<(), RestoreError> {
    make_dirs(dir).map_err(at("make", dir))?;
    if let Some(log) = &copy.log {
        let mut named = Named::new();
        let mut unread = None;
        let mut on_record = |record: &Record| {
            if let Err(problem) = name_content(record, &mut named) {
                unread.get_or_insert((record.position(), problem));
            }
        };
        log_restore::bring(log, &dir.join("log"), bringing, &mut on_record)?;
        if let Some((position, problem)) = unread {
            let problem = format!("has an event at {position} that cannot be read: {problem}");
            return Err(bringing.damaged(&format!("log {}", log.id), &problem));
        }
        let content = dir.join("content");
        let options = bringing.content;
        let held = content_restore::bring(&copy.archives, &content, options, bringing)?;
        is_complete(&named, &held, &log.id, bringing)?;
    }
    if let Some(key) = &copy.signing_key {
        let bytes = read_whole(bringing.target, key);
        let bytes = bytes.map_err(|error| bringing.refused(error))?;
        write(&dir.join("signing-key"), &bytes)?;
        bringing.advance(key.bytes, "signing key")?;
    }
    if copy.is_unfinished {
        write(&dir.join(UNFINISHED), &[])?;
    }
    sync_dir(dir).map_err(at("sync", dir))
}

fn is_complete(
    named: &Named,
    held: &HashSet<Digest>,
    log_id: &str,
    bringing: &Bringing<'_>,
) -> Result<(), RestoreError> {
    let missing = named.iter().filter(|(digest, _)| !held.contains(*digest));
    match missing.min_by_key(|(_, position)| **position) {
        Some((digest, position)) => {
            let problem = format!("names {digest} at position {position}, which is not there");
            Err(bringing.damaged(&format!("log {log_id}"), &problem))
        }
        None => Ok(()),
    }
}

/// Writes a file that its owner alone may read.
fn write(path: &Path, bytes: &[u8]) -> Result<(), RestoreError> {
    let mut options = OpenOptions::new();
    let options = options.write(true).create_new(true).mode(0o600);
    let mut file: File = options.open(path).map_err(at("make", path))?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    written.map_err(at("write", path))
}
