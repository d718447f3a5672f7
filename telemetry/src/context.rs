//! Which span a thread is in, and how that is told to whoever is called (W3C Trace Context).
//!
//! Invariant: a thread is in the span that it entered last and has not left, whether spans are
//! exported or not.

use std::cell::Cell;
use std::fmt::Write;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};

/// What the digest of a trace id that is none of W3C's is made with.
const TRACE_CONTEXT: &str = "stemma 2026-11 trace id of a text";

static SEED: AtomicU64 = AtomicU64::new(0);
static NEXT: AtomicU64 = AtomicU64::new(1);

thread_local! {
    static CURRENT: Cell<Option<SpanContext>> = const { Cell::new(None) };
}

/// Names a span among all spans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpanContext {
    pub(crate) trace: [u8; 16],
    pub(crate) span: [u8; 8],
}

/// A thread in a span that another one is at; out of it again when this is dropped.
#[derive(Debug)]
pub struct Followed {
    before: Option<SpanContext>,
    /// It is of this thread.
    _thread: PhantomData<*const ()>,
}

impl Drop for Followed {
    fn drop(&mut self) {
        put(self.before);
    }
}

/// Has this process's span ids begin at a place of their own. To be called once, with randomness.
pub fn seed(random: u64) {
    SEED.store(random, Ordering::Relaxed);
}

/// The `traceparent` of the span that this thread is in, for a call to another server.
pub fn traceparent() -> Option<String> {
    current().map(SpanContext::traceparent)
}

/// The span that this thread is in.
pub fn current() -> Option<SpanContext> {
    CURRENT.get()
}

/// Puts the thread into a span, or out of it; gives the one that it was in.
pub(crate) fn put(context: Option<SpanContext>) -> Option<SpanContext> {
    CURRENT.replace(context)
}

impl SpanContext {
    /// A span of its own in a trace.
    pub(crate) fn within(trace: [u8; 16]) -> Self {
        let place = NEXT.fetch_add(1, Ordering::Relaxed);
        let span = mixed(SEED.load(Ordering::Relaxed).wrapping_add(place)).max(1);
        Self {
            trace,
            span: span.to_be_bytes(),
        }
    }

    /// Puts this thread into it as well, for what is done elsewhere on its behalf.
    pub fn follow(self) -> Followed {
        Followed {
            before: put(Some(self)),
            _thread: PhantomData,
        }
    }

    /// As a header says it: sampled, always.
    pub fn traceparent(self) -> String {
        format!("00-{}-{}-01", hex(&self.trace), hex(&self.span))
    }
}

/// Sixty-four bits of which each depends on all that are given; no two of them are the same.
fn mixed(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes all");
        text
    })
}

fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |b: u8| match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'a'..=b'f' => Some(b - b'a' + 10),
        _ => None,
    };
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if pairs.len() != N || !rest.is_empty() {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    (bytes != [0; N]).then_some(bytes)
}

/// The trace that a trace id of ours is: itself where it is one of W3C's, else a digest of it.
pub(crate) fn trace_of(id: &str) -> [u8; 16] {
    unhex(id).unwrap_or_else(|| {
        let digest = blake3::derive_key(TRACE_CONTEXT, id.as_bytes());
        *digest.first_chunk().expect("a digest has 32 bytes")
    })
}

/// The span that a `traceparent` names, if it is of this trace.
pub(crate) fn parent_in(traceparent: &str, trace: [u8; 16]) -> Option<[u8; 8]> {
    let mut parts = traceparent.split('-').skip(1);
    let (named, span) = (unhex::<16>(parts.next()?)?, unhex(parts.next()?)?);
    (named == trace).then_some(span)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_trace_id_of_w3c_is_itself_and_another_one_always_the_same() {
        let trace = trace_of("4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(hex(&trace), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(unhex("0aF0"), None::<[u8; 2]>);
        assert_eq!(unhex("0af"), None::<[u8; 2]>);
        assert_eq!(unhex("0000"), None::<[u8; 2]>);
        assert_eq!(unhex("0af0"), Some([10, 240]));
        assert_eq!(trace_of("order 7"), trace_of("order 7"));
        assert_ne!(trace_of("order 7"), trace_of("order 8"));
    }

    #[test]
    fn a_parent_is_taken_from_its_own_trace_alone() {
        let trace = trace_of("4bf92f3577b34da6a3ce929d0e0e4736");
        let parent = parent_in(PARENT, trace).unwrap();
        assert_eq!(hex(&parent), "00f067aa0ba902b7");
        assert_eq!(parent_in(PARENT, trace_of("another")), None);
        for bad in ["", "00", "00-zz-yy-01", &PARENT[..50]] {
            assert_eq!(parent_in(bad, trace), None, "{bad}");
        }
    }

    #[test]
    fn spans_differ_and_are_told_as_w3c_says() {
        let trace = trace_of("t");
        let (one, other) = (SpanContext::within(trace), SpanContext::within(trace));
        assert_ne!(one, other);
        assert_eq!(one.traceparent().len(), PARENT.len());
        assert_eq!(parent_in(&one.traceparent(), trace), Some(one.span));
    }
}
