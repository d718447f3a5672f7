//! The tenants of a server beside the first: opened when they are asked for, closed when idle.
//!
//! Invariants: a tenant is opened by one at a time, and closed only while nobody uses it; one with
//! jobs that are not finished is not closed, and is opened again by the next start.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context;
use stemma_api::{AppState, InUse, TenantError, Tenants, Usage};
use stemma_domain::value::TenantName;
use stemma_projections::Neo4jSettings;
use tokio::runtime::Handle;

use crate::cli::Common;
use crate::config::{Settings, data_dir};
use crate::opened::{How, Opened, catch_up};
use crate::wiring::{Places, Tenant, neo4j};

/// How often it is looked for tenants that nobody uses.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long those who work on a tenant that is to be deleted are waited for, and how often it is
/// looked whether they have ended.
const DELETE_WAIT: Duration = Duration::from_secs(10);
const DELETE_LOOK: Duration = Duration::from_millis(10);
/// Marks a tenant that has jobs which are not finished; its file is in the tenant's directory.
pub(crate) const UNFINISHED: &str = "unfinished";
/// What a tenant's directory is called while it is being deleted: no tenant can be called so.
const DELETED: &str = ".deleted-";

/// The tenants, and the thread that closes them.
pub(crate) struct OpenTenants {
    map: Arc<TenantMap>,
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

struct TenantMap {
    first: AppState,
    common: Common,
    settings: Settings,
    /// Where the directories of all tenants are.
    dir: PathBuf,
    runtime: Handle,
    open_max: usize,
    idle_close: Duration,
    slots: Mutex<HashMap<TenantName, Arc<Slot>>>,
}

/// A tenant that is open, is being opened or closed, or was asked for.
struct Slot {
    opened: Mutex<Option<Opened>>,
    /// Those who use it.
    users: AtomicUsize,
    last_used: Mutex<Instant>,
}

struct User(Arc<Slot>);

impl Usage for User {}

impl Drop for User {
    fn drop(&mut self) {
        *unpoisoned(&self.0.last_used) = Instant::now();
        self.0.users.fetch_sub(1, Ordering::Release);
    }
}

/// What is behind these locks is changed whole.
fn unpoisoned<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Slot {
    fn new() -> Self {
        Self {
            opened: Mutex::new(None),
            users: AtomicUsize::new(0),
            last_used: Mutex::new(Instant::now()),
        }
    }

    /// Counts one more who uses it. The lock on what is opened is held meanwhile, as it is by who
    /// closes it.
    fn used(self: &Arc<Self>, opened: &Opened) -> InUse {
        self.users.fetch_add(1, Ordering::Acquire);
        InUse::new(opened.state().clone(), Arc::new(User(Arc::clone(self))))
    }

    fn is_idle_for(&self, time: Duration) -> bool {
        self.users.load(Ordering::Acquire) == 0 && unpoisoned(&self.last_used).elapsed() >= time
    }
}

impl OpenTenants {
    /// The tenants beside the first, of which those are opened that have unfinished jobs.
    pub(crate) fn beside(
        first: &Opened,
        common: &Common,
        settings: &Settings,
    ) -> anyhow::Result<Self> {
        let map = Arc::new(TenantMap {
            first: first.state().clone(),
            common: common.clone(),
            settings: settings.clone(),
            dir: data_dir(common, Some(settings)).join("tenants"),
            runtime: Handle::current(),
            open_max: settings.count("tenants.open_max"),
            idle_close: Duration::from_millis(settings.number("tenants.idle_close_ms")),
            slots: Mutex::default(),
        });
        let (stop, stopped) = channel();
        let own = Arc::clone(&map);
        let thread = std::thread::Builder::new()
            .name("tenants".to_owned())
            .spawn(move || {
                own.remove_deleted();
                own.open_unfinished();
                while stopped.recv_timeout(LOOK_EVERY) == Err(RecvTimeoutError::Timeout) {
                    own.close_idle();
                }
            })
            .context("start the thread of the tenants")?;
        Ok(Self { map, stop, thread })
    }

    pub(crate) fn map(&self) -> Arc<dyn Tenants> {
        Arc::clone(&self.map) as Arc<dyn Tenants>
    }

    /// Ends the streams of all that are open.
    pub(crate) fn begin_shutdown(&self) {
        let slots: Vec<Arc<Slot>> = unpoisoned(&self.map.slots).values().cloned().collect();
        for slot in slots {
            if let Some(opened) = unpoisoned(&slot.opened).as_ref() {
                opened.state().shutdown().begin();
            }
        }
    }

