//! What was asked lately: requests that wrote, and those that failed.
//!
//! They are in memory, a bounded number of them, and end with the server; what they wrote is in the
//! log. What was read without a failure is not kept. The room of the oldest is used again for the
//! next: each write is remembered, and memory that goes round among thousands is not in the cache
//! when the allocator takes it up. Invariant: a request's room is bounded by what is kept of it.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;
use stemma_domain::time::Timestamp;
use utoipa::ToSchema;

/// Longest path that is kept of a request, in bytes.
const PATH_BYTES_MAX: usize = 512;
/// Longest method that is kept of a request, in bytes: longer ones are made up.
const METHOD_BYTES_MAX: usize = 32;

/// A request as it is remembered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct RequestBody {
    /// When it was answered.
    #[schema(value_type = String)]
    pub(crate) at: Timestamp,
    /// The trace that it began.
    pub(crate) trace_id: String,
    /// Who asked.
    pub(crate) actor: String,
    /// Its method.
    pub(crate) method: String,
    /// Its path, without the query.
    pub(crate) path: String,
    /// The status of the answer.
    pub(crate) status: u16,
    /// From the request's head to the answer's, in microseconds.
    pub(crate) took_us: u64,
    /// The code of the failure, where it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) code: Option<String>,
}

/// A request as somebody else has it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RequestSeen<'a> {
    pub(crate) at: Timestamp,
    pub(crate) trace_id: &'a str,
    pub(crate) actor: &'a str,
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) status: u16,
    pub(crate) took_us: u64,
    pub(crate) code: Option<&'static str>,
}

impl From<RequestSeen<'_>> for RequestBody {
    fn from(seen: RequestSeen<'_>) -> Self {
        Self {
            at: seen.at,
            trace_id: seen.trace_id.to_owned(),
            actor: seen.actor.to_owned(),
            method: seen.method.to_owned(),
            path: seen.path.to_owned(),
            status: seen.status,
            took_us: seen.took_us,
            code: seen.code.map(str::to_owned),
        }
    }
}

/// A request as it is kept.
#[derive(Debug)]
struct Kept {
    at: Timestamp,
    status: u16,
    took_us: u64,
    code: Option<&'static str>,
    /// Its trace, who asked, its method and its path, one behind the other.
    texts: String,
    trace_end: usize,
    actor_end: usize,
    method_end: usize,
}

impl Kept {
    /// The request, in the room of another one.
    fn of(seen: RequestSeen<'_>, mut texts: String) -> Self {
        texts.clear();
        texts.push_str(seen.trace_id);
        let trace_end = texts.len();
        texts.push_str(seen.actor);
        let actor_end = texts.len();
        texts.push_str(beginning(seen.method, METHOD_BYTES_MAX));
        let method_end = texts.len();
        texts.push_str(beginning(seen.path, PATH_BYTES_MAX));
        Self {
            at: seen.at,
            status: seen.status,
            took_us: seen.took_us,
            code: seen.code,
            texts,
            trace_end,
            actor_end,
            method_end,
        }
    }

    fn seen(&self) -> RequestSeen<'_> {
        RequestSeen {
            at: self.at,
            trace_id: &self.texts[..self.trace_end],
            actor: &self.texts[self.trace_end..self.actor_end],
            method: &self.texts[self.actor_end..self.method_end],
            path: &self.texts[self.method_end..],
            status: self.status,
            took_us: self.took_us,
            code: self.code,
        }
    }
}

/// As much of a text as fits so many bytes.
fn beginning(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

/// The requests that are remembered, of one tenant.
#[derive(Debug)]
pub(crate) struct Requests {
    kept_max: usize,
    kept: Mutex<VecDeque<Kept>>,
}

impl Requests {
    /// Remembers so many.
    pub(crate) fn new(kept_max: usize) -> Self {
        Self {
            kept_max,
            kept: Mutex::default(),
        }
    }

    /// Remembers a request, in place of the oldest where there are as many as may be.
    pub(crate) fn keep(&self, request: RequestSeen<'_>) {
        let mut kept = self.lock();
        let is_full = kept.len() >= self.kept_max;
        let oldest = if is_full { kept.pop_front() } else { None };
        let room = oldest.map_or_else(String::new, |oldest| oldest.texts);
        kept.push_back(Kept::of(request, room));
    }

    /// What is made of them, the latest first, at most so many. No request is remembered meanwhile,
    /// so `make` takes little time, and none for those that are not wanted.
    pub(crate) fn latest<T>(
        &self,
        limit: usize,
        make: impl FnMut(RequestSeen<'_>) -> Option<T>,
    ) -> Vec<T> {
        let kept = self.lock();
        let made = kept.iter().rev().map(Kept::seen).filter_map(make);
        made.take(limit).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Kept>> {
        // Where somebody panicked, a request may be missing.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keep(requests: &Requests, trace_id: &str, method: &str, path: &str) {
        requests.keep(RequestSeen {
            at: Timestamp::from_micros(0),
            trace_id,
            actor: "ada",
            method,
            path,
            status: 200,
            took_us: 1,
            code: None,
        });
    }

    fn all(requests: &Requests) -> Vec<String> {
        requests.latest(9, |seen| {
            let RequestSeen {
                trace_id,
                actor,
                method,
                path,
                ..
            } = seen;
            Some(format!("{trace_id} {actor} {method} {path}"))
        })
    }

    #[test]
    fn the_latest_are_kept_each_with_its_own_texts() {
        let requests = Requests::new(2);
        keep(&requests, "t0", "PUT", "/a/long/path");
        keep(&requests, "t1", "DELETE", "/1");
        keep(&requests, "t2", "POST", "/\u{e4}");
        keep(&requests, "third", "PUT", "/3");
        assert_eq!(all(&requests), ["third ada PUT /3", "t2 ada POST /\u{e4}"]);
        let paths = |limit, of: &str| {
            requests.latest(limit, |seen| {
                (seen.trace_id == of).then(|| seen.path.to_owned())
            })
        };
        assert_eq!(paths(9, "t2"), ["/\u{e4}"]);
        assert_eq!(paths(9, "t1"), [""; 0]);
        assert_eq!(paths(0, "third"), [""; 0]);
    }

    #[test]
    fn what_a_client_makes_long_is_cut_and_takes_no_room() {
        let requests = Requests::new(1);
        let (method, path) = ("M".repeat(100_000), "/\u{e4}".repeat(1000));
        keep(&requests, "t", &method, &path);
        let cut = format!("t ada {} {}", &method[..METHOD_BYTES_MAX], &path[..511]);
        assert_eq!(all(&requests), [cut]);
        keep(&requests, "t", "PUT", "/");
        let kept = requests.lock();
        let bytes_max = 2 * (PATH_BYTES_MAX + METHOD_BYTES_MAX + "tada".len());
        assert!(
            kept[0].texts.capacity() <= bytes_max,
            "{:?}",
            kept[0].texts.capacity()
        );
    }
}
