//! What is counted of each tenant that is open, for the operator.
//!
//! Invariant: there are at most so many label values as [`TENANTS_MAX`]; tenants beyond are counted,
//! not named.

use std::fmt::Error;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use stemma_domain::job::JobStatus;
use stemma_event_log::AppenderStatus;
use stemma_projections::{Phase, ProjectionStatus};

use crate::graph_gate::GraphGate;
use crate::metrics::{float, gauge};
use crate::state::AppState;
use crate::tenants::Others;

/// Most tenants that have figures of their own, the first one included.
pub(crate) const TENANTS_MAX: usize = 200;

/// A figure of a tenant, with a second label where it has one.
type Row = (String, Option<(&'static str, &'static str)>, f64);

/// The figures of the tenants that are open.
#[derive(Debug)]
pub(crate) struct OfTenants {
    open: Vec<(String, AppState)>,
    n_open: usize,
    n_failed: usize,
    /// Keeps them open meanwhile.
    _others: Others,
}

impl OfTenants {
    pub(crate) fn new(first: AppState, others: Others) -> Self {
        let of_others = others.open.iter();
        let of_others = of_others.map(|(name, used)| (name.to_string(), used.state().clone()));
        let name = first.tenant().to_string();
        let mut open: Vec<_> = std::iter::once((name, first)).chain(of_others).collect();
        let n_open = open.len();
        open.truncate(TENANTS_MAX);
        Self {
            open,
            n_open,
            n_failed: others.failed.len(),
            _others: others,
        }
    }

    /// A family with a series for each row.
    fn family(
        encoder: &mut DescriptorEncoder<'_>,
        name: &str,
        help: &str,
        kind: MetricType,
        rows: &[Row],
    ) -> Result<(), Error> {
        let mut family = encoder.encode_descriptor(name, help, None, kind)?;
        for (tenant, label, value) in rows {
            let tenant = ("tenant", tenant.as_str());
            let labels = match label {
                Some(label) => vec![tenant, *label],
                None => vec![tenant],
            };
            let labels = Labels(labels);
            let mut metric = family.encode_family(&labels)?;
            match kind {
                MetricType::Counter => metric.encode_counter::<NoLabelSet, _, u64>(value, None)?,
                _ => metric.encode_gauge(value)?,
            }
        }
        Ok(())
    }

    fn each(
        &self,
        rows_of: impl Fn(&AppState) -> Vec<(Option<(&'static str, &'static str)>, f64)>,
    ) -> Vec<Row> {
        let mut all = Vec::new();
        for (name, state) in &self.open {
            let rows = rows_of(state);
            all.extend(
                rows.into_iter()
                    .map(|(label, value)| (name.clone(), label, value)),
            );
        }
        all
    }
}

/// Labels of a series.
#[derive(Debug)]
struct Labels<'a>(Vec<(&'static str, &'a str)>);

impl prometheus_client::encoding::EncodeLabelSet for Labels<'_> {
    fn encode(
        &self,
        encoder: &mut prometheus_client::encoding::LabelSetEncoder<'_>,
    ) -> Result<(), Error> {
        use prometheus_client::encoding::EncodeLabel;
        self.0
            .iter()
            .try_for_each(|label| label.encode(encoder.encode_label()))
    }
}

/// How far the models of a tenant are, each with its name.
fn projections(state: &AppState) -> Vec<(&'static str, ProjectionStatus)> {
    let mut all = vec![("views", state.projection().status())];
    let graph = state.graph().map(GraphGate::projection);
    all.extend(graph.and_then(|graph| Some(("graph", graph.status()?))));
    if let Some(search) = &state.documents().search {
        all.push(("search", search.projection.status()));
    }
    all
}

impl Collector for OfTenants {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let encoder = &mut encoder;
        let count = |n: usize| float(u64::try_from(n).unwrap_or(u64::MAX));
        gauge(
            encoder,
            "tenants_open",
            "Tenants that are open",
            count(self.n_open),
        )?;
        let help = "Tenants that could not be opened when they were last asked for";
        gauge(encoder, "tenants_failed", help, count(self.n_failed))?;
        let help = "Open tenants that have no figures of their own, since there are too many";
        let unnamed = self.n_open - self.open.len();
        gauge(encoder, "tenants_not_shown", help, count(unnamed))?;
        let gauges = MetricType::Gauge;
        let rows = self.each(|state| {
            let is_ok = matches!(state.commands().appender().status(), AppenderStatus::Ok);
            vec![(None, float(u64::from(is_ok)))]
        });
        let help = "1 while the log of the tenant takes writes";
        Self::family(encoder, "tenant_log_writable", help, gauges, &rows)?;
        let rows = self.each(|state| vec![(None, float(state.reader().end().get()))]);
        Self::family(
            encoder,
            "tenant_log_end",
            "Durable events of the tenant",
            gauges,
            &rows,
        )?;
        let rows = self.each(|state| {
            let lag = |(name, status): (_, ProjectionStatus)| {
                (Some(("projection", name)), float(status.lag_positions))
            };
            projections(state).into_iter().map(lag).collect()
        });
        let help = "Durable events of the tenant that are not applied, by projection";
        Self::family(encoder, "tenant_lag_events", help, gauges, &rows)?;
        let rows = self.each(|state| {
            let now_us = state.commands().now().micros();
            let lag = |(name, status): (_, ProjectionStatus)| {
                (Some(("projection", name)), status.lag_seconds(now_us))
            };
            projections(state).into_iter().map(lag).collect()
        });
        let help = "Age of the oldest of them, in seconds, by projection";
        Self::family(encoder, "tenant_lag_seconds", help, gauges, &rows)?;
        let rows = self.each(|state| {
            let stopped = |(name, status): (_, ProjectionStatus)| {
                let is_so = matches!(status.phase, Phase::Quarantined { .. });
                (Some(("projection", name)), float(u64::from(is_so)))
            };
            projections(state).into_iter().map(stopped).collect()
        });
        let help = "1 while the projection of the tenant is stopped at an event";
        Self::family(encoder, "tenant_quarantined", help, gauges, &rows)?;
        self.work(encoder)
    }
}

impl OfTenants {
    fn work(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), Error> {
        let gauges = MetricType::Gauge;
        let rows = self.each(|state| {
            let Ok(counts) = state.projection().views().job_counts() else {
                return Vec::new();
            };
            let of =
                |status: JobStatus| (Some(("status", status.name())), float(counts.of(status)));
            JobStatus::ALL.into_iter().map(of).collect()
        });
        Self::family(
            encoder,
            "tenant_jobs",
            "Jobs of the tenant, by status",
            gauges,
            &rows,
        )?;
        let rows = self.each(|state| {
            let totals = state.documents().queue.totals();
            vec![
                (Some(("outcome", "completed")), float(totals.completed)),
                (Some(("outcome", "failed")), float(totals.failed)),
                (Some(("outcome", "cancelled")), float(totals.cancelled)),
            ]
        });
        let help = "Jobs of the tenant that ended since it was opened, by outcome";
        Self::family(
            encoder,
            "tenant_jobs_ended",
            help,
            MetricType::Counter,
            &rows,
        )?;
        let rows = self.each(|state| vec![(None, float(state.content().stats().bytes))]);
        Self::family(
            encoder,
            "tenant_content_bytes",
            "Bytes of content of the tenant",
            gauges,
            &rows,
        )?;
        let rows = self.each(|state| vec![(None, float(state.content().stats().damaged))]);
        let help = "Pieces of content of the tenant that were found damaged";
        Self::family(encoder, "tenant_content_damaged", help, gauges, &rows)
    }
}
