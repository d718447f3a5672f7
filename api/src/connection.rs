//! A connection whose failures are problems too, also those that no request came of.
//!
//! What cannot be read as a request (a broken head, one that is too large or too slow) is answered
//! below the middleware, with a bare head. The stream here puts a problem in its place. Invariant:
//! bytes of an answer of ours are never looked at for that: a bare head is only looked for while no
//! answer is under way on the connection and all bytes of the one before were written.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::http::StatusCode;
use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::error::{ApiError, Code, PROBLEM_JSON};
use crate::metrics::OpenConnection;
use crate::pace::Patience;

/// What the stream of a connection and its answers know of each other; clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Link {
    shared: Rc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Requests that were read and whose answers have not ended.
    open: Cell<usize>,
    /// Whether an answer has bytes that may not be written yet.
    dirty: Cell<bool>,
}

/// A request under way, until it is dropped.
#[derive(Debug)]
pub(crate) struct UnderWay(Link);

impl Link {
    /// A request was read.
    pub(crate) fn begin(&self) -> UnderWay {
        self.shared.open.set(self.shared.open.get() + 1);
        UnderWay(self.clone())
    }

    fn is_idle(&self) -> bool {
        self.shared.open.get() == 0 && !self.shared.dirty.get()
    }

    fn set_dirty(&self, dirty: bool) {
        self.shared.dirty.set(dirty);
    }
}

impl UnderWay {
    /// Keeps the request under way until its answer was handed over.
    pub(crate) fn until_sent(self, body: BoxBody) -> BoxBody {
        self.0.set_dirty(true);
        let is_empty = matches!(body.size(), BodySize::None | BodySize::Sized(0));
        // Nothing is left to hand over but the head.
        if is_empty {
            return body;
        }
        BoxBody::new(Sent {
            body,
            request: self,
        })
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let open = &self.0.shared.open;
        open.set(open.get().saturating_sub(1));
    }
}

/// A body that tells the connection of its chunks.
struct Sent {
    body: BoxBody,
    request: UnderWay,
}

impl MessageBody for Sent {
    type Error = <BoxBody as MessageBody>::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        let chunk = ready!(Pin::new(&mut self.body).poll_next(context));
        if chunk.is_some() {
            self.request.0.set_dirty(true);
        }
        Poll::Ready(chunk)
    }
}

/// A stream that writes problems in the place of bare heads.
#[derive(Debug)]
pub(crate) struct Stream<T> {
    inner: T,
    link: Link,
    /// What is still to be written of a problem.
    problem: Bytes,
    patience: Patience,
    counted: OpenConnection,
}

impl<T> Stream<T> {
    /// A stream that fails when the other side takes nothing for so long.
    pub(crate) fn new(inner: T, write_stall: Duration, counted: OpenConnection) -> Self {
        Self {
            inner,
            link: Link::default(),
            problem: Bytes::new(),
            patience: Patience::new(write_stall),
            counted,
        }
    }

    pub(crate) fn link(&self) -> Link {
        self.link.clone()
    }
}

impl<T: AsyncWrite + Unpin> Stream<T> {
    fn with_patience(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let is_pending = written.is_pending();
        let written = self.patience.with(context, written);
        if is_pending && written.is_ready() {
            self.counted.cut_off();
        }
        written
    }

