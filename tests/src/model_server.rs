//! A server of models that stands in for a real one: embeddings, detection by chat, and streamed
//! completions, by the protocol that OpenAI made common. It is deterministic, and it can be told
//! to misbehave.
//!
//! It uses nothing but the standard library and `serde_json`, so that the tests of the crate
//! `inference` can include this file.

use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};

use serde_json::{Value, json};

/// How many numbers a vector has.
pub const DIMENSION: usize = 16;

/// Most bytes of a request's body.
const BODY_BYTES_MAX: u64 = 16 << 20;

/// Most requests that are remembered.
const REQUESTS_MAX: usize = 1000;

/// How the server behaves towards the requests that come from now on.
#[derive(Debug, Clone)]
pub enum Behaviour {
    /// As the protocol says.
    Well,
    /// Says nothing until it is told to behave otherwise, or is dropped.
    Silent,
    /// Says nothing until it is told to behave otherwise, and answers well then.
    Late,
    /// Sends headers and the beginning of the answer, and then as `Silent`.
    Stalling,
    /// Closes the connection without an answer.
    Closing,
    /// Promises a body and closes after half of it.
    HalfBody,
    /// Sends a body that never ends.
    Endless,
    /// Answers with a status, headers and a body.
    Status(u16, Vec<(String, String)>, String),
    /// Answers 200 with this body.
    Body(Vec<u8>),
    /// Answers with these bytes and nothing around them.
    Raw(Vec<u8>),
    /// Embeddings: one vector too few.
    TooFew,
    /// Embeddings: vectors of one number more.
    WrongDimension,
    /// Embeddings: a number that is none.
    NotFinite,
    /// Embeddings: base64 instead of lists, and in the wrong order, with the right index.
    PackedAndShuffled,
    /// Embeddings: every vector names the first text.
    SameIndex,
    /// Chat: the message has this content.
    Says(String),
    /// Detection: names what is not in the passage beside what is, at places that are wrong.
    Hallucinating,
    /// Completion: every byte on its own.
    Dripping,
    /// Completion: ends in the middle.
    BreakingOff,
    /// Completion: says in the middle that it failed.
    FailingLate,
}

/// A request that was made.
#[derive(Debug, Clone)]
pub struct Asked {
    /// The path.
    pub path: String,
    /// The `Authorization` header.
    pub authorization: Option<String>,
    /// The `traceparent` header.
    pub traceparent: Option<String>,
    /// The body; null when it was no JSON.
    pub body: Value,
    /// Which connection it came over, counted from 1.
    pub connection: u32,
}

/// A running server.
#[derive(Debug)]
pub struct ModelServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Told when the state changes.
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    behaviour: Behaviour,
    /// Rises when the behaviour is set.
    n_set: u64,
    asked: Vec<Asked>,
    is_over: bool,
}

impl ModelServer {
    /// Starts on a free port of loopback, and behaves well.
    ///
    /// # Panics
    /// When there is no free port.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                behaviour: Behaviour::Well,
                n_set: 0,
                asked: Vec::new(),
                is_over: false,
            }),
            changed: Condvar::new(),
        });
        let of_thread = Arc::clone(&shared);
        let accepting = thread::spawn(move || {
            for (connection, client) in (1..).zip(listener.incoming()) {
                if of_thread.state().is_over {
                    return;
                }
                let (Ok(client), shared) = (client, Arc::clone(&of_thread)) else {
                    continue;
                };
                // A client that went away is no fault of the server's.
                thread::spawn(move || serve(&client, connection, &shared).ok());
            }
        });
        Self {
            address,
            shared,
            accepting: Some(accepting),
        }
    }

    /// `http://127.0.0.1:PORT/v1`.
    pub fn url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// Changes how it behaves.
    pub fn behave(&self, behaviour: Behaviour) {
        let mut state = self.shared.state();
        state.behaviour = behaviour;
        state.n_set += 1;
        self.shared.changed.notify_all();
    }

    /// What it was asked so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.shared.state().asked.clone()
    }

    /// Returns when it was asked so many times.
    pub fn wait_until_asked(&self, times: usize) {
        let state = self.shared.state();
        let waited = self
            .shared
            .changed
            .wait_while(state, |state| state.asked.len() < times);
        drop(waited.expect("no thread panics with the lock"));
    }
}

