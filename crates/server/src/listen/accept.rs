//! The accept loop: connections with bounds and deadlines.
//!
//! hyper sets no timers, and answers a malformed request with an empty body. Here the headers of a
//! request must be complete within [`HEADERS_TIMEOUT`], an idle connection is closed after
//! [`IDLE_TIMEOUT`], and our two-field body replaces the empty one.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use fluxgate_api::error::{ErrorBody, ErrorCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::GracefulConnection;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, Sleep};
use tower::ServiceExt as _;

use super::request_line::RequestLine;
use crate::listen::tls::{Accepted, Acceptor};
use crate::shared::flavour::Flavour;
use crate::shared::reply::Reply;

/// From the first byte of a request until its headers must be complete.
const HEADERS_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection may be idle: longer than the gateways keep theirs.
const IDLE_TIMEOUT: Duration = Duration::from_secs(90);
/// Bytes of the request line and headers of one request.
const HEADERS_BYTES_MAX: usize = 64 * 1024;
/// Header fields of one request.
const HEADERS_MAX: usize = 256;
/// Connections on one listener.
const CONNECTIONS_MAX: usize = 16 * 1024;
/// Pause after an accept that failed, for example for lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How long requests under way may take to finish when the node stops.
pub(crate) const GRACE: Duration = Duration::from_secs(10);

/// A bound listener and the handler of its connections.
pub(crate) struct Server {
    listener: std::net::TcpListener,
    handler: Arc<dyn Handler>,
    tls: Option<Arc<Acceptor>>,
}

/// One connection being served.
pub(crate) type Accept = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Serves connections.
pub(crate) trait Handler: Send + Sync {
    /// Serves one to its end, and ends it soon once `stop` is true.
    fn handle(&self, accepted: Accepted, from: SocketAddr, stop: watch::Receiver<bool>) -> Accept;
}

/// Answers the requests of a connection.
pub(crate) trait Answers: Clone + Send + Sync + 'static {
    /// Answers one request of this caller.
    fn answer(
        &self,
        request: Request<Incoming>,
        from: SocketAddr,
    ) -> impl Future<Output = Response<Reply>> + Send;
}

/// Answers by a router.
#[derive(Clone)]
pub(crate) struct Routes(pub(crate) Router);

impl Answers for Routes {
    async fn answer(&self, request: Request<Incoming>, from: SocketAddr) -> Response<Reply> {
        let mut request = request.map(axum::body::Body::new);
        request.extensions_mut().insert(axum::extract::ConnectInfo(from));
        let Ok(response) = self.0.clone().oneshot(request).await;
        response.map(Reply::Routed)
    }
}

/// HTTP/1.1.
struct Http1<A> {
    answers: A,
    /// The routes for a caller without a certificate, if callers must present one.
    probes: Option<Routes>,
    on_malformed: OnMalformed,
}

impl<A: Answers> Http1<A> {
    async fn serve<S>(
        answers: A,
        probes: Option<Routes>,
        stream: S,
        from: SocketAddr,
        on_malformed: OnMalformed,
        stop: watch::Receiver<bool>,
    ) where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        match probes {
            None => serve(stream, from, answers, on_malformed, stop).await,
            Some(probes) => serve(stream, from, probes, on_malformed, stop).await,
        }
    }
}

/// Whether the caller presents a certificate, as far as it must.
fn has_certificate(accepted: &Accepted) -> bool {
    match accepted {
        Accepted::Tls(stream) => stream.get_ref().1.peer_certificates().is_some(),
        // Accepted only while `accept_plain` is set.
        Accepted::Plain(_) => true,
    }
}

impl<A: Answers> Handler for Http1<A> {
    fn handle(&self, accepted: Accepted, from: SocketAddr, stop: watch::Receiver<bool>) -> Accept {
        let probes = self.probes.clone().filter(|_| !has_certificate(&accepted));
        let (answers, on_malformed) = (self.answers.clone(), Arc::clone(&self.on_malformed));
        Box::pin(async move {
            match accepted {
                Accepted::Plain(stream) => {
                    Self::serve(answers, probes, stream, from, on_malformed, stop).await;
                }
                Accepted::Tls(stream) => {
                    Self::serve(answers, probes, stream, from, on_malformed, stop).await;
                }
            }
        })
    }
}

