//! What every handler works with, shared by all workers.
//!
//! Invariant: an answer is only rendered from views that have reached what it must reflect; the
//! two waits below are the only ones.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use actix_web::http::header::{HeaderName, HeaderValue};
use stemma_access::Registry;
use stemma_commands::Commands;
use stemma_content_store::ContentStore;
use stemma_domain::value::TenantName;
use stemma_event_log::Reader;
use stemma_projections::{GraphProjection, PastSettings, Projection};
use stemma_views::{Seen, Views};
use tokio::sync::watch;

use crate::access::Access;
use crate::cursors::Cursors;
use crate::documents::Documents;
use crate::error::{ApiError, Code};
use crate::graph_gate::GraphGate;
use crate::handlers::backup::Backups;
use crate::handlers::proofs::Proofs;
use crate::jobs::Jobs;
use crate::metrics::Metrics;
use crate::options::{Options, OptionsError};
use crate::outputs::Outputs;
use crate::query::MinPosition;
use crate::requests::Requests;
use crate::server_metrics::Figures;
use crate::sse::{Frames, Hub};
use crate::tenants::Tenants;

/// The header that tells which position an answer reflects.
pub(crate) const STEMMA_POSITION: HeaderName = HeaderName::from_static("stemma-position");

/// What the handlers share; clones share all of it.
#[derive(Clone)]
pub struct AppState {
    shared: Arc<Shared>,
}

struct Shared {
    commands: Commands,
    projection: Projection,
    jobs: Jobs,
    frames: Frames,
    hub: Hub,
    shutdown: Shutdown,
    verifier: Option<Verifier>,
    proofs: Proofs,
    graph: Option<GraphGate>,
    documents: Documents,
    requests: Requests,
    cursors: Cursors,
    server: Arc<ServerWide>,
}

/// What all tenants of a server share.
struct ServerWide {
    options: Options,
    metrics: Metrics,
    access: Access,
    /// Room for what workers outside hand in.
    outputs: Outputs,
    /// Opens tenants, once that is possible.
    tenants: OnceLock<Arc<dyn Tenants>>,
    /// Makes backups, once that is possible.
    backups: OnceLock<Arc<dyn Backups>>,
    /// Tells what the process takes, once that is known.
    figures: OnceLock<Arc<dyn Figures>>,
}

/// What a server is made of.
pub struct Parts {
    /// The write path.
    pub commands: Commands,
    /// What keeps the views up to date.
    pub projection: Projection,
    /// Verifies all that is stored, where that is possible.
    pub verifier: Option<Verifier>,
    /// What the log shows to others.
    pub proofs: Proofs,
    /// The graph, where there is one.
    pub graph: Option<GraphProjection>,
    /// Documents and jobs.
    pub documents: Documents,
    /// Where rows of the graph of the past are kept for a while; in memory where none is said.
    pub past_dir: Option<PathBuf>,
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts").finish_non_exhaustive()
    }
}

/// Verifies all that is stored and gives what it found as JSON, or none when it was told to stop.
pub type Verifier =
    Arc<dyn Fn(Tell<'_>) -> Result<Option<serde_json::Value>, String> + Send + Sync>;

/// Told how far a verification is (done, total, with what); says whether to go on.
pub type Tell<'a> = &'a mut dyn FnMut(u64, u64, &str) -> ControlFlow<()>;

/// Tells everything that goes on without an end of its own to end.
#[derive(Debug, Clone)]
pub struct Shutdown {
    begun: Arc<watch::Sender<bool>>,
}

/// The views at a moment that a read reflects, as whoever asks sees them.
pub(crate) struct Reflected {
    /// The views.
    pub(crate) views: Seen,
    /// Records that they had applied before the first question.
    pub(crate) end: u64,
}

impl std::fmt::Debug for AppState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AppState")
            .field("options", &self.shared.server.options)
            .finish_non_exhaustive()
    }
}

impl AppState {
    /// Puts the state together.
    ///
    /// # Errors
    /// [`OptionsError`] when an option is out of its range.
    pub fn new(
        parts: Parts,
        options: Options,
        registry: Registry,
        tenant: TenantName,
    ) -> Result<Self, OptionsError> {
        options.check()?;
        let server = ServerWide {
            outputs: Outputs::new(options.outputs_bytes_max),
            access: Access::new(registry, tenant, &options),
            options,
            metrics: Metrics::new(),
            tenants: OnceLock::new(),
            backups: OnceLock::new(),
            figures: OnceLock::new(),
        };
        Ok(Self::put_together(parts, Arc::new(server)))
    }

    /// Another tenant of the same server.
    #[must_use]
    pub fn beside(&self, parts: Parts) -> Self {
        Self::put_together(parts, Arc::clone(&self.shared.server))
    }

