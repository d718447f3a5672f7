//! The tenants of a server beside the first: opened when they are asked for, closed when idle,
//! deleted when nobody uses them any more.
//!
//! Invariants: nothing here that takes long is done under a lock, or on a thread that answers
//! requests. A tenant with work that goes on by itself is not closed, and is opened again by the
//! next start; a deletion that was begun is not taken back, also not by the end of the server.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context;
use stemma_access::{By, Issuer, Registry};
use stemma_api::{AppState, Asked, Deletion, InUse, Others, TenantError, Tenants, Told};
use stemma_domain::value::TenantName;
use stemma_projections::Neo4jSettings;
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::cli::Common;
use crate::config::{Settings, data_dir};
use crate::gone::{self, Left as LeftOver};
use crate::opened::{How, Left, Opened, catch_up};
use crate::slots::{Opening, Slots, Step};
use crate::tenant_files as files;
use crate::wiring::{Places, Tenant, neo4j};

/// How often it is looked for tenants that nobody uses.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long a deletion is waited for before it is told that it is under way.
const DELETE_WAIT: Duration = Duration::from_secs(2);
/// How long it is until a tenant with work that could not be opened is tried again.
const OPEN_AGAIN: Duration = Duration::from_mins(1);
/// Most tenants that are remembered as not to be opened, and longest reason, in bytes.
const FAILED_MAX: usize = 1000;
const REASON_BYTES_MAX: usize = 1024;
/// Who takes tokens back where a deletion goes on by itself.
const ACTOR: &str = "stemma";

/// What a deletion takes tokens back as.
fn own<'a>(actor: &'a str, trace_id: &'a str) -> By<'a> {
    By {
        issuer: Issuer::Data,
        actor,
        trace_id,
    }
}

/// The tenants, and the thread that closes and deletes them.
pub(crate) struct OpenTenants {
    map: Arc<TenantMap>,
    wake: SyncSender<()>,
    thread: JoinHandle<()>,
}

/// The same for those who ask for a tenant.
struct Asking(Arc<TenantMap>);

struct TenantMap {
    first: AppState,
    registry: Registry,
    common: Common,
    settings: Settings,
    /// Where the directories of all tenants are.
    dir: PathBuf,
    runtime: Handle,
    idle_close: Duration,
    slots: Slots<Opened>,
    /// Held to itself by who makes or deletes one, and shared by who needs one to be there.
    there: RwLock<()>,
    /// Those that are to be opened for the work that they have, each with from when on.
    unfinished: Mutex<VecDeque<(TenantName, Instant)>>,
    /// Those that could not be opened when they were last asked for, and why.
    failed: Mutex<BTreeMap<TenantName, String>>,
    /// The threads that open.
    openers: Mutex<Vec<JoinHandle<()>>>,
    /// What is left of those that are gone.
    left: LeftOver,
    /// The thread that removes that, while there is one.
    removing: Mutex<Option<JoinHandle<()>>>,
}

/// Tells what came of opening or closing a tenant, also when the thread at it panics.
struct Telling<'a> {
    slots: &'a Slots<Opened>,
    name: &'a TenantName,
    told: Told,
}

impl Drop for Telling<'_> {
    fn drop(&mut self) {
        self.slots.ended(self.name, self.told.take());
    }
}

/// What is behind these locks is changed whole.
fn unpoisoned<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

fn failed(error: &anyhow::Error) -> TenantError {
    TenantError::Failed(format!("{error:#}"))
}

impl OpenTenants {
    /// The tenants beside the first, of which those are opened that have work. Wants the server's
    /// runtime around it.
    pub(crate) fn beside(
        first: &Opened,
        registry: Registry,
        common: &Common,
        settings: &Settings,
    ) -> anyhow::Result<Self> {
        // One that is not taken yet wakes the thread as well as two.
        let (wake, woken) = sync_channel(1);
        let map = Arc::new(TenantMap {
            first: first.state().clone(),
            registry,
            common: common.clone(),
            settings: settings.clone(),
            dir: data_dir(common, Some(settings)).join("tenants"),
            runtime: Handle::current(),
            idle_close: Duration::from_millis(settings.number("tenants.idle_close_ms")),
            slots: Slots::new(settings.count("tenants.open_max"), wake.clone()),
            there: RwLock::new(()),
            unfinished: Mutex::default(),
            failed: Mutex::default(),
            openers: Mutex::default(),
            left: LeftOver::default(),
            removing: Mutex::default(),
        });
        let own = Arc::clone(&map);
        let thread = std::thread::Builder::new()
            .name("tenants".to_owned())
            .spawn(move || own.look_after(&woken))
            .context("start the thread of the tenants")?;
        Ok(Self { map, wake, thread })
    }

