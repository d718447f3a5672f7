//! Handing spans over to a collector that speaks OTLP over HTTP.
//!
//! Invariant: whoever ends a span never waits. What the queue has no room for is dropped and
//! counted, and so is what the collector does not take.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ureq::Agent;

use crate::otlp;
use crate::span::Ended;

/// Spans that are handed over at a time.
const BATCH_SPANS_MAX: usize = 512;
/// How long spans are gathered.
const GATHER: Duration = Duration::from_secs(1);
/// How often the thread looks whether it is to end.
const LOOK_AROUND: Duration = Duration::from_millis(200);
/// How long a collector may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the thread goes on handing over once it is to end.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// How often a batch is offered to a collector that cannot take it now.
const TRY_COUNT: u32 = 3;
/// How long is waited before the second try; twice as long before the third.
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// Where traces go, behind the endpoint.
const PATH: &str = "/v1/traces";

static SINK: OnceLock<Sink> = OnceLock::new();

/// Where spans go.
#[derive(Debug)]
pub(crate) struct Sink {
    queue: SyncSender<Ended>,
    now_ns: fn() -> u64,
    is_over: AtomicBool,
    n_queued: AtomicU64,
    n_exported: AtomicU64,
    n_dropped: AtomicU64,
    n_failed: AtomicU64,
}

/// Where a collector is, and what it is told of us.
#[derive(Clone)]
pub struct Options {
    /// The collector, such as `http://127.0.0.1:4318`; `/v1/traces` is put behind it.
    pub endpoint: String,
    /// Headers of every request, such as a key.
    pub headers: Vec<(String, String)>,
    /// Most spans that wait to be handed over.
    pub queue_max: usize,
    /// What is said of the process, such as `service.name`.
    pub resource: Vec<(String, String)>,
    /// The time in nanoseconds since 1970.
    pub now_ns: fn() -> u64,
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}

/// Why nothing can be exported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OptionsError {
    /// The collector's address is none.
    #[error("the collector's address is no URL of http or https without user, query or fragment")]
    Endpoint,
    /// A header cannot be one.
    #[error("header {name:?} cannot be sent")]
    Header {
        /// Its name.
        name: String,
    },
    /// It was started before.
    #[error("spans are exported already")]
    Twice,
    /// The system refused a thread.
    #[error("start the thread that exports spans")]
    Thread(#[source] std::io::Error),
}

/// What came of spans so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stats {
    /// Spans that wait to be handed over.
    pub queued: u64,
    /// Spans that the collector took.
    pub exported: u64,
    /// Spans that the queue had no room for.
    pub dropped: u64,
    /// Spans that the collector did not take.
    pub failed: u64,
}

/// The thread that hands spans over.
#[derive(Debug)]
pub struct Exporter {
    thread: Option<JoinHandle<()>>,
}

pub(crate) fn sink() -> Option<&'static Sink> {
    SINK.get()
}

/// What came of spans; none where they are not exported.
pub fn stats() -> Option<Stats> {
    let sink = sink()?;
    let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
    Some(Stats {
        queued: of(&sink.n_queued),
        exported: of(&sink.n_exported),
        dropped: of(&sink.n_dropped),
        failed: of(&sink.n_failed),
    })
}

impl Sink {
    pub(crate) fn now_ns(&self) -> u64 {
        (self.now_ns)()
    }

