//! A mixed load for long: writers, readers, and listeners that come and go.
//!
//! Each listener holds the positions that it is shown against each other: one that is missing, or
//! comes twice, ends the run.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::http::{Chunks, Client};
use crate::load::{fill, percentile};

/// Bytes of the content that is uploaded.
const UPLOAD_BYTES: usize = 100_000;
/// One of so many listeners follows the whole log, the others a resource.
const OF_ALL: usize = 20;
/// How long a listener stays, in seconds: from, and up to so many more.
const STAY_S: (u64, u64) = (5, 55);

/// How long, and how much.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Address and port of the server.
    #[arg(long)]
    host: String,
    /// The server's process, whose memory and files are told.
    #[arg(long)]
    process: u32,
    /// Resources to write to: `019a0000-0000-7000-8000-{number in twelve digits}`.
    #[arg(long, default_value_t = 256)]
    resources: usize,
    /// Seconds.
    #[arg(long, default_value_t = 3600)]
    seconds: u64,
    /// Clients that listen.
    #[arg(long, default_value_t = 2000)]
    listeners: usize,
    /// Writes a second.
    #[arg(long, default_value_t = 100)]
    writes: u64,
    /// Reads a second.
    #[arg(long, default_value_t = 200)]
    reads: u64,
    /// Seconds between two lines of figures.
    #[arg(long, default_value_t = 10)]
    every: u64,
}

/// What happened since the last line.
#[derive(Default)]
struct Tally {
    writes: RefCell<Vec<Duration>>,
    reads: RefCell<Vec<Duration>>,
    deliveries: Cell<u64>,
    arrivals: Cell<u64>,
    listening: Cell<u64>,
    failure: RefCell<Option<anyhow::Error>>,
}

/// A plain sequence of numbers that look random.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

/// Runs the load; a line of JSON every so often.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    tokio::task::LocalSet::new().block_on(&runtime, drive(args))
}

async fn drive(args: &Args) -> anyhow::Result<()> {
    let tally = Rc::new(Tally::default());
    let started = Instant::now();
    for number in 0..args.listeners {
        spawn(
            &tally,
            listener(args.host.clone(), number, args.resources, Rc::clone(&tally)),
        );
    }
    for (is_writer, rate) in [(true, args.writes), (false, args.reads)] {
        // Each client has one request under way, so a slow answer makes room for no other.
        let clients = 16.min(rate);
        for client in 0..clients {
            let pace = Duration::from_secs(clients) / u32::try_from(rate)?;
            let load = Load {
                host: args.host.clone(),
                resources: args.resources as u64,
                dice: Dice(client * 2 + 1 + u64::from(is_writer)),
            };
            spawn(&tally, load.run(is_writer, pace, Rc::clone(&tally)));
        }
    }
    while started.elapsed() < Duration::from_secs(args.seconds) {
        tokio::time::sleep(Duration::from_secs(args.every)).await;
        if let Some(error) = tally.failure.take() {
            return Err(error);
        }
        tell(args, &tally, started.elapsed())?;
    }
    Ok(())
}

fn spawn(tally: &Rc<Tally>, task: impl Future<Output = anyhow::Result<()>> + 'static) {
    let tally = Rc::clone(tally);
    tokio::task::spawn_local(async move {
        if let Err(error) = task.await {
            tally.failure.borrow_mut().get_or_insert(error);
        }
    });
}

fn tell(args: &Args, tally: &Tally, at: Duration) -> anyhow::Result<()> {
    let process = format!("/proc/{}", args.process);
    let status = std::fs::read_to_string(format!("{process}/status")).context("the server")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let resident = line.and_then(|line| line.split_whitespace().next());
    let files = std::fs::read_dir(format!("{process}/fd"))?.count();
    let (mut writes, mut reads) = (tally.writes.take(), tally.reads.take());
    println!(
        "{}",
        serde_json::json!({
            "second": at.as_secs(),
            "writes": writes.len(),
            "write_p50_us": percentile(&mut writes, 0.5),
            "write_p99_us": percentile(&mut writes, 0.99),
            "reads": reads.len(),
            "read_p50_us": percentile(&mut reads, 0.5),
            "read_p99_us": percentile(&mut reads, 0.99),
            "deliveries": tally.deliveries.take(),
            "arrivals": tally.arrivals.take(),
            "listening": tally.listening.get(),
            "resident_kib": resident.and_then(|kib| kib.parse::<u64>().ok()),
            "open_files": files,
        })
    );
    Ok(())
}

fn resource(number: u64) -> String {
    format!("/api/resources/019a0000-0000-7000-8000-{number:012}")
}

/// A writer or a reader.
struct Load {
    host: String,
    resources: u64,
    dice: Dice,
}