    pub(crate) fn map(&self) -> Arc<dyn Tenants> {
        Arc::new(Asking(Arc::clone(&self.map)))
    }

    /// Ends the streams of all that are open, and opens no more. Waits for nothing.
    pub(crate) fn begin_shutdown(&self) {
        self.map.slots.begin_stop();
    }

    /// Closes all that are open. Blocks; the server's runtime must go on meanwhile.
    pub(crate) fn stop(self) -> anyhow::Result<()> {
        self.map.slots.begin_stop();
        // A full channel wakes it too.
        let _ = self.wake.try_send(());
        let join = |thread: JoinHandle<()>| {
            if thread.join().is_err() {
                tracing::error!("a thread of the tenants ended by a mistake of ours");
            }
        };
        // In this order: it may have begun to open one more.
        join(self.thread);
        let openers = std::mem::take(&mut *unpoisoned(&self.map.openers));
        openers.into_iter().for_each(join);
        // It asks Neo4j no more. Two at the same files would be in each other's way.
        let removing = unpoisoned(&self.map.removing).take();
        removing.into_iter().for_each(join);
        let mut all = Ok(());
        while let Some((name, opened)) = self.map.slots.take_any() {
            all = all.and(self.map.close(&name, opened));
        }
        if self.map.delete_those_left() || self.map.left.is_due() {
            // Their graphs are removed by the next start.
            self.map.remove_all_gone(&|| false);
        }
        all
    }
}

impl TenantMap {
    /// What the thread does until the server stops.
    fn look_after(self: &Arc<Self>, woken: &Receiver<()>) {
        match files::leaving(&self.dir) {
            Ok(all) => all.iter().for_each(|name| drop(self.slots.doom(name))),
            Err(error) => tracing::error!(%error, "the tenants to be deleted are not known"),
        }
        match files::unfinished(&self.dir) {
            Ok(all) => {
                let others = all.into_iter().filter(|name| name != self.first.tenant());
                let now = Instant::now();
                unpoisoned(&self.unfinished).extend(others.map(|name| (name, now)));
            }
            Err(error) => tracing::error!(%error, "the tenants that have work are not known"),
        }
        let mut opening = None;
        // What a process before did not come to.
        self.remove_what_is_left();
        while !self.slots.is_stopping() {
            if self.delete_those_left() || self.left.is_due() {
                self.remove_what_is_left();
            }
            self.close_idle();
            self.open_unfinished(&mut opening);
            // Either way it is time to look again.
            let _ = woken.recv_timeout(LOOK_EVERY);
        }
    }

    fn place(&self, name: &TenantName) -> PathBuf {
        self.dir.join(name.as_str())
    }

    fn is_there(&self, name: &TenantName) -> bool {
        files::is_there(&self.dir, name)
    }

    fn ask(self: &Arc<Self>, name: &TenantName) -> Result<Asked, TenantError> {
        if !self.is_there(name) {
            return Err(TenantError::NotFound);
        }
        match self.slots.ask(name) {
            Step::Use(state, user) => Ok(Asked::Open(InUse::new(state, Arc::new(user)))),
            Step::Wait(told) => Ok(Asked::UnderWay(told)),
            Step::Open(opening, told) => {
                self.open_on_a_thread(name, opening)?;
                Ok(Asked::UnderWay(told))
            }
            Step::Full { max } => Err(TenantError::Full { max }),
            Step::Refused if self.slots.is_stopping() => Err(TenantError::Stopping),
            Step::Refused => Err(TenantError::NotFound),
        }
    }

