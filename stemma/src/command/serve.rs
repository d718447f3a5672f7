//! `stemma serve`: the HTTP API over one tenant, and over the others that tokens name.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use stemma_access::Registry;
use stemma_api::{Backups, LimitOptions, Options};
use stemma_domain::value::TenantName;
use stemma_projections::Neo4jSettings;
use tokio::signal::unix::{SignalKind, signal};

use super::{answer, tenant, though_unread, token};
use crate::backups::ServerBackups;
use crate::cli::{Common, Serve};
use crate::config::Settings;
use crate::demo;
use crate::exit::{Exit, Usage};
use crate::figures::ProcessFigures;
use crate::issuer;
use crate::open_files;
use crate::opened::{How, Opened, catch_up};
use crate::spans;
use crate::tenant_files;
use crate::tenants::OpenTenants;
use crate::wiring::{Places, Tenant, neo4j};

/// How long the graph may take to hold the sample corpus before the user is told what to try.
const DEMO_GRAPH_TIMEOUT: Duration = Duration::from_mins(1);

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
    let _exporter = spans::export(settings)?;
    let server = neo4j(settings)?;
    let backups = ServerBackups::of(common, settings)?;
    let held = token::open(common, settings)?;
    let registry = held.registry.clone();
    let name = TenantName::new(&common.tenant).map_err(|error| Usage(error.to_string()))?;
    // Fetches keys until the server ends.
    let _fetching = issuer::trust(&registry, settings, &name)?;
    let is_outside = address.is_some_and(|address| !address.ip().is_loopback());
    let public_url = settings.text("public_url").unwrap_or_default();
    if registry.is_unused() && !public_url.is_empty() && !is_of_this_machine(public_url) {
        let why = "without tokens nobody outside is served; `stemma token create --name YOU --role admin` makes a token";
        return Err(Usage(format!("public_url is {public_url}: {why}")).into());
    }
    if is_outside && registry.is_unused() {
        let why = "without tokens only loopback addresses are served, such as 127.0.0.1:8470; `stemma token create --name YOU --role admin` makes a token";
        return Err(Usage(format!("listen is {listen}: {why}")).into());
    }
    if !serve.read_only && tenant_files::is_leaving(&places.tenant) {
        // Its graph may take long: the thread of the tenants removes it while others are served.
        let files_alone = || false;
        tenant::delete_unserved(&registry, &places, &name, server.as_ref(), &files_alone)?;
    }
    let listener = TcpListener::bind(&listen).with_context(|| format!("listen on {listen}"))?;
    let tenant = if serve.read_only {
        Tenant::open_whole_part(&places, settings)?
    } else {
        Tenant::open(&places, settings)?
    };
    let neo4j = server.map(|server| Neo4jSettings {
        reader: tenant.commands.reader().clone(),
        tenant: common.tenant.clone(),
        server,
    });
    let on = On {
        listener,
        places,
        neo4j,
        registry: registry.clone(),
        backups,
        name,
    };
    let system = actix_web::rt::System::new();
    let ran = system.block_on(until_stopped(on, tenant, common, settings, serve));
    registry.close();
    ran?;
    Ok(Exit::Done)
}

/// Whether a URL leads to this machine and no further.
fn is_of_this_machine(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    let is_loopback = |ip: std::net::IpAddr| ip.is_loopback();
    host.eq_ignore_ascii_case("localhost") || host.parse().is_ok_and(is_loopback)
}

/// What a server works on, besides the tenant.
struct On {
    listener: TcpListener,
    places: Places,
    /// The graph's Neo4j, if that is where it is.
    neo4j: Option<Neo4jSettings>,
    registry: Registry,
    backups: Arc<ServerBackups>,
    /// The tenant's name.
    name: TenantName,
}

