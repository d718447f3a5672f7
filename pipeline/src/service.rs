//! A parsing service that is asked over HTTP, in place of the parser's process.
//!
//! A document is sent, and the job that the service made of it is asked for until it is done.
//! `docs/parsing-service.md` describes what a service answers. What it answers is a stranger's
//! word: it is limited in size and checked like the parser's process.

mod waiting;

use std::io::{BufReader, Read};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use stemma_inference::{Secret, stoppable_agent, with_stop};
use ureq::http::{Response, StatusCode, header};
use ureq::{Agent, Body, SendBody};
use waiting::Waiting;

use crate::parse::{Parsed, Structure};
use crate::validate::Declared;
use crate::{DocumentError, Limits};

/// The most bytes that a service's answer may have beside those of the text.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// How long a connection is waited for.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Where a parsing service is, and how patiently it is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParsingService {
    /// Where documents are sent to (`documents.parser_url`).
    pub url: String,
    /// The bearer token that is sent along, if one is needed.
    pub token: Option<Secret>,
    /// Milliseconds between two questions about a job, unless the service names a time; 500 by
    /// default.
    pub poll_interval_ms: u64,
    /// How often a request is tried whose failure may pass; 5 by default.
    pub tries_max: u32,
    /// Milliseconds after the first such failure until the next try, doubled for each further
    /// one; 500 by default.
    pub retry_interval_ms: u64,
}

#[derive(Deserialize)]
#[serde(tag = "status", rename_all = "snake_case")]
enum Answer {
    Pending { job: Option<String> },
    Processing { job: Option<String> },
    Done { document: Document },
    Failed { error: Failure },
}

#[derive(Deserialize)]
struct Document {
    text: String,
    #[serde(default)]
    title: Option<String>,
    #[serde(default)]
    headings: Vec<crate::parse::Heading>,
    #[serde(default)]
    pages: Vec<crate::parse::PageSpan>,
    #[serde(default)]
    tables: Vec<crate::parse::Table>,
    #[serde(default)]
    warnings: Vec<String>,
}

#[derive(Deserialize)]
struct Failure {
    message: String,
    #[serde(default)]
    transient: bool,
}

/// How one request ended.
enum Outcome {
    Answer(Answer, Option<Duration>),
    /// It may be tried again, after the time that the service named.
    Again(String, Option<Duration>),
}

impl ParsingService {
    /// A service with the default patience.
    pub fn new(url: String) -> Self {
        Self {
            url,
            token: None,
            poll_interval_ms: 500,
            tries_max: 5,
            retry_interval_ms: 500,
        }
    }

    /// Has a document parsed.
    ///
    /// `open` gives the content, once for each try; `media_type` is what was found in it. Blocks
    /// until the service is done, `cancelled` is seen set (some twenty times a second, while an
    /// answer is waited for as well; not while connecting, for five seconds at the most, or while
    /// the service does not take what is sent), or `parser_timeout_ms` have passed. `Retry-After`
    /// is honoured up to that time.
    ///
    /// # Errors
    /// [`ServiceRefused`](DocumentError::ServiceRefused) when the service says that it cannot read
    /// the document; [`ParserUnavailable`](DocumentError::ParserUnavailable) when it cannot be
    /// reached or keeps failing; [`ParserCrashed`](DocumentError::ParserCrashed) when its answer is
    /// not as described.
    pub fn parse<R: Read>(
        &self,
        open: impl Fn() -> std::io::Result<R>,
        declared: &Declared<'_>,
        media_type: &str,
        limits: &Limits,
        cancelled: &Arc<AtomicBool>,
    ) -> Result<Parsed, DocumentError> {
        let mut waiting = Waiting::new(limits, cancelled);
        let submit = |agent: &Agent| {
            let unreadable = |error: std::io::Error| DocumentError::ContentUnreadable {
                reason: error.to_string(),
            };
            let mut content = open().map_err(unreadable)?;
            let name = utf8_percent_encode(declared.file_name, NON_ALPHANUMERIC);
            let mut request = agent
                .post(&self.url)
                .header(header::CONTENT_TYPE, media_type)
                .header("X-File-Name", name.to_string());
            if let Some(token) = &self.token {
                request =
                    request.header(header::AUTHORIZATION, format!("Bearer {}", token.expose()));
            }
            if let Some(parent) = stemma_telemetry::traceparent() {
                request = request.header("traceparent", parent);
            }
            Ok(request.send(SendBody::from_reader(&mut content)))
        };
        let (mut answer, mut after) = self.ask(&mut waiting, limits, submit)?;
        let mut job: Option<String> = None;
        loop {
            match answer {
                Answer::Done { document } => return accept(document, limits),
                Answer::Failed { error } => return Err(failed(&error)),
                Answer::Pending { job: named } | Answer::Processing { job: named } => {
                    if let Some(named) = named {
                        job = Some(self.resolve(&named)?);
                    }
                }
            }
            let Some(url) = job.clone() else {
                return Err(nonsense("it names no job"));
            };
            waiting.wait(after.unwrap_or(Duration::from_millis(self.poll_interval_ms)))?;
            let poll = |agent: &Agent| {
                let mut request = agent.get(&url);
                if let Some(token) = &self.token {
                    request =
                        request.header(header::AUTHORIZATION, format!("Bearer {}", token.expose()));
                }
                if let Some(parent) = stemma_telemetry::traceparent() {
                    request = request.header("traceparent", parent);
                }
                Ok(request.call())
            };
            (answer, after) = self.ask(&mut waiting, limits, poll)?;
        }
    }

