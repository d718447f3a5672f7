//! A client of a running server, for commands that work through one.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::Value;
use ureq::Agent;
use ureq::http::Response;
use ureq::{Body, RequestBuilder, SendBody};

use crate::cli::{Common, TENANT_DEFAULT};
use crate::exit::Usage;

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Items of a list that are asked for at a time.
const PAGE_ITEMS: usize = 500;
/// Most bytes of text that are read.
const TEXT_BYTES_MAX: u64 = 1 << 20;
/// How long a server may be silent in the middle of an answer that a worker waits for.
const SILENCE_MAX: Duration = Duration::from_mins(5);

/// A server.
#[derive(Debug)]
pub(crate) struct Server {
    agent: Agent,
    base: String,
    /// What `Authorization` is to be, where there is a token.
    authorization: Option<Authorization>,
}

/// A header's value that is not printed.
struct Authorization(String);

impl std::fmt::Debug for Authorization {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authorization(…)")
    }
}

/// The server would not do what it was asked: it is well, the request is not.
#[derive(Debug, thiserror::Error)]
#[error("the server answered {status}: {detail}")]
pub(crate) struct Refused {
    pub(crate) status: u16,
    /// A stable code, such as `LEASE_LOST`.
    pub(crate) code: String,
    pub(crate) detail: String,
    /// How long to wait before asking again, where it says so.
    pub(crate) retry_after: Option<Duration>,
}

/// The server could not do what it was asked: it is not well.
#[derive(Debug, thiserror::Error)]
#[error("the server answered {status}: {detail}")]
pub(crate) struct Unwell {
    pub(crate) status: u16,
    /// A stable code, such as `CONTENT_DAMAGED`.
    pub(crate) code: String,
    pub(crate) detail: String,
    /// How long to wait before asking again, where it says so.
    pub(crate) retry_after: Option<Duration>,
}

impl Server {
    /// The server that the command is to work through, if one is named.
    ///
    /// # Errors
    /// [`Usage`] when it is not a URL that is spoken to by HTTP.
    pub(crate) fn named(common: &Common) -> anyhow::Result<Option<Self>> {
        Self::named_with(common, None)
    }

    /// The server of a command that works on a tenant, which there is the token's.
    ///
    /// # Errors
    /// [`Usage`] when a tenant is named beside it, or as [`named`](Self::named).
    pub(crate) fn of_token(common: &Common) -> anyhow::Result<Option<Self>> {
        let server = Self::named(common)?;
        if server.is_some() && common.tenant != TENANT_DEFAULT {
            let why = "through a server a command works on the tenant of its token: leave --tenant out, or show a token of that tenant";
            return Err(Usage(why.to_owned()).into());
        }
        Ok(server)
    }

    /// The server of a command that works through one and no other way.
    ///
    /// # Errors
    /// [`Usage`] when none is named, or as [`of_token`](Self::of_token).
    pub(crate) fn needed(common: &Common) -> anyhow::Result<Self> {
        Self::of_token(common)?.ok_or_else(|| Self::unnamed().into())
    }

    /// The server of a worker, which lets nobody keep it waiting for ever.
    ///
    /// # Errors
    /// As [`needed`](Self::needed).
    pub(crate) fn for_worker(common: &Common) -> anyhow::Result<Self> {
        Self::named_with(common, Some(SILENCE_MAX))?.ok_or_else(|| Self::unnamed().into())
    }

    fn unnamed() -> Usage {
        let why =
            "this command works through a server; name it with --server URL or in STEMMA_SERVER";
        Usage(why.to_owned())
    }

    fn named_with(common: &Common, silence: Option<Duration>) -> anyhow::Result<Option<Self>> {
        let named = common
            .server
            .clone()
            .or_else(|| std::env::var("STEMMA_SERVER").ok());
        let Some(named) = named.filter(|url| !url.is_empty()) else {
            return Ok(None);
        };
        let base = named.trim_end_matches('/').to_owned();
        let is_http = |scheme: &str| {
            base.strip_prefix(scheme)
                .is_some_and(|host| !host.is_empty())
        };
        if !is_http("http://") && !is_http("https://") {
            let why = format!("--server is {named}, expected a URL such as http://127.0.0.1:8470");
            return Err(Usage(why).into());
        }
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_per_read(silence)
            .timeout_per_write(silence)
            .build();
        Ok(Some(Self {
            agent: config.into(),
            base,
            authorization: token(common)?,
        }))
    }

