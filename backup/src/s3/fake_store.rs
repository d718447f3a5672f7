//! A store of objects for tests, whose answers can be lost and which can be slow on purpose.
//!
//! Invariant: each write gets an etag of its own, and what a request did is told from what was answered.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use super::options::{S3Options, UrlStyle};

/// How long something may take that is waited for.
const PATIENCE: Duration = Duration::from_mins(1);

/// What goes wrong with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is done, and the connection ends without an answer.
    LostAnswer,
    /// It is not done, and there is no answer while the store is there.
    Silence,
}

#[derive(Default)]
struct Inside {
    objects: HashMap<String, (Vec<u8>, String)>,
    faults: Vec<(&'static str, &'static str, Fault)>,
    /// Method and name of all requests.
    asked: Vec<(String, String)>,
    kept_open: Vec<TcpStream>,
    n_written: u64,
    is_heedless: bool,
}

/// A store with one bucket.
pub(crate) struct FakeStore {
    address: String,
    inside: Arc<(Mutex<Inside>, Condvar)>,
}

struct Asked {
    method: String,
    name: String,
    headers: HashMap<String, String>,
    body: Vec<u8>,
}

impl FakeStore {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let inside: Arc<(Mutex<Inside>, Condvar)> = Arc::default();
        let shared = Arc::clone(&inside);
        // It ends with the process of the tests.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || serve(stream.unwrap(), &shared));
            }
        });
        Self { address, inside }
    }

    pub(crate) fn options(&self, lease: Duration) -> S3Options {
        S3Options {
            endpoint: format!("http://{}", self.address),
            region: "here".to_owned(),
            bucket: "bucket".to_owned(),
            prefix: String::new(),
            url_style: UrlStyle::Path,
            access_key: "key".to_owned(),
            secret_key: "secret".to_owned(),
            session_token: None,
            holder: "process 7".to_owned(),
            lease,
        }
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.0.lock().unwrap()
    }

    /// The next request of this kind goes wrong.
    pub(crate) fn fail(&self, method: &'static str, name: &'static str, fault: Fault) {
        self.inside().faults.push((method, name, fault));
    }

    /// Conditions are not looked at from now on.
    pub(crate) fn heed_nothing(&self) {
        self.inside().is_heedless = true;
    }

    pub(crate) fn text(&self, name: &str) -> Option<String> {
        let inside = self.inside();
        let (bytes, _) = inside.objects.get(name)?;
        Some(String::from_utf8(bytes.clone()).unwrap())
    }

    pub(crate) fn put(&self, name: &str, text: &str) {
        self.inside().put(name, text.as_bytes().to_vec());
    }

    /// How many requests of this kind there were.
    pub(crate) fn count(&self, method: &str, name: &str) -> usize {
        self.inside().count(method, name)
    }

    /// Waits until there were so many requests of this kind.
    pub(crate) fn wait_for(&self, method: &str, name: &str, count: usize) {
        let waited = self
            .inside
            .1
            .wait_timeout_while(self.inside(), PATIENCE, |inside| {
                inside.count(method, name) < count
            });
        assert!(!waited.unwrap().1.timed_out(), "{method} {name}");
    }
}

impl Inside {
    fn put(&mut self, name: &str, bytes: Vec<u8>) -> String {
        self.n_written += 1;
        let etag = format!("\"{}\"", self.n_written);
        self.objects.insert(name.to_owned(), (bytes, etag.clone()));
        etag
    }

    fn count(&self, method: &str, name: &str) -> usize {
        let is_it = |one: &&(String, String)| one.0 == method && one.1 == name;
        self.asked.iter().filter(is_it).count()
    }

    fn fault(&mut self, asked: &Asked) -> Option<Fault> {
        let is_it = |(method, name, _): &(&str, &str, Fault)| {
            *method == asked.method && *name == asked.name
        };
        let index = self.faults.iter().position(is_it)?;
        Some(self.faults.remove(index).2)
    }

    /// Does what is asked; gives the status, the etag and the bytes.
    fn answer(&mut self, asked: Asked) -> (u16, String, Vec<u8>) {
        let found = self.objects.get(&asked.name);
        let header = |name: &str| asked.headers.get(name);
        if !self.is_heedless {
            let is_other = |etag: &String| found.is_some_and(|(_, found)| found != etag);
            if found.is_none() && header("if-match").is_some() {
                return (404, String::new(), Vec::new());
            }
            let is_refused = header("if-match").is_some_and(is_other)
                || (found.is_some() && header("if-none-match").is_some());
            if is_refused {
                return (412, String::new(), Vec::new());
            }
        }
        match (asked.method.as_str(), found) {
            ("PUT", _) => (200, self.put(&asked.name, asked.body), Vec::new()),
            ("DELETE", _) => {
                self.objects.remove(&asked.name);
                (204, String::new(), Vec::new())
            }
            (_, Some((bytes, etag))) => (200, etag.clone(), bytes.clone()),
            (_, None) => (404, String::new(), Vec::new()),
        }
    }
}

fn read(stream: &mut BufReader<TcpStream>) -> Option<Asked> {
    let mut line = String::new();
    stream.read_line(&mut line).ok()?;
    let mut words = line.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?);
    let path = path.split('?').next()?;
    let name = path.strip_prefix("/bucket/")?.to_owned();
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).ok()?;
        let Some((header, value)) = line.trim().split_once(": ") else {
            break;
        };
        headers.insert(header.to_lowercase(), value.to_owned());
    }
    let bytes = headers.get("content-length");
    let mut body = vec![0; bytes.map_or(0, |bytes| bytes.parse().unwrap())];
    stream.read_exact(&mut body).ok()?;
    Some(Asked {
        method,
        name,
        headers,
        body,
    })
}

fn serve(stream: TcpStream, inside: &(Mutex<Inside>, Condvar)) {
    let mut stream = BufReader::new(stream);
    let Some(asked) = read(&mut stream) else {
        return;
    };
    let mut stream = stream.into_inner();
    let is_head = asked.method == "HEAD";
    let mut held = inside.0.lock().unwrap();
    let place = (asked.method.clone(), asked.name.clone());
    let fault = held.fault(&asked);
    let answer = (fault != Some(Fault::Silence)).then(|| held.answer(asked));
    held.asked.push(place);
    inside.1.notify_all();
    match (fault, answer) {
        (None, Some((status, etag, bytes))) => {
            drop(held);
            let head = format!(
                "HTTP/1.1 {status} -\r\netag: {etag}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                bytes.len()
            );
            let sent = if is_head { &[][..] } else { &bytes };
            let _ = stream.write_all(&[head.as_bytes(), sent].concat());
        }
        (Some(Fault::Silence), _) => held.kept_open.push(stream),
        _ => {}
    }
}
