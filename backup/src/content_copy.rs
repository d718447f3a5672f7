//! Copying content: what events name and the target lacks.
//!
//! Invariant: each blob that is written was read against its digest. What events name and cannot be
//! read whole is damage.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;
use std::path::Path;

use stemma_content_store::{
    Blob, ContentStore, Damage, DamageKind, Digest, Options as ContentOptions, ReadError,
    VerifyError, VerifyProgress,
};

use crate::archive::{Archives, Entry, Filling, read_index};
use crate::checked::CheckError;
use crate::error::BackupError;
use crate::manifest::Archive;
use crate::work::{Reading, Work};

/// Bytes copied at a time.
const STEP_BYTES: usize = 1 << 20;
/// How often a blob is looked for that a collection beside us may have moved.
const LOOK_COUNT_MAX: usize = 3;

/// Content that events name, and the position where each was named first.
pub(crate) type Named = HashMap<Digest, u64>;

/// What is to be copied, and how.
pub(crate) struct ContentSource<'a> {
    pub(crate) tenant: &'a str,
    pub(crate) dir: &'a Path,
    pub(crate) named: &'a Named,
    pub(crate) options: &'a ContentOptions,
    pub(crate) reading: Reading,
}

impl ContentSource<'_> {
    fn damaged(
        &self,
        file: &str,
        offset: u64,
        digest: Option<&Digest>,
        detail: &str,
    ) -> BackupError {
        let position = digest.and_then(|digest| self.named.get(digest).copied());
        let detail = match digest {
            Some(digest) => format!("{digest}: {detail}"),
            None => detail.to_owned(),
        };
        let file = match file {
            "" => "content".to_owned(),
            file => format!("content/{file}"),
        };
        BackupError::Damaged {
            tenant: Some(self.tenant.to_owned()),
            file,
            offset,
            position,
            detail,
        }
    }

    fn failed<E>(&self, source: E) -> BackupError
    where
        E: std::error::Error + Send + Sync + 'static,
    {
        BackupError::Content {
            tenant: self.tenant.to_owned(),
            source: Box::new(source),
        }
    }

    fn unread(&self, error: ReadError) -> BackupError {
        match error {
            ReadError::Damaged {
                digest,
                file,
                offset,
                kind,
            } => self.damaged(&file, offset, Some(&digest), &kind.to_string()),
            error => self.failed(error),
        }
    }

    fn missing(&self, digest: &Digest) -> BackupError {
        self.damaged(
            "",
            0,
            Some(digest),
            "an event names it, and it is not there",
        )
    }
}

/// Writes what the target lacks of the content, behind the archives that are there.
pub(crate) fn copy(
    source: &ContentSource<'_>,
    previous: &[Archive],
    dir: &str,
    work: &mut Work<'_>,
) -> Result<Vec<Archive>, BackupError> {
    let held = held(previous, work)?;
    let mut wanted: Vec<(u64, Digest)> = Vec::new();
    for (digest, position) in source.named {
        if !held.contains(digest) {
            wanted.push((*position, *digest));
        }
    }
    wanted.sort_unstable_by_key(|(position, digest)| (*position, *digest.as_bytes()));
    let mut archives = Archives::behind(dir, previous.to_vec());
    if source.named.is_empty() || (wanted.is_empty() && source.reading == Reading::New) {
        return Ok(archives.into_done());
    }
    if !source.dir.is_dir() {
        return Err(source.damaged("", 0, None, "the directory is not there"));
    }
    let opened = ContentStore::open_read_only(source.dir, source.options.clone());
    let (store, _) = opened.map_err(|error| source.failed(error))?;
    if source.reading == Reading::All {
        examine(source, &store, work)?;
    }
    let mut filling: Option<Filling<'_>> = None;
    for (index, (_, digest)) in wanted.iter().enumerate() {
        work.tell(index as u64, wanted.len() as u64, "copying content")?;
        let mut into = match filling.take() {
            Some(filling) => filling,
            None => archives.begin(work)?,
        };
        let blob = find(source, &store, digest)?;
        copy_blob(source, &blob, &mut into, work)?;
        if into.is_full() {
            archives.finish(into, work)?;
        } else {
            filling = Some(into);
        }
    }
    if let Some(last) = filling {
        archives.finish(last, work)?;
    }
    Ok(archives.into_done())
}

