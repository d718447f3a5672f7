//! Spans of requests, jobs and stages: the trace that they are of, and their export by OTLP.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod context;
mod exporter;
mod otlp;
mod span;

pub use context::{Followed, SpanContext, current, seed, traceparent};
pub use exporter::{Exporter, Options, OptionsError, Stats, stats};
pub use span::{Entered, Span, SpanKind};