    fn open_on_a_thread(
        self: &Arc<Self>,
        name: &TenantName,
        opening: Opening<Opened>,
    ) -> Result<(), TenantError> {
        let replaced = opening.replaced.as_ref().map(|(name, _)| name.clone());
        let (map, own) = (Arc::clone(self), name.clone());
        let thread = std::thread::Builder::new()
            .name("open-tenant".to_owned())
            .spawn(move || map.open_and_tell(&own, opening));
        match thread {
            Ok(thread) => {
                let mut openers = unpoisoned(&self.openers);
                openers.retain(|thread| !thread.is_finished());
                openers.push(thread);
                Ok(())
            }
            Err(error) => {
                // What was to be replaced went with the thread that there is not.
                if let Some(replaced) = replaced {
                    self.slots.ended(&replaced, Some(Ok(())));
                }
                let error = failed(&anyhow::Error::new(error).context("start a thread"));
                self.slots.ended(name, Some(Err(error.clone())));
                Err(error)
            }
        }
    }

    fn open_and_tell(&self, name: &TenantName, opening: Opening<Opened>) {
        let mistake = TenantError::Failed("it was not opened by a mistake of ours".to_owned());
        let mut telling = Telling {
            slots: &self.slots,
            name,
            told: Some(Err(mistake)),
        };
        if let Some((other, replaced)) = opening.replaced {
            self.close_and_log(&other, replaced);
        }
        telling.told = match self.open_now(name, opening.stop) {
            Ok(Some(opened)) => {
                // Before anybody is answered from it: health is asked next.
                unpoisoned(&self.failed).remove(name);
                match self.slots.opened(name, opened) {
                    Ok(()) => {
                        tracing::info!(tenant = %name, "opened");
                        telling.told = None;
                        std::mem::forget(telling);
                        return;
                    }
                    // They ask again, and are told why.
                    Err(unwanted) => {
                        drop(unwanted);
                        Some(Ok(()))
                    }
                }
            }
            Ok(None) => Some(Ok(())),
            Err(error) => {
                tracing::error!(tenant = %name, "not opened: {error:#}");
                self.note_failed(name, &format!("{error:#}"));
                Some(Err(failed(&error)))
            }
        };
    }

    /// Remembers that a tenant could not be opened, of those that are there.
    fn note_failed(&self, name: &TenantName, why: &str) {
        let why = why[..why.floor_char_boundary(REASON_BYTES_MAX)].to_owned();
        let mut failed = unpoisoned(&self.failed);
        if failed.len() < FAILED_MAX || failed.contains_key(name) {
            failed.insert(name.clone(), why);
        }
    }

    /// Opens a tenant and brings its views up to date; none once it is not wanted any more.
    fn open_now(
        &self,
        name: &TenantName,
        mut stop: watch::Receiver<bool>,
    ) -> anyhow::Result<Option<Opened>> {
        // From here on it is not deleted; it may have been since it was asked for.
        if *stop.borrow() || !self.is_there(name) {
            return Ok(None);
        }
        // What is begun here is driven by the server's own runtime, not by that of who asked.
        let _entered = self.runtime.enter();
        let common = Common {
            tenant: name.as_str().to_owned(),
            ..self.common.clone()
        };
        let places = Places::of(&common, &self.settings)?;
        let server = neo4j(&self.settings)?;
        // Before the first job is taken in: whatever happens then, the next start knows of it.
        files::mark_unfinished(&places.tenant).context("mark the tenant as open")?;
        let mut opened = Opened::of(Tenant::open(&places, &self.settings)?);
        let is_wanted = self.runtime.block_on(async {
            tokio::select! {
                () = catch_up(opened.tenant()) => true,
                _ = stop.wait_for(|stop| *stop) => false,
            }
        });
        if !is_wanted {
            return Ok(None);
        }
        let how = How {
            settings: &self.settings,
            is_read_only: false,
            neo4j: server.map(|server| Neo4jSettings {
                reader: opened.tenant().commands.reader().clone(),
                tenant: name.as_str().to_owned(),
                server,
            }),
        };
        opened.begin_beside(&self.first, &places, &how)?;
        Ok(Some(opened))
    }

