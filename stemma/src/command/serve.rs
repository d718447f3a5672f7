//! `stemma serve`: the HTTP API over one tenant.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use stemma_access::Registry;
use stemma_api::{AppState, Options, Parts};
use stemma_domain::value::TenantName;
use stemma_projections::{GraphProjection, Neo4jSettings, Phase, Settings as ProjectionSettings};
use tokio::signal::unix::{SignalKind, signal};

use super::{answer, token, verify};
use crate::cli::{Common, Serve};
use crate::config::Settings;
use crate::demo;
use crate::exit::{Exit, Usage, is_interruption};
use crate::log_check::LogCheck;
use crate::open_files;
use crate::processing::Processing;
use crate::tree_thread::TreeThread;
use crate::wiring::{Places, Tenant, graph_options, neo4j};

/// How often the wait for the views looks whether they were stopped.
const CATCH_UP_LOOK: Duration = Duration::from_secs(1);

pub(crate) fn run(common: &Common, settings: &Settings, serve: &Serve) -> anyhow::Result<Exit> {
    let places = Places::of(common, settings)?;
    let listen = settings.text("listen").unwrap_or_default().to_owned();
    let address = listen.parse::<std::net::SocketAddr>().ok();
    let port = listen.strip_prefix("localhost:").map(str::parse::<u16>);
    let is_local = matches!(port, Some(Ok(_)));
    if address.is_none() && !is_local {
        let why = format!("listen is {listen}, expected ADDR:PORT such as 127.0.0.1:8470");
        return Err(Usage(why).into());
    }
    let is_usable = options(settings).check();
    is_usable.map_err(|error| Usage(error.to_string()))?;
    let there = neo4j(settings)?;
    let registry = token::open(common, settings)?;
    let is_outside = address.is_some_and(|address| !address.ip().is_loopback());
    if is_outside && registry.is_unused() {
        let why = "without tokens only loopback addresses are served, such as 127.0.0.1:8470; `stemma token create --name YOU --role admin` makes a token";
        return Err(Usage(format!("listen is {listen}: {why}")).into());
    }
    let listener = TcpListener::bind(&listen).with_context(|| format!("listen on {listen}"))?;
    let tenant = if serve.read_only {
        Tenant::open_whole_part(&places, settings)?
    } else {
        Tenant::open(&places, settings)?
    };
    let there = there.map(|server| Neo4jSettings {
        reader: tenant.commands.reader().clone(),
        tenant: common.tenant.clone(),
        server,
    });
    let on = On {
        listener,
        places: &places,
        there,
        registry: registry.clone(),
        name: TenantName::new(&common.tenant).map_err(|error| Usage(error.to_string()))?,
    };
    let ran = actix_web::rt::System::new().block_on(until_stopped(on, &tenant, settings, serve));
    tracing::info!("stopping");
    let closed = tenant.close();
    registry.close();
    ran?;
    closed?;
    Ok(Exit::Done)
}

/// What a server works on, besides the tenant.
struct On<'a> {
    listener: TcpListener,
    places: &'a Places,
    /// The graph's Neo4j, if that is where it is.
    there: Option<Neo4jSettings>,
    registry: Registry,
    /// The tenant's name.
    name: TenantName,
}