impl Load {
    async fn run(
        mut self,
        is_writer: bool,
        pace: Duration,
        tally: Rc<Tally>,
    ) -> anyhow::Result<()> {
        let mut client = Client::open(&self.host).await?;
        let upload = vec![b'u'; UPLOAD_BYTES];
        let mut next = Instant::now();
        loop {
            next += pace;
            tokio::time::sleep_until(next.into()).await;
            let sent = Instant::now();
            if is_writer {
                self.write(&mut client, &upload).await?;
                tally.writes.borrow_mut().push(sent.elapsed());
            } else {
                self.read(&mut client).await?;
                tally.reads.borrow_mut().push(sent.elapsed());
            }
        }
    }

    /// Seven of ten annotate, two make a resource, one gives new content to one.
    async fn write(&mut self, client: &mut Client, upload: &[u8]) -> anyhow::Result<()> {
        let path = resource(self.dice.below(self.resources));
        let json = "application/json";
        match self.dice.below(10) {
            0..7 => {
                let body = r#"{"motivation":"commenting","body":{"type":"TextualBody","value":"VALUE"},"target":"http://example.org/page"}"#;
                let body = fill(&body.replace("VALUE", &"{U}".repeat(24)), &mut self.dice.0);
                let path = format!("{path}/annotations");
                client
                    .ask("POST", &path, Some((json, body.as_bytes())))
                    .await?;
            }
            7..9 => {
                let body = r#"{"name":"soak","media_type":"text/plain","content":"VALUE"}"#;
                let body = fill(&body.replace("VALUE", &"{U}".repeat(30)), &mut self.dice.0);
                client
                    .ask("POST", "/api/resources", Some((json, body.as_bytes())))
                    .await?;
            }
            _ => {
                let mut content = upload.to_vec();
                content[..8].copy_from_slice(&self.dice.below(u64::MAX).to_le_bytes());
                let path = format!("{path}/content");
                let body = ("application/octet-stream", &content[..]);
                client.ask("PUT", &path, Some(body)).await?;
            }
        }
        Ok(())
    }

    async fn read(&mut self, client: &mut Client) -> anyhow::Result<()> {
        let path = resource(self.dice.below(self.resources));
        let path = match self.dice.below(10) {
            0..4 => path,
            4..6 => format!("{path}/content"),
            6..8 => format!("{path}/annotations?limit=20"),
            8 => "/api/resources?limit=50".to_owned(),
            _ => "/api/events?limit=100".to_owned(),
        };
        client.ask("GET", &path, None).await?;
        Ok(())
    }
}

/// Comes, stays for a while, goes, and comes back to where it was.
async fn listener(
    host: String,
    number: usize,
    resources: usize,
    tally: Rc<Tally>,
) -> anyhow::Result<()> {
    let mut dice = Dice(number as u64 * 7919 + 1);
    let is_of_all = number.is_multiple_of(OF_ALL);
    let path = if is_of_all {
        "/api/events/stream".to_owned()
    } else {
        format!("{}/events/stream", resource((number % resources) as u64))
    };
    // They do not all come at once.
    tokio::time::sleep(Duration::from_millis(dice.below(10_000))).await;
    let mut last: Option<u64> = None;
    loop {
        let after = last.map_or(String::new(), |last| format!("?after={last}"));
        let mut stream = TcpStream::connect(&host).await?;
        let request = format!("GET {path}{after} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut chunks = Chunks::open(stream).await?;
        tally.arrivals.set(tally.arrivals.get() + 1);
        tally.listening.set(tally.listening.get() + 1);
        let stay = Duration::from_secs(STAY_S.0 + dice.below(STAY_S.1));
        let until = Instant::now() + stay;
        while let Ok(chunk) = tokio::time::timeout_at(until.into(), chunks.next()).await {
            let count = hold(chunk?, &mut last, is_of_all)?;
            tally.deliveries.set(tally.deliveries.get() + count);
        }
        tally.listening.set(tally.listening.get() - 1);
    }
}

/// Holds the positions of a chunk against the last one; gives how many there were.
fn hold(chunk: &[u8], last: &mut Option<u64>, is_of_all: bool) -> anyhow::Result<u64> {
    let mut count = 0;
    let mut lines = chunk.split(|byte| *byte == b'\n').peekable();
    while let Some(line) = lines.next() {
        let Some(id) = line.strip_prefix(b"id: ") else {
            continue;
        };
        // What tells how the stream does says where it is, and is no event.
        if lines
            .peek()
            .is_none_or(|line| line.starts_with(b"event: stemma."))
        {
            continue;
        }
        let position: u64 = std::str::from_utf8(id)?.parse().context("a position")?;
        match *last {
            Some(last) if is_of_all => ensure!(position == last + 1, "{last}, then {position}"),
            Some(last) if position <= last => bail!("{last}, then {position}"),
            _ => {}
        }
        *last = Some(position);
        count += 1;
    }
    Ok(count)
}
