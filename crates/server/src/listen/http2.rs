//! HTTP/2 on the gateway listener: with prior knowledge, or by ALPN over TLS.
//!
//! Answers for: bounds on streams and headers, and pings that end a connection whose caller is gone.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::error::Error;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use fluxgate_api::error::ErrorCode;
use fluxgate_api::paths;
use hyper::body::{Body, Incoming};
use hyper::rt::Executor;
use hyper::server::conn::http2::Builder;
use hyper::service::{HttpService, service_fn};
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::answers::{Answers, drive};
use super::body::RequestBody;
use super::guarded::IDLE_TIMEOUT;
use super::http1::HEADERS_MAX;
use crate::shared::reply::Reply;
use crate::shared::respond;

/// Concurrent requests on one connection of a gateway: each may have a body in memory.
const GATEWAY_STREAMS_MAX: u32 = 128;
/// How long a connection answers what it has read before it leaves the rest to tasks of their own.
const TURN: Duration = Duration::from_micros(500);
/// Bytes of one request's headers, after decompression.
const HEADERS_BYTES_MAX: u32 = 64 * 1024;
/// How often an idle connection is checked with a ping.
const PING_EVERY: Duration = Duration::from_secs(20);
/// How long the answer to a ping may take.
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// The work on one request.
type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Requests of one connection that were read, and whose work has not begun.
///
/// What a caller sends at once is read at once; then each request is answered on the task of the
/// connection as far as that goes without a wait, and the answers leave together. A task for each
/// request costs more than a decision, and so does a system call for each answer.
#[derive(Default)]
struct Arrived(Arc<Mutex<VecDeque<Work>>>);

/// Where hyper puts the work on requests. The work itself keeps a copy of this, so only the
/// connection owns the queue. Otherwise what is left in it when a connection ends would stay.
#[derive(Clone)]
struct Arrivals(Weak<Mutex<VecDeque<Work>>>);

impl<F> Executor<F> for Arrivals
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, work: F) {
        match self.0.upgrade() {
            Some(queue) => {
                queue.lock().unwrap_or_else(PoisonError::into_inner).push_back(Box::pin(work));
            }
            None => drop(tokio::spawn(work)),
        }
    }
}

impl Arrived {
    fn arrivals(&self) -> Arrivals {
        Arrivals(Arc::downgrade(&self.0))
    }

    fn next(&self) -> Option<Work> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    /// Answers what arrived. Work that waits continues on a task of its own, and so does all that is
    /// left after [`TURN`]: large batches are for every core. Each answer wakes the task of the
    /// connection, which then sends them.
    fn answer(&self) {
        let begun = Instant::now();
        while let Some(mut work) = self.next() {
            if begun.elapsed() > TURN {
                tokio::spawn(work);
                continue;
            }
            // Wakes no task: work that waits is polled again by its own.
            let mut once = Context::from_waker(Waker::noop());
            // A fault in one request must not end the others of its connection.
            match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(&mut once))) {
                Ok(Poll::Ready(())) => {}
                Ok(Poll::Pending) => drop(tokio::spawn(work)),
                Err(_) => tracing::error!("the work on a request panicked"),
            }
        }
    }
}

