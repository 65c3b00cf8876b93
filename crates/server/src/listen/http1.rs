//! HTTP/1.1: one connection within bounds and deadlines.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use hyper::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::Instant;

use super::answers::{Answers, drive};
use super::body::RequestBody;
use super::guarded::{Guarded, IDLE, OnMalformed, SERVING};

/// Bytes of the request line and headers of one request.
const HEADERS_BYTES_MAX: usize = 64 * 1024;
/// Header fields of one request.
pub(super) const HEADERS_MAX: usize = 256;

/// Serves one connection to its end. `begun`: when the first request began to arrive, if a part of it
/// was read before.
pub(super) async fn serve<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
    stream: S,
    (from, begun): (SocketAddr, Option<Instant>),
    answers: impl Answers,
    on_malformed: OnMalformed,
    stop: watch::Receiver<bool>,
) {
    let phase = Arc::new(AtomicU8::new(IDLE));
    let guarded = Guarded::new(stream, Arc::clone(&phase), on_malformed, begun);
    let service = service_fn(move |request: Request<Incoming>| {
        phase.store(SERVING, Ordering::Release);
        let (answers, phase) = (answers.clone(), Arc::clone(&phase));
        async move {
            let response = answers.answer(request.map(RequestBody::new), from).await;
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
    if let Err(error) = drive(connection, || (), stop, std::future::pending()).await {
        tracing::trace!(%error, %from, "a connection ended early");
    }
}