    fn poll_problem(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.problem.has_remaining() {
            let written = Pin::new(&mut self.inner).poll_write(context, &self.problem);
            let written = ready!(self.with_patience(context, written))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.problem.advance(written);
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Stream<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(context, into)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Stream<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_problem(context))?;
        if self.link.is_idle()
            && let Some(problem) = in_place_of(bytes)
        {
            self.problem = problem;
            // Written at the next step: the bytes that it stands for are taken as written.
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = Pin::new(&mut self.inner).poll_write(context, bytes);
        let written = ready!(self.with_patience(context, written))?;
        if written == bytes.len() {
            self.link.set_dirty(false);
        }
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_problem(context))?;
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_problem(context))?;
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

/// The problem for a bare head, if these bytes are one.
fn in_place_of(bytes: &[u8]) -> Option<Bytes> {
    let head = std::str::from_utf8(bytes).ok()?.strip_prefix("HTTP/1.1 ")?;
    let head = head.strip_suffix("\r\n\r\n")?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?.get(..3)?.parse::<u16>().ok()?;
    let is_ours = |line: &str| line.to_ascii_lowercase().starts_with("x-request-id:");
    if lines.clone().any(is_ours) {
        return None;
    }
    let date = lines.find(|line| line.to_ascii_lowercase().starts_with("date:"));
    let error = match status {
        400 => ApiError::of(Code::MalformedRequest),
        408 => ApiError::of(Code::RequestTimeout),
        431 => ApiError::of(Code::HeadTooLarge),
        _ => return None,
    };
    Some(render(&error, date))
}

/// A whole answer, after which the connection is closed.
fn render(error: &ApiError, date: Option<&str>) -> Bytes {
    let trace_id = uuid::Uuid::now_v7().simple().to_string();
    let body = error.body(&trace_id);
    let status = StatusCode::from_u16(error.code().status()).unwrap_or_default();
    let date = date.map(|date| format!("{date}\r\n")).unwrap_or_default();
    let mut answer = format!(
        "HTTP/1.1 {} {}\r\ncontent-type: {PROBLEM_JSON}\r\ncontent-length: {}\r\nx-request-id: {trace_id}\r\nx-content-type-options: nosniff\r\nreferrer-policy: no-referrer\r\nx-frame-options: DENY\r\ncross-origin-resource-policy: same-origin\r\ncontent-security-policy: default-src 'none'; frame-ancestors 'none'\r\n{date}connection: close\r\n\r\n",
        status.as_u16(),
        status.canonical_reason().unwrap_or_default(),
        body.len(),
    )
    .into_bytes();
    answer.extend_from_slice(&body);
    answer.into()
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::AsyncReadExt;

    use crate::metrics::Metrics;

    use super::*;

    const BARE: &[u8] =
        b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

    /// Bytes, and what happens before they are written.
    type Piece<'a> = (&'a [u8], &'a dyn Fn(&Link));

    /// Writes pieces, each with what is to happen before it; gives what came through.
    async fn through(pieces: &[Piece<'_>]) -> String {
        let (near, mut far) = tokio::io::duplex(1 << 16);
        let mut stream = Stream::new(
            near,
            Duration::from_secs(1),
            Metrics::new().open_connection(),
        );
        for (piece, before) in pieces {
            before(&stream.link());
            let written = poll_fn(|cx| Pin::new(&mut stream).poll_write(cx, piece)).await;
            assert_eq!(written.expect("it is taken"), piece.len());
            poll_fn(|cx| Pin::new(&mut stream).poll_flush(cx))
                .await
                .expect("it is flushed");
        }
        drop(stream);
        let mut told = String::new();
        far.read_to_string(&mut told).await.expect("UTF-8");
        told
    }

    #[tokio::test]
    async fn a_bare_head_becomes_a_problem_while_nothing_is_under_way() {
        let told = through(&[(BARE, &|_| {})]).await;
        assert!(
            told.starts_with("HTTP/1.1 400 Bad Request\r\ncontent-type: application/problem+json")
        );
        assert!(told.contains("\"MALFORMED_REQUEST\""), "{told}");
    }

    #[tokio::test]
    async fn bytes_of_an_answer_stay_as_they_are_whatever_they_look_like() {
        let request = Cell::new(None);
        let begin = |link: &Link| request.set(Some(link.begin()));
        let end = |_: &Link| request.set(None);
        let chunk_then_end = |link: &Link| {
            link.set_dirty(true);
            request.set(None);
        };
        let nothing = |_: &Link| {};
        // While it is under way; as its last bytes; and once it is over.
        let told = through(&[(BARE, &begin), (BARE, &nothing), (BARE, &chunk_then_end)]).await;
        assert_eq!(told.as_bytes(), BARE.repeat(3));
        let told = through(&[(b"answer", &begin), (BARE, &end)]).await;
        assert!(told.starts_with("answerHTTP/1.1 400"), "{told}");
        assert!(told.contains("\"MALFORMED_REQUEST\""), "{told}");
    }

    #[tokio::test]
    async fn a_head_that_names_its_trace_is_ours() {
        let own = b"HTTP/1.1 400 Bad Request\r\nx-request-id: a\r\n\r\n";
        assert_eq!(through(&[(own, &|_| {})]).await.as_bytes(), own);
    }
}