    /// Sends a request until it is answered, or has failed too often.
    fn ask(
        &self,
        waiting: &mut Waiting,
        limits: &Limits,
        send: impl Fn(&Agent) -> Result<Result<Response<Body>, ureq::Error>, DocumentError>,
    ) -> Result<(Answer, Option<Duration>), DocumentError> {
        let mut pause = Duration::from_millis(self.retry_interval_ms);
        let mut tries = 0;
        loop {
            tries += 1;
            let config = Agent::config_builder()
                .http_status_as_error(false)
                .max_redirects(0)
                .timeout_connect(Some(CONNECT_TIMEOUT))
                .timeout_global(Some(waiting.left()?))
                .build();
            let agent = stoppable_agent(config);
            let sent = with_stop(waiting.stop(), || read(send(&agent)?, limits));
            if waiting.stop().is_cancelled() {
                return Err(DocumentError::Cancelled);
            }
            let (reason, after) = match sent? {
                Outcome::Answer(answer, after) => return Ok((answer, after)),
                Outcome::Again(reason, after) => (reason, after),
            };
            if tries >= self.tries_max {
                return Err(DocumentError::ParserUnavailable { reason });
            }
            waiting.wait(after.unwrap_or(pause))?;
            pause = pause.saturating_mul(2);
        }
    }

    /// The address of a job: a path on the service itself, or its full address there. The service
    /// cannot send us, with our token, elsewhere.
    fn resolve(&self, job: &str) -> Result<String, DocumentError> {
        let scheme = self.url.find("://").map_or(0, |at| at + 3);
        let host_end = self.url[scheme..].find(['/', '?', '#']);
        let origin = &self.url[..host_end.map_or(self.url.len(), |at| scheme + at)];
        let inside = |path: &str| path.is_empty() || path.starts_with('/');
        match job.strip_prefix(origin) {
            Some(path) if inside(path) => Ok(job.to_owned()),
            _ if job.starts_with('/') && !job.starts_with("//") => Ok(format!("{origin}{job}")),
            _ => Err(nonsense("its job is elsewhere")),
        }
    }
}

/// Reads the answer to one request.
fn read(
    response: Result<Response<Body>, ureq::Error>,
    limits: &Limits,
) -> Result<Outcome, DocumentError> {
    let mut response = match response {
        Ok(response) => response,
        Err(error) => return Ok(Outcome::Again(error.to_string(), None)),
    };
    let status = response.status();
    let after = response.headers().get(header::RETRY_AFTER);
    let after = after.and_then(|value| value.to_str().ok()?.trim().parse().ok());
    let after = after.map(Duration::from_secs);
    let passing = [
        StatusCode::REQUEST_TIMEOUT,
        StatusCode::TOO_MANY_REQUESTS,
        StatusCode::INTERNAL_SERVER_ERROR,
        StatusCode::BAD_GATEWAY,
        StatusCode::SERVICE_UNAVAILABLE,
        StatusCode::GATEWAY_TIMEOUT,
    ];
    if passing.contains(&status) {
        return Ok(Outcome::Again(format!("it answered {status}"), after));
    }
    let bytes_max = limits.text_bytes_max.saturating_add(ANSWER_BYTES_MAX);
    let body = response.body_mut().with_config().limit(bytes_max).reader();
    if !status.is_success() {
        return Err(DocumentError::ServiceRefused {
            reason: format!("{status}: {}", beginning(body)),
        });
    }
    match serde_json::from_reader(BufReader::new(body)) {
        Ok(answer) => Ok(Outcome::Answer(answer, after)),
        Err(error) if error.is_io() => Ok(Outcome::Again(error.to_string(), None)),
        Err(error) => Err(nonsense(&error.to_string())),
    }
}

/// The beginning of what a service said, for people.
fn beginning(body: impl Read) -> String {
    const BYTES_MAX: u64 = 300;
    let mut bytes = Vec::new();
    let _ = body.take(BYTES_MAX).read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes);
    let plain: String = text.chars().filter(|c| !c.is_control()).collect();
    stemma_inference::masked(&plain)
}

fn failed(failure: &Failure) -> DocumentError {
    let reason = beginning(failure.message.as_bytes());
    if failure.transient {
        DocumentError::ParserUnavailable { reason }
    } else {
        DocumentError::ServiceRefused { reason }
    }
}

fn nonsense(reason: &str) -> DocumentError {
    DocumentError::ParserCrashed {
        reason: format!("the service answered nonsense: {reason}"),
    }
}

/// Takes what a service read, once it is what it should be.
fn accept(document: Document, limits: &Limits) -> Result<Parsed, DocumentError> {
    let pages = u32::try_from(document.pages.len()).unwrap_or(u32::MAX);
    if pages > limits.pages_max {
        return Err(DocumentError::TooManyPages {
            pages,
            pages_max: limits.pages_max,
        });
    }
    let parsed = Parsed {
        text: document.text,
        structure: Structure {
            title: document.title,
            headings: document.headings,
            pages: document.pages,
            tables: document.tables,
        },
        warnings: document.warnings,
    };
    if !parsed.check() {
        return Err(nonsense("its spans lie outside of its text"));
    }
    crate::parse::finish(parsed, limits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_looked_for_only_where_the_document_was_sent() {
        let service = ParsingService::new("http://parser:8080/v1/documents".to_owned());
        let job = |job: &str| service.resolve(job).ok();
        assert_eq!(job("/jobs/7").as_deref(), Some("http://parser:8080/jobs/7"));
        assert!(job("http://parser:8080/jobs/7").is_some());
        for elsewhere in [
            "http://parser:80801/",
            "http://other/",
            "//other/x",
            "jobs/7",
        ] {
            assert_eq!(job(elsewhere), None, "{elsewhere}");
        }
        assert_eq!(job("http://parser:8080@other/"), None);
    }
}
