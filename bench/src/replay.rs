//! Reading a log over HTTP: how fast a stream that starts at the beginning catches up.

use std::time::Instant;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::http::{Chunks, Messages, events as events_of};

/// What to read.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Address and port of the server.
    #[arg(long)]
    host: String,
    /// Path of a stream, or of pages when it has `{CURSOR}`.
    #[arg(long)]
    path: String,
    /// Events after which it ends.
    #[arg(long)]
    events: usize,
}

/// Reads and tells how fast.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let started = Instant::now();
    let (events, bytes) = runtime.block_on(async {
        let stream = TcpStream::connect(&args.host).await?;
        if args.path.contains("{CURSOR}") {
            pages(args, stream).await
        } else {
            follow(args, stream).await
        }
    })?;
    let seconds = started.elapsed().as_secs_f64();
    println!(
        r#"{{"per_second":{:.0},"bytes_per_second":{:.0}}}"#,
        events as f64 / seconds,
        bytes as f64 / seconds
    );
    Ok(())
}

async fn follow(args: &Args, mut stream: TcpStream) -> anyhow::Result<(usize, usize)> {
    let request = format!("GET {} HTTP/1.1\r\nHost: {}\r\n\r\n", args.path, args.host);
    stream.write_all(request.as_bytes()).await?;
    let mut chunks = Chunks::open(stream).await?;
    let (mut events, mut bytes) = (0, 0);
    while events < args.events {
        let chunk = chunks.next().await?;
        bytes += chunk.len();
        events += events_of(chunk);
    }
    Ok((events, bytes))
}

async fn pages(args: &Args, mut stream: TcpStream) -> anyhow::Result<(usize, usize)> {
    stream.set_nodelay(true)?;
    let (from, mut to) = stream.split();
    let mut answers = Messages::new(from);
    let (mut events, mut bytes, mut cursor) = (0, 0, String::new());
    while events < args.events {
        let path = args.path.replace("{CURSOR}", &cursor);
        let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", args.host);
        to.write_all(request.as_bytes()).await?;
        let Some(answer) = answers.next().await? else {
            anyhow::bail!("the server closed");
        };
        anyhow::ensure!(answer.head.starts_with("HTTP/1.1 200"), "{}", answer.head);
        bytes += answer.body.len();
        events += memchr::memmem::find_iter(answer.body, b"\"position\":").count();
        let at = memchr::memmem::rfind(answer.body, b"\"next_cursor\":\"");
        let Some(rest) = at.and_then(|at| answer.body.get(at + 15..)) else {
            break;
        };
        let end = memchr::memchr(b'"', rest).unwrap_or(0);
        cursor = format!("&cursor={}", std::str::from_utf8(&rest[..end])?);
    }
    Ok((events, bytes))
}
