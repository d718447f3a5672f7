//! Requests to a store of objects: signed, bounded, and tried again where that may help.
//!
//! Invariant: what an error says holds no URL, for a signature stands in it. No try of a change begins
//! or is waited for once the lock may be another's.

use std::io::{self, Read};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rusty_s3::actions::ListObjectsV2;
use rusty_s3::{Bucket, Credentials, S3Action};
use ureq::Agent;
use ureq::http::{HeaderMap, Request, Response};

use super::options::{S3Options, S3OptionsError, UrlStyle};

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a request may take altogether; one carries at most a part of a file.
const REQUEST_TIMEOUT: Duration = Duration::from_mins(10);
/// How long a signature holds.
const SIGNED_FOR: Duration = Duration::from_mins(15);
/// How often a request is made that a store does not answer, or not now.
const TRY_COUNT: u32 = 4;
/// How long is waited before the second try; each later wait is four times as long.
const FIRST_WAIT: Duration = Duration::from_millis(200);
/// Bytes of an answer that is read whole, besides those of a file.
const ANSWER_BYTES_MAX: u64 = 8 << 20;
/// Pages of a list, each of a thousand names.
const PAGE_COUNT_MAX: usize = 10_000;

/// What a request may do, which decides how long it is tried.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Tries {
    /// It changes nothing.
    Reading,
    /// It changes nothing that has a name; it is of use only while the lock is ours.
    Part,
    /// It changes what another may own once the lock is lost: no try outlives what is left of it.
    Change,
    /// It is waited for: no try takes longer than `timeout`, and all of them end at `until`.
    Brief { timeout: Duration, until: Instant },
}

/// A bucket, and the right to use it.
pub(crate) struct Store {
    agent: Agent,
    pub(crate) bucket: Bucket,
    credentials: Credentials,
    /// Names begin so; with a `/` at its end, or empty.
    pub(crate) prefix: String,
    /// Until when the lock is surely ours; none where it was not taken.
    held_until: Mutex<Option<Instant>>,
}

/// What a store answered.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

/// What a store said instead of doing it.
#[derive(Debug, thiserror::Error)]
#[error("the store answered {status}{}{code}", if code.is_empty() { "" } else { " " })]
struct Refused {
    status: u16,
    code: String,
}

impl Answer {
    /// The text of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The answer, if it is what was asked for.
    pub(crate) fn ok(self) -> io::Result<Self> {
        if (200..300).contains(&self.status) {
            return Ok(self);
        }
        let kind = match self.status {
            404 => io::ErrorKind::NotFound,
            401 | 403 => io::ErrorKind::PermissionDenied,
            _ => io::ErrorKind::Other,
        };
        let status = self.status;
        let code = code(&self.body);
        Err(io::Error::new(kind, Refused { status, code }))
    }

    /// The body as text.
    pub(crate) fn text(&self) -> io::Result<&str> {
        std::str::from_utf8(&self.body).map_err(unreadable)
    }
}

/// The code in the XML of a failure; a word for people.
fn code(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let rest = text.split_once("<Code>").map_or("", |(_, rest)| rest);
    let code = rest.split_once("</Code>").map_or("", |(code, _)| code);
    let plain = |c: &char| c.is_ascii_alphanumeric();
    code.chars().filter(plain).take(64).collect()
}

