//! A load of HTTP writers: one connection and one request in flight for each.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::probe::percentiles;

/// What a load came to.
pub(crate) struct Outcome {
    pub(crate) per_second: f64,
    pub(crate) p50_us: u64,
    pub(crate) p99_us: u64,
}

/// A keep-alive connection.
pub(crate) struct Connection {
    host: String,
    stream: BufReader<TcpStream>,
}

impl Connection {
    pub(crate) fn open(host: &str) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(host).with_context(|| host.to_owned())?;
        stream.set_nodelay(true)?;
        Ok(Self {
            host: host.to_owned(),
            stream: BufReader::new(stream),
        })
    }

    /// Sends a request of JSON and gives the answer's body; any status from 300 on is an error.
    pub(crate) fn send(&mut self, method: &str, path: &str, body: &str) -> anyhow::Result<String> {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.host,
            body.len()
        );
        self.stream.get_mut().write_all(request.as_bytes())?;
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

/// Has `clients` send `request(client, n)` one after the other for `time`.
pub(crate) fn run(
    host: &str,
    clients: usize,
    time: Duration,
    request: impl Fn(usize, usize) -> (&'static str, String, String) + Sync,
) -> anyhow::Result<Outcome> {
    let started = Instant::now();
    let all = thread::scope(|scope| {
        let one = |client: usize| {
            let request = &request;
            scope.spawn(move || -> anyhow::Result<Vec<Duration>> {
                let mut connection = Connection::open(host)?;
                let mut times = Vec::new();
                while started.elapsed() < time {
                    let (method, path, body) = request(client, times.len());
                    let begun = Instant::now();
                    connection.send(method, &path, &body)?;
                    times.push(begun.elapsed());
                }
                Ok(times)
            })
        };
        let threads: Vec<_> = (0..clients).map(one).collect();
        let mut all = Vec::new();
        for thread in threads {
            all.extend(thread.join().expect("a client does not panic")?);
        }
        anyhow::Ok(all)
    });
    let mut times = all?;
    let per_second = times.len() as f64 / started.elapsed().as_secs_f64();
    let (p50_us, p99_us) = percentiles(&mut times);
    Ok(Outcome {
        per_second,
        p50_us,
        p99_us,
    })
}
