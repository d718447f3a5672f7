//! A collector that spans are exported to: OTLP over HTTP, in its JSON encoding.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::Value;

/// How long spans are waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// A span that was handed over.
#[derive(Debug, Clone)]
pub struct TracedSpan {
    /// What it is called.
    pub name: String,
    /// The trace, in 32 digits.
    pub trace: String,
    /// Its own id, in 16 digits.
    pub id: String,
    /// The span that it is a part of.
    pub parent: Option<String>,
    /// All of it.
    pub whole: Value,
}

#[derive(Debug, Default)]
struct State {
    spans: Vec<TracedSpan>,
    heads: Vec<String>,
    is_over: bool,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

/// A collector that runs until it is dropped.
#[derive(Debug)]
pub struct Collector {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

impl Collector {
    /// One that takes all that it is given.
    pub fn start() -> Self {
        Self::with(true)
    }

    /// One that takes connections and never answers.
    pub fn silent() -> Self {
        Self::with(false)
    }

    fn with(answers: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let shared = Arc::<Shared>::default();
        let own = Arc::clone(&shared);
        let accepting = thread::spawn(move || {
            let mut kept = Vec::new();
            for client in listener.incoming().map_while(Result::ok) {
                if own.state.lock().expect("nobody panics with it").is_over {
                    return;
                }
                if answers {
                    let own = Arc::clone(&own);
                    // A client that went away is no fault of the collector's.
                    thread::spawn(move || serve(&client, &own).ok());
                } else {
                    kept.push(client);
                }
            }
        });
        Self {
            address,
            shared,
            accepting: Some(accepting),
        }
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The heads of all requests, in lower case.
    ///
    /// # Panics
    /// Never: nobody panics while holding the lock.
    pub fn heads(&self) -> Vec<String> {
        let state = self.shared.state.lock().expect("nobody panics with it");
        state.heads.clone()
    }

    /// All spans, once they are as asked.
    ///
    /// # Panics
    /// When they do not come to be in time.
    pub fn spans_when(&self, are_there: impl Fn(&[TracedSpan]) -> bool) -> Vec<TracedSpan> {
        let state = self.shared.state.lock().expect("nobody panics with it");
        let waited = self
            .shared
            .changed
            .wait_timeout_while(state, PATIENCE, |state| !are_there(&state.spans));
        let (state, timeout) = waited.expect("nobody panics with it");
        assert!(!timeout.timed_out(), "{:#?}", state.spans);
        state.spans.clone()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        if let Ok(mut state) = self.shared.state.lock() {
            state.is_over = true;
        }
        // Wakes the thread that accepts.
        drop(TcpStream::connect(self.address));
        if let Some(accepting) = self.accepting.take() {
            accepting.join().ok();
        }
    }
}

fn serve(client: &TcpStream, shared: &Shared) -> io::Result<()> {
    let mut reader = BufReader::new(client);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head)? == 0 {
                return Ok(());
            }
        }
        let head = head.to_ascii_lowercase();
        let length = head.split_once("content-length: ").map_or("0", |(_, l)| l);
        let length = length.lines().next().unwrap_or("0").trim();
        let length: u64 = length.parse().map_err(io::Error::other)?;
        let mut body = Vec::new();
        reader.by_ref().take(length).read_to_end(&mut body)?;
        let body: Value = serde_json::from_slice(&body)?;
        let all = &body["resourceSpans"][0]["scopeSpans"][0]["spans"];
        let mut state = shared.state.lock().expect("nobody panics with it");
        for span in all.as_array().into_iter().flatten() {
            let text = |name: &str| span[name].as_str().unwrap_or_default().to_owned();
            state.spans.push(TracedSpan {
                name: text("name"),
                trace: text("traceId"),
                id: text("spanId"),
                parent: span["parentSpanId"].as_str().map(str::to_owned),
                whole: span.clone(),
            });
        }
        state.heads.push(head);
        shared.changed.notify_all();
        drop(state);
        let mut out = client;
        out.write_all(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}",
        )?;
    }
}