/// Makes the whole response, as bytes, to a malformed request below `/v1/authorize`, where only a few
/// statuses may be sent.
pub(crate) type OnMalformed = Arc<dyn Fn(Flavour) -> Vec<u8> + Send + Sync>;

impl Server {
    /// Serves HTTP/1.1. Answers a malformed request below `/v1/authorize` with `on_malformed`. Plain
    /// without `tls`. With `probes`, callers without a certificate may use only these routes.
    pub(crate) fn new(
        listener: std::net::TcpListener,
        answers: impl Answers,
        probes: Option<Router>,
        on_malformed: OnMalformed,
        tls: Option<Arc<Acceptor>>,
    ) -> Self {
        let probes = probes.map(Routes);
        Self { listener, handler: Arc::new(Http1 { answers, probes, on_malformed }), tls }
    }

    /// Serves connections with `handler`.
    pub(crate) fn with(
        listener: std::net::TcpListener,
        handler: Arc<dyn Handler>,
        tls: Option<Arc<Acceptor>>,
    ) -> Self {
        Self { listener, handler, tls }
    }

    /// Serves, on the runtime that polls this, until `stop` is true, then lets requests under way
    /// finish.
    pub(crate) async fn run(self, stop: watch::Receiver<bool>) {
        let listener = match TcpListener::from_std(self.listener) {
            Ok(listener) => listener,
            Err(error) => {
                tracing::error!(%error, "a listener cannot be served");
                return;
            }
        };
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let mut stopping = stop.clone();
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = stopping.wait_for(|stop| *stop) => break,
            };
            match accepted {
                Ok((stream, from)) => {
                    let (handler, tls) = (Arc::clone(&self.handler), self.tls.clone());
                    let stop = stop.clone();
                    tokio::spawn(async move {
                        stream.set_nodelay(true).ok();
                        let accepted = match tls {
                            None => Some(Accepted::Plain(stream)),
                            Some(tls) => tls.accept(stream, from).await,
                        };
                        if let Some(accepted) = accepted {
                            handler.handle(accepted, from, stop).await;
                        }
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection was not accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(listener);
        let all = u32::try_from(CONNECTIONS_MAX).unwrap_or(u32::MAX);
        tokio::time::timeout(GRACE, places.acquire_many(all)).await.ok();
    }
}

async fn serve<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
    stream: S,
    from: SocketAddr,
    answers: impl Answers,
    on_malformed: OnMalformed,
    stop: watch::Receiver<bool>,
) {
    let phase = Arc::new(AtomicU8::new(IDLE));
    let guarded = Guarded::new(stream, Arc::clone(&phase), on_malformed);
    let service = service_fn(move |request: Request<Incoming>| {
        phase.store(SERVING, Ordering::Release);
        let (answers, phase) = (answers.clone(), Arc::clone(&phase));
        async move {
            let response = answers.answer(request, from).await;
            phase.store(IDLE, Ordering::Release);
            Ok::<_, Infallible>(response)
        }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    // Without a timer of its own: the stream has the deadlines.
    builder.max_buf_size(HEADERS_BYTES_MAX).max_headers(HEADERS_MAX).header_read_timeout(None);
    // One system call with one buffer is cheaper than one with two: responses are small.
    builder.writev(false);
    // A client may close its side after the request and still wait for the response.
    builder.half_close(true);
    let connection = builder.serve_connection(TokioIo::new(guarded), service);
    if let Err(error) = drive(connection, stop).await {
        tracing::trace!(%error, %from, "a connection ended early");
    }
}

/// Serves a connection to its end; once `stop` is true, it takes no further requests.
pub(crate) async fn drive<C: GracefulConnection>(
    connection: C,
    mut stop: watch::Receiver<bool>,
) -> Result<(), C::Error> {
    tokio::pin!(connection);
    let seen = stop.clone();
    let mut stopped = std::pin::pin!(stop.wait_for(|stop| *stop));
    let mut is_registered = false;
    let outcome = std::future::poll_fn(|cx| {
        if let Poll::Ready(outcome) = connection.as_mut().poll(cx) {
            return Poll::Ready(Some(outcome));
        }
        // Once this task is registered, the flag alone says whether it must be looked at again: a poll
        // takes a lock that all connections share.
        if std::mem::replace(&mut is_registered, true) && matches!(seen.has_changed(), Ok(false)) {
            return Poll::Pending;
        }
        stopped.as_mut().poll(cx).map(|_| None)
    });
    match outcome.await {
        Some(outcome) => outcome,
        None => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    }
}

// What a connection is doing: waiting for a request, reading its headers, or answering it.
const IDLE: u8 = 0;
const HEADERS: u8 = 1;
const SERVING: u8 = 2;

/// A stream that ends slow requests and idle connections, and gives hyper's own error responses a body.
struct Guarded<S> {
    stream: S,
    phase: Arc<AtomicU8>,
    deadline: Pin<Box<Sleep>>,
    // What the deadline was set for.
    armed: u8,
    // The task was told to the timer since the deadline was last set.
    is_registered: bool,
    // When the last request began to arrive.
    active: Instant,
    // The rest of our error response, which is written in place of hyper's.
    replacement: Vec<u8>,
    is_replaced: bool,
    on_malformed: OnMalformed,
    line: RequestLine,
}

impl<S> Guarded<S> {
    fn new(stream: S, phase: Arc<AtomicU8>, on_malformed: OnMalformed) -> Self {
        let deadline = Box::pin(tokio::time::sleep(IDLE_TIMEOUT));
        Self {
            stream,
            phase,
            deadline,
            armed: IDLE,
            is_registered: false,
            active: Instant::now(),
            replacement: Vec::new(),
            is_replaced: false,
            on_malformed,
            line: RequestLine::default(),
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
        // One task reads the stream: while its timer runs, there is nothing to register again.
        if std::mem::replace(&mut self.is_registered, true) && !self.deadline.is_elapsed() {
            return false;
        }
        while self.deadline.as_mut().poll(cx).is_ready() {
            let end = self.active + Self::span(phase);
            if end <= Instant::now() {
                return true;
            }
            self.deadline.as_mut().reset(end);
        }
        false
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
                self.active = Instant::now();
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
/// hyper's error responses have no media type and no body, and this tells them from a handler's: a
/// handler's response may also be written in the phase [`HEADERS`], when the rest of a body that the
/// handler did not read looks like the start of the next request.
fn reworded(response: &[u8]) -> Option<Vec<u8>> {
    let has =
        |text: &[u8]| response.windows(text.len()).any(|part| part.eq_ignore_ascii_case(text));
    if has(b"\r\ncontent-type:") || !has(b"\r\ncontent-length: 0\r\n") {
        return None;
    }
    let status = std::str::from_utf8(response.get(9..12)?).ok()?;
    let (code, message) = match status {
        "400" => (ErrorCode::InvalidRequest, "the request is not valid HTTP"),
        "408" => (ErrorCode::RequestTimeout, "the request took too long"),
        "414" => (ErrorCode::InvalidRequest, "the address is too long"),
        "431" => (ErrorCode::HeadersTooLarge, "the request head is too large"),
        _ => return None,
    };
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
        // While headers are being read, hyper writes only error responses of its own.
        if !self.is_replaced
            && self.phase.load(Ordering::Acquire) == HEADERS
            && let Some(text) = reworded(buf)
        {
            let own = self.line.flavour().map(|flavour| (self.on_malformed)(flavour));
            (self.replacement, self.is_replaced) = (own.unwrap_or(text), true);
        }
        if self.is_replaced {
            while !self.replacement.is_empty() {
                let this = &mut *self;
                match Pin::new(&mut this.stream).poll_write(cx, &this.replacement) {
                    Poll::Ready(Ok(written)) => drop(this.replacement.drain(..written)),
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => return Poll::Pending,
                }
            }
            return Poll::Ready(Ok(buf.len()));
        }
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.is_replaced || self.phase.load(Ordering::Acquire) == HEADERS {
            let first = bufs.iter().find(|buf| !buf.is_empty()).map_or(&[][..], |buf| buf);
            return self.poll_write(cx, first);
        }
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
