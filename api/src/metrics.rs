//! What is counted, in the form that Prometheus reads.
//!
//! Labels are patterns of routes and names of parts, never paths, ids or anything a client chose.

use std::borrow::Cow;
use std::fmt::{Debug, Error};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use stemma_domain::job::JobStatus;
use stemma_event_log::AppenderStatus;
use stemma_jobs::BOUNDS_MS;
use stemma_projections::{APPLY_BOUNDS_US, Phase, ProjectionMetrics, ProjectionStatus};

use crate::access::Limit;
use crate::context::Answered;
use crate::graph_gate::GraphGate;
use crate::handlers::cypher::Queries;
use crate::server_metrics::OfServer;
use crate::state::AppState;
use crate::tenant_metrics::OfTenants;
use crate::tenants::Others;

/// Upper bounds of the buckets for the time of requests, in seconds.
const REQUEST_BOUNDS_S: [f64; 10] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5, 10.0,
];

/// The methods that are counted by name; a client may make up any other.
const METHODS: [&str; 9] = [
    "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE",
];
/// What every other method is counted under.
const OTHER_METHOD: &str = "other";

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AnswerLabels {
    method: &'static str,
    route: Cow<'static, str>,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    method: &'static str,
    route: Cow<'static, str>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LimitLabels {
    limit: &'static str,
}

/// The counters of the HTTP surface.
#[derive(Debug)]
pub struct Metrics {
    answers: Family<AnswerLabels, Counter>,
    times: Family<RouteLabels, Histogram, fn() -> Histogram>,
    refused: Family<LimitLabels, Counter>,
    open_streams: Arc<AtomicUsize>,
    connections: Arc<Connections>,
}

#[derive(Debug, Default)]
struct Connections {
    open: AtomicU64,
    cut_off: AtomicU64,
}

/// A connection that is open; counted until it is dropped.
#[derive(Debug)]
pub(crate) struct OpenConnection(Arc<Connections>);

impl OpenConnection {
    /// It is ended since its client takes nothing.
    pub(crate) fn cut_off(&self) {
        self.0.cut_off.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A live stream that is open; counted until it is dropped.
#[derive(Debug)]
pub(crate) struct OpenStream(Arc<AtomicUsize>);

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A method as it is counted and named.
pub(crate) fn known_method(method: &str) -> &'static str {
    let known = METHODS.into_iter().find(|known| *known == method);
    known.unwrap_or(OTHER_METHOD)
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let histogram: fn() -> Histogram = || Histogram::new(REQUEST_BOUNDS_S);
        Self {
            answers: Family::default(),
            times: Family::new_with_constructor(histogram),
            refused: Family::default(),
            open_streams: Arc::default(),
            connections: Arc::default(),
        }
    }

    pub(crate) fn count_answer(&self, answered: Answered<'_>) {
        let method = known_method(answered.method);
        let route = answered.route;
        let labels = RouteLabels {
            method,
            route: route.clone(),
        };
        self.times
            .get_or_create(&labels)
            .observe(answered.took.as_secs_f64());
        let labels = AnswerLabels {
            method,
            route,
            status: answered.status,
        };
        self.answers.get_or_create(&labels).inc();
    }

    /// Counts a request that was refused since too many came before it.
    pub(crate) fn count_refused(&self, limit: Limit) {
        let limit = limit.name();
        self.refused.get_or_create(&LimitLabels { limit }).inc();
    }

    /// Counts a connection.
    pub(crate) fn open_connection(&self) -> OpenConnection {
        self.connections.open.fetch_add(1, Ordering::Relaxed);
        OpenConnection(Arc::clone(&self.connections))
    }

    /// Counts a stream; none when as many are open as are taken.
    pub(crate) fn open_stream(&self, streams_max: usize) -> Option<OpenStream> {
        let one_more = |open: usize| (open < streams_max).then_some(open + 1);
        let counted =
            self.open_streams
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        counted
            .ok()
            .map(|_| OpenStream(Arc::clone(&self.open_streams)))
    }

