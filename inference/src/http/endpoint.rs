//! Talking to a server of models: one POST, its limits, and what each way to fail is called.
//!
//! Redirects are not followed, proxies named by the environment are not used, and nothing is sent
//! twice: who calls decides about trying again. A connection is kept and used again when the
//! server has not closed it; one that it closes just then is an
//! [`Unreachable`](InferenceError::Unreachable).

use std::io::Read;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use ureq::http::{HeaderMap, Response, StatusCode, Uri};
use ureq::{Agent, Body};

use super::stoppable::{stoppable_agent, with_stop};
use crate::error::{EXCERPT_CHARS_MAX, InferenceError, RETRY_AFTER_MAX, excerpt};
use crate::secret::Secret;
use crate::stop::Stop;

/// Most bytes of the body of a refusal that are read for its excerpt.
const REFUSAL_BYTES_MAX: u64 = 16 << 10;

/// Most bytes of an answer's headers.
const HEADER_BYTES_MAX: usize = 64 << 10;

/// Where a server of models is, and how long to wait for it.
#[derive(Debug, Clone)]
pub struct EndpointOptions {
    /// The address that `/embeddings` and `/chat/completions` are put after, such as
    /// `https://api.openai.com/v1` or `http://127.0.0.1:11434/v1`.
    pub url: String,
    /// Sent as `Authorization: Bearer …`; none for a server that asks for none.
    pub api_key: Option<Secret>,
    /// How long making a connection may take; 5 s. A call that is cancelled meanwhile waits for
    /// it.
    pub connect_timeout: Duration,
    /// How long the headers of an answer may take; 120 s. A server that does not stream sends
    /// them when the answer is ready.
    pub first_byte_timeout: Duration,
    /// How long a call may take altogether; 600 s. A [`Stop`] with an earlier deadline wins.
    pub total_timeout: Duration,
    /// Most bytes of an answer; 64 MiB.
    pub body_bytes_max: u64,
}

impl EndpointOptions {
    /// Defaults, for a server at an address.
    pub fn at(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            api_key: None,
            connect_timeout: Duration::from_secs(5),
            first_byte_timeout: Duration::from_mins(2),
            total_timeout: Duration::from_mins(10),
            body_bytes_max: 64 << 20,
        }
    }
}

/// Why options cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EndpointError {
    /// The address is none.
    #[error("the model's address is not a URL of http or https without user, query or fragment")]
    Url,
    /// The key cannot stand in a header.
    #[error("the model's API key holds characters that no header may")]
    ApiKey,
    /// A limit is zero.
    #[error("{name} is zero")]
    Zero {
        /// Which one.
        name: &'static str,
    },
}

/// A server of models. Clones share its connections.
#[derive(Debug, Clone)]
pub struct Endpoint {
    agent: Agent,
    options: EndpointOptions,
}

impl Endpoint {
    /// Checks the options; nothing is connected to.
    ///
    /// # Errors
    /// [`EndpointError`] says what is wrong with them.
    pub fn new(options: EndpointOptions) -> Result<Self, EndpointError> {
        let options = EndpointOptions {
            url: checked_url(&options.url)?,
            ..options
        };
        let is_sendable = |key: &Secret| key.expose().bytes().all(|b| (0x21..0x7f).contains(&b));
        if options
            .api_key
            .as_ref()
            .is_some_and(|key| !is_sendable(key))
        {
            return Err(EndpointError::ApiKey);
        }
        for (name, is_zero) in [
            ("connect_timeout", options.connect_timeout.is_zero()),
            ("first_byte_timeout", options.first_byte_timeout.is_zero()),
            ("total_timeout", options.total_timeout.is_zero()),
            ("body_bytes_max", options.body_bytes_max == 0),
        ] {
            if is_zero {
                return Err(EndpointError::Zero { name });
            }
        }
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(None)
            .max_response_header_size(HEADER_BYTES_MAX)
            .timeout_connect(Some(options.connect_timeout))
            .timeout_recv_response(Some(options.first_byte_timeout))
            .build();
        let agent = stoppable_agent(config);
        Ok(Self { agent, options })
    }

    /// The address, without a slash at its end.
    pub fn url(&self) -> &str {
        &self.options.url
    }

