//! The limits of the HTTP surface, each with its default.
//!
//! Invariant: an [`AppState`](crate::AppState) is only made of options that passed
//! [`Options::check`].

use stemma_projections::PastSettings;

use crate::access::Cors;

/// Highest rate of a limit.
const PER_S_MAX: u64 = 1_000_000_000;

/// Limits and settings of the HTTP surface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The URL that clients reach this server by, such as `https://stemma.example`; IRIs below it
    /// name our resources. None by default: then the request's own host is taken.
    pub public_url: Option<String>,
    /// Most bytes of a JSON body, 16 MiB by default. Larger content goes by multipart.
    pub json_bytes_max: usize,
    /// Most bytes of a batch's body, 32 MiB by default.
    pub batch_bytes_max: usize,
    /// Deepest nesting of a JSON body, 64 by default.
    pub json_depth_max: usize,
    /// Most operations of one batch, 1,000 by default.
    pub batch_operations_max: usize,
    /// Most bytes of one piece of content, 16 GiB by default.
    pub content_bytes_max: u64,
    /// Content up to this many bytes is taken and given in one piece, 64 KiB by default.
    pub content_inline_bytes_max: usize,
    /// Bytes of content that are read or written at a time above that, 256 KiB by default.
    pub content_chunk_bytes: usize,
    /// Most ranges of one request that are answered as ranges, 32 by default.
    pub ranges_max: usize,
    /// Items of a page when the client does not say, 50 by default.
    pub page_limit: usize,
    /// Most items of a page, 500 by default.
    pub page_limit_max: usize,
    /// How long a read waits for `min_position`, in milliseconds, 2,000 by default.
    pub wait_ms: u64,
    /// Longest `timeout_ms` that a client may ask for, 60,000 by default.
    pub wait_ms_max: u64,
    /// How long a write waits for the views before it says that it is not visible yet, in
    /// milliseconds, 10,000 by default.
    pub write_wait_ms: u64,
    /// Finished jobs that are remembered, 1,000 by default.
    pub jobs_kept_max: usize,
    /// Requests that wrote or failed that are remembered of each tenant, 2,000 by default.
    pub requests_kept_max: usize,
    /// Bytes of what workers outside hand in that are in memory at a time, of all tenants, 256 MiB
    /// by default; one that has more goes alone.
    pub outputs_bytes_max: usize,
    /// Threads that take requests, one for each processor by default (0).
    pub workers: usize,
    /// Most open connections of each worker, 25,000 by default.
    pub connections_max: usize,
    /// How long a client may take to send the head of a request, in milliseconds, 10,000 by
    /// default.
    pub request_head_ms: u64,
    /// How long a client may send nothing of a body, all its pauses together, in milliseconds,
    /// 30,000 by default.
    pub body_ms: u64,
    /// Bytes of a body that add a second to that, 1,024 by default.
    pub body_bytes_per_s: u64,
    /// How long a client may take nothing of what is written to it before it is cut off, in
    /// milliseconds, 60,000 by default.
    pub write_stall_ms: u64,
    /// How long an idle connection is kept, in milliseconds, 75,000 by default.
    pub keep_alive_ms: u64,
    /// How long requests may go on once the server is told to stop, in seconds, 8 by default.
    pub shutdown_s: u64,
    /// Where moments of the past are kept, and how much is done for one.
    pub past: PastSettings,
    /// Live streams.
    pub sse: SseOptions,
    /// Origins whose pages may ask us, such as `https://app.example`; `*` alone for all of them,
    /// without cookies. None by default.
    pub cors_origins: Vec<String>,
    /// How much one may ask for.
    pub limits: LimitOptions,
}

