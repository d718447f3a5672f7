//! Where a tenant's parts are put together, and taken apart again in the right order.

use std::fs::{File, TryLockError};
use std::io::Read;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, anyhow, bail};
use stemma_api::Proofs;
use stemma_commands::{Commands, Dependencies};
use stemma_content_store::{ContentStore, OpenReport as ContentReport};
use stemma_domain::value::TenantName;
use stemma_event_log::{FileStorage, Log, OpenError, OpenReport, ProofTree, Reader, Storage};
use stemma_projections::{
    Ahead, Neo4jServer, Projection, Settings as ProjectionSettings, StartError,
};
use stemma_views::JobFeed;

use crate::cli::Common;
use crate::clock::{SystemClock, SystemIds};
use crate::config::{Settings, data_dir};
use crate::exit::{Damaged, Usage};
use crate::lock_file::try_lock;
use crate::{keys, tenant_files};

/// The file of a tenant whose lock is the right to open it.
pub(crate) const LOCK: &str = "lock";

/// The directories of one tenant.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    pub(crate) tenant: PathBuf,
    pub(crate) log: PathBuf,
    pub(crate) content: PathBuf,
    pub(crate) views: PathBuf,
    pub(crate) graph: PathBuf,
    pub(crate) search: PathBuf,
}

impl Places {
    pub(crate) fn of(common: &Common, settings: &Settings) -> anyhow::Result<Self> {
        let name = &common.tenant;
        TenantName::new(name).map_err(|error| Usage(format!("--tenant is {name:?}, {error}")))?;
        let data = data_dir(common, Some(settings));
        must_be_whole(&data)?;
        let tenant = data.join("tenants").join(name);
        let below = |name: &str| tenant.join(name);
        Ok(Self {
            log: below("log"),
            content: below("content"),
            views: below("views"),
            graph: below("graph"),
            search: below("search"),
            tenant,
        })
    }

    /// The name of the tenant.
    pub(crate) fn tenant_name(&self) -> String {
        let name = self.tenant.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    /// Fails when there is no data, without making any.
    pub(crate) fn must_exist(&self) -> anyhow::Result<()> {
        if !self.log.is_dir() {
            return Err(self.no_data());
        }
        Ok(())
    }

    /// That there is no data, and who makes it.
    pub(crate) fn no_data(&self) -> anyhow::Error {
        let place = self.tenant.display();
        anyhow!("there is no data in {place}; `stemma serve` or `stemma import` makes it")
    }

    /// Fails when the tenant is to be deleted: what is written to it would go with it.
    fn must_not_be_leaving(&self) -> anyhow::Result<()> {
        if tenant_files::is_leaving(&self.tenant) {
            let place = self.tenant.display();
            bail!("{place} is to be deleted; `stemma serve` or `stemma tenant delete` does it");
        }
        Ok(())
    }

    /// Fails when content is there and no log: a new, empty log would have all of it collected.
    fn must_not_lack_the_log(&self) -> anyhow::Result<()> {
        let ends_in = |path: &Path, end: &str| path.extension().is_some_and(|e| e == end);
        let has_log = files_below(&self.log).any(|path| ends_in(&path, "segment"));
        if has_log {
            return Ok(());
        }
        let packs = self.content.join("packs");
        let blobs = self.content.join("blobs");
        let has_content = files_below(&packs).any(|path| ends_in(&path, "pack"))
            || files_below(&blobs).any(|dir| files_below(&dir).next().is_some());
        if has_content {
            let (log, content) = (self.log.display(), self.content.display());
            let why = format!(
                "{content} holds content and {log} holds no log; nothing was changed. Bring the log back, or move the content away"
            );
            return Err(Damaged(why).into());
        }
        Ok(())
    }

    /// Fails when a log is there and the directory of its content is not: an empty store would be
    /// taken for all there is.
    fn must_not_lack_the_content(&self) -> anyhow::Result<()> {
        let is_log = |path: PathBuf| path.extension().is_some_and(|end| end == "segment");
        if self.content.is_dir() || !files_below(&self.log).any(is_log) {
            return Ok(());
        }
        let (log, content) = (self.log.display(), self.content.display());
        let why = format!(
            "{log} holds a log and {content} is not there; nothing was changed. Bring the content back; `stemma verify` names what is missing. To go on without it, make the directory"
        );
        Err(Damaged(why).into())
    }

    pub(crate) fn storage(&self) -> Arc<dyn Storage> {
        Arc::new(FileStorage::new(&self.log))
    }

    /// Takes the right to change anything of this tenant, until the file is dropped.
    pub(crate) fn lock(&self) -> anyhow::Result<File> {
        make_durably(&self.tenant).with_context(|| format!("make {}", self.tenant.display()))?;
        match try_lock(&self.tenant.join(LOCK))? {
            Ok(file) => Ok(file),
            Err(holder) => bail!(
                "{} is in use by process {holder}; stop it, or work through it: import, events and prove with --server, rebuild and verify by POST /api/admin/...",
                self.tenant.display()
            ),
        }
    }

    /// Keeps writers out without writing anything, until the file is dropped; or tells who is in.
    pub(crate) fn share_lock(&self) -> anyhow::Result<Result<Option<File>, String>> {
        let path = self.tenant.join(LOCK);
        let mut file = match File::open(&path) {
            Ok(file) => file,
            // Nobody ever wrote here.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Ok(None)),
            Err(error) => return Err(error).with_context(|| format!("open {}", path.display())),
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(Ok(Some(file))),
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                file.read_to_string(&mut holder)?;
                Ok(Err(holder.trim().to_owned()))
            }
            Err(TryLockError::Error(error)) => Err(error.into()),
        }
    }
}