async fn until_stopped(
    on: On,
    tenant: Tenant,
    common: &Common,
    settings: &Settings,
    serve: &Serve,
) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let begun = tokio::select! {
        begun = begin(&tenant, serve) => begun.map(|()| true),
        _ = terminate.recv() => Ok(false),
        _ = interrupt.recv() => Ok(false),
    };
    if !matches!(begun, Ok(true)) {
        tracing::info!("stopping");
        tenant.close()?;
        return begun.map(drop);
    }
    let mut options = options(settings);
    options.past.events_max = settings.number("graph.past_events_max");
    options.connections_max = open_files::connections_max(&options, open_files::raise());
    let (on, opened) = first(on, tenant, settings, options, serve.read_only).await?;
    let ran = until_told(&on, &opened, common, settings, serve, async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    });
    let ran = ran.await;
    tracing::info!("stopping");
    let (others, ran) = match ran {
        Ok((others, ran)) => (others, ran),
        Err(error) => (None, Err(error)),
    };
    // What they give back is written by tasks that this thread drives.
    let closed = tokio::task::spawn_blocking(move || {
        let mut opened = opened;
        let others = others.map_or(Ok(()), OpenTenants::stop);
        opened.close().map(drop).and(others)
    });
    let closed = closed.await?;
    ran?;
    closed
}

/// Puts the first tenant to work, on a thread that may block.
async fn first(
    mut on: On,
    tenant: Tenant,
    settings: &Settings,
    options: Options,
    is_read_only: bool,
) -> anyhow::Result<(On, Opened)> {
    let settings = settings.clone();
    let opening = tokio::task::spawn_blocking(move || {
        let how = How {
            settings: &settings,
            is_read_only,
            neo4j: on.neo4j.take(),
        };
        let (registry, name) = (on.registry.clone(), on.name.clone());
        let opened = Opened::first(tenant, &on.places, &how, options, registry, name)?;
        Ok((on, opened))
    });
    opening.await?
}

/// Answers requests until it is told to stop, and gives what is to be closed then.
async fn until_told(
    on: &On,
    opened: &Opened,
    common: &Common,
    settings: &Settings,
    serve: &Serve,
    stop: impl Future<Output = ()>,
) -> anyhow::Result<(Option<OpenTenants>, anyhow::Result<()>)> {
    let state = opened.state().clone();
    state.back_up_by(Arc::clone(&on.backups) as Arc<dyn Backups>);
    let figures = ProcessFigures::of(common, settings, Arc::clone(&on.backups));
    state.tell_figures_by(Arc::new(figures));
    let address = on.listener.local_addr()?;
    let listener = on.listener.try_clone()?;
    // Before the first request, which may be of one of them.
    let others = if serve.read_only {
        None
    } else {
        let registry = on.registry.clone();
        Some(OpenTenants::beside(opened, registry, common, settings)?)
    };
    if let Some(others) = &others {
        state.open_tenants_by(others.map());
    }
    let running = match stemma_api::run(listener, state) {
        Ok(running) => running,
        Err(error) => return Ok((others, Err(error.into()))),
    };
    let told = though_unread(answer(&format!("listening on http://{address}")));
    if let Err(error) = told {
        return Ok((others, Err(error)));
    }
    let invited = async {
        if serve.demo {
            opened.graph_caught_up(DEMO_GRAPH_TIMEOUT).await;
            demo::invite(&format!("http://{address}"));
        }
        std::future::pending::<()>().await;
    };
    let stopped = running.until(async {
        tokio::select! {
            () = stop => {}
            () = invited => {}
        }
        if let Some(others) = &others {
            others.begin_shutdown();
        }
    });
    let stopped = stopped.await.map_err(anyhow::Error::from);
    Ok((others, stopped))
}

/// Brings all up to date that must be before the first request.
async fn begin(tenant: &Tenant, serve: &Serve) -> anyhow::Result<()> {
    catch_up(tenant).await;
    if serve.demo {
        demo::load(tenant).await.context("load the sample corpus")?;
    }
    Ok(())
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
        outputs_bytes_max: settings.count("documents.outputs_bytes_max"),
        requests_kept_max: settings.count("http.requests_kept_max"),
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
    options.sse.tenant_streams_max = settings.count("sse.tenant_streams_max");
    options.sse.token_streams_max = settings.count("sse.token_streams_max");
    options.limits = LimitOptions {
        token_per_s: settings.number("limits.token_per_s"),
        address_per_s: settings.number("limits.address_per_s"),
        failures_per_s: settings.number("limits.failures_per_s"),
        burst_s: settings.number("limits.burst_s"),
        remembered_max: settings.count("limits.remembered_max"),
    };
    let origins = settings.text("http.cors_origins").unwrap_or_default();
    let origins = origins.split(',').map(str::trim);
    options.cors_origins = origins
        .filter(|origin| !origin.is_empty())
        .map(str::to_owned)
        .collect();
    options
}