impl Drop for ModelServer {
    fn drop(&mut self) {
        self.shared.state().is_over = true;
        self.shared.changed.notify_all();
        // Wakes the thread that accepts.
        drop(TcpStream::connect(self.address));
        if let Some(accepting) = self.accepting.take() {
            accepting.join().ok();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread panics with the lock")
    }

    /// Remembers a request and says how to behave towards it.
    fn note(&self, asked: Asked) -> (Behaviour, u64) {
        let mut state = self.state();
        if state.asked.len() < REQUESTS_MAX {
            state.asked.push(asked);
        }
        self.changed.notify_all();
        (state.behaviour.clone(), state.n_set)
    }

    fn wait_for_another_behaviour(&self, n_set: u64) {
        let is_waiting = |state: &mut State| state.n_set == n_set && !state.is_over;
        let waited = self.changed.wait_while(self.state(), is_waiting);
        drop(waited.expect("no thread panics with the lock"));
    }
}

/// Answers one request after the other until the connection ends.
fn serve(client: &TcpStream, connection: u32, shared: &Shared) -> io::Result<()> {
    client.set_nodelay(true)?;
    let mut reader = BufReader::new(client);
    while let Some(asked) = read_request(&mut reader, connection)? {
        let (behaviour, n_set) = shared.note(asked.clone());
        let mut out = client;
        let behaviour = if matches!(behaviour, Behaviour::Late) {
            shared.wait_for_another_behaviour(n_set);
            Behaviour::Well
        } else {
            behaviour
        };
        match behaviour {
            Behaviour::Closing => return Ok(()),
            Behaviour::Silent => {
                shared.wait_for_another_behaviour(n_set);
                return Ok(());
            }
            Behaviour::Stalling => {
                let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";
                write!(out, "{head}data: {}\n\n", delta("half "))?;
                shared.wait_for_another_behaviour(n_set);
                return Ok(());
            }
            Behaviour::HalfBody => {
                write!(
                    out,
                    "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{{\"data\": ["
                )?;
                return Ok(());
            }
            Behaviour::Endless => {
                write!(
                    out,
                    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
                )?;
                let spaces = [b' '; 4096];
                loop {
                    out.write_all(&spaces)?;
                }
            }
            Behaviour::Raw(bytes) => return out.write_all(&bytes),
            Behaviour::Status(status, headers, body) => {
                answer(out, status, &headers, body.as_bytes())?;
            }
            Behaviour::Body(body) => answer(out, 200, &[], &body)?,
            behaviour => match asked.path.as_str() {
                "/v1/embeddings" => {
                    let body = embeddings(&asked.body, &behaviour).to_string();
                    answer(out, 200, &[], body.as_bytes())?;
                }
                "/v1/chat/completions" if asked.body["stream"] == true => {
                    return stream(out, &asked.body, &behaviour);
                }
                "/v1/chat/completions" => {
                    let body = chat(&asked.body, &behaviour).to_string();
                    answer(out, 200, &[], body.as_bytes())?;
                }
                _ => answer(
                    out,
                    404,
                    &[],
                    b"{\"error\": {\"message\": \"no such path\"}}",
                )?,
            },
        }
    }
    Ok(())
}

fn read_request(reader: &mut impl BufRead, connection: u32) -> io::Result<Option<Asked>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let (mut length, mut authorization, mut traceparent) = (0, None, None);
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            break;
        };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().unwrap_or(0),
            "authorization" => authorization = Some(value.to_owned()),
            "traceparent" => traceparent = Some(value.to_owned()),
            _ => {}
        }
    }
    let mut body = Vec::new();
    reader
        .take(BODY_BYTES_MAX.min(length))
        .read_to_end(&mut body)?;
    Ok(Some(Asked {
        path,
        authorization,
        traceparent,
        body: serde_json::from_slice(&body).unwrap_or_default(),
        connection,
    }))
}

fn answer(
    mut out: &TcpStream,
    status: u16,
    headers: &[(String, String)],
    body: &[u8],
) -> io::Result<()> {
    let mut head = format!(
        "HTTP/1.1 {status} Any\r\nContent-Type: application/json\r\nContent-Length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        write!(head, "{name}: {value}\r\n").expect("a string takes all");
    }
    head.push_str("\r\n");
    out.write_all(&[head.as_bytes(), body].concat())
}

/// A vector that depends on the words of a text: texts that share words are near each other.
pub fn vector(text: &str) -> Vec<f32> {
    let mut vector = vec![0.0; DIMENSION];
    for word in text.split_whitespace() {
        let hash = word.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte.to_ascii_lowercase())).wrapping_mul(0x0100_0000_01b3)
        });
        for (place, value) in vector.iter_mut().enumerate() {
            *value += if hash >> (place * 3) & 1 == 1 {
                1.0
            } else {
                -1.0
            };
        }
    }
    vector
}