    /// How many streams are open.
    pub fn open_streams(&self) -> usize {
        self.open_streams.load(Ordering::Relaxed)
    }

    /// All figures, in the text format; with those of other tenants where it is said whose.
    pub(crate) fn render(&self, state: &AppState, others: Option<Others>) -> Result<String, Error> {
        let mut registry = Registry::with_prefix("stemma");
        registry.register(
            "http_answers",
            "Answers by method, route and status",
            self.answers.clone(),
        );
        registry.register_with_unit(
            "http_request_duration",
            "From a request's head to its answer's, by method and route",
            Unit::Seconds,
            self.times.clone(),
        );
        registry.register(
            "http_refused",
            "Requests that were refused since too many came before them, by limit",
            self.refused.clone(),
        );
        registry.register_collector(Box::new(Parts(state.clone())));
        if let Some(others) = others {
            registry.register_collector(Box::new(OfTenants::new(state.clone(), others)));
            registry.register_collector(Box::new(OfServer(state.clone())));
        }
        let mut text = String::new();
        encode(&mut text, &registry)?;
        Ok(text)
    }
}

/// What the log, the content store and the views tell of themselves.
#[derive(Debug)]
struct Parts(AppState);

pub(crate) fn gauge(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    value: f64,
) -> Result<(), Error> {
    let gauge = ConstGauge::new(value);
    gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)
}

pub(crate) fn counter(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    value: u64,
) -> Result<(), Error> {
    let counter = ConstCounter::new(value);
    counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)
}

/// A histogram from counts by bucket; there are `scale` of the bounds' unit to one of the metric's.
fn histogram(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    (bounds, counts, sum): (&[u64], &[u64], u64),
    scale: f64,
) -> Result<(), Error> {
    let upper = bounds
        .iter()
        .map(|bound| float(*bound) / scale)
        .chain([f64::INFINITY]);
    let buckets: Vec<(f64, u64)> = upper.zip(counts.iter().copied()).collect();
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
    let count = counts.iter().sum();
    metric.encode_histogram::<NoLabelSet>(float(sum) / scale, count, &buckets, None)
}

/// Counts beyond 2^53 are rounded, which no figure here comes near.
#[allow(clippy::cast_precision_loss)]
pub(crate) fn float(count: u64) -> f64 {
    count as f64
}

const MICROSECONDS: f64 = 1e6;
const MILLISECONDS: f64 = 1e3;

impl Collector for Parts {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let encoder = &mut encoder;
        self.log(encoder)?;
        self.projections(encoder)?;
        self.jobs(encoder)?;
        self.caches(encoder)?;
        let content = self.0.content().stats();
        gauge(
            encoder,
            "content_blobs",
            "Pieces of content",
            float(content.blobs),
        )?;
        gauge(
            encoder,
            "content_bytes",
            "Bytes of content",
            float(content.bytes),
        )?;
        gauge(
            encoder,
            "content_damaged",
            "Pieces of content that were found damaged",
            float(content.damaged),
        )?;
        let connections = &self.0.metrics().connections;
        gauge(
            encoder,
            "http_connections_open",
            "Connections that are open",
            float(connections.open.load(Ordering::Relaxed)),
        )?;
        counter(
            encoder,
            "http_connections_cut_off",
            "Connections that were ended since their client took nothing of what was written",
            connections.cut_off.load(Ordering::Relaxed),
        )?;
        let open = u64::try_from(self.0.metrics().open_streams()).unwrap_or(u64::MAX);
        gauge(
            encoder,
            "sse_streams_open",
            "Live streams that are open",
            float(open),
        )
    }
}