pub(crate) fn log_options(settings: &Settings) -> stemma_event_log::Options {
    let defaults = stemma_event_log::Options::default();
    let segment_bytes_max = settings.number("log.segment_bytes_max");
    stemma_event_log::Options {
        segment_bytes_first: defaults.segment_bytes_first.min(segment_bytes_max),
        segment_bytes_max,
        batch_bytes_max: settings.number("log.batch_bytes_max"),
        queue_max: settings.count("log.queue_max"),
        check_bytes_max: settings.number("log.check_at_open_bytes_max"),
        ..defaults
    }
}

pub(crate) fn content_options(settings: &Settings) -> stemma_content_store::Options {
    stemma_content_store::Options {
        pack_blob_bytes_max: settings.number("content.pack_blob_bytes_max"),
        upload_bytes_max: settings.number("content.upload_bytes_max"),
        ..stemma_content_store::Options::default()
    }
}

pub(crate) fn views_options(settings: &Settings) -> stemma_views::Options {
    let engine = settings
        .text("views.engine")
        .and_then(|name| name.parse().ok());
    stemma_views::Options {
        engine: engine.unwrap_or_default(),
        cache_bytes: settings.number("views.cache_bytes"),
        ..stemma_views::Options::default()
    }
}

// Vectors that are taken in can be indexed.
const _: () =
    assert!(stemma_inference::DIMENSION_MAX as usize <= stemma_search::VECTOR_DIMENSION_MAX);

/// Rows of the graph that are gathered in memory.
const GRAPH_MEMTABLE_BYTES: u64 = 16 << 20;

/// How the search index is kept.
pub(crate) fn search_options(settings: &Settings) -> stemma_search::Options {
    stemma_search::Options {
        vector_cache_bytes: settings.count("search.vector_cache_bytes"),
        vectors_scanned_max: settings.count("search.vectors_scanned_max"),
        ..stemma_search::Options::default()
    }
}

/// The limits of jobs and workers.
pub(crate) fn jobs_options(settings: &Settings) -> stemma_jobs::Options {
    stemma_jobs::Options {
        workers: settings.count("jobs.workers"),
        lease_ms: settings.number("jobs.lease_ms"),
        retry_base_ms: settings.number("jobs.retry_base_ms"),
        retry_cap_ms: settings.number("jobs.retry_cap_ms"),
        retries_max: u32::try_from(settings.number("jobs.retries_max")).unwrap_or(u32::MAX),
        active_max: settings.count("jobs.active_max"),
        queued_max: settings.count("jobs.queued_max"),
    }
}