    fn close(&self, name: &TenantName, mut opened: Opened) -> anyhow::Result<()> {
        let _telling = Telling {
            slots: &self.slots,
            name,
            told: Some(Ok(())),
        };
        let left = opened
            .close()
            .with_context(|| format!("close the tenant {name}"))?;
        match left {
            Left::Nothing => {
                files::unmark_unfinished(&self.place(name)).context("unmark the tenant")?;
            }
            Left::Work => {
                let at = Instant::now() + OPEN_AGAIN;
                unpoisoned(&self.unfinished).push_back((name.clone(), at));
            }
        }
        tracing::info!(tenant = %name, "closed");
        Ok(())
    }

    fn close_and_log(&self, name: &TenantName, opened: Opened) {
        if let Err(error) = self.close(name, opened) {
            tracing::error!(tenant = %name, "{error:#}");
        }
    }

    fn close_idle(&self) {
        while !self.slots.is_stopping()
            && let Some((name, opened)) = self.slots.idle_for(self.idle_close)
        {
            self.close_and_log(&name, opened);
        }
    }

    /// Removes files and graphs of tenants that are gone, on a thread of its own: both may take
    /// long. Broken off by the end of the server, the next start goes on.
    fn remove_what_is_left(self: &Arc<Self>) {
        if !self.left.begin() {
            return;
        }
        let map = Arc::clone(self);
        let thread = std::thread::Builder::new()
            .name("tenants-gone".to_owned())
            .spawn(move || {
                let mut at_it = map.left.at_it();
                at_it.is_all = map.remove_all_gone(&|| !map.slots.is_stopping());
            });
        match thread {
            // The one before has told that it ended.
            Ok(thread) => *unpoisoned(&self.removing) = Some(thread),
            Err(error) => {
                tracing::error!(%error, "what is left of tenants that are gone stays for now");
                self.left.end(false);
            }
        }
    }

    fn remove_all_gone(&self, goes_on: &(dyn Fn() -> bool + Sync)) -> bool {
        match neo4j(&self.settings) {
            Ok(server) => gone::remove_all(&self.dir, server.as_ref(), goes_on),
            Err(error) => {
                tracing::error!("what is left of tenants that are gone stays for now: {error:#}");
                false
            }
        }
    }

    /// Deletes those to be deleted that nobody uses any more; says whether there were any.
    fn delete_those_left(&self) -> bool {
        let mut were_any = false;
        while let Some((name, opened)) = self.slots.to_delete() {
            if let Some(mut opened) = opened
                && let Err(error) = opened.close()
            {
                tracing::warn!(tenant = %name, "closed to be deleted: {error:#}");
            }
            // Most often they are taken back already.
            let revoked = self.registry.revoke_all(&name, own(ACTOR, ""));
            let revoked = revoked.map_err(|error| TenantError::Failed(error.to_string()));
            match revoked.and_then(|_| files::delete(&self.dir, &name)) {
                Ok(_) => {
                    self.slots.deleted(&name, Ok(()));
                    tracing::info!(tenant = %name, "deleted");
                    were_any = true;
                }
                Err(TenantError::NotFound) => self.slots.deleted(&name, Ok(())),
                Err(error) => {
                    tracing::error!(tenant = %name, %error, "not deleted yet");
                    self.slots.deleted(&name, Err(error));
                }
            }
        }
        were_any
    }

