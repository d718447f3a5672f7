//! A parsing service that stands in for a real one, over the network: it gives each request the
//! next of its answers, and tells afterwards what it was asked.
//!
//! It uses nothing but the standard library, so that the tests of the crate `pipeline` can include
//! this file.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::thread::JoinHandle;

/// The reason that a test's own connection does not fail.
const OWN: &str = "a test's own connection";

/// A server with a list of answers.
#[derive(Debug)]
pub struct ParsingServer {
    url: String,
    serving: JoinHandle<Vec<ParsingRequest>>,
}

/// What it was asked.
#[derive(Debug)]
pub struct ParsingRequest {
    /// The first line, such as `GET /jobs/7 HTTP/1.1`.
    pub line: String,
    /// The headers, in lower case.
    pub headers: String,
    /// The body.
    pub body: Vec<u8>,
}

impl ParsingServer {
    /// A server that gives these answers, each a status line and headers, `|`, and a body.
    ///
    /// # Panics
    /// When no port can be had.
    pub fn answering(answers: Vec<&'static str>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect(OWN);
        let url = format!("http://{}/v1/documents", listener.local_addr().expect(OWN));
        let serving = std::thread::spawn(move || {
            let answer = |answer| answer_next(&listener, answer);
            answers.into_iter().map(answer).collect()
        });
        Self { url, serving }
    }

    /// Where documents are sent to.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What it was asked, once it has given all of its answers.
    ///
    /// # Panics
    /// When a connection broke off.
    pub fn asked(self) -> Vec<ParsingRequest> {
        self.serving.join().expect(OWN)
    }
}

fn answer_next(listener: &TcpListener, answer: &str) -> ParsingRequest {
    let (stream, _) = listener.accept().expect(OWN);
    let mut reader = BufReader::new(stream);
    let request = receive(&mut reader);
    let (status, body) = answer.split_once('|').expect("an answer has a body");
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}");
    let text = format!("{head}\r\n\r\n{body}");
    reader.get_mut().write_all(text.as_bytes()).expect(OWN);
    request
}

fn receive(reader: &mut impl BufRead) -> ParsingRequest {
    let mut line = String::new();
    reader.read_line(&mut line).expect(OWN);
    let mut headers = String::new();
    while reader.read_line(&mut headers).expect(OWN) > 2 {}
    let headers = headers.to_ascii_lowercase();
    let mut body = Vec::new();
    if headers.contains("transfer-encoding: chunked") {
        loop {
            let mut size = String::new();
            reader.read_line(&mut size).expect(OWN);
            let size = u64::from_str_radix(size.trim(), 16).expect(OWN);
            reader
                .by_ref()
                .take(size)
                .read_to_end(&mut body)
                .expect(OWN);
            reader.read_line(&mut String::new()).expect(OWN);
            if size == 0 {
                break;
            }
        }
    }
    ParsingRequest {
        line: line.trim().to_owned(),
        headers,
        body,
    }
}