fn embeddings(question: &Value, behaviour: &Behaviour) -> Value {
    let texts = question["input"].as_array().cloned().unwrap_or_default();
    let mut rows: Vec<Value> = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        let mut numbers = vector(text.as_str().unwrap_or_default());
        let index = match behaviour {
            Behaviour::SameIndex => 0,
            _ => index,
        };
        if matches!(behaviour, Behaviour::WrongDimension) {
            numbers.push(1.0);
        }
        let embedding = match behaviour {
            Behaviour::NotFinite => json!([null]),
            Behaviour::PackedAndShuffled => json!(packed(&numbers)),
            _ => json!(numbers),
        };
        rows.push(json!({"object": "embedding", "index": index, "embedding": embedding}));
    }
    match behaviour {
        Behaviour::TooFew => drop(rows.pop()),
        Behaviour::PackedAndShuffled => rows.reverse(),
        _ => {}
    }
    json!({"object": "list", "data": rows, "model": question["model"]})
}

/// Base64 of little-endian floats.
fn packed(numbers: &[f32]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bytes: Vec<u8> = numbers
        .iter()
        .flat_map(|number| number.to_le_bytes())
        .collect();
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let bits = three
            .iter()
            .fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte));
        let bits = bits << (8 * (3 - three.len()));
        for place in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * place) & 63) as usize];
            text.push(if place <= three.len() {
                letter.into()
            } else {
                '='
            });
        }
    }
    text
}

fn last_message(question: &Value) -> String {
    let last = question["messages"].as_array().and_then(|all| all.last());
    last.and_then(|message| message["content"].as_str())
        .unwrap_or_default()
        .to_owned()
}

fn chat(question: &Value, behaviour: &Behaviour) -> Value {
    let content = match behaviour {
        Behaviour::Says(content) => content.clone(),
        _ => {
            let sent: Value = serde_json::from_str(&last_message(question)).unwrap_or_default();
            let passage = sent["passage"].as_str().unwrap_or_default();
            json!({"entities": capitalized(passage, behaviour)}).to_string()
        }
    };
    json!({
        "choices": [{"message": {"role": "assistant", "content": content}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1},
    })
}

/// Words that begin with a capital letter, each as a Person.
fn capitalized(passage: &str, behaviour: &Behaviour) -> Vec<Value> {
    let is_hallucinating = matches!(behaviour, Behaviour::Hallucinating);
    let mut entities = Vec::new();
    let mut start = 0;
    for word in passage.split_inclusive(|c: char| !c.is_alphanumeric()) {
        let name = word.trim_end_matches(|c: char| !c.is_alphanumeric());
        if name.starts_with(char::is_uppercase) {
            let place = if is_hallucinating { start + 3 } else { start };
            let end = place + name.chars().count();
            entities.push(json!({"text": name, "type": "Person", "start": place, "end": end}));
        }
        start += word.chars().count();
    }
    if is_hallucinating {
        entities.push(json!({"text": "Nowhere Man", "type": "Person", "start": 0, "end": 11}));
    }
    entities
}

fn delta(text: &str) -> Value {
    json!({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": null}]})
}

/// Repeats what was said last, word by word.
fn stream(mut out: &TcpStream, question: &Value, behaviour: &Behaviour) -> io::Result<()> {
    let text = match behaviour {
        Behaviour::Says(content) => content.clone(),
        _ => format!("You said: {}", last_message(question)),
    };
    let mut events: Vec<String> = text
        .split_inclusive(' ')
        .map(|word| format!("data: {}\n\n", delta(word)))
        .collect();
    events.insert(0, ": hello\n\n".into());
    let end = json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]});
    let usage = json!({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 5}});
    events.extend([format!("data: {end}\n\n"), format!("data: {usage}\n\n")]);
    events.push("data: [DONE]\n\n".into());
    match behaviour {
        Behaviour::BreakingOff => events.truncate(2),
        Behaviour::FailingLate => {
            events.truncate(2);
            events.push("data: {\"error\": {\"message\": \"out of memory\"}}\n\n".into());
        }
        _ => {}
    }
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n";
    out.write_all(head.as_bytes())?;
    for event in events {
        let at_once = match behaviour {
            Behaviour::Dripping => 1,
            _ => event.len(),
        };
        for piece in event.as_bytes().chunks(at_once) {
            out.write_all(piece)?;
        }
    }
    Ok(())
}
