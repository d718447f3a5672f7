//! What was asked lately: requests that wrote, and those that failed.
//!
//! They are in memory, a bounded number of them, and end with the server; what they wrote is in the
//! log. What was read without a failure is not kept.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

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

/// The requests that are remembered, of one tenant.
#[derive(Debug)]
pub(crate) struct Requests {
    kept_max: usize,
    kept: Mutex<VecDeque<Arc<RequestBody>>>,
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
    pub(crate) fn keep(&self, mut request: RequestBody) {
        let cut = request.path.floor_char_boundary(PATH_BYTES_MAX);
        request.path.truncate(cut);
        let request = Arc::new(request);
        let mut kept = self.lock();
        while kept.len() >= self.kept_max {
            kept.pop_front();
        }
        kept.push_back(request);
    }

    /// Those that fit, the latest first, at most so many.
    pub(crate) fn latest(
        &self,
        limit: usize,
        fits: impl Fn(&RequestBody) -> bool,
    ) -> Vec<Arc<RequestBody>> {
        let kept = self.lock();
        let fitting = kept.iter().rev().filter(|request| fits(request));
        fitting.take(limit).cloned().collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Arc<RequestBody>>> {
        // Each change is one call.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_are_kept_and_their_paths_are_cut() {
        let requests = Requests::new(2);
        for number in 0..3 {
            requests.keep(RequestBody {
                at: Timestamp::from_micros(0),
                trace_id: format!("t{number}"),
                actor: String::new(),
                method: "PUT".to_owned(),
                path: "/\u{e4}".repeat(1000),
                status: 200,
                took_us: 1,
                code: None,
            });
        }
        let all = requests.latest(9, |_| true);
        let traces: Vec<&str> = all
            .iter()
            .map(|request| request.trace_id.as_str())
            .collect();
        assert_eq!(traces, ["t2", "t1"]);
        assert!(all[0].path.len() <= PATH_BYTES_MAX);
        assert_eq!(
            requests.latest(9, |request| request.trace_id == "t1").len(),
            1
        );
    }
}
