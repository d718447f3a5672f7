//! A tenant that is open and at work: its threads begun in order, and ended in the other.

use std::sync::Arc;
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

/// A tenant that is open and at work.
pub(crate) struct Opened {
    state: AppState,
    tenant: Tenant,
    graph: Option<GraphProjection>,
    processing: Processing,
    jobs: Option<JobsThread>,
    collector: Option<Collector>,
    check: Option<LogCheck>,
    tree: TreeThread,
    /// Tells streams of what comes; for the first tenant the server does.
    pass_on: Option<JoinHandle<()>>,
}

/// What is begun before the state, which is made of it.
struct Begun {
    graph: Option<GraphProjection>,
    processing: Processing,
    parts: Parts,
}

impl Opened {
    /// The tenant that a server is started for. Wants the server's runtime around it.
    pub(crate) fn first(
        tenant: Tenant,
        places: &Places,
        how: &How<'_>,
        options: Options,
        registry: Registry,
        name: TenantName,
    ) -> anyhow::Result<Self> {
        let Begun {
            graph,
            processing,
            parts,
        } = begun(&tenant, places, how)?;
        let state = AppState::new(parts, options, registry, name)?;
        Self::at_work(state, tenant, graph, processing, how)
    }

    /// Another tenant of the same server. Wants the server's runtime around it.
    pub(crate) fn beside(
        first: &AppState,
        tenant: Tenant,
        places: &Places,
        how: &How<'_>,
    ) -> anyhow::Result<Self> {
        let Begun {
            graph,
            processing,
            parts,
        } = begun(&tenant, places, how)?;
        let state = first.beside(parts);
        let mut opened = Self::at_work(state.clone(), tenant, graph, processing, how)?;
        let runtime = tokio::runtime::Handle::current();
        let thread = std::thread::Builder::new().name("pass-on".to_owned());
        let thread = thread.spawn(move || runtime.block_on(pass_on(state)));
        opened.pass_on = Some(thread.context("start the thread of the streams")?);
        Ok(opened)
    }

    fn at_work(
        state: AppState,
        tenant: Tenant,
        graph: Option<GraphProjection>,
        processing: Processing,
        how: &How<'_>,
    ) -> anyhow::Result<Self> {
        let jobs = processing.work(&tenant, how.is_read_only)?;
        let collector = if how.is_read_only {
            None
        } else {
            let every = Duration::from_secs(how.settings.number("content.collect_every_s"));
            Some(Collector::start(state.clone(), every)?)
        };
        Ok(Self {
            check: log_check(&tenant, how)?,
            tree: TreeThread::start(tenant.proofs.tree.clone())?,
            state,
            tenant,
            graph,
            processing,
            jobs,
            collector,
            pass_on: None,
        })
    }

    /// What handlers work with.
    pub(crate) fn state(&self) -> &AppState {
        &self.state
    }

    /// Whether jobs wait, or are worked on.
    pub(crate) fn has_unfinished_jobs(&self) -> bool {
        let own = self.state.jobs().is_anything_running();
        // What cannot be told may be there.
        let recorded = self.tenant.projection.views().active_jobs();
        own || recorded.map_or(true, |(_, jobs)| !jobs.is_empty())
    }

    /// Ends all work and closes the tenant. Blocks; the server's runtime must go on meanwhile.
    pub(crate) fn close(self) -> anyhow::Result<()> {
        self.state.shutdown().begin();
        self.state.jobs().stop();
        if let Some(jobs) = self.jobs {
            jobs.stop();
        }
        self.processing.stop();
        if let Some(graph) = self.graph {
            graph.stop();
        }
        self.check.into_iter().for_each(LogCheck::stop);
        self.tree.stop();
        self.collector.into_iter().for_each(Collector::stop);
        if let Some(pass_on) = self.pass_on
            && pass_on.join().is_err()
        {
            tracing::error!("the thread of the streams ended by a mistake of ours");
        }
        drop(self.state);
        self.tenant.close()
    }
}

fn begun(tenant: &Tenant, places: &Places, how: &How<'_>) -> anyhow::Result<Begun> {
    let graph = graph(tenant, how)?;
    let processing = Processing::begin(tenant, places, how.settings, how.is_read_only)?;
    let parts = Parts {
        commands: tenant.commands.clone(),
        projection: tenant.projection.clone(),
        verifier: Some(verifier(tenant, places, how.settings)),
        proofs: tenant.proofs.clone(),
        graph: graph.clone(),
        documents: processing.documents.clone(),
        past_dir: Some(places.graph.with_file_name("graph-past")),
    };
    Ok(Begun {
        graph,
        processing,
        parts,
    })
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
    thread: JoinHandle<()>,
}

impl Collector {
    fn start(state: AppState, every: Duration) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Handle::current();
        let (stop, stopped) = std::sync::mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("collect".into())
            .spawn(move || {
                while stopped.recv_timeout(every) == Err(std::sync::mpsc::RecvTimeoutError::Timeout)
                {
                    match stemma_api::collect_content(&state, &runtime) {
                        Ok(collected) => tracing::info!(%collected, "collected content"),
                        Err(error) => tracing::warn!(%error, "content was not collected"),
                    }
                }
            })?;
        Ok(Self { stop, thread })
    }

    fn stop(self) {
        drop(self.stop);
        if self.thread.join().is_err() {
            tracing::error!("the collecting thread ended by a mistake of ours");
        }
    }
}
