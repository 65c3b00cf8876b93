//! HTTP/2 on the gateway listener: with prior knowledge, or by ALPN over TLS.
//!
//! Answers for: bounds on streams and headers, and pings that end a connection whose caller is gone.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use fluxgate_api::error::ErrorCode;
use fluxgate_api::paths;
use hyper::body::Incoming;
use hyper::server::conn::http2::Builder;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::answers::{Answers, drive};
use super::body::RequestBody;
use super::guarded::IDLE_TIMEOUT;
use super::http1::HEADERS_MAX;
use crate::shared::reply::Reply;
use crate::shared::respond;

/// Concurrent requests on one connection.
const STREAMS_MAX: u32 = 1_024;
/// Bytes of one request's headers, after decompression.
const HEADERS_BYTES_MAX: u32 = 64 * 1024;
/// How often an idle connection is checked with a ping.
const PING_EVERY: Duration = Duration::from_secs(20);
/// How long the answer to a ping may take.
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// HTTP/2 within the bounds of this node.
pub(crate) fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEADERS_BYTES_MAX)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT);
    builder
}

/// Concurrent requests on one connection of a gateway: each may have a body in memory.
const GATEWAY_STREAMS_MAX: u32 = 128;

/// The requests of a connection: how many are open, and when the last one ended.
#[derive(Debug)]
struct Requests {
    begun: Instant,
    open: AtomicUsize,
    // Milliseconds after `begun`.
    ended_ms: AtomicU64,
}

impl Requests {
    fn new() -> Arc<Self> {
        let (open, ended_ms) = (AtomicUsize::new(0), AtomicU64::new(0));
        Arc::new(Self { begun: Instant::now(), open, ended_ms })
    }

    /// Ends once no request was open for [`IDLE_TIMEOUT`].
    async fn idle(&self) {
        loop {
            // In this order: a request that ends in between has noted when BEFORE it is not open.
            let is_open = self.open.load(Ordering::Acquire) > 0;
            let ended = Duration::from_millis(self.ended_ms.load(Ordering::Acquire));
            let end = if is_open { Instant::now() } else { self.begun + ended } + IDLE_TIMEOUT;
            if end <= Instant::now() {
                return;
            }
            sleep_until(end).await;
        }
    }
}

/// An open request.
struct Open(Arc<Requests>);

impl Open {
    fn new(requests: &Arc<Requests>) -> Self {
        requests.open.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(requests))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let ended_ms = u64::try_from(self.0.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.0.ended_ms.fetch_max(ended_ms, Ordering::AcqRel);
        self.0.open.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Serves one connection to its end.
pub(super) async fn serve<S>(
    stream: S,
    from: SocketAddr,
    answers: impl Answers,
    stop: watch::Receiver<bool>,
) where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let requests = Requests::new();
    let counted = Arc::clone(&requests);
    let service = service_fn(move |request: Request<Incoming>| {
        let (answers, open) = (answers.clone(), Open::new(&counted));
        async move {
            let response = match bounded(request) {
                Some(request) => answers.answer(request.map(RequestBody::drained), from).await,
                None => {
                    let message = "the request head is too large";
                    respond::reject(ErrorCode::HeadersTooLarge, message).map(Reply::Routed)
                }
            };
            drop(open);
            Ok::<Response<_>, Infallible>(response)
        }
    });
    let mut builder = builder();
    builder.max_concurrent_streams(GATEWAY_STREAMS_MAX);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    if let Err(error) = drive(connection, stop, requests.idle()).await {
        tracing::trace!(%error, %from, "an HTTP/2 connection ended early");
    }
}

/// The request, unless it has too many header fields. Below `/v1/authorize`, where only a few statuses
/// may be sent, such a request counts as one without any.
fn bounded(mut request: Request<Incoming>) -> Option<Request<Incoming>> {
    if request.headers().len() <= HEADERS_MAX {
        return Some(request);
    }
    request.headers_mut().clear();
    Some(request).filter(|request| request.uri().path().starts_with(paths::AUTHORIZE_PREFIX))
}