impl Parts {
    fn log(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), Error> {
        let appender = self.0.commands().appender();
        let stats = appender.stats();
        let is_ok = matches!(appender.status(), AppenderStatus::Ok);
        gauge(
            encoder,
            "log_writable",
            "1 while the log takes writes, 0 when it is poisoned, damaged or open for reading only",
            f64::from(u8::from(is_ok)),
        )?;
        gauge(
            encoder,
            "log_end",
            "Durable events",
            float(self.0.reader().end().get()),
        )?;
        gauge(
            encoder,
            "log_queue",
            "Batches that wait for the writer, each counted for every 16 KiB of it",
            float(stats.queued),
        )?;
        counter(encoder, "log_batches", "Batches written", stats.batches)?;
        counter(encoder, "log_events", "Events written", stats.events)?;
        counter(
            encoder,
            "log_groups",
            "Groups written, each with one sync",
            stats.groups,
        )?;
        counter(encoder, "log_bytes", "Bytes of those groups", stats.bytes)?;
        counter(
            encoder,
            "log_conflicts",
            "Batches refused for their expected revision",
            stats.conflicts,
        )?;
        let of = |h: &stemma_event_log::Histogram| (h.bounds, h.counts.clone(), h.sum);
        for (name, help, (bounds, counts, sum), scale) in [
            (
                "log_append_seconds",
                "From the queue to the answer",
                of(&stats.append_us),
                MICROSECONDS,
            ),
            (
                "log_sync_seconds",
                "Time of a group's sync",
                of(&stats.sync_us),
                MICROSECONDS,
            ),
            (
                "log_write_seconds",
                "Time of a group's write",
                of(&stats.write_us),
                MICROSECONDS,
            ),
            (
                "log_group_events",
                "Events of a group",
                of(&stats.group_events),
                1.0,
            ),
        ] {
            histogram(encoder, name, help, (bounds, &counts, sum), scale)?;
        }
        Ok(())
    }

    fn projections(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), Error> {
        let views = self.0.projection();
        let now_us = self.0.commands().now().micros();
        projection(encoder, "views", &views.status(), &views.metrics(), now_us)?;
        let graph = self.0.graph().map(GraphGate::projection);
        let graph = graph.and_then(|graph| Some((graph.status()?, graph.metrics()?)));
        if let Some((status, metrics)) = graph {
            projection(encoder, "graph", &status, &metrics, now_us)?;
        }
        if let Some(search) = &self.0.documents().search {
            let (status, metrics) = (search.projection.status(), search.projection.metrics());
            projection(encoder, "search", &status, &metrics, now_us)?;
        }
        Ok(())
    }

    /// Jobs, as the views count them.
    fn jobs(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), Error> {
        let Ok(counts) = self.0.projection().views().job_counts() else {
            return Ok(());
        };
        for status in JobStatus::ALL {
            let name = format!("jobs_{}", status.name());
            let help = match status {
                JobStatus::Queued => "Jobs that wait for a worker",
                JobStatus::Processing => "Jobs that a worker is at",
                JobStatus::Retrying => "Jobs that wait for their next try",
                JobStatus::Completed => "Jobs that are done",
                JobStatus::Failed => "Jobs that failed for good: dead letters",
                JobStatus::Cancelled => "Jobs that were stopped",
            };
            gauge(encoder, &name, help, float(counts.of(status)))?;
        }
        self.jobs_ended(encoder)
    }

    /// Jobs, as their queue counts them.
    fn jobs_ended(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), Error> {
        let queue = &self.0.documents().queue;
        let totals = queue.totals();
        for (name, help, value) in [
            (
                "jobs_ended_completed",
                "Jobs that came to be done",
                totals.completed,
            ),
            (
                "jobs_ended_failed",
                "Jobs that came to fail for good",
                totals.failed,
            ),
            (
                "jobs_ended_cancelled",
                "Jobs that came to be stopped",
                totals.cancelled,
            ),
            (
                "jobs_retried",
                "Tries that failed and are made again",
                totals.retried,
            ),
            (
                "jobs_leases_lost",
                "Leases that ran out since their worker was not heard of",
                totals.leases_lost,
            ),
        ] {
            counter(encoder, name, help, value)?;
        }
        let count = |n: usize| float(u64::try_from(n).unwrap_or(u64::MAX));
        let (all, busy) = (queue.options().workers, queue.n_busy());
        gauge(
            encoder,
            "jobs_workers",
            "Workers inside the server",
            count(all),
        )?;
        gauge(
            encoder,
            "jobs_workers_busy",
            "Those of them that are at a job",
            count(busy),
        )?;
        for (name, help, times) in [
            (
                "jobs_waiting_seconds",
                "From when a job was asked for to its first try, of jobs that are done",
                totals.waiting,
            ),
            (
                "jobs_processing_seconds",
                "From the first try of a job to its end, of jobs that are done",
                totals.processing,
            ),
        ] {
            let figures = (&BOUNDS_MS[..], &times.counts[..], times.sum_ms);
            histogram(encoder, name, help, figures, MILLISECONDS)?;
        }
        Ok(())
    }