pub(crate) fn graph_options(settings: &Settings) -> stemma_views::Options {
    stemma_views::Options {
        cache_bytes: settings.number("graph.cache_bytes"),
        // It is written in fewer and larger batches, by a thread that has time.
        memtable_bytes: GRAPH_MEMTABLE_BYTES,
        ..views_options(settings)
    }
}

/// Where Neo4j is, if that is where the graph is to be.
pub(crate) fn neo4j(settings: &Settings) -> anyhow::Result<Option<Neo4jServer>> {
    if settings.text("graph.mode") != Some("neo4j") {
        return Ok(None);
    }
    let owned = |key: &str| settings.text(key).map(str::to_owned);
    let password = match settings.text("graph.password_file") {
        None => owned("graph.password").unwrap_or_default(),
        Some(file) => {
            let text = std::fs::read_to_string(file)
                .map_err(|error| Usage(format!("graph.password_file: read {file}: {error}")))?;
            text.lines().next().unwrap_or_default().to_owned()
        }
    };
    let server = Neo4jServer {
        uri: owned("graph.uri").unwrap_or_default(),
        user: owned("graph.user").unwrap_or_default(),
        password,
        database: owned("graph.database"),
        ca_file: settings.text("graph.ca_file").map(PathBuf::from),
    };
    let checked = server.check();
    checked.map_err(|error| Usage(error.to_string()))?;
    Ok(Some(server))
}

/// A failed open, with the status that it ends with.
pub(crate) fn told(error: OpenError) -> anyhow::Error {
    match error {
        OpenError::Damaged { .. } => {
            let causes = format!(
                "{error}; nothing was changed. `stemma verify` names all damage, `stemma serve --read-only` serves what is whole"
            );
            Damaged(causes).into()
        }
        other => anyhow::Error::new(other).context("open the log"),
    }
}

/// Opens the log for reading only; works beside a server.
pub(crate) fn open_reader(places: &Places, settings: &Settings) -> anyhow::Result<Reader> {
    places.must_exist()?;
    let opened = Log::open_read_only(places.storage(), log_options(settings));
    Ok(opened.map_err(told)?.0)
}

/// What of the log is whole, for reading; with what it ends before, if anything.
pub(crate) fn open_whole_reader(
    places: &Places,
    settings: &Settings,
) -> anyhow::Result<(Reader, Option<OpenError>)> {
    places.must_exist()?;
    match Log::open_read_only(places.storage(), log_options(settings)) {
        Ok((reader, _)) => Ok((reader, None)),
        Err(OpenError::Damaged { .. }) => {
            let opened = Log::open_whole_part(places.storage(), log_options(settings));
            let whole = opened.map_err(told)?;
            Ok((whole.log.reader, whole.damage))
        }
        Err(error) => Err(told(error)),
    }
}

/// Views that did not start, with what to do about it.
fn started(error: StartError) -> anyhow::Error {
    match error {
        StartError::NotOfLog(error) => {
            let why = format!(
                "{error}. Nothing was changed. Bring the log back; or, to go on with the log as it is, delete the directory of the views"
            );
            Damaged(why).into()
        }
        other => other.into(),
    }
}

fn tell_of(report: &OpenReport) {
    tracing::info!(end = %report.end, clean = report.clean, took_ms = report.took.as_millis(), "opened the log");
    if let Some(cut) = &report.cut {
        tracing::warn!(?cut, "cut a group that was never acknowledged");
    }
}

/// A tenant that is open.
pub(crate) struct Tenant {
    pub(crate) commands: Commands,
    pub(crate) projection: Projection,
    /// Tells of jobs that change.
    pub(crate) job_feed: JobFeed,
    /// What the log shows to others.
    pub(crate) proofs: Proofs,
    /// Where the graph is, if there is to be one.
    pub(crate) graph: PathBuf,
    /// Whether all of the log was read when it was opened.
    pub(crate) is_checked: bool,
    /// Where derived files are while only a part of the log is served; removed at the end.
    _scratch: Option<tempfile::TempDir>,
    _lock: File,
}

