//! Making a backup: every log and its content, then the manifest.
//!
//! Invariant: the manifest is written last, in one step, and names only files that are durable. No
//! file that the manifest before it names is written to. It replaces the manifest that was read, and no
//! other.

use std::collections::HashSet;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use stemma_content_store::{Digest, Options as ContentOptions};
use stemma_domain::event;
use stemma_domain::value::TenantName;
use stemma_event_log::Record;

use crate::Tell;
use crate::content_copy::{self, ContentSource, Named};
use crate::error::BackupError;
use crate::log_copy::{self, LogSource};
use crate::manifest::{
    Body, FileCopy, KEY_BYTES_MAX, Kind, LogCopy, MANIFEST, MANIFEST_BYTES_MAX, Manifest,
    TenantCopy,
};
use crate::names::{DIRS, is_of_backup, key_name};
use crate::target::{LockOutcome, Target};
use crate::work::{Reading, Work, on};

/// What is backed up.
#[derive(Debug, Clone)]
pub struct Sources {
    /// A data directory, or a tenant of one.
    pub of: Kind,
    /// The directory of the tokens' log, which need not be there; none for a tenant.
    pub access: Option<PathBuf>,
    /// The tenants.
    pub tenants: Vec<TenantSource>,
}

/// A tenant that is backed up. It may be written to meanwhile, by this process or another.
#[derive(Debug, Clone)]
pub struct TenantSource {
    /// Its name.
    pub name: TenantName,
    /// Its directory; what is below is looked for there.
    pub dir: PathBuf,
    /// The directory of its log.
    pub log: PathBuf,
    /// The directory of its content.
    pub content: PathBuf,
    /// The file of its signing key.
    pub signing_key: PathBuf,
    /// Whether it had jobs to go on with when the backup began.
    pub is_unfinished: bool,
    /// The file that is there while it has.
    pub unfinished: PathBuf,
}

/// How a backup is made.
#[derive(Debug, Clone)]
pub struct Options {
    /// The time, in RFC 3339.
    pub made_at: String,
    /// The program, with its version.
    pub made_by: String,
    /// What of the content is read.
    pub reading: Reading,
    /// How content stores are opened.
    pub content: ContentOptions,
}

/// A backup that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackedUp {
    /// Each tenant, by name.
    pub tenants: Vec<TenantTold>,
    /// Bytes that were written, the manifest not counted.
    pub copied_bytes: u64,
    /// Files that were written, the manifest not counted.
    pub copied_files: u64,
    /// Bytes of all files that the backup consists of.
    pub bytes: u64,
}

/// What a backup holds of a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantTold {
    /// Its name.
    pub name: String,
    /// Its events.
    pub events: u64,
    /// Digest of the last one; none without any.
    pub head: Option<String>,
    /// Merkle root over all of them; none without any.
    pub root: Option<String>,
}

impl TenantTold {
    pub(crate) fn of(tenant: &TenantCopy) -> Self {
        let log = tenant.log.as_ref();
        Self {
            name: tenant.name.clone(),
            events: log.map_or(0, |log| log.end),
            head: log.map(|log| log.head.clone()),
            root: log.map(|log| log.root.clone()),
        }
    }
}

/// Makes a backup in a target, which goes on from the one that is there.
///
/// # Errors
/// [`BackupError`]; the backup that was there holds as it did.
pub fn back_up(
    sources: &Sources,
    target: &dyn Target,
    options: &Options,
    tell: Tell<'_>,
) -> Result<BackedUp, BackupError> {
    is_of_nobody_else(target)?;
    let lock = target.lock().map_err(on(target, "lock", ""))?;
    let _guard = match lock {
        LockOutcome::Acquired(guard) => guard,
        LockOutcome::Held { holder } => {
            let target = target.told();
            return Err(BackupError::Locked { target, holder });
        }
    };
    // Before it is read: what is replaced later on is at most as new as what was gone by.
    let seen = target
        .seen(MANIFEST)
        .map_err(on(target, "look for", MANIFEST))?;
    let previous = previous(target)?;
    match &previous {
        Some(previous) => is_of(sources, &previous.body, target)?,
        None => is_free(target)?,
    }
    let mut work = Work::new(target, tell);
    let access = match &sources.access {
        Some(dir) => tokens(dir, previous.as_ref(), &mut work)?,
        None => None,
    };
    let mut tenants = Vec::with_capacity(sources.tenants.len());
    for source in &sources.tenants {
        match tenant(source, previous.as_ref(), options, &mut work) {
            Ok(copy) => tenants.push(copy),
            // Of a whole directory; an export is of a tenant that has to be there.
            Err(_) if sources.of == Kind::Server && !source.dir.is_dir() => {
                tracing::info!(tenant = %source.name, "was deleted meanwhile, and is left out");
            }
            Err(error) => return Err(error),
        }
    }
    tenants.sort_by(|a, b| a.name.cmp(&b.name));
    let held = previous.iter().flat_map(|previous| &previous.body.tenants);
    for gone in held.filter(|held| tenants.iter().all(|tenant| tenant.name != held.name)) {
        tracing::warn!(
            tenant = gone.name,
            "is not there any more, and leaves the backup"
        );
    }
    let manifest = Manifest::new(Body {
        of: sources.of,
        made_at: options.made_at.clone(),
        made_by: options.made_by.clone(),
        access,
        tenants,
    });
    let told = BackedUp {
        tenants: manifest.body.tenants.iter().map(TenantTold::of).collect(),
        copied_bytes: work.copied_bytes,
        copied_files: work.copied_files,
        bytes: manifest.body.files().iter().map(|file| file.bytes).sum(),
    };
    let manifest_bytes = manifest.to_bytes();
    if manifest_bytes.len() as u64 > MANIFEST_BYTES_MAX {
        return Err(BackupError::TargetFull {
            target: target.told(),
            files: manifest.body.files().len(),
        });
    }
    let draft = work.replace(MANIFEST, &seen).and_then(|mut draft| {
        draft.write(&manifest_bytes)?;
        Ok(draft)
    });
    work.finish(draft?)?;
    sweep(target, &manifest.body);
    Ok(told)
}

