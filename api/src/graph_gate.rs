//! When the graph may answer, and when the views do it in its place.
//!
//! Invariant: nobody waits for a graph that is not known to follow. After a wait in vain the graph
//! counts as behind until it has caught up or a while has passed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use stemma_commands::AsOf;
use stemma_event_log::Reader;
use stemma_projections::{
    GraphProjection, GraphState, GraphStore, PastError, PastGraphs, PastSettings, SeenGraph,
    WaitError,
};
use tokio::sync::Semaphore;

use crate::body::blocking;
use crate::error::{ApiError, Code};
use crate::handlers::cypher::Queries;
use crate::query::MinPosition;
use crate::tenants::Served;

/// How long a question waits for the graph to hold what the views hold.
const WAIT: Duration = Duration::from_millis(100);
/// How long the graph counts as behind after a wait in vain.
const PAUSE: Duration = Duration::from_secs(1);
/// Questions that wait for a graph elsewhere at the same time: they hold threads that others need.
const WAITING_MAX: usize = 8;
/// Events that the graph may lack for it to be waited for.
const NEAR_EVENTS: u64 = 10_000;

/// The graph, and whether it is worth waiting for.
pub(crate) struct GraphGate {
    projection: GraphProjection,
    queries: Queries,
    reader: Reader,
    past: Arc<PastGraphs>,
    /// Held while a moment of the past is looked for: making one takes a processor.
    looking_back: Semaphore,
    waiting: Arc<Semaphore>,
    started: Instant,
    /// Milliseconds since the start until which nobody waits.
    behind_until: AtomicU64,
    /// Milliseconds since the start until which the views answer what they can, since the graph
    /// failed to.
    passed_over_until: AtomicU64,
}

/// The graph at a moment that an answer reflects.
pub(crate) struct GraphAt {
    graph: Arc<dyn GraphStore>,
    /// Records that it had applied before the question.
    pub(crate) end: u64,
    /// Why it may lack what the views hold.
    pub(crate) warning: Option<String>,
}

impl GraphAt {
    /// The graph as whoever asks sees it.
    pub(crate) fn seen_by(&self, state: &Served) -> Arc<dyn GraphStore> {
        let graph = Arc::clone(&self.graph);
        SeenGraph::of(graph, state.projection(), state.sight())
    }

    /// All of the graph, whatever may be seen of it.
    pub(crate) fn unseen(&self) -> &Arc<dyn GraphStore> {
        &self.graph
    }

    /// The position that an answer reflects; none while the log is empty.
    pub(crate) fn position(&self) -> Option<u64> {
        self.end.checked_sub(1)
    }
}

impl GraphGate {
    pub(crate) fn new(projection: GraphProjection, reader: &Reader, past: PastSettings) -> Self {
        Self {
            projection,
            queries: Queries::new(),
            reader: reader.clone(),
            past: Arc::new(PastGraphs::new(reader.clone(), past)),
            looking_back: Semaphore::new(1),
            waiting: Arc::new(Semaphore::new(WAITING_MAX)),
            started: Instant::now(),
            behind_until: AtomicU64::new(0),
            passed_over_until: AtomicU64::new(0),
        }
    }

    /// What runs Cypher.
    pub(crate) fn queries(&self) -> &Queries {
        &self.queries
    }

    pub(crate) fn projection(&self) -> &GraphProjection {
        &self.projection
    }

    /// The graph once it holds `end` records, if it does so at once or nearly; else why not.
    pub(crate) async fn following(&self, end: u64) -> Result<GraphAt, String> {
        let Some(graph) = self.projection.store() else {
            return Err(self.trouble());
        };
        if let Some(why) = self.projection.out_of_reach() {
            return Err(why);
        }
        if graph.end() >= end {
            return Ok(at(graph, None));
        }
        if let Some(trouble) = self.projection.state().trouble() {
            return Err(trouble);
        }
        self.catch_up(end).await?;
        // A rebuild may have put another one in its place meanwhile.
        self.now(None).ok_or_else(|| self.trouble())
    }