async fn until_stopped(
    on: On<'_>,
    tenant: &Tenant,
    settings: &Settings,
    serve: &Serve,
) -> anyhow::Result<()> {
    let On {
        listener,
        places,
        there,
        registry,
        name,
    } = on;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        begun = begin(tenant, serve) => begun?,
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    }
    let graph = graph(tenant, settings, there)?;
    let mut options = options(settings);
    options.past.events_max = settings.number("graph.past_events_max");
    options.past.dir = Some(tenant.graph.with_file_name("graph-past"));
    options.connections_max = open_files::connections_max(&options, open_files::raise());
    let processing = Processing::begin(tenant, places, settings, serve.read_only)?;
    let parts = Parts {
        commands: tenant.commands.clone(),
        projection: tenant.projection.clone(),
        verifier: Some(verifier(tenant, places, settings)),
        proofs: tenant.proofs.clone(),
        graph: graph.clone(),
        documents: processing.documents.clone(),
        registry,
        tenant: name,
    };
    let state = AppState::new(parts, options)?;
    let jobs = processing.work(tenant, serve.read_only)?;
    let address = listener.local_addr()?;
    let running = stemma_api::run(listener, state.clone())?;
    let collector = if serve.read_only {
        None
    } else {
        let every = Duration::from_secs(settings.number("content.collect_every_s"));
        Some(Collector::start(state.clone(), every)?)
    };
    let check = log_check(tenant, settings, serve)?;
    let tree = TreeThread::start(tenant.proofs.tree.clone())?;
    answer(&format!("listening on http://{address}"))?;
    if serve.demo {
        demo::invite(&format!("http://{address}"));
    }
    let stopped = running
        .until(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        })
        .await;
    state.jobs().stop();
    if let Some(jobs) = jobs {
        // What it gives back is written by tasks that this thread drives.
        tokio::task::spawn_blocking(|| jobs.stop()).await?;
    }
    processing.stop();
    if let Some(graph) = graph {
        graph.stop();
    }
    check.into_iter().for_each(LogCheck::stop);
    tree.stop();
    if let Some(collector) = collector {
        // It may wait for the views, on timers that this thread drives.
        tokio::task::spawn_blocking(|| collector.stop()).await?;
    }
    Ok(stopped?)
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

/// Brings all up to date that must be before the first request.
async fn begin(tenant: &Tenant, serve: &Serve) -> anyhow::Result<()> {
    catch_up(tenant).await;
    if serve.demo {
        demo::load(tenant).await.context("load the sample corpus")?;
    }
    Ok(())
}

/// The graph, unless there is to be none.
fn graph(
    tenant: &Tenant,
    settings: &Settings,
    there: Option<Neo4jSettings>,
) -> anyhow::Result<Option<GraphProjection>> {
    if settings.text("graph.mode") == Some("none") {
        return Ok(None);
    }
    let graph = match there {
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
fn log_check(
    tenant: &Tenant,
    settings: &Settings,
    serve: &Serve,
) -> anyhow::Result<Option<LogCheck>> {
    let bytes_per_s = settings.number("log.check_bytes_per_s");
    if tenant.is_checked || serve.read_only || bytes_per_s == 0 {
        return Ok(None);
    }
    let appender = tenant.commands.appender().clone();
    LogCheck::start(appender, bytes_per_s).map(Some)
}

/// Waits until the views hold what the log does, so that nobody meets half of it.
async fn catch_up(tenant: &Tenant) {
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

fn options(settings: &Settings) -> Options {
    let mut options = Options {
        public_url: settings.text("public_url").map(str::to_owned),
        json_bytes_max: settings.count("http.body_bytes_max"),
        batch_bytes_max: settings.count("http.batch_bytes_max"),
        content_bytes_max: settings.number("content.upload_bytes_max"),
        connections_max: settings.count("http.connections_max"),
        workers: settings.count("http.workers"),
        shutdown_s: settings.number("http.shutdown_s"),
        jobs_kept_max: settings.count("jobs.kept_max"),
        batch_operations_max: settings.count("http.batch_operations_max"),
        json_depth_max: settings.count("http.json_depth_max"),
        body_ms: settings.number("http.body_ms"),
        body_bytes_per_s: settings.number("http.body_bytes_per_s"),
        write_stall_ms: settings.number("http.write_stall_ms"),
        keep_alive_ms: settings.number("http.keep_alive_ms"),
        page_limit_max: settings.count("http.page_items_max"),
        ranges_max: settings.count("http.ranges_max"),
        request_head_ms: settings.number("http.head_ms"),
        wait_ms_max: settings.number("http.wait_ms_max"),
        write_wait_ms: settings.number("http.write_wait_ms"),
        ..Options::default()
    };
    options.sse.heartbeat_ms = settings.number("sse.heartbeat_ms");
    options.sse.retry_ms = settings.number("sse.retry_ms");
    options.sse.ring_bytes_max = settings.count("sse.ring_bytes_max");
    options.sse.streams_max = settings.count("sse.streams_max");
    options
}

/// The thread that collects content which nothing names.
struct Collector {
    stop: std::sync::mpsc::Sender<()>,
    thread: std::thread::JoinHandle<()>,
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