/// How much one token, or one address, may ask for. 0 is no limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitOptions {
    /// Requests a second of one token, no limit by default: how much a server can take is not
    /// known beforehand, and who has a token was given it.
    pub token_per_s: u64,
    /// Requests a second without a token from one address, no limit by default, for the same
    /// reason where the server has no tokens; where it has, they are refused cheaply.
    pub address_per_s: u64,
    /// Tokens that do not hold, a second from one address, 1,000 by default: what nobody does by
    /// mistake, and less than would keep a processor busy looking at signatures.
    pub failures_per_s: u64,
    /// Seconds of each rate that may be used at once, 10 by default.
    pub burst_s: u64,
    /// Tokens and addresses that are remembered for each limit, 65,536 by default. Beyond it those
    /// who asked least lately are forgotten, and begin anew.
    pub remembered_max: usize,
}

/// Limits and settings of live streams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SseOptions {
    /// A comment is sent this often, in milliseconds, 15,000 by default.
    pub heartbeat_ms: u64,
    /// How long a client is told to wait before it connects again, in milliseconds, 2,000 by
    /// default.
    pub retry_ms: u64,
    /// Most open streams, 20,000 by default.
    pub streams_max: usize,
    /// Most open streams of one token, or of one address without one; no limit by default (0).
    pub token_streams_max: usize,
    /// Most open streams of one tenant; by default (0) half of all where tokens of several tenants
    /// hold or an issuer outside gives them out, else all.
    pub tenant_streams_max: usize,
    /// Bytes of rendered frames that are shared by all streams, 16 MiB by default.
    pub ring_bytes_max: usize,
    /// Most bytes that a stream is given at a time, 256 KiB by default.
    pub chunk_bytes_max: usize,
    /// A filtered stream tells where it is after passing over this many events, 1,000 by default.
    pub passed_over_max: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            public_url: None,
            json_bytes_max: 16 << 20,
            batch_bytes_max: 32 << 20,
            json_depth_max: 64,
            batch_operations_max: 1000,
            content_bytes_max: 16 << 30,
            content_inline_bytes_max: 64 << 10,
            content_chunk_bytes: 256 << 10,
            ranges_max: 32,
            page_limit: 50,
            page_limit_max: 500,
            wait_ms: 2000,
            wait_ms_max: 60_000,
            write_wait_ms: 10_000,
            jobs_kept_max: 1000,
            requests_kept_max: 2000,
            outputs_bytes_max: 256 << 20,
            workers: 0,
            connections_max: 25_000,
            request_head_ms: 10_000,
            body_ms: 30_000,
            body_bytes_per_s: 1024,
            write_stall_ms: 60_000,
            keep_alive_ms: 75_000,
            shutdown_s: 8,
            past: PastSettings::default(),
            sse: SseOptions::default(),
            cors_origins: Vec::new(),
            limits: LimitOptions::default(),
        }
    }
}

impl Default for LimitOptions {
    fn default() -> Self {
        Self {
            token_per_s: 0,
            address_per_s: 0,
            failures_per_s: 1000,
            burst_s: 10,
            remembered_max: 1 << 16,
        }
    }
}

impl Default for SseOptions {
    fn default() -> Self {
        Self {
            heartbeat_ms: 15_000,
            retry_ms: 2000,
            streams_max: 20_000,
            token_streams_max: 0,
            tenant_streams_max: 0,
            ring_bytes_max: 16 << 20,
            chunk_bytes_max: 256 << 10,
            passed_over_max: 1000,
        }
    }
}

/// An option out of its range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name} is {value}, expected {expected}")]
pub struct OptionsError {
    /// The option.
    pub name: &'static str,
    /// Its value.
    pub value: String,
    /// What is taken.
    pub expected: String,
}