    /// A request with the token, where there is one, and with the span that this thread is in.
    fn shown<B>(&self, request: RequestBuilder<B>) -> RequestBuilder<B> {
        let request = match stemma_telemetry::traceparent() {
            Some(parent) => request.header("traceparent", parent),
            None => request,
        };
        match &self.authorization {
            Some(Authorization(value)) => request.header("Authorization", value),
            None => request,
        }
    }

    /// Deletes something; says whether it is gone, or will be.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub(crate) fn delete(&self, path: &str) -> anyhow::Result<bool> {
        let request = self.shown(self.agent.delete(format!("{}{path}", self.base)));
        let response = request.call().with_context(|| self.unreached())?;
        match response.status().as_u16() {
            204 => Ok(true),
            202 => Ok(false),
            _ => self.json_of(response).map(|_| true),
        }
    }

    /// What to do about a server that cannot be reached.
    fn unreached(&self) -> String {
        format!(
            "reach the server {}; start it with `stemma serve`, or name another with --server",
            self.base
        )
    }

    /// Reads JSON, and says so of an answer that no Stemma gives.
    fn json_of(&self, response: Response<Body>) -> anyhow::Result<Value> {
        json_of(response)?.with_context(|| {
            format!(
                "what answers at {} is no Stemma server; check --server",
                self.base
            )
        })
    }

    /// Reads JSON.
    pub(crate) fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.get_tagged(path).map(|(value, _)| value)
    }

    /// Reads JSON, and the tag that it has, if any.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub(crate) fn get_tagged(&self, path: &str) -> anyhow::Result<(Value, Option<String>)> {
        let response = self
            .shown(self.agent.get(format!("{}{path}", self.base)))
            .call();
        let response = response.with_context(|| self.unreached())?;
        let tag = tag_of(&response);
        Ok((self.json_of(response)?, tag))
    }

    /// Reads a list whole, page by page; `path` has no query of its own.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub(crate) fn all(&self, path: &str) -> anyhow::Result<Vec<Value>> {
        let first = format!("{path}?limit={PAGE_ITEMS}");
        let (mut all, mut next) = (Vec::new(), first.clone());
        loop {
            let mut page = self.get(&next)?;
            if let Some(items) = page["items"].as_array_mut() {
                all.append(items);
            }
            match page["next_cursor"].as_str() {
                Some(cursor) => next = format!("{first}&cursor={cursor}"),
                None => return Ok(all),
            }
        }
    }

    /// Reads text.
    pub(crate) fn text(&self, path: &str) -> anyhow::Result<String> {
        let mut text = String::new();
        self.open(path)?
            .take(TEXT_BYTES_MAX)
            .read_to_string(&mut text)?;
        Ok(text)
    }

    /// Opens an answer that goes on.
    pub(crate) fn open(&self, path: &str) -> anyhow::Result<impl Read + use<>> {
        Ok(self.open_tagged(path)?.0.into_reader())
    }

    /// Opens an answer that may tell its length; with its tag, if it has one.
    pub(crate) fn open_tagged(&self, path: &str) -> anyhow::Result<(Body, Option<String>)> {
        let response = self
            .shown(self.agent.get(format!("{}{path}", self.base)))
            .call();
        let response = response.with_context(|| self.unreached())?;
        if !response.status().is_success() {
            self.json_of(response)?;
            bail!("{}{path} cannot be read", self.base);
        }
        let tag = tag_of(&response);
        Ok((response.into_body(), tag))
    }

    /// Sends a body and reads JSON.
    pub(crate) fn send(
        &self,
        method: &str,
        path: &str,
        media_type: &str,
        body: impl Read,
    ) -> anyhow::Result<Value> {
        let url = format!("{}{path}", self.base);
        let request = match method {
            "PUT" => self.agent.put(url),
            _ => self.agent.post(url),
        };
        let request = self.shown(request);
        let mut body = body;
        let response = request
            .header("Content-Type", media_type)
            .send(SendBody::from_reader(&mut body));
        self.json_of(response.with_context(|| self.unreached())?)
    }

    /// Sends JSON and reads JSON, or nothing where there is none to read (204).
    ///
    /// # Errors
    /// As [`get`](Self::get); also when the answer is not there `within` the time.
    pub(crate) fn post(
        &self,
        path: &str,
        body: &[u8],
        within: Option<Duration>,
    ) -> anyhow::Result<Option<Value>> {
        let request = self.shown(self.agent.post(format!("{}{path}", self.base)));
        let request = request.header("Content-Type", "application/json");
        let request = request.config().timeout_global(within).build();
        let response = request.send(body).with_context(|| self.unreached())?;
        if response.status().as_u16() == 204 {
            return Ok(None);
        }
        self.json_of(response).map(Some)
    }

    /// Sends JSON that stands in a file, from its start on, and reads JSON.
    ///
    /// # Errors
    /// As [`get`](Self::get), or when the file cannot be read.
    pub(crate) fn post_file(&self, path: &str, mut file: &File) -> anyhow::Result<Value> {
        file.seek(SeekFrom::Start(0)).context("read the body")?;
        let request = self.shown(self.agent.post(format!("{}{path}", self.base)));
        let request = request.header("Content-Type", "application/json");
        let response = request.send(file).with_context(|| self.unreached())?;
        self.json_of(response)
    }

    /// Asks for something that takes no body, and reads JSON.
    pub(crate) fn ask(&self, path: &str) -> anyhow::Result<Value> {
        let request = self.shown(self.agent.post(format!("{}{path}", self.base)));
        let response = request.send_empty();
        self.json_of(response.with_context(|| self.unreached())?)
    }

    /// The position of the last event that can be read; every reader may ask for it.
    pub(crate) fn head(&self) -> anyhow::Result<Option<u64>> {
        let url = format!("{}/api/resources?limit=1", self.base);
        let response = self.shown(self.agent.get(url)).call();
        let response = response.with_context(|| self.unreached())?;
        let position = response.headers().get("Stemma-Position");
        let position = position.and_then(|position| position.to_str().ok()?.parse().ok());
        self.json_of(response)?;
        Ok(position)
    }
}