    fn put_together(parts: Parts, server: Arc<ServerWide>) -> Self {
        let options = &server.options;
        let Parts {
            commands,
            projection,
            verifier,
            proofs,
            graph,
            documents,
            past_dir,
        } = parts;
        let past = PastSettings {
            dir: past_dir,
            ..options.past.clone()
        };
        let graph = graph.map(|kept| GraphGate::new(kept, commands.reader(), past));
        let shared = Shared {
            jobs: Jobs::new(options.jobs_kept_max, documents.queue.clone()),
            frames: Frames::new(commands.reader().clone(), &options.sse),
            hub: Hub::new(),
            shutdown: Shutdown::new(),
            commands,
            projection,
            verifier,
            graph,
            documents,
            requests: Requests::new(options.requests_kept_max),
            cursors: Cursors::new(proofs.signer.as_ref().ok()),
            proofs,
            server,
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Names what opens the other tenants; said once.
    pub fn open_tenants_by(&self, tenants: Arc<dyn Tenants>) {
        // Only who starts the server says it.
        let _ = self.shared.server.tenants.set(tenants);
    }

    /// Names what makes backups; said once.
    pub fn back_up_by(&self, backups: Arc<dyn Backups>) {
        // Only who starts the server says it.
        let _ = self.shared.server.backups.set(backups);
    }

    /// Names what tells of the process; said once.
    pub fn tell_figures_by(&self, figures: Arc<dyn Figures>) {
        // Only who starts the server says it.
        let _ = self.shared.server.figures.set(figures);
    }

    /// What seals cursors.
    pub(crate) fn cursors(&self) -> &Cursors {
        &self.shared.cursors
    }

    /// What tells of the process.
    pub(crate) fn figures(&self) -> Option<&Arc<dyn Figures>> {
        self.shared.server.figures.get()
    }

    /// What makes backups.
    pub(crate) fn backups(&self) -> Option<&Arc<dyn Backups>> {
        self.shared.server.backups.get()
    }

    /// What opens the other tenants, where there may be others.
    pub(crate) fn tenants(&self) -> Option<&Arc<dyn Tenants>> {
        self.shared.server.tenants.get()
    }

    /// What was asked lately.
    pub(crate) fn requests(&self) -> &Requests {
        &self.shared.requests
    }

    /// The tenant that the server was started for.
    pub fn tenant(&self) -> &TenantName {
        self.shared.server.access.tenant()
    }

    /// The write path.
    pub fn commands(&self) -> &Commands {
        &self.shared.commands
    }

    /// What keeps the views up to date.
    pub fn projection(&self) -> &Projection {
        &self.shared.projection
    }

    /// The log, for reading.
    pub fn reader(&self) -> &Reader {
        self.shared.commands.reader()
    }

    /// Where content is.
    pub fn content(&self) -> &ContentStore {
        self.shared.commands.content()
    }

    /// The limits.
    pub fn options(&self) -> &Options {
        &self.shared.server.options
    }

    /// Work that goes on after its request.
    pub fn jobs(&self) -> &Jobs {
        &self.shared.jobs
    }

    /// What is counted.
    pub fn metrics(&self) -> &Metrics {
        &self.shared.server.metrics
    }

    /// Rendered events, shared by all streams.
    pub(crate) fn frames(&self) -> &Frames {
        &self.shared.frames
    }

    /// What tells streams of what comes.
    pub(crate) fn hub(&self) -> &Hub {
        &self.shared.hub
    }

    /// Verifies all that is stored, where that was made possible.
    pub(crate) fn verifier(&self) -> Option<&Verifier> {
        self.shared.verifier.as_ref()
    }

    /// What the log shows to others.
    pub(crate) fn proofs(&self) -> &Proofs {
        &self.shared.proofs
    }

    /// Who may do what.
    pub(crate) fn access(&self) -> &Access {
        &self.shared.server.access
    }

    /// Room for what workers outside hand in.
    pub(crate) fn outputs(&self) -> &Outputs {
        &self.shared.server.outputs
    }

    /// Documents and jobs.
    pub(crate) fn documents(&self) -> &Documents {
        &self.shared.documents
    }

    /// The graph, where there is one.
    pub(crate) fn graph(&self) -> Option<&GraphGate> {
        self.shared.graph.as_ref()
    }

    /// Told when the server is to stop.
    pub fn shutdown(&self) -> &Shutdown {
        &self.shared.shutdown
    }

    /// The views, once they have reached what the client asks for.
    pub(crate) async fn views_reaching(&self, wait: MinPosition) -> Result<Views, ApiError> {
        if let Some(position) = wait.position {
            let end = position.saturating_add(1);
            self.projection()
                .wait_for(end, wait.timeout)
                .await
                .map_err(|error| {
                    let detail = format!("position {position} is not in the views yet");
                    ApiError::new(Code::NotYet, detail).because(&error)
                })?;
        }
        Ok(self.projection().views())
    }

    /// Waits until the views hold a write, which is durable by now.
    pub(crate) async fn visible(&self, end: u64) -> Result<(), ApiError> {
        let timeout = Duration::from_millis(self.options().write_wait_ms);
        match self.projection().wait_for(end, timeout).await {
            Ok(_) => Ok(()),
            Err(error) => {
                let error = ApiError::of(Code::WrittenNotVisible).because(&error);
                Err(match end.checked_sub(1) {
                    Some(position) => {
                        error.with_header(STEMMA_POSITION, HeaderValue::from(position))
                    }
                    None => error,
                })
            }
        }
    }
}

impl Reflected {
    /// The position that an answer reflects; none while the log is empty.
    pub(crate) fn position(&self) -> Option<u64> {
        self.end.checked_sub(1)
    }
}

impl Shutdown {
    fn new() -> Self {
        Self {
            begun: Arc::new(watch::Sender::new(false)),
        }
    }

    /// Says that it is time to end.
    pub fn begin(&self) {
        self.begun.send_replace(true);
    }

    /// Whether it is time to end.
    pub fn is_begun(&self) -> bool {
        *self.begun.borrow()
    }

    /// Done when it is time to end.
    pub(crate) async fn begun(self) {
        let mut begun = self.follow();
        // The sender lives as long as `self`.
        let _ = begun.wait_for(|begun| *begun).await;
    }

    /// Becomes true when it is time to end; for waiting on beside something else.
    pub fn follow(&self) -> watch::Receiver<bool> {
        self.begun.subscribe()
    }
}