    /// Sends a question and reads the whole answer as JSON.
    pub(super) fn ask<Q: Serialize, A: DeserializeOwned>(
        &self,
        path: &str,
        question: &Q,
        stop: &Stop,
    ) -> Result<A, InferenceError> {
        self.keyless(with_stop(stop, || {
            let answer = self.post(path, question, stop)?;
            let bytes_max = self.options.body_bytes_max;
            let mut bytes = Vec::new();
            answer
                .into_body()
                .into_reader()
                .take(bytes_max.saturating_add(1))
                .read_to_end(&mut bytes)
                .map_err(|source| broken(ureq::Error::from(source), stop))?;
            if bytes.len() as u64 > bytes_max {
                return Err(too_long(bytes_max));
            }
            serde_json::from_slice(&bytes).map_err(|error| not_json(&bytes, &error))
        }))
    }

    /// What was asked, without our key where the server repeats it.
    fn keyless<T>(&self, asked: Result<T, InferenceError>) -> Result<T, InferenceError> {
        match &self.options.api_key {
            Some(key) => asked.map_err(|error| error.without(key.expose())),
            None => asked,
        }
    }

    /// Sends a question and hands each piece of the answer's body to `take` as it comes, until
    /// the body ends or `take` is done.
    pub(super) fn ask_streaming<Q: Serialize>(
        &self,
        path: &str,
        question: &Q,
        take: &mut dyn FnMut(&[u8]) -> Result<Streaming, InferenceError>,
        stop: &Stop,
    ) -> Result<(), InferenceError> {
        self.keyless(with_stop(stop, || {
            let mut reader = self.post(path, question, stop)?.into_body().into_reader();
            let mut buffer = vec![0; 16 << 10];
            let mut left = self.options.body_bytes_max;
            loop {
                stop.check()?;
                let read = reader
                    .read(&mut buffer)
                    .map_err(|source| broken(ureq::Error::from(source), stop))?;
                left = left
                    .checked_sub(read as u64)
                    .ok_or_else(|| too_long(self.options.body_bytes_max))?;
                if read == 0 || take(&buffer[..read])? == Streaming::Done {
                    return Ok(());
                }
            }
        }))
    }

    fn post<Q: Serialize>(
        &self,
        path: &str,
        question: &Q,
        stop: &Stop,
    ) -> Result<Response<Body>, InferenceError> {
        stop.check()?;
        let left = stop.left().unwrap_or(self.options.total_timeout);
        let body =
            serde_json::to_vec(question).expect("what we ask is made of texts, numbers and lists");
        let mut request = self
            .agent
            .post(format!("{}{path}", self.options.url))
            .header("Content-Type", "application/json");
        if let Some(key) = &self.options.api_key {
            request = request.header("Authorization", format!("Bearer {}", key.expose()));
        }
        if let Some(parent) = stemma_telemetry::traceparent() {
            request = request.header("traceparent", parent);
        }
        let answer = request
            .config()
            .timeout_global(Some(left.min(self.options.total_timeout)))
            .build()
            .send(&body)
            .map_err(|error| broken(error, stop))?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        Err(refused(answer, stop))
    }
}

/// Whether more of a stream is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Streaming {
    /// It is.
    More,
    /// All that counts has come.
    Done,
}

fn checked_url(url: &str) -> Result<String, EndpointError> {
    let trimmed = url.trim_end_matches('/');
    let parsed: Uri = trimmed.parse().map_err(|_| EndpointError::Url)?;
    let authority = parsed.authority().ok_or(EndpointError::Url)?;
    let is_http = matches!(parsed.scheme_str(), Some("http" | "https"));
    let is_plain = !authority.as_str().contains('@') && !trimmed.contains(['?', '#']);
    if is_http && is_plain && !authority.host().is_empty() {
        return Ok(trimmed.to_owned());
    }
    Err(EndpointError::Url)
}

/// What a call that did not come through is called.
fn broken(error: ureq::Error, stop: &Stop) -> InferenceError {
    if stop.is_cancelled() {
        return InferenceError::Cancelled;
    }
    let waited_for = match &error {
        ureq::Error::Timeout(ureq::Timeout::Connect | ureq::Timeout::Resolve) => "the connection",
        ureq::Error::Timeout(ureq::Timeout::RecvResponse) => "the first byte of the answer",
        ureq::Error::Timeout(_) => "the whole answer",
        ureq::Error::Protocol(_) | ureq::Error::LargeResponseHeader(..) => {
            let what = format!("it is not HTTP: {}", excerpt(&error.to_string()));
            return InferenceError::Garbage { what };
        }
        _ => {
            return InferenceError::Unreachable {
                doing: "asking it",
                source: Box::new(error),
            };
        }
    };
    InferenceError::Timeout { waited_for }
}