    /// Opens those that have work, one at a time, as there is room.
    fn open_unfinished(
        self: &Arc<Self>,
        opening: &mut Option<(TenantName, watch::Receiver<Told>)>,
    ) {
        let is_under_way =
            |told: &watch::Receiver<Told>| told.borrow().is_none() && told.has_changed().is_ok();
        let later = |name| {
            let at = Instant::now() + OPEN_AGAIN;
            unpoisoned(&self.unfinished).push_back((name, at));
        };
        loop {
            let name = match opening.take() {
                Some((name, told)) if is_under_way(&told) => {
                    *opening = Some((name, told));
                    return;
                }
                Some((name, told)) if matches!(&*told.borrow(), Some(Err(_))) => {
                    later(name);
                    continue;
                }
                Some((name, _)) => name,
                None => {
                    let mut waiting = unpoisoned(&self.unfinished);
                    let now = Instant::now();
                    let Some(index) = waiting.iter().position(|(_, at)| *at <= now) else {
                        return;
                    };
                    let Some((name, _)) = waiting.remove(index) else {
                        return;
                    };
                    name
                }
            };
            match self.ask(&name) {
                // It is open: its workers find what there is.
                Ok(Asked::Open(_)) | Err(TenantError::NotFound) => {}
                Ok(Asked::UnderWay(told)) => *opening = Some((name, told)),
                Err(TenantError::Full { .. } | TenantError::Stopping) => {
                    let soon = Instant::now();
                    unpoisoned(&self.unfinished).push_front((name, soon));
                    return;
                }
                Err(_) => later(name),
            }
        }
    }

    fn delete(&self, name: &TenantName, by: &str, trace_id: &str) -> Result<Deletion, TenantError> {
        if name == self.first.tenant() {
            return Err(TenantError::Served);
        }
        let mut told = {
            let _alone = self.there.write().unwrap_or_else(PoisonError::into_inner);
            if self.is_there(name) {
                let marked = files::mark_leaving(&self.place(name)).context("mark the tenant");
                marked.map_err(|error| failed(&error))?;
                // None is given out any more, so that one of the same name that is made later is
                // not theirs.
                let revoked = self.registry.revoke_all(name, own(by, trace_id));
                let told = self.slots.doom(name);
                revoked.map_err(|error| TenantError::Failed(error.to_string()))?;
                told
            } else {
                self.slots.doomed(name).ok_or(TenantError::NotFound)?
            }
        };
        let ended = self.runtime.block_on(async {
            let ended = told.wait_for(Option::is_some);
            let ended = tokio::time::timeout(DELETE_WAIT, ended).await;
            ended.map(|told| told.map_or(Ok(()), |told| told.clone().unwrap_or(Ok(()))))
        });
        match ended {
            Ok(done) => done.map(|()| Deletion::Done),
            Err(_) => Ok(Deletion::UnderWay),
        }
    }
}

impl Tenants for Asking {
    fn ask(&self, name: &TenantName) -> Result<Asked, TenantError> {
        self.0.ask(name)
    }

    fn while_there(&self, name: &TenantName, work: &mut dyn FnMut()) -> Result<(), TenantError> {
        let _held = self.0.there.read().unwrap_or_else(PoisonError::into_inner);
        if !self.0.is_there(name) {
            return Err(TenantError::NotFound);
        }
        work();
        Ok(())
    }

    fn create(&self, name: &TenantName) -> Result<(), TenantError> {
        let _alone = self.0.there.write().unwrap_or_else(PoisonError::into_inner);
        files::create(&self.0.dir, name)
    }

    fn delete(&self, name: &TenantName, by: &str, trace_id: &str) -> Result<Deletion, TenantError> {
        self.0.delete(name, by, trace_id)
    }

    fn list(&self) -> Result<Vec<(TenantName, bool)>, TenantError> {
        let names = files::names(&self.0.dir);
        let names = names.map_err(|error| TenantError::Failed(error.to_string()))?;
        let open = |name: TenantName| {
            let is_open = name == *self.0.first.tenant() || self.0.slots.is_open(&name);
            (name, is_open)
        };
        Ok(names.into_iter().map(open).collect())
    }

    fn others(&self) -> Others {
        let look = self.0.slots.look().into_iter();
        let open = look.map(|(name, state, user)| (name, InUse::new(state, Arc::new(user))));
        let mut open: Vec<_> = open.collect();
        open.sort_by(|(a, _), (b, _)| a.cmp(b));
        // One that is gone is not to be opened any more.
        let is_there = |name: &TenantName| self.0.is_there(name);
        let mut failed = unpoisoned(&self.0.failed).clone();
        failed.retain(|name, _| is_there(name));
        Others {
            open,
            failed: failed.into_iter().collect(),
        }
    }
}