/// What is made from the log, and where it is kept.
struct Derived {
    views: PathBuf,
    options: stemma_views::Options,
    graph: PathBuf,
    /// The views there, opened beside the log.
    ahead: Option<Ahead>,
    proofs: Proofs,
    scratch: Option<tempfile::TempDir>,
}

impl Tenant {
    /// Opens or makes a tenant. The views may still lack events when this returns.
    pub(crate) fn open(places: &Places, settings: &Settings) -> anyhow::Result<Self> {
        let lock = places.lock()?;
        places.must_not_be_leaving()?;
        places.must_not_lack_the_log()?;
        places.must_not_lack_the_content()?;
        let options = views_options(settings);
        let (log, (content, found), ahead) = open_parts(places, settings, &options)?;
        for cut in &found.cut {
            tracing::warn!(
                file = cut.file,
                bytes = cut.bytes,
                kept = cut.kept,
                "cut content that nobody was told of"
            );
        }
        for damage in &found.damage {
            tracing::error!(
                file = damage.file,
                offset = damage.offset,
                detail = damage.detail,
                "content is damaged"
            );
        }
        tell_of(&log.report);
        let proofs = Proofs {
            tree: ProofTree::new(log.reader.clone(), places.storage()),
            signer: keys::load_or_make(&places.tenant, log.report.log_id),
        };
        let derived = Derived {
            views: places.views.clone(),
            options,
            graph: places.graph.clone(),
            ahead,
            proofs,
            scratch: None,
        };
        Self::put_together(log, content, derived, settings, lock)
    }

    /// Opens for reading what of a tenant is whole. Nothing of it is changed: the views are folded
    /// beside, from what can be read of the log.
    pub(crate) fn open_whole_part(places: &Places, settings: &Settings) -> anyhow::Result<Self> {
        places.must_exist()?;
        places.must_not_be_leaving()?;
        let lock = places.lock()?;
        let opened = ContentStore::open_read_only(&places.content, content_options(settings));
        let (content, _) = opened.context("open the content store")?;
        let opened = Log::open_whole_part(places.storage(), log_options(settings));
        let whole = opened.map_err(told)?;
        if let Some(damage) = &whole.damage {
            tracing::error!(end = %whole.log.report.end, "{damage}; what stands before its group is served");
        }
        tell_of(&whole.log.report);
        let scratch = tempfile::tempdir().context("make a directory for what is derived")?;
        let tree = FileStorage::new(scratch.path().join("log"));
        tree.create_dirs()
            .context("make a directory for the tree")?;
        let proofs = Proofs {
            tree: ProofTree::new(whole.log.reader.clone(), Arc::new(tree)),
            signer: keys::load(&places.tenant, whole.log.report.log_id),
        };
        let derived = Derived {
            views: scratch.path().join("views"),
            options: views_options(settings),
            graph: scratch.path().join("graph"),
            ahead: None,
            proofs,
            scratch: Some(scratch),
        };
        Self::put_together(whole.log, content, derived, settings, lock)
    }

    fn put_together(
        log: Log,
        content: ContentStore,
        derived: Derived,
        settings: &Settings,
        lock: File,
    ) -> anyhow::Result<Self> {
        let is_checked = log.report.checked;
        if let Err(problem) = &derived.proofs.signer {
            tracing::error!(problem, "checkpoints cannot be signed");
        }
        let on = Dependencies {
            appender: log.appender,
            reader: log.reader.clone(),
            content,
            clock: Arc::new(SystemClock),
            ids: Arc::new(SystemIds),
        };
        let options = stemma_commands::Options {
            aggregate_cache_bytes: settings.number("cache.aggregate_bytes"),
            text_cache_bytes: settings.number("cache.text_bytes"),
            text_bytes_max: settings.number("annotations.text_bytes_max"),
            ..stemma_commands::Options::default()
        };
        let commands = Commands::new(on, options);
        let job_feed = derived.options.job_feed.clone();
        let folded = ProjectionSettings {
            reader: log.reader,
            dir: derived.views,
            views: derived.options,
        };
        let projection = match Projection::start_with(folded, derived.ahead) {
            Ok(projection) => projection,
            Err(error) => {
                // They were opened for nothing, and are left as they were found.
                commands.appender().close().context("close the log")?;
                commands.content().close();
                return Err(started(error));
            }
        };
        Ok(Self {
            commands,
            projection,
            job_feed,
            proofs: derived.proofs,
            graph: derived.graph,
            is_checked,
            _scratch: derived.scratch,
            _lock: lock,
        })
    }