/// The blobs that are in these archives.
fn held(archives: &[Archive], work: &Work<'_>) -> Result<HashSet<Digest>, BackupError> {
    let mut held = HashSet::new();
    for archive in archives {
        let entries = read_index(work.target, archive).map_err(|error| match error {
            CheckError::Target(error) => BackupError::Target(error),
            CheckError::Damaged { name, problem } => BackupError::TargetDamaged {
                name,
                target: work.target.told(),
                problem,
            },
        })?;
        held.extend(entries.iter().map(|entry| entry.digest));
    }
    Ok(held)
}

/// Reads all content. Damage in what no event names is none of the backup's.
fn examine(
    source: &ContentSource<'_>,
    store: &ContentStore,
    work: &mut Work<'_>,
) -> Result<(), BackupError> {
    let mut missing: HashSet<Digest> = source.named.keys().copied().collect();
    let mut progress =
        |told: VerifyProgress| match work.tell(told.done_bytes, told.total_bytes, "content") {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        };
    let report = store.verify(&mut progress, &mut |digest, _| {
        missing.remove(digest);
    });
    let report = report.map_err(|error| match error {
        VerifyError::Stopped => BackupError::Stopped,
        error => source.failed(error),
    })?;
    // Runs are made anew at the next start, and nothing is copied by them.
    let is_ours = |damage: &&Damage| {
        let is_derived = damage.kind == DamageKind::Run;
        !is_derived && damage.digest.is_none_or(|digest| missing.contains(&digest))
    };
    if let Some(damage) = report.damage.iter().find(is_ours) {
        let digest = damage.digest.as_ref();
        return Err(source.damaged(&damage.file, damage.offset, digest, &damage.detail));
    }
    // What a writer beside us moved or added while this read on is looked for by itself.
    for digest in &missing {
        let blob = find(source, store, digest)?;
        each_step(&blob, &mut |_| Ok(())).map_err(|error| match error {
            Stepped::Read(error) => source.unread(error),
            Stepped::Backup(error) => error,
        })?;
    }
    Ok(())
}

fn find(
    source: &ContentSource<'_>,
    store: &ContentStore,
    digest: &Digest,
) -> Result<Blob, BackupError> {
    let mut last = None;
    for _ in 0..LOOK_COUNT_MAX {
        match store.open_blob(digest) {
            Ok(Some(blob)) => return Ok(blob),
            Ok(None) => last = None,
            // A collection may have taken away the place that was looked at.
            Err(error) => last = Some(error),
        }
        store.refresh().map_err(|error| source.failed(error))?;
    }
    Err(last.map_or_else(|| source.missing(digest), |error| source.unread(error)))
}

enum Stepped {
    Read(ReadError),
    Backup(BackupError),
}

fn each_step(
    blob: &Blob,
    take: &mut dyn FnMut(&[u8]) -> Result<(), BackupError>,
) -> Result<(), Stepped> {
    let mut offset = 0;
    while offset < blob.len() {
        let bytes = blob.read_at(offset, STEP_BYTES).map_err(Stepped::Read)?;
        assert!(!bytes.is_empty(), "a read before the end gives something");
        take(&bytes).map_err(Stepped::Backup)?;
        offset += bytes.len() as u64;
    }
    Ok(())
}

fn copy_blob(
    source: &ContentSource<'_>,
    blob: &Blob,
    into: &mut Filling<'_>,
    work: &mut Work<'_>,
) -> Result<(), BackupError> {
    let len = blob.len();
    let mut done = 0;
    let mut take = |bytes: &[u8]| {
        into.write(bytes)?;
        done += bytes.len() as u64;
        work.tell(done, len, "copying content")
    };
    each_step(blob, &mut take).map_err(|error| match error {
        Stepped::Read(error) => source.unread(error),
        Stepped::Backup(error) => error,
    })?;
    into.name(Entry {
        digest: *blob.digest(),
        len,
    });
    Ok(())
}
