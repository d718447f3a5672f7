//! One client, for filling a server before it is measured.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use anyhow::{Context, bail};

/// A keep-alive connection.
pub(crate) struct Connection {
    host: String,
    /// The token that is shown, where there is one.
    token: Option<String>,
    stream: BufReader<TcpStream>,
}

impl Connection {
    pub(crate) fn open(host: &str) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(host).with_context(|| host.to_owned())?;
        stream.set_nodelay(true)?;
        Ok(Self {
            host: host.to_owned(),
            token: None,
            stream: BufReader::new(stream),
        })
    }

    /// One that shows a token.
    pub(crate) fn showing(host: &str, token: &str) -> anyhow::Result<Self> {
        let mut connection = Self::open(host)?;
        connection.token = Some(token.to_owned());
        Ok(connection)
    }

    /// Sends a request of JSON and gives the answer's body; any status from 300 on is an error.
    pub(crate) fn send(&mut self, method: &str, path: &str, body: &str) -> anyhow::Result<String> {
        self.ask(method, path, "application/json", body.as_bytes())
    }

    /// Gives a resource its content.
    pub(crate) fn put(&mut self, path: &str, kind: &str, body: &[u8]) -> anyhow::Result<String> {
        self.ask("PUT", path, kind, body)
    }

    /// Uploads a document.
    pub(crate) fn upload(&mut self, name: &str, kind: &str, file: &[u8]) -> anyhow::Result<String> {
        const BOUNDARY: &str = "part-of-a-file";
        let head = format!(
            "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\nContent-Type: {kind}\r\n\r\n"
        );
        let foot = format!("\r\n--{BOUNDARY}--\r\n");
        let body = [head.as_bytes(), file, foot.as_bytes()].concat();
        let form = format!("multipart/form-data; boundary={BOUNDARY}");
        self.ask("POST", "/api/documents/upload", &form, &body)
    }

    /// Reads.
    pub(crate) fn get(&mut self, path: &str) -> anyhow::Result<String> {
        self.ask("GET", path, "", b"")
    }

    fn ask(&mut self, method: &str, path: &str, kind: &str, body: &[u8]) -> anyhow::Result<String> {
        let mut request = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n", self.host);
        if let Some(token) = &self.token {
            request += &format!("Authorization: Bearer {token}\r\n");
        }
        if !kind.is_empty() {
            let length = body.len();
            request += &format!("Content-Type: {kind}\r\nContent-Length: {length}\r\n");
        }
        request += "\r\n";
        let stream = self.stream.get_mut();
        stream.write_all(&[request.as_bytes(), body].concat())?;
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        let status: u16 = line
            .split(' ')
            .nth(1)
            .unwrap_or_default()
            .parse()
            .context("a status")?;
        let mut length = 0;
        loop {
            line.clear();
            self.stream.read_line(&mut line)?;
            if line.trim().is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').unwrap_or_default();
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse()?;
            }
        }
        let mut answer = vec![0; length];
        self.stream.read_exact(&mut answer)?;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        if status >= 300 {
            bail!("{method} {path}: {status} {answer}");
        }
        Ok(answer)
    }
}