/// Whether a target is there for backups alone, or may be.
fn is_of_nobody_else(target: &dyn Target) -> Result<(), BackupError> {
    let found = target.of_others().map_err(on(target, "look into", ""))?;
    found.map_or(Ok(()), |name| {
        let target = target.told();
        Err(BackupError::Occupied { target, name })
    })
}

/// Whether nothing is in the way of a first backup but what one that was broken off left.
fn is_free(target: &dyn Target) -> Result<(), BackupError> {
    for dir in DIRS {
        let mut found = target
            .list(dir)
            .map_err(on(target, "look below", dir))?
            .into_iter();
        if let Some(name) = found.find(|name| !is_of_backup(name)) {
            let target = target.told();
            return Err(BackupError::Occupied { target, name });
        }
    }
    Ok(())
}

/// The manifest of the backup that is there, whose files are all there.
fn previous(target: &dyn Target) -> Result<Option<Manifest>, BackupError> {
    let Some(bytes) = read_manifest(target)? else {
        return Ok(None);
    };
    let manifest = Manifest::parse(&bytes).map_err(|source| BackupError::Manifest {
        target: target.told(),
        source,
    })?;
    for file in manifest.body.files() {
        let found = target.bytes(&file.name);
        let found = found.map_err(on(target, "look for", &file.name))?;
        if found == Some(file.bytes) {
            continue;
        }
        let problem = match found {
            None => "is not there".to_owned(),
            Some(bytes) => format!("has {bytes} bytes, not {}", file.bytes),
        };
        return Err(BackupError::TargetDamaged {
            name: file.name.clone(),
            target: target.told(),
            problem,
        });
    }
    Ok(Some(manifest))
}

/// The bytes of a target's manifest; none when there is none.
pub(crate) fn read_manifest(
    target: &dyn Target,
) -> Result<Option<Vec<u8>>, crate::error::TargetError> {
    let reader = match target.open(MANIFEST) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        reader => reader.map_err(on(target, "read", MANIFEST))?,
    };
    let mut bytes = Vec::new();
    let read = reader.take(MANIFEST_BYTES_MAX).read_to_end(&mut bytes);
    read.map_err(on(target, "read", MANIFEST))?;
    Ok(Some(bytes))
}

/// Whether a backup is of these sources: of the same kind, with a log that they have too.
fn is_of(sources: &Sources, body: &Body, target: &dyn Target) -> Result<(), BackupError> {
    let other = || BackupError::OtherData {
        target: target.told(),
    };
    if sources.of != body.of {
        return Err(other());
    }
    // The tokens alone do not make it the same: the tenants may be on a disk that is not there.
    let of_tenants = body.tenants.iter().filter_map(|tenant| tenant.log.as_ref());
    let ids: HashSet<&str> = of_tenants.map(|log| log.id.as_str()).collect();
    let mut has_log = false;
    for source in sources.tenants.iter().map(of_tenant) {
        let Some(extents) = source.extents()? else {
            continue;
        };
        if ids.contains(extents.log_id.to_string().as_str()) {
            return Ok(());
        }
        has_log = true;
    }
    // A tenant of it that has lost its log is told of as that.
    let is_held = |tenant: &TenantSource| {
        let names = body.tenants.iter().map(|held| held.name.as_str());
        names.into_iter().any(|name| name == tenant.name.as_str())
    };
    if ids.is_empty() || (!has_log && sources.tenants.iter().any(is_held)) {
        return Ok(());
    }
    Err(other())
}

/// The log that the last backup took, if this is still the same.
///
/// # Errors
/// When it is another, or gone: what the backup holds of it would go with it.
fn same_log<'a>(
    source: &LogSource<'_>,
    id: Option<&str>,
    taken: Option<&'a LogCopy>,
) -> Result<Option<&'a LogCopy>, BackupError> {
    match taken {
        Some(taken) if id != Some(taken.id.as_str()) => {
            let found = if id.is_some() {
                "another log"
            } else {
                "no log"
            };
            let detail = format!(
                "here is {found}, and the last backup took {} with {} events; if that is right, name another target",
                taken.id, taken.end
            );
            Err(source.damaged("", 0, None, detail))
        }
        taken => Ok(taken),
    }
}

