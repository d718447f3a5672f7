//! A client of the HTTP contract that hides nothing: status, headers and body are the test's.

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, StatusCode};
use serde_json::Value;

/// A client of one server.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    base: String,
}

/// What the server answered.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body's bytes.
    pub bytes: Vec<u8>,
}

impl Client {
    /// A client of the server at this URL.
    ///
    /// # Panics
    /// When no HTTP client can be made.
    pub fn new(base: &str) -> Self {
        Self::showing(base, None)
    }

    /// A client that shows a token with every request, where there is one.
    ///
    /// # Panics
    /// When no HTTP client can be made, or the token is none that can be sent.
    pub fn showing(base: &str, token: Option<&str>) -> Self {
        let mut headers = HeaderMap::new();
        if let Some(token) = token {
            let value = format!("Bearer {token}").parse().expect("a token is plain");
            headers.insert("authorization", value);
        }
        let http = reqwest::Client::builder()
            .no_proxy()
            .default_headers(headers)
            .build()
            .expect("an HTTP client");
        Self {
            http,
            base: base.to_owned(),
        }
    }

    /// The same client, of a server that is at another URL by now.
    #[must_use]
    pub fn at(&self, base: &str) -> Self {
        Self {
            http: self.http.clone(),
            base: base.to_owned(),
        }
    }

    /// A request to be refined; `path` begins with `/`, or is a whole URL.
    pub fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        let method = Method::from_bytes(method.as_bytes()).expect("a method");
        let url = if path.starts_with('/') {
            format!("{}{path}", self.base)
        } else {
            path.into()
        };
        self.http.request(method, url)
    }

    /// Sends a request.
    ///
    /// # Panics
    /// When the server does not answer.
    pub async fn send(&self, request: reqwest::RequestBuilder) -> Answer {
        let response = request.send().await.expect("the server answers");
        let (status, headers) = (response.status(), response.headers().clone());
        let bytes = response.bytes().await.expect("the whole body").to_vec();
        Answer {
            status: StatusCode::as_u16(&status),
            headers,
            bytes,
        }
    }

    /// `GET`.
    pub async fn get(&self, path: &str) -> Answer {
        self.send(self.request("GET", path)).await
    }

    /// `GET` with headers.
    pub async fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.send(with(self.request("GET", path), headers)).await
    }

    /// `POST` of JSON.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(self.request("POST", path).json(body)).await
    }

    /// Any method, with JSON.
    pub async fn json(&self, method: &str, path: &str, body: &Value) -> Answer {
        self.send(self.request(method, path).json(body)).await
    }

    /// Any method, with headers and a raw body.
    pub async fn raw(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Vec<u8>>,
    ) -> Answer {
        self.send(with(self.request(method, path), headers).body(body.into()))
            .await
    }

    /// Makes a text resource and gives its descriptor.
    pub async fn create(&self, name: &str, text: &str) -> Value {
        let body = serde_json::json!({ "name": name, "media_type": "text/plain", "content": text });
        self.post("/api/resources", &body).await.expect(201)
    }
}

fn with(mut request: reqwest::RequestBuilder, headers: &[(&str, &str)]) -> reqwest::RequestBuilder {
    for (name, value) in headers {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("a header name");
        request = request.header(name, HeaderValue::from_str(value).expect("a header value"));
    }
    request
}

impl Answer {
    /// The body as JSON.
    ///
    /// # Panics
    /// When it is not JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_else(|_| panic!("not JSON: {}", self.text()))
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// The body as JSON, once the status is right.
    ///
    /// # Panics
    /// When the status is another.
    pub fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text());
        if self.bytes.is_empty() {
            Value::Null
        } else {
            self.json()
        }
    }

    /// Holds the answer to be a problem with this status and code, in the form of RFC 9457.
    ///
    /// # Panics
    /// When it is not.
    pub fn expect_problem(&self, status: u16, code: &str) -> Value {
        let problem = self.expect(status);
        assert_eq!(self.header("content-type"), "application/problem+json");
        assert_eq!(problem["code"], code, "{problem}");
        assert_eq!(problem["status"], status);
        for field in ["type", "title", "detail", "trace_id"] {
            assert!(problem[field].is_string(), "{field} is missing: {problem}");
        }
        assert_eq!(self.header("x-request-id"), problem["trace_id"]);
        problem
    }

    /// A header's value, empty when there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }

    /// The position that the answer reflects.
    ///
    /// # Panics
    /// When it does not say.
    pub fn position(&self) -> u64 {
        self.header("stemma-position")
            .parse()
            .expect("a Stemma-Position")
    }
}
