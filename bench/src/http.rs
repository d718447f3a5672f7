//! As much of HTTP/1.1 as a benchmark's two ends need: messages with a `Content-Length`.

use anyhow::{Context, bail};
use tokio::io::{AsyncRead, AsyncReadExt};

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