fn of_tokens(dir: &Path) -> LogSource<'_> {
    LogSource {
        tenant: None,
        part: "access",
        dir,
    }
}

fn of_tenant(tenant: &TenantSource) -> LogSource<'_> {
    LogSource {
        tenant: Some(tenant.name.as_str()),
        part: "log",
        dir: &tenant.log,
    }
}

/// Copies the log of the tokens.
fn tokens(
    dir: &Path,
    previous: Option<&Manifest>,
    work: &mut Work<'_>,
) -> Result<Option<LogCopy>, BackupError> {
    let source = of_tokens(dir);
    let extents = source.extents()?;
    let id = extents.as_ref().map(|extents| extents.log_id.to_string());
    let previous = previous.and_then(|manifest| manifest.body.access.as_ref());
    let previous = same_log(&source, id.as_deref(), previous)?;
    let (Some(extents), Some(id)) = (extents, id) else {
        return Ok(None);
    };
    let examined = log_copy::examine(&source, &extents, previous, work, &mut |_| {})?;
    let dir = format!("access/{id}");
    log_copy::write(&source, &examined, previous, &dir, work).map(Some)
}

/// Copies a tenant.
fn tenant(
    tenant: &TenantSource,
    previous: Option<&Manifest>,
    options: &Options,
    work: &mut Work<'_>,
) -> Result<TenantCopy, BackupError> {
    let source = of_tenant(tenant);
    let name = tenant.name.as_str();
    let mut copy = TenantCopy {
        name: name.to_owned(),
        is_unfinished: tenant.is_unfinished,
        log: None,
        archives: Vec::new(),
        signing_key: None,
    };
    let extents = source.extents()?;
    // Those before it take their time, and meanwhile it may have got some.
    copy.is_unfinished |= tenant.unfinished.is_file();
    let id = extents.as_ref().map(|extents| extents.log_id.to_string());
    let previous = previous.and_then(|manifest| manifest.tenant(name));
    let log = previous.and_then(|copy| copy.log.as_ref());
    let log = same_log(&source, id.as_deref(), log)?;
    let (Some(extents), Some(id)) = (extents, id) else {
        return Ok(copy);
    };
    let mut named = Named::new();
    let mut unread = None;
    let mut on_record = |record: &Record| {
        if let Err(problem) = name_content(record, &mut named) {
            unread.get_or_insert((record.position().get(), problem));
        }
    };
    let examined = log_copy::examine(&source, &extents, log, work, &mut on_record)?;
    if let Some((position, problem)) = unread {
        return Err(source.damaged("", 0, Some(position), problem));
    }
    let dir = TenantCopy::dir(name, &id);
    copy.log = Some(log_copy::write(&source, &examined, log, &dir, work)?);
    let content = ContentSource {
        tenant: name,
        dir: &tenant.content,
        named: &named,
        options: &options.content,
        reading: options.reading,
    };
    let archives = previous.map_or(&[][..], |copy| &copy.archives);
    copy.archives = content_copy::copy(&content, archives, &dir, work)?;
    let key = previous.and_then(|copy| copy.signing_key.as_ref());
    copy.signing_key = signing_key(&tenant.signing_key, key, &dir, work)?;
    Ok(copy)
}

/// Adds the content that an event names.
pub(crate) fn name_content(record: &Record, named: &mut Named) -> Result<(), String> {
    let decoded = event::decode(record.event_type(), record.schema_version(), record.data());
    let event = decoded.map_err(|error| error.to_string())?;
    for digest in event.content() {
        let digest = Digest::from_bytes(*digest.as_bytes());
        named.entry(digest).or_insert(record.position().get());
    }
    Ok(())
}

/// Copies the signing key, if there is one.
fn signing_key(
    path: &Path,
    previous: Option<&FileCopy>,
    dir: &str,
    work: &mut Work<'_>,
) -> Result<Option<FileCopy>, BackupError> {
    let failed = |source| BackupError::Io {
        file: path.display().to_string(),
        source,
    };
    let file = match fs::File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(failed)?,
    };
    let mut bytes = Vec::new();
    let read = file.take(KEY_BYTES_MAX).read_to_end(&mut bytes);
    read.map_err(failed)?;
    let digest = Digest::of(&bytes);
    match previous.filter(|key| key.digest == digest.to_string()) {
        Some(key) => Ok(Some(key.clone())),
        None => Ok(Some(work.write(&key_name(dir, &digest), &bytes)?)),
    }
}

/// Removes what the backup does not consist of and one before it left. What cannot be removed is in
/// nobody's way; what others put there stays.
fn sweep(target: &dyn Target, body: &Body) {
    let named: HashSet<&str> = body.files().iter().map(|file| file.name.as_str()).collect();
    for dir in DIRS {
        let found = target.list(dir).unwrap_or_default();
        let left = |name: &&String| !named.contains(name.as_str()) && is_of_backup(name);
        for name in found.iter().filter(left) {
            if let Err(error) = target.remove(name) {
                tracing::warn!(%error, name, "what the backup does not need stays in its target");
            }
        }
    }
}