pub(crate) fn unreadable(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

impl Store {
    pub(crate) fn new(options: &S3Options) -> Result<Self, S3OptionsError> {
        options.check()?;
        let is_plain = |url: &str| {
            let rest = url
                .strip_prefix("https://")
                .or(url.strip_prefix("http://"))?;
            (!rest.is_empty() && !rest.contains(['@', '?', '#'])).then_some(())
        };
        is_plain(&options.endpoint).ok_or(S3OptionsError::Endpoint)?;
        let endpoint = options.endpoint.parse();
        let endpoint = endpoint.map_err(|_| S3OptionsError::Endpoint)?;
        let style = match options.url_style {
            UrlStyle::Path => rusty_s3::UrlStyle::Path,
            UrlStyle::Host => rusty_s3::UrlStyle::VirtualHost,
        };
        let (name, region) = (options.bucket.clone(), options.region.clone());
        let bucket = Bucket::new(endpoint, style, name, region);
        let (key, secret) = (&options.access_key, &options.secret_key);
        let credentials = match &options.session_token {
            Some(token) => Credentials::new_with_token(key, secret, token),
            None => Credentials::new(key, secret),
        };
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_connect(Some(CONNECT_TIMEOUT));
        let prefix = match options.prefix.as_str() {
            "" => String::new(),
            prefix => format!("{prefix}/"),
        };
        Ok(Self {
            agent: config.build().into(),
            bucket: bucket.map_err(|_| S3OptionsError::Endpoint)?,
            credentials,
            prefix,
            held_until: Mutex::default(),
        })
    }

    /// The name of a file's object.
    pub(crate) fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    pub(crate) fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// Notes until when the lock is ours, or that it is no more.
    pub(crate) fn hold_until(&self, until: Instant) {
        let mut held = self
            .held_until
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *held = Some(until);
    }

    /// Fails once another one may have taken the lock: what is written from then on may be theirs.
    pub(crate) fn must_hold(&self) -> io::Result<()> {
        self.left().map(drop)
    }

    /// How long the lock is surely ours yet; none where it was not taken.
    fn left(&self) -> io::Result<Option<Duration>> {
        let until = *self
            .held_until
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        if left == Some(Duration::ZERO) {
            let why = "the lock could not be kept; another process may have taken it over";
            return Err(io::Error::other(why));
        }
        Ok(left)
    }

    /// How long the next try may take.
    ///
    /// # Errors
    /// When there must be none.
    fn timeout(&self, tries: Tries) -> io::Result<Duration> {
        match tries {
            Tries::Reading => Ok(REQUEST_TIMEOUT),
            Tries::Part => self.must_hold().map(|()| REQUEST_TIMEOUT),
            Tries::Change => {
                let left = self.left()?;
                Ok(left.map_or(REQUEST_TIMEOUT, |left| left.min(REQUEST_TIMEOUT)))
            }
            Tries::Brief { timeout, until } => {
                let left = until.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Err(out_of_time());
                }
                Ok(left.min(timeout))
            }
        }
    }

    /// Makes a request, and again for a while if the store does not answer or is not able to now.
    ///
    /// # Errors
    /// When there was no answer, or may be no try. One that refuses is an answer.
    pub(crate) fn send<'a, A: S3Action<'a>>(
        &self,
        tries: Tries,
        mut action: A,
        headers: &[(&'static str, String)],
        body: Option<&[u8]>,
    ) -> io::Result<Answer> {
        for (name, value) in headers {
            action.headers_mut().insert(*name, value.clone());
        }
        let mut wait = FIRST_WAIT;
        let mut tried = 1;
        loop {
            let timeout = self.timeout(tries)?;
            let answer = self.send_once(&action, headers, body, timeout);
            // 400: among other things of a request that broke off on its way, as RequestTimeout and
            // IncompleteBody are. 409: a write of the same object is under way, perhaps an earlier
            // try of this one.
            let is_final = match &answer {
                Ok(answer) => !matches!(answer.status, 400 | 408 | 409 | 429 | 500 | 502..=504),
                Err(_) => false,
            };
            let is_over = match tries {
                Tries::Brief { until, .. } => Instant::now() + wait >= until,
                _ => false,
            };
            if is_final || is_over || tried >= TRY_COUNT {
                return answer;
            }
            std::thread::sleep(wait);
            wait *= 4;
            tried += 1;
        }
    }

    fn send_once<'a, A: S3Action<'a>>(
        &self,
        action: &A,
        headers: &[(&'static str, String)],
        body: Option<&[u8]>,
        timeout: Duration,
    ) -> io::Result<Answer> {
        let url = action.sign(SIGNED_FOR);
        let mut request = Request::builder()
            .method(A::METHOD.to_str())
            .uri(url.as_str());
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let answer = match body {
            Some(body) => {
                let request = self
                    .agent
                    .configure_request(request.body(body).map_err(unsent)?);
                self.agent
                    .run(request.timeout_global(Some(timeout)).build())
            }
            None => {
                let request = self
                    .agent
                    .configure_request(request.body(()).map_err(unsent)?);
                self.agent
                    .run(request.timeout_global(Some(timeout)).build())
            }
        };
        read(answer.map_err(failed)?)
    }

    /// The names of all objects below a directory, without the prefix.
    pub(crate) fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        let mut next: Option<String> = None;
        for _ in 0..PAGE_COUNT_MAX {
            let mut action = self.bucket.list_objects_v2(Some(self.credentials()));
            action.with_prefix(self.key(&format!("{dir}/")));
            if let Some(next) = next {
                action.with_continuation_token(next);
            }
            let answer = self.send(Tries::Reading, action, &[], None)?.ok()?;
            let page = ListObjectsV2::parse_response(answer.text()?);
            let page = page.map_err(unreadable)?;
            let of_ours = |key: &str| key.strip_prefix(&self.prefix).map(str::to_owned);
            names.extend(page.contents.iter().filter_map(|found| of_ours(&found.key)));
            next = page.next_continuation_token;
            if next.is_none() {
                return Ok(names);
            }
        }
        let why = "the list of the store has no end";
        Err(io::Error::new(io::ErrorKind::InvalidData, why))
    }
}

fn read(answer: Response<ureq::Body>) -> io::Result<Answer> {
    let (head, body) = answer.into_parts();
    // A part of a file is never longer either.
    let mut bytes = Vec::new();
    let limit = ANSWER_BYTES_MAX.max(super::reader::STEP_BYTES);
    body.into_reader().take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        let why = "the store's answer is longer than was asked for";
        return Err(io::Error::new(io::ErrorKind::InvalidData, why));
    }
    Ok(Answer {
        status: head.status.as_u16(),
        headers: head.headers,
        body: bytes,
    })
}

/// A request that cannot be one.
fn unsent(error: ureq::http::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, error)
}

fn out_of_time() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "no answer in time")
}

/// A request that got no answer, said without its URL.
fn failed(error: ureq::Error) -> io::Error {
    match error {
        ureq::Error::Io(error) => error,
        ureq::Error::Timeout(_) => out_of_time(),
        ureq::Error::HostNotFound => io::Error::other("there is no host of this name"),
        ureq::Error::BadUri(_) => io::Error::other("the store's address is no URL"),
        error => io::Error::other(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_store_refuses_with_is_told_by_its_code_alone() {
        let answer = Answer {
            status: 403,
            headers: HeaderMap::new(),
            body: b"<Error><Code>SignatureDoesNotMatch</Code><Message>secret</Message></Error>"
                .to_vec(),
        };
        let error = answer.ok().err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        assert_eq!(
            error.to_string(),
            "the store answered 403 SignatureDoesNotMatch"
        );
    }
}
