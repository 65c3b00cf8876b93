//! Accepts the TLS connections of one listener, and logs the callers that it rejects.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use fluxgate_api::error::{ErrorBody, ErrorCode};
use prometheus::IntCounter;
use rustls::ServerConfig;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// From the connection until the handshake must be complete.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// The first byte of every TLS connection: a record of type handshake (RFC 8446, section 5.1).
const HANDSHAKE_RECORD: u8 = 22;
/// The shortest time between two log lines about rejected connections; a line has the number of those
/// that were not logged in between.
const LOG_EVERY: Duration = Duration::from_secs(5);
/// Bytes of a plain request that are read before the connection is closed.
const PLAIN_BYTES_MAX: usize = 16 * 1024;

#[derive(Debug, Default)]
struct Rejections {
    logged: Option<Instant>,
    suppressed: u64,
}

/// A connection that can be served.
pub(crate) enum Accepted {
    /// Without TLS.
    Plain(TcpStream),
    /// With TLS.
    Tls(Box<TlsStream<TcpStream>>),
}

/// Accepts the connections of one listener.
#[derive(Debug)]
pub(crate) struct Acceptor {
    listener: &'static str,
    config: RwLock<Arc<ServerConfig>>,
    accept_plain: bool,
    rejections: Mutex<Rejections>,
    failures: IntCounter,
}

impl Acceptor {
    /// Accepts connections with `config`; counts those that fail in `failures`.
    pub(super) fn new(
        listener: &'static str,
        config: ServerConfig,
        accept_plain: bool,
        failures: IntCounter,
    ) -> Self {
        let config = RwLock::new(Arc::new(config));
        Self { listener, config, accept_plain, rejections: Mutex::default(), failures }
    }

    /// Accepts later connections with `config`.
    pub(super) fn install(&self, config: ServerConfig) {
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
    }

    /// Makes a connection ready to be served; `None` if it was rejected.
    pub(crate) async fn accept(&self, stream: TcpStream, from: SocketAddr) -> Option<Accepted> {
        match tokio::time::timeout(HANDSHAKE_TIMEOUT, self.shake(stream)).await {
            Ok(Ok(accepted)) => accepted,
            Ok(Err(error)) => {
                self.reject(from, &error.to_string());
                None
            }
            Err(_) => {
                self.reject(from, "no handshake in time");
                None
            }
        }
    }

    async fn shake(&self, stream: TcpStream) -> std::io::Result<Option<Accepted>> {
        let mut first = [0];
        if stream.peek(&mut first).await? == 0 {
            // The caller only probed whether the port is open.
            return Ok(None);
        }
        if first[0] != HANDSHAKE_RECORD {
            if self.accept_plain {
                return Ok(Some(Accepted::Plain(stream)));
            }
            reject_plain(stream).await?;
            return Err(std::io::Error::other("the caller does not speak TLS"));
        }
        let config = Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner));
        let shaken = TlsAcceptor::from(config).accept(stream).await?;
        Ok(Some(Accepted::Tls(Box::new(shaken))))
    }

    /// Counts and logs a rejected connection.
    fn reject(&self, from: SocketAddr, why: &str) {
        self.failures.inc();
        let mut rejections = self.rejections.lock().unwrap_or_else(PoisonError::into_inner);
        if rejections.logged.is_some_and(|logged| logged.elapsed() < LOG_EVERY) {
            rejections.suppressed += 1;
            return;
        }
        let suppressed = std::mem::take(&mut rejections.suppressed);
        rejections.logged = Some(Instant::now());
        drop(rejections);
        let listener = self.listener;
        tracing::warn!(listener, %from, suppressed, "a connection was rejected: TLS: {why}");
    }
}

/// Answers a caller that speaks plain HTTP with the reason.
async fn reject_plain(mut stream: TcpStream) -> std::io::Result<()> {
    let body = ErrorBody::new(ErrorCode::InvalidRequest, "this listener speaks TLS: use https");
    let (body, head) = (body.to_json(), "HTTP/1.1 400 Bad Request\r\nconnection: close\r\n");
    let length = body.len();
    let text =
        format!("{head}content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}");
    stream.write_all(text.as_bytes()).await?;
    stream.shutdown().await?;
    // If the connection were closed with unread bytes, the reset could overtake the response.
    let mut rest = [0; 1024];
    let mut read = 0;
    while read < PLAIN_BYTES_MAX {
        match stream.read(&mut rest).await? {
            0 => break,
            count => read += count,
        }
    }
    Ok(())
}