    /// The same for what the views can answer as well: a graph that failed to answer is passed over
    /// for a while.
    pub(crate) async fn at_hand(&self, end: u64) -> Result<GraphAt, String> {
        if self.now_ms() < self.passed_over_until.load(Ordering::Relaxed) {
            return Err("the graph failed to answer a moment ago".to_owned());
        }
        self.following(end).await
    }

    /// Has the views answer for a while what they can.
    pub(crate) fn pass_over(&self) {
        self.pause(&self.passed_over_until);
    }

    fn pause(&self, until: &AtomicU64) {
        let pause = u64::try_from(PAUSE.as_millis()).unwrap_or(u64::MAX);
        until.store(self.now_ms() + pause, Ordering::Relaxed);
    }

    async fn catch_up(&self, end: u64) -> Result<(), String> {
        let behind = || "the graph is behind".to_owned();
        let lacks = end.saturating_sub(self.projection.end());
        if lacks > NEAR_EVENTS || self.now_ms() < self.behind_until.load(Ordering::Relaxed) {
            return Err(behind());
        }
        let waited = self.projection.wait_for(end, WAIT).await;
        if waited.is_err() {
            self.pause(&self.behind_until);
        }
        waited.map(|_| ()).map_err(|_| behind())
    }

    /// The graph for what only it can answer, once it is open: with the position that is asked for,
    /// and with what the views hold where that is near. A graph that stopped answers as of where it
    /// is, and says so.
    pub(crate) async fn at(&self, wait: MinPosition, end: u64) -> Result<GraphAt, ApiError> {
        self.projection.opened(wait.timeout).await;
        let unavailable = |why: String| ApiError::new(Code::GraphUnavailable, why);
        if let Some(why) = self.projection.out_of_reach() {
            return Err(unavailable(why));
        }
        if let Some(position) = wait.position {
            let end = position.saturating_add(1);
            let waited = self.projection.wait_for(end, wait.timeout).await;
            waited.map_err(|error| match error {
                WaitError::Away => unavailable(self.trouble()),
                error => {
                    let detail = format!("position {position} is not in the graph yet");
                    ApiError::new(Code::NotYet, detail).because(&error)
                }
            })?;
        }
        match self.following(end).await {
            Ok(at) => Ok(at),
            Err(why) => match self.projection.out_of_reach() {
                Some(why) => Err(unavailable(why)),
                None => self
                    .now(Some(why))
                    .ok_or_else(|| unavailable(self.trouble())),
            },
        }
    }

    /// Asks a graph on a thread that may wait.
    ///
    /// # Errors
    /// [`Code::GraphUnavailable`] at once when as many wait for a graph elsewhere as may.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        graph: &Arc<dyn GraphStore>,
        question: impl FnOnce(&(dyn GraphStore + 'static)) -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        let place = if graph.is_local() {
            None
        } else {
            let place = Arc::clone(&self.waiting).try_acquire_owned();
            let why = "many questions wait for the graph; ask again in a while";
            Some(place.map_err(|_| ApiError::new(Code::GraphUnavailable, why.to_owned()))?)
        };
        let graph = Arc::clone(graph);
        blocking(move || {
            let _place = place;
            question(&*graph)
        })
        .await
    }

    /// The graph as it was at a moment, which has come if it is before `now_us`.
    pub(crate) async fn past(&self, as_of: AsOf, now_us: i64) -> Result<GraphAt, ApiError> {
        let end = self.end_at(as_of, now_us)?;
        let place = self.looking_back.acquire().await;
        let _place = place.map_err(|error| ApiError::of(Code::Internal).because(&error))?;
        let given_up = GivenUp::new();
        let (past, is_given_up) = (Arc::clone(&self.past), given_up.flag());
        let found = blocking(move || past.at(end, &is_given_up)).await?;
        let graph = found.map_err(|error| match &error {
            PastError::TooFar { .. } => ApiError::new(Code::QueryLimit, error.to_string()),
            _ => ApiError::of(Code::GraphUnavailable).because(&error),
        })?;
        Ok(at(graph, None))
    }

