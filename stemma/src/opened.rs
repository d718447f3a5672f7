//! A tenant that is open and at work: its threads begun in order, and ended in the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use stemma_access::Registry;
use stemma_api::{AppState, Options, Parts, pass_on};
use stemma_domain::value::TenantName;
use stemma_projections::{GraphProjection, Neo4jSettings, Phase, Settings as ProjectionSettings};

use crate::command::verify;
use crate::config::Settings;
use crate::exit::is_interruption;
use crate::jobs_thread::JobsThread;
use crate::log_check::LogCheck;
use crate::processing::Processing;
use crate::slots::Held;
use crate::tree_thread::TreeThread;
use crate::wiring::{Places, Tenant, graph_options};

/// How often the wait for the views looks whether they were stopped.
const CATCH_UP_LOOK: Duration = Duration::from_secs(1);

/// How a tenant is to be opened.
pub(crate) struct How<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) is_read_only: bool,
    /// The graph's Neo4j, if that is where it is.
    pub(crate) neo4j: Option<Neo4jSettings>,
}

/// A tenant that is open and at work, or part of the way there. However far it came, it is taken
/// apart in the other order when it is closed, or dropped.
#[derive(Default)]
pub(crate) struct Opened {
    tenant: Option<Tenant>,
    graph: Option<GraphProjection>,
    processing: Option<Processing>,
    state: Option<AppState>,
    jobs: Option<JobsThread>,
    collector: Option<Collector>,
    check: Option<LogCheck>,
    tree: Option<TreeThread>,
    /// Tells streams of what comes; for the first tenant the server does.
    pass_on: Option<JoinHandle<()>>,
}

/// What a tenant leaves behind that is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Left {
    Nothing,
    /// Work that would have gone on.
    Work,
}

const OPEN: &str = "a tenant is whole until it is closed";

impl Opened {
    /// A tenant at which nobody works yet.
    #[allow(clippy::field_reassign_with_default)] // what is dropped cannot be taken apart
    pub(crate) fn of(tenant: Tenant) -> Self {
        let mut opened = Self::default();
        opened.tenant = Some(tenant);
        opened
    }

    /// The tenant that a server is started for. Wants the server's runtime around it. Blocks when
    /// it fails, and the runtime must go on meanwhile.
    pub(crate) fn first(
        tenant: Tenant,
        places: &Places,
        how: &How<'_>,
        options: Options,
        registry: Registry,
        name: TenantName,
    ) -> anyhow::Result<Self> {
        let mut opened = Self::of(tenant);
        let parts = opened.parts(places, how)?;
        let state = AppState::new(parts, options, registry, name)?;
        opened.work(state, how)?;
        Ok(opened)
    }

    /// Begins the work of another tenant of the same server. Wants the server's runtime around it.
    pub(crate) fn begin_beside(
        &mut self,
        first: &AppState,
        places: &Places,
        how: &How<'_>,
    ) -> anyhow::Result<()> {
        let parts = self.parts(places, how)?;
        let state = first.beside(parts);
        self.work(state.clone(), how)?;
        let runtime = tokio::runtime::Handle::current();
        let thread = std::thread::Builder::new().name("pass-on".to_owned());
        let thread = thread.spawn(move || runtime.block_on(pass_on(state)));
        self.pass_on = Some(thread.context("start the thread of the streams")?);
        Ok(())
    }

    /// Begins what the state is made of.
    fn parts(&mut self, places: &Places, how: &How<'_>) -> anyhow::Result<Parts> {
        let tenant = self.tenant.as_ref().expect(OPEN);
        self.graph = graph(tenant, how)?;
        let processing = Processing::begin(tenant, places, how.settings, how.is_read_only)?;
        let processing = self.processing.insert(processing);
        Ok(Parts {
            commands: tenant.commands.clone(),
            projection: tenant.projection.clone(),
            verifier: Some(verifier(tenant, places, how.settings)),
            proofs: tenant.proofs.clone(),
            graph: self.graph.clone(),
            documents: processing.documents.clone(),
            past_dir: Some(places.graph.with_file_name("graph-past")),
        })
    }

    /// Begins the threads that work by themselves.
    fn work(&mut self, state: AppState, how: &How<'_>) -> anyhow::Result<()> {
        self.state = Some(state.clone());
        let tenant = self.tenant.as_ref().expect(OPEN);
        let processing = self.processing.as_ref().expect(OPEN);
        self.jobs = processing.work(tenant, how.is_read_only)?;
        if !how.is_read_only {
            let every = Duration::from_secs(how.settings.number("content.collect_every_s"));
            self.collector = Some(Collector::start(state, every)?);
        }
        self.check = log_check(tenant, how)?;
        self.tree = Some(TreeThread::start(tenant.proofs.tree.clone())?);
        Ok(())
    }

    /// What handlers work with.
    pub(crate) fn state(&self) -> &AppState {
        self.state.as_ref().expect(OPEN)
    }

    /// Waits until the graph holds what the log has now, where there is one, as long as that may
    /// take.
    pub(crate) async fn graph_caught_up(&self, timeout: Duration) {
        let end = self.tenant().commands.reader().end().get();
        if let Some(graph) = &self.graph {
            let caught_up = async {
                graph.opened(timeout).await;
                graph.wait_for(end, timeout).await
            };
            // Where it does not come, the server is there all the same and tells why.
            let _ = tokio::time::timeout(timeout, caught_up).await;
        }
    }

    pub(crate) fn tenant(&self) -> &Tenant {
        self.tenant.as_ref().expect(OPEN)
    }