fn refused(answer: Response<Body>, stop: &Stop) -> InferenceError {
    let status = answer.status();
    if matches!(
        status,
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
    ) {
        return InferenceError::Busy {
            status: status.as_u16(),
            retry_after: retry_after(answer.headers()),
        };
    }
    if status == StatusCode::REQUEST_TIMEOUT {
        let waited_for = "the server gave up on the question (408)";
        return InferenceError::Timeout { waited_for };
    }
    let mut bytes = Vec::new();
    let body = answer.into_body().into_reader();
    // What is missing of an explanation is only missed.
    let _ = body.take(REFUSAL_BYTES_MAX).read_to_end(&mut bytes);
    if stop.is_cancelled() {
        return InferenceError::Cancelled;
    }
    let (status, excerpt) = (status.as_u16(), explanation(&bytes));
    match status {
        500.. => InferenceError::Failed { status, excerpt },
        _ => InferenceError::Refused { status, excerpt },
    }
}

/// `{"error": {"message": …}}` or `{"error": …}`, and else the beginning of the body.
fn explanation(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let value: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    let message = value["error"]["message"].as_str();
    excerpt(message.or(value["error"].as_str()).unwrap_or(&text))
}

/// The seconds of a `Retry-After`, at most [`RETRY_AFTER_MAX`]. Its other form, a date, is not
/// read: it would take a clock that agrees with the server's.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get("Retry-After")?.to_str().ok()?.trim();
    let is_number = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
    // More digits than a number holds are longer than any pause.
    let seconds = is_number.then(|| value.parse().unwrap_or(u64::MAX))?;
    Some(Duration::from_secs(seconds).min(RETRY_AFTER_MAX))
}

fn too_long(bytes_max: u64) -> InferenceError {
    InferenceError::garbage(format!("it is longer than {bytes_max} bytes"))
}

/// What an answer is called that is not the JSON that was asked for.
pub(super) fn not_json(bytes: &[u8], error: &serde_json::Error) -> InferenceError {
    let shown = &bytes[..bytes.len().min(EXCERPT_CHARS_MAX)];
    InferenceError::garbage(format!(
        "{} in {}",
        excerpt(&error.to_string()),
        excerpt(&String::from_utf8_lossy(shown))
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_host_and_nothing_that_could_be_a_secret() {
        let url = |url: &str| Endpoint::new(EndpointOptions::at(url)).map(|e| e.url().to_owned());
        assert_eq!(
            url("http://[::1]:1/v1//").as_deref(),
            Ok("http://[::1]:1/v1")
        );
        for bad in [
            "",
            "host/v1",
            "ftp://host",
            "http://",
            "http://u:p@host/",
            "http://h/?key=1",
            "http://h/#x",
            "http://a b",
        ] {
            assert_eq!(url(bad), Err(EndpointError::Url), "{bad}");
        }
    }

    #[test]
    fn a_key_that_would_break_the_header_is_refused_and_not_shown() {
        let mut options = EndpointOptions::at("http://localhost");
        options.api_key = Some(Secret::new("top-secret\r\nX: y"));
        let error = Endpoint::new(options).unwrap_err();
        assert_eq!(error, EndpointError::ApiKey);
        assert!(!format!("{error} {error:?}").contains("top-secret"));
    }

    #[test]
    fn a_pause_is_taken_in_seconds_and_cut() {
        let seconds = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("Retry-After", value.parse().unwrap());
            retry_after(&headers)
        };
        assert_eq!(seconds("7"), Some(Duration::from_secs(7)));
        assert_eq!(seconds(&"9".repeat(40)), Some(RETRY_AFTER_MAX));
        for not_taken in ["-1", "", "soon", "Wed, 21 Oct 2015 07:28:00 GMT"] {
            assert_eq!(seconds(not_taken), None, "{not_taken}");
        }
    }
}