    /// How many records there were at a moment.
    fn end_at(&self, as_of: AsOf, now_us: i64) -> Result<u64, ApiError> {
        let not_yet = || ApiError::of(Code::NotHappenedYet);
        match as_of {
            AsOf::Position(position) if position < self.reader.end().get() => Ok(position + 1),
            AsOf::Time(instant) if instant.micros() <= now_us => {
                let last = self.reader.position_at_time(instant.micros())?;
                Ok(last.map_or(0, |last| last.get() + 1))
            }
            _ => Err(not_yet()),
        }
    }

    /// The graph as it is now, if it is open.
    fn now(&self, warning: Option<String>) -> Option<GraphAt> {
        Some(at(self.projection.store()?, warning))
    }

    fn trouble(&self) -> String {
        let trouble = self.projection.state().trouble();
        trouble.unwrap_or_else(|| "the graph is being opened".to_owned())
    }

    /// How the graph is.
    pub(crate) fn state(&self) -> GraphState {
        self.projection.state()
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// Has work end when the request does that it is for.
pub(crate) struct GivenUp(Arc<AtomicBool>);

impl GivenUp {
    pub(crate) fn new() -> Self {
        Self(Arc::new(AtomicBool::new(false)))
    }

    /// Becomes true when the request is gone.
    pub(crate) fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.0)
    }
}

impl Drop for GivenUp {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

fn at(graph: Arc<dyn GraphStore>, warning: Option<String>) -> GraphAt {
    GraphAt {
        end: graph.end(),
        graph,
        warning,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use stemma_event_log::{
        Batch, EventType, Log, MemoryStorage, Metadata, NewEvent, Options, StreamId,
    };
    use stemma_projections::Settings;

    use super::*;

    /// A log whose third event nobody knows, and a graph that stopped there.
    async fn stopped(dir: &std::path::Path) -> (Log, GraphGate) {
        let log = Log::open(Arc::new(MemoryStorage::new()), Options::default()).unwrap();
        let registered = r#"{"name":"Note"}"#;
        for (kind, data) in [
            ("entity_type.registered", registered),
            ("entity_type.registered", registered),
            ("entity_type.exploded", "{}"),
        ] {
            let event = NewEvent {
                stream: StreamId::new("entity_types").unwrap(),
                event_type: EventType::new(kind).unwrap(),
                schema_version: 1,
                data: data.into(),
            };
            let batch = Batch {
                events: vec![event],
                expected: vec![],
                idempotency: None,
                metadata: Metadata::default(),
                proposed_at_us: 1,
                order: None,
            };
            log.appender.append(batch).await.unwrap();
        }
        let graph = GraphProjection::embedded(Settings {
            reader: log.reader.clone(),
            dir: dir.to_path_buf(),
            views: stemma_views::Options::default(),
        });
        let gate = GraphGate::new(graph.unwrap(), &log.reader, PastSettings::default());
        gate.projection.opened(Duration::from_secs(10)).await;
        while gate.state().trouble().is_none() {
            tokio::task::yield_now().await;
        }
        (log, gate)
    }

    #[actix_web::test]
    async fn a_graph_that_stopped_is_not_waited_for_and_says_what_it_lacks() {
        let dir = tempfile::tempdir().unwrap();
        let (_log, gate) = stopped(dir.path()).await;
        // What it holds it answers for.
        assert_eq!(gate.following(2).await.map(|at| at.end), Ok(2));
        // What it does not it does not wait for.
        let why = gate.following(3).await.map(|at| at.end).unwrap_err();
        assert_eq!(gate.behind_until.load(Ordering::Relaxed), 0, "it waited");
        assert!(
            why.starts_with("the graph stopped at entity_type.exploded"),
            "{why}"
        );
        let wait = MinPosition {
            position: None,
            timeout: Duration::from_secs(10),
        };
        let at = gate.at(wait, 3).await.unwrap();
        assert_eq!((at.position(), at.warning), (Some(1), Some(why)));
        let wait = MinPosition {
            position: Some(2),
            timeout: Duration::from_millis(1),
        };
        let refused = gate.at(wait, 3).await.map(|at| at.end);
        assert_eq!(refused.unwrap_err().code(), Code::NotYet);
        gate.projection.stop();
    }
}
