//! The stream of a connection over HTTP/1.1, with deadlines.
//!
//! hyper sets no timers, and answers a malformed request with an empty body. Here the headers of a
//! request must be complete within [`HEADERS_TIMEOUT`], an idle connection is closed after
//! [`IDLE_TIMEOUT`], one whose caller does not read ends ([`Unread`]), and our two-field body replaces
//! the empty one.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use fluxgate_api::error::{ErrorBody, ErrorCode};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::coop::has_budget_remaining;
use tokio::time::{Instant, Sleep};

use super::request_line::RequestLine;
use super::unread::Unread;
use crate::shared::flavour::Flavour;

/// From the first byte of a request until its headers must be complete.
pub(super) const HEADERS_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection may be idle: longer than the gateways keep theirs.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(90);

/// Makes the whole response, as bytes, to a malformed request below `/v1/authorize`, where only a few
/// statuses may be sent.
pub(crate) type OnMalformed = Arc<dyn Fn(Flavour) -> Vec<u8> + Send + Sync>;

// What a connection is doing: waiting for a request, reading its headers, or answering it.
pub(super) const IDLE: u8 = 0;
const HEADERS: u8 = 1;
pub(super) const SERVING: u8 = 2;

/// A stream that ends slow requests and idle connections, and gives hyper's own error responses a body.
pub(super) struct Guarded<S> {
    stream: S,
    phase: Arc<AtomicU8>,
    deadline: Pin<Box<Sleep>>,
    // What the deadline was set for.
    armed: u8,
    // Whether the timer wakes the task, since the deadline was last set.
    is_registered: bool,
    // When the last request began to arrive.
    active: Instant,
    // When the first request began to arrive, if that was before this stream was made.
    begun: Option<Instant>,
    // The rest of our error response, which is written in place of hyper's.
    replacement: Vec<u8>,
    is_replaced: bool,
    on_malformed: OnMalformed,
    line: RequestLine,
    unread: Unread,
}

impl<S> Guarded<S> {
    /// `begun`: when the first request began to arrive, if a part of it was read before.
    pub(super) fn new(
        stream: S,
        phase: Arc<AtomicU8>,
        on_malformed: OnMalformed,
        begun: Option<Instant>,
    ) -> Self {
        let deadline = Box::pin(tokio::time::sleep(IDLE_TIMEOUT));
        Self {
            stream,
            phase,
            deadline,
            armed: IDLE,
            is_registered: false,
            active: Instant::now(),
            begun,
            replacement: Vec::new(),
            is_replaced: false,
            on_malformed,
            line: RequestLine::default(),
            unread: Unread::default(),
        }
    }

    /// How long the connection may stay in a phase.
    fn span(phase: u8) -> Duration {
        if phase == HEADERS { HEADERS_TIMEOUT } else { IDLE_TIMEOUT }
    }

    /// Whether the connection has been in this phase for too long. Setting a timer costs more than
    /// looking up a key, so a busy connection does not move its timer: if it fires early, it is set
    /// again.
    fn is_late(&mut self, phase: u8, cx: &mut Context<'_>) -> bool {
        if self.armed != phase {
            self.armed = phase;
            if phase == HEADERS {
                self.deadline.as_mut().reset(self.active + HEADERS_TIMEOUT);
                self.is_registered = false;
            }
        }
        // One task reads the stream: while its timer runs, there is nothing to register again. A poll
        // without budget registers nothing.
        if self.is_registered && !self.deadline.is_elapsed() {
            return false;
        }
        loop {
            self.is_registered = has_budget_remaining();
            if self.deadline.as_mut().poll(cx).is_pending() {
                return false;
            }
            let end = self.active + Self::span(phase);
            if end <= Instant::now() {
                return true;
            }
            self.deadline.as_mut().reset(end);
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        let phase = self.phase.load(Ordering::Acquire);
        if read.is_ready() {
            if phase == IDLE && buf.filled().len() > before {
                self.phase.store(HEADERS, Ordering::Release);
                self.active = self.begun.take().unwrap_or_else(Instant::now);
                self.line = RequestLine::default();
            }
            if phase != SERVING {
                self.line.read(&mut buf.filled_mut()[before..]);
            }
            return read;
        }
        // A body has its own deadline in the handler that reads it.
        if phase != SERVING && self.is_late(phase, cx) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Poll::Pending
    }
}

/// Our response in place of one that hyper makes before any handler runs.
///
/// hyper's error responses have no media type and no body, and this tells them from a handler's. They
/// may be written in any phase but [`SERVING`]: a malformed request that came together with the one
/// before it was read while that one was served.
fn reworded(response: &[u8]) -> Option<Vec<u8>> {
    let (code, message) = match response.get(9..12)? {
        b"400" => (ErrorCode::InvalidRequest, "the request is not valid HTTP"),
        b"408" => (ErrorCode::RequestTimeout, "the request took too long"),
        b"414" => (ErrorCode::InvalidRequest, "the address is too long"),
        b"431" => (ErrorCode::HeadersTooLarge, "the request head is too large"),
        _ => return None,
    };
    let has =
        |text: &[u8]| response.windows(text.len()).any(|part| part.eq_ignore_ascii_case(text));
    if has(b"\r\ncontent-type:") || !has(b"\r\ncontent-length: 0\r\n") {
        return None;
    }
    let body = ErrorBody::new(code, message).to_json();
    let line = response.split(|c| *c == b'\r').next().and_then(|l| std::str::from_utf8(l).ok())?;
    let length = body.len();
    let headers = "content-type: application/json\r\nconnection: close";
    Some(format!("{line}\r\n{headers}\r\ncontent-length: {length}\r\n\r\n{body}").into_bytes())
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if !self.is_replaced
            && self.phase.load(Ordering::Acquire) != SERVING
            && let Some(text) = reworded(buf)
        {
            let own = self.line.flavour().map(|flavour| (self.on_malformed)(flavour));
            (self.replacement, self.is_replaced) = (own.unwrap_or(text), true);
        }
        if self.is_replaced {
            while !self.replacement.is_empty() {
                let this = &mut *self;
                let written = Pin::new(&mut this.stream).poll_write(cx, &this.replacement);
                match this.unread.check(written, cx) {
                    Poll::Ready(Ok(written)) => drop(this.replacement.drain(..written)),
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => return Poll::Pending,
                }
            }
            return Poll::Ready(Ok(buf.len()));
        }
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.unread.check(written, cx)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.unread.check(flushed, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let closed = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.unread.check(closed, cx)
    }
}