impl Options {
    /// Holds every option against its range.
    ///
    /// # Errors
    /// [`OptionsError`] names the first that is out of it.
    #[expect(clippy::too_many_lines, reason = "one table")]
    pub fn check(&self) -> Result<(), OptionsError> {
        if let Some(url) = &self.public_url {
            let authority = url
                .strip_prefix("https://")
                .or_else(|| url.strip_prefix("http://"));
            if authority.is_none_or(|rest| rest.is_empty() || rest.contains(['?', '#', ' '])) {
                let expected = "an absolute http or https URL".to_owned();
                return Err(OptionsError {
                    name: "public_url",
                    value: url.clone(),
                    expected,
                });
            }
        }
        if let Err(value) = Cors::read(&self.cors_origins) {
            return Err(OptionsError {
                name: "http.cors_origins",
                value,
                expected: "origins such as https://app.example, or * alone".to_owned(),
            });
        }
        let (sse, limits) = (&self.sse, &self.limits);
        let ranges: [(&'static str, u64, u64, u64); 31] = [
            ("limits.token_per_s", limits.token_per_s, 0, PER_S_MAX),
            ("limits.address_per_s", limits.address_per_s, 0, PER_S_MAX),
            ("limits.failures_per_s", limits.failures_per_s, 0, PER_S_MAX),
            ("limits.burst_s", limits.burst_s, 1, 3600),
            (
                "limits.remembered_max",
                limits.remembered_max as u64,
                64,
                1 << 24,
            ),
            (
                "json_bytes_max",
                self.json_bytes_max as u64,
                1 << 10,
                1 << 30,
            ),
            (
                "batch_bytes_max",
                self.batch_bytes_max as u64,
                1 << 10,
                1 << 30,
            ),
            ("json_depth_max", self.json_depth_max as u64, 4, 120),
            (
                "batch_operations_max",
                self.batch_operations_max as u64,
                1,
                65_535,
            ),
            ("content_bytes_max", self.content_bytes_max, 1, 1 << 50),
            (
                "content_inline_bytes_max",
                self.content_inline_bytes_max as u64,
                1 << 10,
                16 << 20,
            ),
            (
                "content_chunk_bytes",
                self.content_chunk_bytes as u64,
                4 << 10,
                16 << 20,
            ),
            ("ranges_max", self.ranges_max as u64, 1, 1000),
            (
                "page_limit",
                self.page_limit as u64,
                1,
                self.page_limit_max as u64,
            ),
            ("page_limit_max", self.page_limit_max as u64, 1, 10_000),
            ("wait_ms", self.wait_ms, 0, self.wait_ms_max),
            ("wait_ms_max", self.wait_ms_max, 0, 600_000),
            ("write_wait_ms", self.write_wait_ms, 1, 600_000),
            ("jobs_kept_max", self.jobs_kept_max as u64, 1, 1_000_000),
            (
                "requests_kept_max",
                self.requests_kept_max as u64,
                1,
                1_000_000,
            ),
            ("workers", self.workers as u64, 0, 1024),
            ("connections_max", self.connections_max as u64, 1, 1_000_000),
            ("request_head_ms", self.request_head_ms, 100, 600_000),
            ("body_ms", self.body_ms, 100, 3_600_000),
            ("body_bytes_per_s", self.body_bytes_per_s, 1, 1 << 30),
            ("write_stall_ms", self.write_stall_ms, 100, 3_600_000),
            ("keep_alive_ms", self.keep_alive_ms, 0, 3_600_000),
            ("shutdown_s", self.shutdown_s, 0, 600),
            ("sse.heartbeat_ms", sse.heartbeat_ms, 10, 3_600_000),
            ("sse.streams_max", sse.streams_max as u64, 1, 1_000_000),
            (
                "sse.chunk_bytes_max",
                sse.chunk_bytes_max as u64,
                1 << 10,
                16 << 20,
            ),
        ];
        for (name, value, least, most) in ranges {
            if !(least..=most).contains(&value) {
                let expected = format!("{least} to {most}");
                return Err(OptionsError {
                    name,
                    value: value.to_string(),
                    expected,
                });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_pass_and_what_is_out_of_range_is_named() {
        assert_eq!(Options::default().check(), Ok(()));
        let error = Options {
            page_limit: 501,
            ..Options::default()
        }
        .check()
        .unwrap_err();
        assert_eq!(error.to_string(), "page_limit is 501, expected 1 to 500");
        let url = |url: &str| Options {
            public_url: Some(url.to_owned()),
            ..Options::default()
        };
        assert!(url("https://stemma.example/base").check().is_ok());
        assert_eq!(
            url("stemma.example").check().unwrap_err().name,
            "public_url"
        );
    }
}