    /// Closes all that are open.
    pub(crate) fn stop(self) -> anyhow::Result<()> {
        drop(self.stop);
        if self.thread.join().is_err() {
            tracing::error!("the thread of the tenants ended by a mistake of ours");
        }
        let slots = std::mem::take(&mut *unpoisoned(&self.map.slots));
        let mut all = Ok(());
        for (name, slot) in slots {
            if let Some(opened) = unpoisoned(&slot.opened).take() {
                all = all.and(self.map.close(&name, opened));
            }
        }
        all
    }
}

impl TenantMap {
    fn places(&self, name: &TenantName) -> anyhow::Result<Places> {
        let common = Common {
            tenant: name.as_str().to_owned(),
            ..self.common.clone()
        };
        Places::of(&common, &self.settings)
    }

    fn is_there(&self, name: &TenantName) -> bool {
        self.dir.join(name.as_str()).is_dir()
    }

    fn slot(&self, name: &TenantName) -> Arc<Slot> {
        let mut slots = unpoisoned(&self.slots);
        Arc::clone(
            slots
                .entry(name.clone())
                .or_insert_with(|| Arc::new(Slot::new())),
        )
    }

    /// Opens a tenant and brings its views up to date.
    fn open_now(&self, name: &TenantName) -> anyhow::Result<Opened> {
        // What is begun here is driven by the server's own runtime, not by that of who asked.
        let _entered = self.runtime.enter();
        let places = self.places(name)?;
        let tenant = Tenant::open(&places, &self.settings)?;
        self.runtime.block_on(catch_up(&tenant));
        let server = neo4j(&self.settings)?;
        let how = How {
            settings: &self.settings,
            is_read_only: false,
            neo4j: server.map(|server| Neo4jSettings {
                reader: tenant.commands.reader().clone(),
                tenant: name.as_str().to_owned(),
                server,
            }),
        };
        let opened = Opened::beside(&self.first, tenant, &places, &how)?;
        // Before the first job is taken in: whatever happens then, the next start knows of it.
        let mark = std::fs::File::create(places.tenant.join(UNFINISHED));
        mark.and_then(|file| file.sync_all())
            .context("mark the tenant as open")?;
        tracing::info!(tenant = %name, "opened");
        Ok(opened)
    }

    fn close(&self, name: &TenantName, opened: Opened) -> anyhow::Result<()> {
        let is_unfinished = opened.has_unfinished_jobs();
        opened
            .close()
            .with_context(|| format!("close the tenant {name}"))?;
        if !is_unfinished {
            let mark = self.dir.join(name.as_str()).join(UNFINISHED);
            std::fs::remove_file(&mark).context("unmark the tenant")?;
        }
        tracing::info!(tenant = %name, "closed");
        Ok(())
    }

    /// Makes room for one more, if as many are open as may be.
    fn make_room(&self) -> Result<(), TenantError> {
        let is_open = |slot: &Arc<Slot>| {
            // Who has the lock is opening or closing it.
            slot.opened
                .try_lock()
                .map_or(true, |opened| opened.is_some())
        };
        let count = || {
            unpoisoned(&self.slots)
                .values()
                .filter(|slot| is_open(slot))
                .count()
        };
        if count() < self.open_max {
            return Ok(());
        }
        self.close_those_idle_for(Duration::ZERO, 1);
        if count() < self.open_max {
            return Ok(());
        }
        Err(TenantError::Full { max: self.open_max })
    }

    fn close_idle(&self) {
        self.close_those_idle_for(self.idle_close, usize::MAX);
    }

    /// Closes tenants that nobody used for so long, those first that were used last long ago.
    fn close_those_idle_for(&self, time: Duration, limit: usize) {
        let mut slots: Vec<(TenantName, Arc<Slot>)> = unpoisoned(&self.slots)
            .iter()
            .map(|(name, slot)| (name.clone(), Arc::clone(slot)))
            .collect();
        slots.sort_by_key(|(_, slot)| *unpoisoned(&slot.last_used));
        let mut closed = 0;
        for (name, slot) in slots {
            if closed == limit {
                return;
            }
            let Ok(mut opened) = slot.opened.try_lock() else {
                continue;
            };
            let is_busy = opened.as_ref().is_none_or(Opened::has_unfinished_jobs);
            if !slot.is_idle_for(time) || is_busy {
                continue;
            }
            if let Some(opened) = opened.take()
                && let Err(error) = self.close(&name, opened)
            {
                tracing::error!(tenant = %name, "{error:#}");
            }
            closed += 1;
        }
    }

    /// Opens those that had unfinished jobs when the server ended.
    fn open_unfinished(&self) {
        let Ok(all) = self.names() else { return };
        for name in all {
            let is_first = name == *self.first.tenant();
            if is_first || !self.dir.join(name.as_str()).join(UNFINISHED).is_file() {
                continue;
            }
            if let Err(error) = self.open(&name) {
                tracing::error!(tenant = %name, %error, "its jobs are not worked on");
            }
        }
    }

    fn names(&self) -> std::io::Result<Vec<TenantName>> {
        names(&self.dir)
    }

