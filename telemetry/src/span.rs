//! A piece of work that is timed.
//!
//! Invariant: a span costs no more than its ids while nothing is exported.

use std::borrow::Cow;
use std::marker::PhantomData;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::context::{SpanContext, current, parent_in, put, trace_of};
use crate::exporter::sink;

/// Most attributes of a span; those beyond are left out.
const ATTRIBUTE_COUNT_MAX: usize = 16;
/// Longest text of an attribute or an error, in bytes; what is longer is cut.
const TEXT_BYTES_MAX: usize = 512;

/// Whose work a span is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpanKind {
    /// A part of something larger.
    Internal = 1,
    /// A request that was answered.
    Server = 2,
    /// Something that was asked for earlier.
    Consumer = 5,
}

/// Work that is under way.
#[derive(Debug)]
pub struct Span {
    context: SpanContext,
    parent: Option<[u8; 8]>,
    name: Cow<'static, str>,
    kind: SpanKind,
    /// None while nothing is exported.
    recorded: Option<Recorded>,
}

#[derive(Debug)]
struct Recorded {
    began: Instant,
    began_ns: u64,
    attributes: Vec<(&'static str, Value)>,
    error: Option<String>,
}

/// Work that is over.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) context: SpanContext,
    pub(crate) parent: Option<[u8; 8]>,
    pub(crate) name: Cow<'static, str>,
    pub(crate) kind: SpanKind,
    pub(crate) began_ns: u64,
    pub(crate) took: Duration,
    pub(crate) attributes: Vec<(&'static str, Value)>,
    pub(crate) error: Option<String>,
}

/// A span that this thread is in; it ends, and the thread leaves it, when this is dropped.
#[derive(Debug)]
pub struct Entered {
    span: Option<Span>,
    before: Option<SpanContext>,
    /// It is of this thread.
    _thread: PhantomData<*const ()>,
}

fn cut(text: &str) -> String {
    text[..text.floor_char_boundary(TEXT_BYTES_MAX)].to_owned()
}

impl Span {
    /// Begins a span of a trace, by a trace id of ours.
    pub fn of(trace_id: &str, name: impl Into<Cow<'static, str>>, kind: SpanKind) -> Self {
        let trace = trace_of(trace_id);
        let mut span = Self::new(SpanContext::within(trace), None, name.into(), kind);
        span.note("stemma.trace_id", trace_id);
        span
    }

    /// Begins a part of the span that this thread is in; none where it is in none.
    pub fn part(name: impl Into<Cow<'static, str>>) -> Option<Self> {
        let whole = current()?;
        let context = SpanContext::within(whole.trace);
        let kind = SpanKind::Internal;
        Some(Self::new(context, Some(whole.span), name.into(), kind))
    }

    fn new(
        context: SpanContext,
        parent: Option<[u8; 8]>,
        name: Cow<'static, str>,
        kind: SpanKind,
    ) -> Self {
        let recorded = sink().map(|sink| Recorded {
            began: Instant::now(),
            began_ns: sink.now_ns(),
            attributes: Vec::new(),
            error: None,
        });
        Self {
            context,
            parent,
            name,
            kind,
            recorded,
        }
    }

    /// The same as a part of the span that a `traceparent` names, if that is of this trace.
    #[must_use]
    pub fn below(mut self, traceparent: Option<&str>) -> Self {
        self.parent = traceparent.and_then(|parent| parent_in(parent, self.context.trace));
        self
    }

    /// What names it.
    pub fn context(&self) -> SpanContext {
        self.context
    }

    /// Whether anything is kept of it.
    pub fn is_recorded(&self) -> bool {
        self.recorded.is_some()
    }

    /// Calls it otherwise.
    pub fn rename(&mut self, name: impl Into<Cow<'static, str>>) {
        self.name = name.into();
    }

    /// Notes something of it: a text, a number or whether.
    pub fn note(&mut self, key: &'static str, value: impl Into<Value>) {
        let Some(recorded) = &mut self.recorded else {
            return;
        };
        if recorded.attributes.len() < ATTRIBUTE_COUNT_MAX {
            let value = match value.into() {
                Value::String(text) => Value::String(cut(&text)),
                value => value,
            };
            recorded.attributes.push((key, value));
        }
    }

    /// Notes that it failed, and why.
    pub fn fail(&mut self, why: &str) {
        if let Some(recorded) = &mut self.recorded {
            recorded.error = Some(cut(why));
        }
    }

    /// Puts this thread into it.
    pub fn enter(self) -> Entered {
        Entered {
            before: put(Some(self.context)),
            span: Some(self),
            _thread: PhantomData,
        }
    }

    /// Ends it.
    pub fn end(self) {
        let (Some(sink), Some(recorded)) = (sink(), self.recorded) else {
            return;
        };
        sink.take(Ended {
            context: self.context,
            parent: self.parent,
            name: self.name,
            kind: self.kind,
            began_ns: recorded.began_ns,
            took: recorded.began.elapsed(),
            attributes: recorded.attributes,
            error: recorded.error,
        });
    }
}

impl Entered {
    /// Notes something of it.
    pub fn note(&mut self, key: &'static str, value: impl Into<Value>) {
        if let Some(span) = &mut self.span {
            span.note(key, value);
        }
    }

    /// Notes that it failed, and why.
    pub fn fail(&mut self, why: &str) {
        if let Some(span) = &mut self.span {
            span.fail(why);
        }
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        put(self.before);
        if let Some(span) = self.span.take() {
            span.end();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::traceparent;

    #[test]
    fn a_thread_is_in_the_span_that_it_entered_last_and_out_of_it_afterwards() {
        assert!(Span::part("nothing to be a part of").is_none());
        let outer = Span::of("a-trace", "job", SpanKind::Consumer);
        let told = outer.context().traceparent();
        let entered = outer.enter();
        assert_eq!(traceparent().as_ref(), Some(&told));
        let inner = Span::part("stage").unwrap();
        assert_eq!(inner.context.trace, trace_of("a-trace"));
        assert_eq!(parent_in(&told, inner.context.trace), inner.parent);
        let inner = inner.enter();
        assert_ne!(traceparent().as_ref(), Some(&told));
        drop(inner);
        assert_eq!(traceparent().as_ref(), Some(&told));
        drop(entered);
        assert_eq!(traceparent(), None);
    }
}