    /// Takes a span, or drops it. Waits for nothing.
    pub(crate) fn take(&self, ended: Ended) {
        // Counted before, so that the thread never takes out what was not counted in.
        self.n_queued.fetch_add(1, Ordering::Relaxed);
        if self.queue.try_send(ended).is_err() {
            self.n_queued.fetch_sub(1, Ordering::Relaxed);
            self.n_dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Options {
    fn check(&self) -> Result<(), OptionsError> {
        let endpoint = &self.endpoint;
        let rest = endpoint
            .strip_prefix("https://")
            .or(endpoint.strip_prefix("http://"));
        let rest = rest.filter(|rest| !rest.is_empty() && !rest.contains(['@', '?', '#']));
        let url = rest.and_then(|_| endpoint.parse::<ureq::http::Uri>().ok());
        url.ok_or(OptionsError::Endpoint)?;
        for (name, value) in &self.headers {
            let is_name = ureq::http::HeaderName::try_from(name.as_str()).is_ok();
            if !is_name || ureq::http::HeaderValue::try_from(value.as_str()).is_err() {
                let name = name.clone();
                return Err(OptionsError::Header { name });
            }
        }
        Ok(())
    }
}

impl Exporter {
    /// Begins to export the spans of this process. Once in its life.
    ///
    /// # Errors
    /// [`OptionsError`]; nothing is exported then.
    pub fn start(options: Options) -> Result<Self, OptionsError> {
        options.check()?;
        let (queue, queued) = sync_channel(options.queue_max);
        let sink = Sink {
            queue,
            now_ns: options.now_ns,
            is_over: AtomicBool::new(false),
            n_queued: AtomicU64::new(0),
            n_exported: AtomicU64::new(0),
            n_dropped: AtomicU64::new(0),
            n_failed: AtomicU64::new(0),
        };
        SINK.set(sink).map_err(|_| OptionsError::Twice)?;
        let sink = sink_that_is_set();
        let thread = std::thread::Builder::new().name("otlp".to_owned());
        let thread = thread.spawn(move || run(sink, &options, &queued));
        Ok(Self {
            thread: Some(thread.map_err(OptionsError::Thread)?),
        })
    }
}

fn sink_that_is_set() -> &'static Sink {
    sink().expect("it was set a moment ago")
}

impl Drop for Exporter {
    /// Hands over what waits, for ten seconds at most, and ends.
    fn drop(&mut self) {
        sink_that_is_set().is_over.store(true, Ordering::Release);
        if self.thread.take().is_some_and(|t| t.join().is_err()) {
            tracing::error!("the thread that exports spans ended by a mistake of ours");
        }
    }
}

fn run(sink: &Sink, options: &Options, queued: &Receiver<Ended>) {
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .timeout_global(Some(ANSWER_TIMEOUT));
    let agent: Agent = config.build().into();
    let url = format!("{}{PATH}", options.endpoint.trim_end_matches('/'));
    let is_over = || sink.is_over.load(Ordering::Acquire);
    let mut is_well = true;
    let mut until = None;
    loop {
        let spans = gather(queued, &is_over);
        if is_over() {
            let until = *until.get_or_insert_with(|| Instant::now() + LAST_WORDS);
            if spans.is_empty() || Instant::now() >= until {
                return;
            }
        }
        if spans.is_empty() {
            continue;
        }
        let count = spans.len() as u64;
        sink.n_queued.fetch_sub(count, Ordering::Relaxed);
        match hand_over(&agent, &url, options, &spans, &is_over) {
            Ok(()) => {
                sink.n_exported.fetch_add(count, Ordering::Relaxed);
                is_well = true;
            }
            Err(why) => {
                sink.n_failed.fetch_add(count, Ordering::Relaxed);
                // Said once, and again when it was well in between.
                if std::mem::replace(&mut is_well, false) {
                    tracing::warn!("the collector at {url} took no spans: {why}");
                }
            }
        }
    }
}

/// Spans until there are enough, or it is time; none when none came for a while.
fn gather(queued: &Receiver<Ended>, is_over: &dyn Fn() -> bool) -> Vec<Ended> {
    let mut spans = Vec::new();
    let mut until: Option<Instant> = None;
    while spans.len() < BATCH_SPANS_MAX {
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        let wait = if is_over() {
            Duration::ZERO
        } else {
            left.unwrap_or(LOOK_AROUND).min(LOOK_AROUND)
        };
        match queued.recv_timeout(wait) {
            Ok(ended) => {
                spans.push(ended);
                until.get_or_insert_with(|| Instant::now() + GATHER);
            }
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                if is_over() || until.is_none_or(|until| Instant::now() >= until) {
                    break;
                }
            }
        }
    }
    spans
}

/// Offers a batch, again for a while to a collector that cannot take it now.
fn hand_over(
    agent: &Agent,
    url: &str,
    options: &Options,
    spans: &[Ended],
    is_over: &dyn Fn() -> bool,
) -> Result<(), String> {
    let body = otlp::body(spans, &options.resource);
    let mut wait = FIRST_WAIT;
    for tried in 1.. {
        let mut request = agent.post(url).header("Content-Type", "application/json");
        for (name, value) in &options.headers {
            request = request.header(name, value);
        }
        let why = match request.send(&body[..]) {
            Ok(answer) if answer.status().is_success() => return Ok(()),
            Ok(answer) => {
                let status = answer.status().as_u16();
                let why = format!("it answered {status}");
                if !matches!(status, 429 | 502..=504) {
                    return Err(why);
                }
                why
            }
            Err(error) => error.to_string(),
        };
        if tried >= TRY_COUNT || is_over() {
            return Err(why);
        }
        std::thread::sleep(wait);
        wait *= 2;
    }
    Err("it was never asked".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_and_headers_are_checked_before_anything_is_sent() {
        let options = |endpoint: &str, header: (&str, &str)| Options {
            endpoint: endpoint.to_owned(),
            headers: vec![(header.0.to_owned(), header.1.to_owned())],
            queue_max: 1,
            resource: Vec::new(),
            now_ns: || 0,
        };
        let fine = ("api-key", "a b");
        assert!(options("http://127.0.0.1:4318", fine).check().is_ok());
        for bad in ["", "127.0.0.1:4318", "http://", "http://u:p@h", "ftp://h"] {
            assert!(options(bad, fine).check().is_err(), "{bad}");
        }
        for bad in [("a b", "c"), ("", "c"), ("a", "b\nc")] {
            assert!(options("http://h", bad).check().is_err(), "{bad:?}");
        }
        let told = format!("{:?}", options("http://h", ("key", "secret")));
        assert!(!told.contains("secret"), "{told}");
    }
}
