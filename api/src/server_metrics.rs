//! What is counted of the whole server, whichever tenant it is of: by the binary, and of spans.

use std::fmt::Error;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use crate::metrics::{counter, float, gauge};
use crate::state::AppState;

/// A figure that the binary knows and the handlers do not.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    /// Its name, without `stemma_`, with its unit last.
    pub name: &'static str,
    /// What it is, for people.
    pub help: &'static str,
    /// What it is now.
    pub value: FigureValue,
}

/// What a figure is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum FigureValue {
    /// Rises alone.
    Counter(u64),
    /// Rises and falls.
    Gauge(f64),
}

/// Tells the figures of the process and its machine, as they are now.
pub trait Figures: Send + Sync {
    /// All of them, each name once.
    fn figures(&self) -> Vec<Figure>;
}

/// The figures of a server.
#[derive(Debug)]
pub(crate) struct OfServer(pub(crate) AppState);

impl Collector for OfServer {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let encoder = &mut encoder;
        let figures = self.0.figures().map(|figures| figures.figures());
        for figure in figures.unwrap_or_default() {
            match figure.value {
                FigureValue::Counter(value) => counter(encoder, figure.name, figure.help, value)?,
                FigureValue::Gauge(value) => gauge(encoder, figure.name, figure.help, value)?,
            }
        }
        let is_on = stemma_telemetry::stats();
        let help = "1 while spans are exported by OTLP";
        gauge(encoder, "otlp_on", help, float(u64::from(is_on.is_some())))?;
        let spans = is_on.unwrap_or(stemma_telemetry::Stats {
            queued: 0,
            exported: 0,
            dropped: 0,
            failed: 0,
        });
        let help = "Spans that wait to be handed over";
        gauge(encoder, "otlp_spans_queued", help, float(spans.queued))?;
        for (name, help, value) in [
            (
                "otlp_spans_exported",
                "Spans that the collector took",
                spans.exported,
            ),
            (
                "otlp_spans_dropped",
                "Spans that the queue had no room for",
                spans.dropped,
            ),
            (
                "otlp_spans_failed",
                "Spans that the collector did not take",
                spans.failed,
            ),
        ] {
            counter(encoder, name, help, value)?;
        }
        Ok(())
    }
}