/// The `ETag` of an answer, as it stands there.
fn tag_of(response: &Response<Body>) -> Option<String> {
    let tag = response.headers().get("ETag")?;
    Some(tag.to_str().ok()?.to_owned())
}

/// The token to show: in a file that is named, else in the environment.
fn token(common: &Common) -> anyhow::Result<Option<Authorization>> {
    let text = match &common.token_file {
        Some(file) => {
            let held = std::fs::read_to_string(file).map_err(|error| {
                Usage(format!("--token-file: read {}: {error}", file.display()))
            })?;
            held.lines().next().unwrap_or_default().to_owned()
        }
        None => std::env::var("STEMMA_TOKEN").unwrap_or_default(),
    };
    let text = text.trim();
    if text.is_empty() && common.token_file.is_none() {
        return Ok(None);
    }
    if text.is_empty() || !text.bytes().all(|b| (0x21..0x7f).contains(&b)) {
        let why = "the token is empty, or holds what cannot be sent";
        return Err(Usage(why.to_owned()).into());
    }
    Ok(Some(Authorization(format!("Bearer {text}"))))
}

/// The JSON of an answer; none when it is not of the kind that a Stemma gives.
fn json_of(mut response: Response<Body>) -> anyhow::Result<Option<Value>> {
    let status = response.status();
    let retry_after = response.headers().get("Retry-After");
    let retry_after = retry_after.and_then(|after| after.to_str().ok()?.parse().ok());
    let retry_after = retry_after.map(Duration::from_secs);
    let text = response
        .body_mut()
        .with_config()
        .limit(1 << 30)
        .read_to_string()?;
    let value = match serde_json::from_str::<Value>(&text) {
        Ok(value) if status.is_success() || status.as_u16() == 503 => value,
        // Every refusal is a problem with a code of its own.
        Ok(value) if value["code"].is_string() => value,
        _ => return Ok(None),
    };
    let text = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
    let (code, detail) = (text("code"), text("detail"));
    if status.is_client_error() {
        let status = status.as_u16();
        let refused = Refused {
            status,
            code,
            detail,
            retry_after,
        };
        return Err(refused.into());
    }
    // What is not well may tell of itself in the same words, without being a problem.
    let is_problem = !code.is_empty() && value["trace_id"].is_string();
    if (!status.is_success() && status.as_u16() != 503) || is_problem {
        let status = status.as_u16();
        return Err(Unwell {
            status,
            code,
            detail,
            retry_after,
        }
        .into());
    }
    Ok(Some(value))
}
