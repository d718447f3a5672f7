//! As much of HTTP/1.1 as a benchmark's two ends need: messages with a `Content-Length`.

use anyhow::{Context, bail};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

/// Bytes asked of a socket at a time.
const READ_BYTES: usize = 64 << 10;
/// Longest head that is read.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// Reads messages from a connection, one after the other.
pub(crate) struct Messages<R> {
    from: R,
    buffer: Vec<u8>,
    /// Bytes of the buffer that the last message took.
    taken: usize,
}

/// Where head and body of a message stand in the buffer.
pub(crate) struct Message<'a> {
    pub(crate) head: &'a str,
    pub(crate) body: &'a [u8],
}

impl<R: AsyncRead + Unpin> Messages<R> {
    pub(crate) fn new(from: R) -> Self {
        Self {
            from,
            buffer: Vec::with_capacity(READ_BYTES),
            taken: 0,
        }
    }

    /// The next message; none when the other end has closed.
    pub(crate) async fn next(&mut self) -> anyhow::Result<Option<Message<'_>>> {
        self.buffer.drain(..self.taken);
        self.taken = 0;
        let (head_end, body_bytes) = loop {
            if let Some(found) = head(&self.buffer)? {
                break found;
            }
            if self.buffer.len() > HEAD_BYTES_MAX {
                bail!("a head that does not end");
            }
            if self.fill().await? == 0 {
                return Ok(None);
            }
        };
        while self.buffer.len() < head_end + body_bytes {
            if self.fill().await? == 0 {
                bail!("a body that breaks off");
            }
        }
        self.taken = head_end + body_bytes;
        Ok(Some(Message {
            head: std::str::from_utf8(&self.buffer[..head_end]).context("a head of text")?,
            body: &self.buffer[head_end..self.taken],
        }))
    }

    async fn fill(&mut self) -> anyhow::Result<usize> {
        self.buffer.reserve(READ_BYTES);
        Ok(self.from.read_buf(&mut self.buffer).await?)
    }
}

/// A client: one connection, one request under way.
pub(crate) struct Client {
    host: String,
    answers: Messages<OwnedReadHalf>,
    to: OwnedWriteHalf,
}

impl Client {
    pub(crate) async fn open(host: &str) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(host).await.context(host.to_owned())?;
        stream.set_nodelay(true)?;
        let (from, to) = stream.into_split();
        Ok(Self {
            host: host.to_owned(),
            answers: Messages::new(from),
            to,
        })
    }

    /// Sends a request and gives the body of its answer, which must be one of success.
    pub(crate) async fn ask(
        &mut self,
        method: &str,
        path: &str,
        body: Option<(&str, &[u8])>,
    ) -> anyhow::Result<&[u8]> {
        let mut request = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n", self.host);
        if let Some((media_type, body)) = body {
            let length = body.len();
            request += &format!("Content-Type: {media_type}\r\nContent-Length: {length}\r\n");
        }
        request += "\r\n";
        let mut request = request.into_bytes();
        request.extend_from_slice(body.map_or(&[], |(_, body)| body));
        self.to.write_all(&request).await?;
        let answer = self.answers.next().await?.context("the server closed")?;
        if !answer.head.starts_with("HTTP/1.1 2") {
            let told = String::from_utf8_lossy(answer.body);
            bail!("{method} {path}: {}{told}", answer.head);
        }
        Ok(answer.body)
    }
}

/// How many events of a log a part of a stream shows: those that tell how the stream does are none.
pub(crate) fn events(chunk: &[u8]) -> usize {
    let all = memchr::memmem::find_iter(chunk, b"\ndata: ").count();
    all - memchr::memmem::find_iter(chunk, b"\nevent: stemma.").count()
}

/// Reads the body of a stream: chunks that end with the connection.
pub(crate) struct Chunks<R> {
    from: R,
    buffer: Vec<u8>,
    taken: usize,
}

impl<R: AsyncRead + Unpin> Chunks<R> {
    /// Reads the head, which must be one of success.
    pub(crate) async fn open(from: R) -> anyhow::Result<Self> {
        let mut chunks = Self {
            from,
            buffer: Vec::with_capacity(READ_BYTES),
            taken: 0,
        };
        loop {
            if let Some((end, _)) = head(&chunks.buffer)? {
                let head = String::from_utf8_lossy(&chunks.buffer[..end]);
                if !head.starts_with("HTTP/1.1 200") {
                    bail!("{head}");
                }
                chunks.taken = end;
                return Ok(chunks);
            }
            chunks.fill().await?;
        }
    }

    async fn fill(&mut self) -> anyhow::Result<()> {
        self.buffer.reserve(READ_BYTES);
        if self.from.read_buf(&mut self.buffer).await? == 0 {
            bail!("the stream ended");
        }
        Ok(())
    }

    /// The next chunk.
    pub(crate) async fn next(&mut self) -> anyhow::Result<&[u8]> {
        if self.taken > READ_BYTES {
            self.buffer.drain(..self.taken);
            self.taken = 0;
        }
        loop {
            let rest = &self.buffer[self.taken..];
            if let Some(at) = rest.windows(2).position(|window| window == b"\r\n") {
                let size = std::str::from_utf8(&rest[..at]).context("the size of a chunk")?;
                let size = usize::from_str_radix(size, 16).context("the size of a chunk")?;
                if rest.len() >= at + 2 + size + 2 {
                    let start = self.taken + at + 2;
                    self.taken = start + size + 2;
                    return Ok(&self.buffer[start..start + size]);
                }
            }
            self.fill().await?;
        }
    }
}

/// Where the head ends, and how long the body is.
fn head(buffer: &[u8]) -> anyhow::Result<Option<(usize, usize)>> {
    let Some(at) = buffer.windows(4).position(|window| window == b"\r\n\r\n") else {
        return Ok(None);
    };
    let text = std::str::from_utf8(&buffer[..at]).context("a head of text")?;
    let length = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let is_it = name.eq_ignore_ascii_case("content-length");
        is_it.then(|| value.trim().parse::<usize>())
    });
    Ok(Some((at + 4, length.transpose()?.unwrap_or(0))))
}
