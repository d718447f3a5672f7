//! A reader of `text/event-stream` that shows frames as they were sent, comments included.

use futures_util::{Stream, StreamExt};
use serde_json::Value;
use std::pin::Pin;

/// One frame of a stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SseEvent {
    /// `id:`
    pub id: Option<String>,
    /// `event:`
    pub event: Option<String>,
    /// `data:`, its lines joined.
    pub data: Option<String>,
    /// `retry:`
    pub retry: Option<String>,
    /// Comment lines.
    pub comments: Vec<String>,
}

impl SseEvent {
    /// The data as JSON.
    ///
    /// # Panics
    /// When there is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(self.data.as_deref().expect("data")).expect("JSON")
    }

    /// Whether this is an event of the log, not a signal of the stream.
    pub fn is_event(&self) -> bool {
        self.event
            .as_deref()
            .is_some_and(|name| !name.starts_with("stemma."))
    }

    /// The position named by `id:`.
    ///
    /// # Panics
    /// When there is none.
    pub fn position(&self) -> u64 {
        self.id
            .as_deref()
            .expect("an id")
            .parse()
            .expect("a position")
    }
}

/// Reads frames off an answer.
pub struct SseReader {
    body: Pin<Box<dyn Stream<Item = Vec<u8>> + Send>>,
    buffer: Vec<u8>,
    /// How much of the buffer has been taken.
    taken: usize,
}

impl SseReader {
    /// Opens a stream.
    ///
    /// # Panics
    /// When the answer is no stream.
    pub async fn open(request: reqwest::RequestBuilder) -> Self {
        let response = request.send().await.expect("the server answers");
        assert_eq!(
            response.status().as_u16(),
            200,
            "{:?}",
            response.text().await
        );
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let body = response.bytes_stream();
        let body = body.take_while(|chunk| std::future::ready(chunk.is_ok()));
        let body = body.filter_map(async |chunk| chunk.ok().map(|bytes| bytes.to_vec()));
        Self {
            body: Box::pin(body),
            buffer: Vec::new(),
            taken: 0,
        }
    }

    /// The next frame; none at the end of the stream.
    pub async fn next(&mut self) -> Option<SseEvent> {
        loop {
            let left = &self.buffer[self.taken..];
            if let Some(end) = memchr::memmem::find(left, b"\n\n") {
                let frame = parse(std::str::from_utf8(&left[..end]).expect("UTF-8"));
                self.taken += end + 2;
                return Some(frame);
            }
            self.buffer.drain(..std::mem::take(&mut self.taken));
            self.buffer.extend_from_slice(&self.body.next().await?);
        }
    }

    /// The next event of the log, passing over signals and comments.
    pub async fn next_event(&mut self) -> Option<SseEvent> {
        loop {
            let frame = self.next().await?;
            if frame.is_event() {
                return Some(frame);
            }
        }
    }

    /// Reads on to the signal of this name.
    ///
    /// # Panics
    /// When the stream ends before.
    pub async fn until(&mut self, event: &str) -> SseEvent {
        loop {
            let frame = self.next().await.expect("the stream goes on");
            if frame.event.as_deref() == Some(event) {
                return frame;
            }
        }
    }
}

fn parse(frame: &str) -> SseEvent {
    let mut parsed = SseEvent::default();
    for line in frame.lines().filter(|line| !line.is_empty()) {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value).to_owned();
        match field {
            "" => parsed.comments.push(value),
            "id" => parsed.id = Some(value),
            "event" => parsed.event = Some(value),
            "retry" => parsed.retry = Some(value),
            "data" => match &mut parsed.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(&value);
                }
                None => parsed.data = Some(value),
            },
            _ => {}
        }
    }
    parsed
}