    /// Goes on deleting what the end of a server broke off.
    fn remove_deleted(&self) {
        let entries = std::fs::read_dir(&self.dir).into_iter().flatten().flatten();
        for entry in entries {
            if entry.file_name().to_string_lossy().starts_with(DELETED) {
                remove(&entry.path());
            }
        }
    }
}

fn remove(place: &Path) {
    if let Err(error) = std::fs::remove_dir_all(place) {
        tracing::error!(%error, path = %place.display(), "what is deleted stays on disk for now");
    }
}

impl Tenants for TenantMap {
    fn opened(&self, name: &TenantName) -> Option<InUse> {
        let slot = Arc::clone(unpoisoned(&self.slots).get(name)?);
        let opened = slot.opened.try_lock().ok()?;
        opened.as_ref().map(|opened| slot.used(opened))
    }

    fn open(&self, name: &TenantName) -> Result<InUse, TenantError> {
        if !self.is_there(name) {
            return Err(TenantError::NotFound);
        }
        let slot = self.slot(name);
        {
            let opened = unpoisoned(&slot.opened);
            if let Some(opened) = opened.as_ref() {
                return Ok(slot.used(opened));
            }
        }
        self.make_room()?;
        let mut opened = unpoisoned(&slot.opened);
        // Somebody may have opened it, or deleted it, meanwhile.
        if !self.is_there(name) {
            return Err(TenantError::NotFound);
        }
        if opened.is_none() {
            let now = self.open_now(name);
            *opened = Some(now.map_err(|error| TenantError::Failed(format!("{error:#}")))?);
        }
        let opened = opened.as_ref().expect("it was opened just now");
        Ok(slot.used(opened))
    }

    fn create(&self, name: &TenantName) -> Result<(), TenantError> {
        create(&self.dir, name)
    }

    fn delete(&self, name: &TenantName) -> Result<(), TenantError> {
        if name == self.first.tenant() {
            return Err(TenantError::Served);
        }
        if !self.is_there(name) {
            return Err(TenantError::NotFound);
        }
        let slot = self.slot(name);
        let mut held = unpoisoned(&slot.opened);
        if let Some(opened) = held.take() {
            // Streams end by themselves now; who is in the middle of something finishes.
            opened.state().shutdown().begin();
            let began = Instant::now();
            while slot.users.load(Ordering::Acquire) > 0 {
                if began.elapsed() > DELETE_WAIT {
                    *held = Some(opened);
                    return Err(TenantError::Busy);
                }
                std::thread::park_timeout(DELETE_LOOK);
            }
            let failed = |error: anyhow::Error| TenantError::Failed(format!("{error:#}"));
            opened.close().map_err(failed)?;
        }
        delete(&self.dir, name)
    }

    fn list(&self) -> Result<Vec<(TenantName, bool)>, TenantError> {
        let failed = |error: std::io::Error| TenantError::Failed(error.to_string());
        let names = self.names().map_err(failed)?;
        let is_open = |name: &TenantName| {
            let slot = unpoisoned(&self.slots).get(name).cloned();
            let opened =
                |slot: Arc<Slot>| slot.opened.try_lock().is_ok_and(|opened| opened.is_some());
            name == self.first.tenant() || slot.is_some_and(opened)
        };
        Ok(names
            .into_iter()
            .map(|name| {
                let is_open = is_open(&name);
                (name, is_open)
            })
            .collect())
    }
}

/// The tenants whose directories are in one, by name.
pub(crate) fn names(dir: &Path) -> std::io::Result<Vec<TenantName>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            let name = entry.file_name();
            names.extend(name.to_str().and_then(|name| TenantName::new(name).ok()));
        }
    }
    names.sort();
    Ok(names)
}

/// Makes the directory of a tenant.
pub(crate) fn create(dir: &Path, name: &TenantName) -> Result<(), TenantError> {
    let failed = |error: std::io::Error| TenantError::Failed(error.to_string());
    crate::wiring::make_durably(dir).map_err(failed)?;
    match std::fs::create_dir(dir.join(name.as_str())) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Err(TenantError::Exists),
        Err(error) => Err(failed(error)),
        Ok(()) => sync_dir(dir).map_err(failed),
    }
}

/// Deletes a tenant that is not open: it is gone at once, its files as soon as may be.
pub(crate) fn delete(dir: &Path, name: &TenantName) -> Result<(), TenantError> {
    let failed = |error: std::io::Error| TenantError::Failed(error.to_string());
    let gone = dir.join(format!("{DELETED}{name}-{}", std::process::id()));
    rename(&dir.join(name.as_str()), &gone).map_err(failed)?;
    sync_dir(dir).map_err(failed)?;
    remove(&gone);
    Ok(())
}

#[allow(clippy::disallowed_methods)] // the directory above is synced behind it
fn rename(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::rename(from, to)
}

fn sync_dir(dir: &Path) -> std::io::Result<()> {
    std::fs::File::open(dir)?.sync_all()
}
