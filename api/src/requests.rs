//! What was asked lately: requests that wrote, and those that failed.
//!
//! They are in memory, a bounded number of them, and end with the server; what they wrote is in the
//! log. What was read without a failure is not kept. The room of the oldest is used again for the
//! next: each write is remembered, and thousands that are allocated in turn are never in the cache.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;
use stemma_domain::time::Timestamp;
use utoipa::ToSchema;

/// Longest path that is kept of a request, in bytes.
const PATH_BYTES_MAX: usize = 512;

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
        let path = &seen.path[..seen.path.floor_char_boundary(PATH_BYTES_MAX)];
        texts.clear();
        texts.push_str(seen.trace_id);
        let trace_end = texts.len();
        texts.push_str(seen.actor);
        let actor_end = texts.len();
        texts.push_str(seen.method);
        let method_end = texts.len();
        texts.push_str(path);
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
        let oldest = if kept.len() < self.kept_max {
            None
        } else {
            kept.pop_front()
        };
        if kept.len() < self.kept_max {
            let room = oldest.map_or_else(String::new, |oldest| oldest.texts);
            kept.push_back(Kept::of(request, room));
        }
    }

    /// Those that fit, the latest first, at most so many.
    pub(crate) fn latest(
        &self,
        limit: usize,
        fits: impl Fn(&RequestSeen<'_>) -> bool,
    ) -> Vec<RequestBody> {
        let kept = self.lock();
        let seen = kept.iter().rev().map(Kept::seen).filter(fits);
        seen.take(limit).map(RequestBody::from).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Kept>> {
        // Where somebody panicked, a request may be missing.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_are_kept_and_their_paths_are_cut() {
        let requests = Requests::new(2);
        let long = "/\u{e4}".repeat(1000);
        for (number, path) in [long.as_str(), "/2", long.as_str(), "/4"]
            .into_iter()
            .enumerate()
        {
            requests.keep(RequestSeen {
                at: Timestamp::from_micros(0),
                trace_id: &format!("t{number}"),
                actor: "ada",
                method: "PUT",
                path,
                status: 200,
                took_us: 1,
                code: None,
            });
        }
        let all = requests.latest(9, |_| true);
        let shown = |request: &RequestBody| {
            let RequestBody {
                trace_id,
                actor,
                method,
                path,
                ..
            } = request;
            assert!(long.starts_with(path.as_str()) || path == "/4");
            format!("{trace_id} {actor} {method} {}", path.len())
        };
        let shown: Vec<String> = all.iter().map(shown).collect();
        assert_eq!(shown, ["t3 ada PUT 2", "t2 ada PUT 511"]);
        assert_eq!(requests.latest(9, |seen| seen.trace_id == "t2"), all[1..]);
        assert_eq!(requests.latest(1, |_| true), all[..1]);
        assert_eq!(requests.latest(9, |seen| seen.path == "/2"), []);
    }

    #[test]
    fn where_none_are_to_be_kept_none_are() {
        let requests = Requests::new(0);
        requests.keep(RequestSeen {
            at: Timestamp::from_micros(0),
            trace_id: "t",
            actor: "ada",
            method: "PUT",
            path: "/",
            status: 200,
            took_us: 1,
            code: None,
        });
        assert_eq!(requests.latest(9, |_| true), []);
    }
}
