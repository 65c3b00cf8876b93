//! The accept loop: connections within bounds, each over the protocol that its caller speaks.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

use super::answers::{Answers, Routes};
use super::guarded::OnMalformed;
use super::preface::{self, Begun};
use super::tls::HTTP2;
use super::{http1, http2};
use crate::listen::tls::{Accepted, Acceptor};

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

/// HTTP/1.1, and HTTP/2 where the answers are served over it.
struct Http<A> {
    answers: A,
    /// The routes for a caller without a certificate, if callers must present one.
    probes: Option<Routes>,
    on_malformed: OnMalformed,
}

/// One connection and what it needs.
struct Connection<S> {
    stream: S,
    from: SocketAddr,
    on_malformed: OnMalformed,
    stop: watch::Receiver<bool>,
}

/// What a connection may speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spoken {
    Http1,
    /// As its first bytes tell.
    Either,
    /// As ALPN chose it.
    Http2,
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Connection<S> {
    async fn serve<A: Answers>(self, answers: A, spoken: Spoken) {
        let Self { stream, from, on_malformed, mut stop } = self;
        if spoken == Spoken::Http1 {
            return http1::serve(stream, (from, None), answers, on_malformed, stop).await;
        }
        let Some(Begun { stream, at, is_http2 }) = preface::begin(stream, &mut stop).await else {
            return;
        };
        if is_http2 {
            http2::serve(stream, from, answers, stop).await;
        } else if spoken == Spoken::Either {
            http1::serve(stream, (from, Some(at)), answers, on_malformed, stop).await;
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

impl<A: Answers> Handler for Http<A> {
    fn handle(&self, accepted: Accepted, from: SocketAddr, stop: watch::Receiver<bool>) -> Accept {
        let probes = self.probes.clone().filter(|_| !has_certificate(&accepted));
        let (answers, on_malformed) = (self.answers.clone(), Arc::clone(&self.on_malformed));
        Box::pin(async move {
            match accepted {
                Accepted::Plain(stream) => {
                    let connection = Connection { stream, from, on_malformed, stop };
                    let spoken = if A::HTTP2 { Spoken::Either } else { Spoken::Http1 };
                    connection.serve(answers, spoken).await;
                }
                Accepted::Tls(stream) => {
                    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(HTTP2);
                    let spoken = if is_http2 { Spoken::Http2 } else { Spoken::Http1 };
                    let connection = Connection { stream, from, on_malformed, stop };
                    match probes {
                        None => connection.serve(answers, spoken).await,
                        Some(probes) => connection.serve(probes, spoken).await,
                    }
                }
            }
        })
    }
}

impl Server {
    /// Serves HTTP/1.1, and HTTP/2 if the answers are served over it. Answers a malformed request below
    /// `/v1/authorize` with `on_malformed`. Plain without `tls`. With `probes`, callers without a
    /// certificate may use only these routes.
    pub(crate) fn new(
        listener: std::net::TcpListener,
        answers: impl Answers,
        probes: Option<Router>,
        on_malformed: OnMalformed,
        tls: Option<Arc<Acceptor>>,
    ) -> Self {
        let probes = probes.map(Routes);
        Self { listener, handler: Arc::new(Http { answers, probes, on_malformed }), tls }
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
        timeout(GRACE, places.acquire_many(all)).await.ok();
    }
}