    /// Ends the views, then the log, then the content, each with all that it holds on disk.
    pub(crate) fn close(self) -> anyhow::Result<()> {
        self.projection.stop();
        self.commands.appender().close().context("close the log")?;
        self.commands.content().close();
        Ok(())
    }
}

/// Opens log, content and views side by side: each reads what it was writing last.
fn open_parts(
    places: &Places,
    settings: &Settings,
    views: &stemma_views::Options,
) -> anyhow::Result<(Log, (ContentStore, ContentReport), Option<Ahead>)> {
    let open_content = || ContentStore::open(&places.content, content_options(settings));
    let open_views = || Ahead::open(&places.views, views);
    std::thread::scope(|scope| {
        let named = |name: &str| std::thread::Builder::new().name(name.to_owned());
        let content = named("open-content").spawn_scoped(scope, open_content)?;
        let views = named("open-views").spawn_scoped(scope, open_views)?;
        let log = Log::open(places.storage(), log_options(settings));
        let content = content.join().unwrap_or_else(|panic| resume_unwind(panic));
        let views = views.join().unwrap_or_else(|panic| resume_unwind(panic));
        let content = content.context("open the content store");
        match (log, content) {
            (Ok(log), Ok(content)) => Ok((log, content, views)),
            (Ok(log), Err(error)) => {
                // It was opened for nothing, and is left as it was found.
                log.appender.close().context("close the log")?;
                Err(error)
            }
            (Err(error), _) => Err(told(error)),
        }
    })
}

/// Fails when data are being restored into a directory, or were and not to the end; and where a
/// backup is taken for data.
pub(crate) fn must_be_whole(data: &Path) -> anyhow::Result<()> {
    let has_log = |tenant: PathBuf| tenant.join("log").is_dir();
    if data.join("manifest.json").is_file() && !files_below(&data.join("tenants")).any(has_log) {
        let data = data.display();
        bail!(
            "{data} is a backup; `stemma restore {data} --data DIR` brings it into a directory of data"
        );
    }
    if stemma_backup::is_half_restored(data) {
        bail!(
            "{} is being restored into, or that was broken off; `stemma restore` does it again from the start",
            data.display()
        );
    }
    Ok(())
}

/// What stands in a directory; nothing where there is none.
fn files_below(dir: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let listed = std::fs::read_dir(dir).into_iter().flatten();
    listed.flatten().map(|entry| entry.path())
}

/// Makes a directory, and sees to it that its name and those of the directories that had to be made
/// for it are on disk: a log whose directory is lost is lost.
pub(crate) fn make_durably(dir: &Path) -> std::io::Result<()> {
    if dir.as_os_str().is_empty() {
        return Ok(());
    }
    let parent = dir.parent().unwrap_or(dir);
    if !dir.is_dir() {
        make_durably(parent)?;
        match std::fs::create_dir(dir) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    // Also of one that was there: whoever made it may have been killed before this.
    let here = Path::new(".");
    let parent = if parent.as_os_str().is_empty() {
        here
    } else {
        parent
    };
    match File::open(parent).and_then(|parent| parent.sync_all()) {
        // A directory that others own, and that was there before, may not be ours to sync.
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => Ok(()),
        synced => synced,
    }
}

/// Bytes of all files below a directory.
pub(crate) fn directory_bytes(dir: &Path) -> u64 {
    let Ok(listed) = std::fs::read_dir(dir) else {
        return 0;
    };
    listed
        .flatten()
        .map(|found| match found.metadata() {
            Ok(metadata) if metadata.is_dir() => directory_bytes(&found.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}