/// Serves one connection to its end, with at most so many concurrent requests.
pub(crate) async fn serve_connection<S, A, B>(
    stream: S,
    service: A,
    streams_max: u32,
    stop: watch::Receiver<bool>,
    idle: impl Future<Output = ()>,
) -> Result<(), hyper::Error>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    A: HttpService<Incoming, ResBody = B, Error = Infallible, Future: Send + 'static>,
    B: Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
{
    let arrived = Arrived::default();
    let mut builder = Builder::new(arrived.arrivals());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(streams_max)
        .max_header_list_size(HEADERS_BYTES_MAX)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    drive(connection, || arrived.answer(), stop, idle).await
}

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
    let idle = requests.idle();
    if let Err(error) = serve_connection(stream, service, GATEWAY_STREAMS_MAX, stop, idle).await {
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

#[cfg(test)]
mod tests {
    use std::io;

    use bytes::Bytes;
    use http_body_util::Full;
    use hyper::client::conn::http2::{SendRequest, handshake};
    use hyper_util::rt::TokioExecutor;
    use tokio::io::{AsyncWriteExt as _, DuplexStream, ReadBuf};
    use tokio::sync::Semaphore;
    use tokio::task::{JoinHandle, JoinSet};

    use super::*;

    /// A stream that counts how often it was written to.
    struct Counted(DuplexStream, Arc<AtomicUsize>);

    impl AsyncRead for Counted {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_read(cx, buf)
        }
    }

    impl AsyncWrite for Counted {
        fn poll_write(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.1.fetch_add(1, Ordering::Relaxed);
            Pin::new(&mut self.0).poll_write(cx, buf)
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_flush(cx)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_shutdown(cx)
        }
    }

    /// A connection to a server whose requests for `/wait` wait for `gate`, and those for `/panic`
    /// panic.
    struct Pair {
        client: SendRequest<Full<Bytes>>,
        writes: Arc<AtomicUsize>,
        gate: Arc<Semaphore>,
        stop: watch::Sender<bool>,
        served: JoinHandle<Result<(), hyper::Error>>,
    }

    impl Pair {
        async fn open() -> Self {
            let (ours, theirs) = tokio::io::duplex(1 << 20);
            let (writes, gate) = (Arc::<AtomicUsize>::default(), Arc::new(Semaphore::new(0)));
            let (stop, stopping) = watch::channel(false);
            let opened = Arc::clone(&gate);
            let service = service_fn(move |request: Request<Incoming>| {
                let gate = Arc::clone(&opened);
                async move {
                    match request.uri().path() {
                        "/wait" => gate.acquire().await.unwrap().forget(),
                        "/panic" => panic!("as asked"),
                        _ => {}
                    }
                    Ok::<_, Infallible>(Response::new(Reply::from(Bytes::from_static(b"done"))))
                }
            });
            let stream = Counted(ours, Arc::clone(&writes));
            let idle = std::future::pending();
            let served = tokio::spawn(serve_connection(stream, service, 200, stopping, idle));
            let (client, connection) =
                handshake(TokioExecutor::new(), TokioIo::new(theirs)).await.unwrap();
            tokio::spawn(connection);
            Self { client, writes, gate, stop, served }
        }

        fn ask(&self, path: &str) -> impl Future<Output = u16> + Send + use<> {
            let mut client = self.client.clone();
            let uri = format!("http://node{path}");
            let request = Request::get(uri).body(Full::new(Bytes::new())).unwrap();
            async move {
                let response = client.send_request(request).await;
                response.map_or(0, |response| response.status().as_u16())
            }
        }

        /// The answers to so many requests that are sent at once.
        async fn ask_all(&self, count: usize) -> Vec<u16> {
            let asked: JoinSet<u16> = (0..count).map(|_| self.ask("/")).collect();
            asked.join_all().await
        }
    }

    #[tokio::test]
    async fn what_arrives_together_is_answered_together() {
        let pair = Pair::open().await;
        pair.ask_all(1).await;
        let before = pair.writes.load(Ordering::Relaxed);
        assert_eq!(pair.ask_all(32).await, [200; 32]);
        let writes = pair.writes.load(Ordering::Relaxed) - before;
        assert!(writes <= 8, "{writes} writes for 32 answers");
    }

    #[tokio::test]
    async fn a_request_that_waits_holds_no_other_up() {
        let pair = Pair::open().await;
        let waiting = tokio::spawn(pair.ask("/wait"));
        for count in [1, 64, 190] {
            assert_eq!(pair.ask_all(count).await, vec![200; count]);
        }
        assert!(!waiting.is_finished());
        pair.gate.add_permits(1);
        assert_eq!(waiting.await.unwrap(), 200);
    }

    #[tokio::test]
    async fn a_stop_ends_the_connection_after_the_requests_under_way() {
        let pair = Pair::open().await;
        let waiting: Vec<_> = (0..3).map(|_| tokio::spawn(pair.ask("/wait"))).collect();
        pair.ask_all(1).await;
        pair.stop.send(true).unwrap();
        pair.gate.add_permits(3);
        for asked in waiting {
            assert_eq!(asked.await.unwrap(), 200);
        }
        assert!(pair.served.await.unwrap().is_ok());
    }

    #[tokio::test]
    async fn a_panic_ends_its_own_request_alone() {
        let pair = Pair::open().await;
        let paths = (0..32).map(|at| if at == 5 { "/panic" } else { "/" });
        let asked: JoinSet<u16> = paths.map(|path| pair.ask(path)).collect();
        let mut statuses = asked.join_all().await;
        statuses.sort_unstable();
        assert_eq!(statuses, [&[0][..], &[200; 31]].concat());
        assert_eq!(pair.ask_all(32).await, [200; 32], "the connection continues");
    }

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
    }

    /// hyper ends a connection in the middle of what it has read, at a CONNECT with a body.
    #[tokio::test]
    async fn nothing_stays_of_requests_whose_connection_ends() {
        const HEADERS: u8 = 1;
        let (gate, (_stop, stopping)) = (Arc::new(Semaphore::new(0)), watch::channel(false));
        let (ours, mut theirs) = tokio::io::duplex(1 << 20);
        let held = Arc::clone(&gate);
        let service = service_fn(move |_: Request<Incoming>| {
            let held = Arc::clone(&held);
            async move {
                held.acquire().await.unwrap().forget();
                Ok::<_, Infallible>(Response::new(Reply::empty()))
            }
        });
        let served = serve_connection(ours, service, 200, stopping, std::future::pending());
        let mut sent = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        sent.extend(frame(4, 0, 0, b""));
        // GET http://a/, by the static table of HPACK (RFC 7541, appendix A).
        let get = b"\x82\x86\x84\x01\x01a";
        (0..100).for_each(|at| sent.extend(frame(HEADERS, 5, 2 * at + 1, get)));
        let connect = b"\x02\x07CONNECT\x01\x01a\x0f\x0d\x015";
        sent.extend(frame(HEADERS, 4, 201, connect));
        theirs.write_all(&sent).await.unwrap();
        served.await.ok();
        assert_eq!(Arc::strong_count(&gate), 1, "requests are still in memory");
    }
}