    fn caches(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), Error> {
        let commands = self.0.commands();
        let queries = self.0.graph().map(GraphGate::queries);
        counter(
            encoder,
            "graph_queries_stopped",
            "Cypher queries that were stopped at a limit",
            queries.map(Queries::stopped).unwrap_or_default(),
        )?;
        let caches = [
            (
                "descriptors",
                self.0.projection().views().descriptor_hits_and_misses(),
            ),
            ("aggregates", commands.aggregate_hits_and_misses()),
            ("texts", commands.text_hits_and_misses()),
            (
                "graph_answers",
                queries.map(Queries::hits_and_misses).unwrap_or_default(),
            ),
        ];
        for (name, (hits, misses)) in caches {
            counter(
                encoder,
                &format!("cache_{name}_hits"),
                "Found in the cache",
                hits,
            )?;
            counter(
                encoder,
                &format!("cache_{name}_misses"),
                "Not found in the cache",
                misses,
            )?;
        }
        Ok(())
    }
}

/// How far a projection is, under its name.
fn projection(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    status: &ProjectionStatus,
    metrics: &ProjectionMetrics,
    now_us: i64,
) -> Result<(), Error> {
    let named = |what: &str| format!("{name}_{what}");
    let is_quarantined = matches!(status.phase, Phase::Quarantined { .. });
    for (what, help, value) in [
        (
            "quarantined",
            "1 while it is stopped at an event",
            f64::from(u8::from(is_quarantined)),
        ),
        ("end", "Events applied to it", float(status.end)),
        (
            "lag_events",
            "Durable events that are not applied",
            float(status.lag_positions),
        ),
        (
            "lag_seconds",
            "Age of the oldest of them",
            status.lag_seconds(now_us),
        ),
    ] {
        gauge(encoder, &named(what), help, value)?;
    }
    counter(
        encoder,
        &named("batches"),
        "Batches applied",
        metrics.batches,
    )?;
    counter(encoder, &named("events"), "Events applied", metrics.events)?;
    let times = (
        &APPLY_BOUNDS_US[..],
        &metrics.apply_us[..],
        metrics.apply_us_sum,
    );
    let help = "Time to apply a batch";
    histogram(encoder, &named("apply_seconds"), help, times, MICROSECONDS)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A method is any word that a client sends, token or not, and each was a label once: series
    /// without end, held until the server stopped.
    #[test]
    fn methods_that_clients_make_up_are_counted_as_one() {
        let metrics = Metrics::new();
        let count = |method| {
            metrics.count_answer(Answered {
                method,
                route: "none".into(),
                status: 404,
                took: std::time::Duration::ZERO,
            });
        };
        let made_up = ["A", "B", "get", "PROPFIND", "other"];
        METHODS.into_iter().chain(made_up).for_each(count);
        let mut registry = Registry::default();
        registry.register("answers", "Answers", metrics.answers.clone());
        registry.register("times", "Times", metrics.times.clone());
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        let series = |begin: &str| text.lines().filter(|l| l.starts_with(begin)).count();
        assert_eq!(series("answers_total"), METHODS.len() + 1);
        assert_eq!(series("times_count"), METHODS.len() + 1);
        assert!(text.contains(r#"answers_total{method="other",route="none",status="404"} 5"#));
    }
}