    /// Ends all work and closes the tenant, or what there is of it. Blocks; the server's runtime
    /// must go on meanwhile. What was closed is closed again by doing nothing.
    pub(crate) fn close(&mut self) -> anyhow::Result<Left> {
        let mut left = Left::Nothing;
        if let Some(state) = &self.state {
            state.shutdown().begin();
            state.jobs().stop();
        }
        if let Some(jobs) = self.jobs.take()
            && !jobs.stop()
        {
            left = Left::Work;
        }
        if let Some(processing) = self.processing.take() {
            // Behind the workers' end: they queue jobs too, and give back what they have.
            if processing.has_jobs() {
                left = Left::Work;
            }
            processing.stop();
        }
        if let Some(graph) = self.graph.take() {
            graph.stop();
        }
        self.check.take().into_iter().for_each(LogCheck::stop);
        self.tree.take().into_iter().for_each(TreeThread::stop);
        self.collector.take().into_iter().for_each(Collector::stop);
        if let Some(pass_on) = self.pass_on.take()
            && pass_on.join().is_err()
        {
            tracing::error!("the thread of the streams ended by a mistake of ours");
        }
        self.state = None;
        self.tenant.take().map_or(Ok(()), Tenant::close)?;
        Ok(left)
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::error!("a tenant was not closed in good order: {error:#}");
        }
    }
}

impl Held for Opened {
    type Shown = AppState;

    fn shown(&self) -> AppState {
        self.state().clone()
    }

    /// What others are to do keeps nothing open: jobs of kinds that workers in here do not do.
    fn is_at_work(&self) -> bool {
        let has_jobs = || self.processing.as_ref().is_some_and(Processing::has_jobs);
        self.state().jobs().is_anything_running() || has_jobs()
    }

    fn is_settling(&self) -> bool {
        let phase = self.tenant().projection.status().phase;
        let may_settle = matches!(phase, Phase::CatchingUp | Phase::Live);
        may_settle && self.jobs.as_ref().is_some_and(|jobs| !jobs.is_settled())
    }

    fn end_streams(&self) {
        self.state().shutdown().begin();
    }
}

/// What verifies all that is stored, beside the server.
fn verifier(tenant: &Tenant, places: &Places, settings: &Settings) -> stemma_api::Verifier {
    let (verified, own) = (places.clone(), settings.clone());
    let commands = tenant.commands.clone();
    Arc::new(
        move |tell| match verify::online(&verified, &own, &commands, tell) {
            Ok(found) => Ok(Some(found)),
            Err(error) if is_interruption(&error) => Ok(None),
            Err(error) => Err(format!("{error:#}")),
        },
    )
}

/// The graph, unless there is to be none.
fn graph(tenant: &Tenant, how: &How<'_>) -> anyhow::Result<Option<GraphProjection>> {
    let settings = how.settings;
    if settings.text("graph.mode") == Some("none") {
        return Ok(None);
    }
    let graph = match how.neo4j.clone() {
        Some(there) => GraphProjection::neo4j(there)?,
        None => {
            let started = GraphProjection::embedded(ProjectionSettings {
                reader: tenant.commands.reader().clone(),
                dir: tenant.graph.clone(),
                views: graph_options(settings),
            });
            started.context("start the graph's thread")?
        }
    };
    Ok(Some(graph))
}

/// The check of a log that was too large to be read before the start.
fn log_check(tenant: &Tenant, how: &How<'_>) -> anyhow::Result<Option<LogCheck>> {
    let bytes_per_s = how.settings.number("log.check_bytes_per_s");
    if tenant.is_checked || how.is_read_only || bytes_per_s == 0 {
        return Ok(None);
    }
    let appender = tenant.commands.appender().clone();
    LogCheck::start(appender, bytes_per_s).map(Some)
}

/// Waits until the views hold what the log does, so that nobody meets half of it.
pub(crate) async fn catch_up(tenant: &Tenant) {
    let end = tenant.commands.reader().end().get();
    while tenant
        .projection
        .wait_for(end, CATCH_UP_LOOK)
        .await
        .is_err()
    {
        let status = tenant.projection.status();
        if !matches!(status.phase, Phase::CatchingUp | Phase::Live) {
            tracing::error!(
                "the views cannot be brought up to date; reads are as of position {}",
                status.end
            );
            return;
        }
        tracing::info!(
            applied = status.end,
            of = end,
            "bringing the views up to date"
        );
    }
}

/// The thread that collects content which nothing names.
struct Collector {
    stop: std::sync::mpsc::Sender<()>,
    /// Ends the collection that is under way.
    is_stopped: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Collector {
    fn start(state: AppState, every: Duration) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Handle::current();
        let (stop, stopped) = std::sync::mpsc::channel();
        let is_stopped = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&is_stopped);
        let thread = std::thread::Builder::new()
            .name("collect".into())
            .spawn(move || {
                while stopped.recv_timeout(every) == Err(std::sync::mpsc::RecvTimeoutError::Timeout)
                {
                    let goes_on = || !is_over.load(Ordering::Acquire);
                    match stemma_api::collect_content(&state, &runtime, &goes_on) {
                        Ok(collected) => tracing::info!(%collected, "collected content"),
                        Err(_) if is_over.load(Ordering::Acquire) => {}
                        Err(error) => tracing::warn!(%error, "content was not collected"),
                    }
                }
            })?;
        Ok(Self {
            stop,
            is_stopped,
            thread,
        })
    }

    fn stop(self) {
        self.is_stopped.store(true, Ordering::Release);
        drop(self.stop);
        if self.thread.join().is_err() {
            tracing::error!("the collecting thread ended by a mistake of ours");
        }
    }
}
