//! Takes TLS connections of one listener, and says who was refused.

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

/// A handshake must be done so long after the connection was made.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// The first byte of every TLS connection: a record of type handshake (RFC 8446, section 5.1).
const HANDSHAKE_RECORD: u8 = 22;
/// Refusals are told at most so often; the line says how many there were between.
const COMPLAIN_EVERY: Duration = Duration::from_secs(5);
/// Bytes of a plain request that are read before its connection is closed.
const PLAIN_BYTES_MAX: usize = 16 * 1024;

#[derive(Debug, Default)]
struct Complaints {
    last: Option<Instant>,
    suppressed: u64,
}

/// A connection that may be served.
pub(crate) enum Accepted {
    /// As it came.
    Plain(TcpStream),
    /// Encrypted.
    Tls(Box<TlsStream<TcpStream>>),
}

/// Takes the connections of one listener.
#[derive(Debug)]
pub(crate) struct Acceptor {
    listener: &'static str,
    config: RwLock<Arc<ServerConfig>>,
    accept_plain: bool,
    complaints: Mutex<Complaints>,
    failures: IntCounter,
}

impl Acceptor {
    /// Takes connections by `config`; what fails is counted.
    pub(super) fn new(
        listener: &'static str,
        config: ServerConfig,
        accept_plain: bool,
        failures: IntCounter,
    ) -> Self {
        let config = RwLock::new(Arc::new(config));
        Self { listener, config, accept_plain, complaints: Mutex::default(), failures }
    }

    /// Connections from now on are taken by this.
    pub(super) fn install(&self, config: ServerConfig) {
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
    }

    /// Makes a connection ready to be served. `None` where it was refused.
    pub(crate) async fn accept(&self, stream: TcpStream, from: SocketAddr) -> Option<Accepted> {
        match tokio::time::timeout(HANDSHAKE_TIMEOUT, self.shake(stream)).await {
            Ok(Ok(accepted)) => accepted,
            Ok(Err(error)) => {
                self.refused(from, &error.to_string());
                None
            }
            Err(_) => {
                self.refused(from, "no handshake in time");
                None
            }
        }
    }

    async fn shake(&self, stream: TcpStream) -> std::io::Result<Option<Accepted>> {
        let mut first = [0];
        if stream.peek(&mut first).await? == 0 {
            // Somebody only looked whether the port is open.
            return Ok(None);
        }
        if first[0] != HANDSHAKE_RECORD {
            if self.accept_plain {
                return Ok(Some(Accepted::Plain(stream)));
            }
            refuse_plain(stream).await?;
            return Err(std::io::Error::other("the caller does not speak TLS"));
        }
        let config = Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner));
        let shaken = TlsAcceptor::from(config).accept(stream).await?;
        Ok(Some(Accepted::Tls(Box::new(shaken))))
    }

    fn refused(&self, from: SocketAddr, why: &str) {
        self.failures.inc();
        let mut complaints = self.complaints.lock().unwrap_or_else(PoisonError::into_inner);
        if complaints.last.is_some_and(|last| last.elapsed() < COMPLAIN_EVERY) {
            complaints.suppressed += 1;
            return;
        }
        let suppressed = std::mem::take(&mut complaints.suppressed);
        complaints.last = Some(Instant::now());
        drop(complaints);
        let listener = self.listener;
        tracing::warn!(listener, %from, suppressed, "a connection was refused: TLS: {why}");
    }
}

/// Tells a caller that speaks plain HTTP what is the matter, as far as it listens.
async fn refuse_plain(mut stream: TcpStream) -> std::io::Result<()> {
    let body = ErrorBody::new(ErrorCode::InvalidRequest, "this listener speaks TLS: use https");
    let (body, head) = (body.to_json(), "HTTP/1.1 400 Bad Request\r\nconnection: close\r\n");
    let length = body.len();
    let text =
        format!("{head}content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}");
    stream.write_all(text.as_bytes()).await?;
    stream.shutdown().await?;
    // Closed with bytes unread, the answer could be lost on its way.
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
