//! The floor: what a durable, hash-chained write over HTTP costs at the least on this machine.
//!
//! Each body is linked to the one before by a BLAKE3 digest; all that wait are written at once into
//! a file of zeros and synced once; then they are answered, and told to whoever listens (`GET`).
//! There is no JSON, no check, no index and no reading. Nothing that keeps the same promise is faster than this by much.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::mpsc;

use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{broadcast, oneshot};

use bytes::Bytes;

use crate::http::Messages;

/// Bytes of zeros that are written ahead of the log, so that a sync does not grow the file.
const AHEAD_BYTES: u64 = 64 << 20;
/// Most writes of one group.
const GROUP_MAX: usize = 1024;
/// What blocks a group ends on.
const BLOCK_BYTES: usize = 4096;
/// Writes that a listener may lag behind before it is left.
const LISTENERS_LAG_MAX: usize = 1 << 16;

struct Write {
    body: Vec<u8>,
    done: oneshot::Sender<u64>,
}

/// Serves until the process ends; tells where it listens on the first line of its output.
pub(crate) fn serve(dir: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(dir)?;
    let log = Log::create(&dir.join("floor.log"))?;
    let (writes, waiting) = mpsc::channel();
    let (told, _) = broadcast::channel(LISTENERS_LAG_MAX);
    let listeners = told.clone();
    std::thread::spawn(move || log.run(&waiting, &told).expect("the disk takes the log"));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async move {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        println!("listening on http://{}", listener.local_addr()?);
        loop {
            let (stream, _) = listener.accept().await?;
            let (writes, listeners) = (writes.clone(), listeners.clone());
            // A client that breaks off ends its own connection and no other.
            tokio::task::spawn_local(async move {
                let _ = answer(stream, writes, listeners).await;
            });
        }
    })
}

async fn answer(
    mut stream: TcpStream,
    writes: mpsc::Sender<Write>,
    listeners: broadcast::Sender<Bytes>,
) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let (from, mut to) = stream.split();
    let mut requests = Messages::new(from);
    while let Some(request) = requests.next().await? {
        if request.head.starts_with("GET") {
            return tell(to, listeners.subscribe()).await;
        }
        let (done, position) = oneshot::channel();
        let body = request.body.to_vec();
        writes.send(Write { body, done })?;
        let position = position.await?.to_string();
        let head = format!(
            "HTTP/1.1 201 Created\r\nContent-Length: {}\r\n\r\n",
            position.len()
        );
        to.write_all(format!("{head}{position}").as_bytes()).await?;
    }
    Ok(())
}

/// Gives a listener each write, in the form of Server-Sent Events.
async fn tell(
    mut to: impl AsyncWrite + Unpin,
    mut frames: broadcast::Receiver<Bytes>,
) -> anyhow::Result<()> {
    let head =
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    to.write_all(head.as_bytes()).await?;
    loop {
        to.write_all(&frames.recv().await?).await?;
    }
}

/// A write as a chunk of a stream, made once for all listeners.
fn frame(position: u64, body: &[u8]) -> Bytes {
    let event = [format!("id: {position}\ndata: ").as_bytes(), body, b"\n\n"].concat();
    let size = format!("{:x}\r\n", event.len());
    [size.as_bytes(), &event, b"\r\n"].concat().into()
}

struct Log {
    file: File,
    end: u64,
    prepared: u64,
    previous: [u8; 32],
    position: u64,
}

impl Log {
    fn create(path: &Path) -> anyhow::Result<Self> {
        let mut log = Self {
            file: File::create(path)?,
            end: 0,
            prepared: 0,
            previous: [0; 32],
            position: 0,
        };
        log.prepare()?;
        Ok(log)
    }

    fn prepare(&mut self) -> anyhow::Result<()> {
        let zeros = vec![0; 1 << 20];
        let to = self.prepared + AHEAD_BYTES;
        while self.prepared < to {
            self.file.write_all_at(&zeros, self.prepared)?;
            self.prepared += zeros.len() as u64;
        }
        Ok(self.file.sync_data()?)
    }

    fn run(
        mut self,
        waiting: &mpsc::Receiver<Write>,
        listeners: &broadcast::Sender<Bytes>,
    ) -> anyhow::Result<()> {
        let mut told: Vec<(oneshot::Sender<u64>, u64)> = Vec::new();
        let (mut group, mut frames) = (Vec::new(), Vec::new());
        loop {
            // The next group is taken before the last one is answered.
            let first = if told.is_empty() {
                match waiting.recv() {
                    Ok(write) => Some(write),
                    Err(_) => return Ok(()),
                }
            } else {
                waiting.try_recv().ok()
            };
            let writes: Vec<Write> = first
                .into_iter()
                .chain(waiting.try_iter().take(GROUP_MAX))
                .collect();
            for (done, position) in told.drain(..) {
                // A client may have gone.
                let _ = done.send(position);
            }
            if writes.is_empty() {
                continue;
            }
            group.clear();
            for Write { body, done } in writes {
                let mut hasher = blake3::Hasher::new();
                hasher.update(&self.previous).update(&body);
                self.previous = *hasher.finalize().as_bytes();
                group.extend_from_slice(&(body.len() as u64).to_le_bytes());
                group.extend_from_slice(&self.previous);
                group.extend_from_slice(&body);
                if listeners.receiver_count() > 0 {
                    frames.push(frame(self.position, &body));
                }
                told.push((done, self.position));
                self.position += 1;
            }
            group.resize(group.len().next_multiple_of(BLOCK_BYTES), 0);
            while self.prepared < self.end + group.len() as u64 {
                self.prepare()?;
            }
            self.file.write_all_at(&group, self.end)?;
            self.file.sync_data()?;
            self.end += group.len() as u64;
            for frame in frames.drain(..) {
                // Nobody may listen any more.
                let _ = listeners.send(frame);
            }
        }
    }
}
