//! HTTP/2 on the gateway listener: with prior knowledge, or by ALPN over TLS.
//!
//! Answers for: bounds on streams and headers, and pings that end a connection whose caller is gone.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http2::Builder;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use super::answers::{Answers, drive};

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

/// Serves one connection to its end.
pub(super) async fn serve<S>(
    stream: S,
    from: SocketAddr,
    answers: impl Answers,
    stop: watch::Receiver<bool>,
) where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let answers = answers.clone();
        async move { Ok::<Response<_>, Infallible>(answers.answer(request, from).await) }
    });
    let connection = builder().serve_connection(TokioIo::new(stream), service);
    if let Err(error) = drive(connection, stop).await {
        tracing::trace!(%error, %from, "an HTTP/2 connection ended early");
    }
}
