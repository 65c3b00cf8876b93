//! The certificates and tokens of a running node: read at its start, and again when their files
//! change.
//!
//! Invalid files are logged once and ignored: a file that is being written, a certificate whose key
//! is not there yet, or an expired certificate must not take a listener down.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fluxgate_node::config::material::TlsError;
use fluxgate_node::config::{Config, TlsFiles, Tokens};
use fluxgate_node::metrics::Metrics;
use fluxgate_node::state::NodeState;
use fluxgate_peer::{PeerTls, process};
use fluxgate_types::Digest;
use tokio::time::timeout;

use super::{Acceptor, Material};

/// How often the files are read. After SIGHUP they are read at once.
const READ_EVERY: Duration = Duration::from_secs(5);
/// A certificate that ends within this time causes a warning, seconds.
const ENDS_SOON_S: i64 = 14 * 24 * 3_600;

/// The acceptor of each listener that speaks TLS.
#[derive(Clone, Debug)]
pub(crate) struct Listeners {
    pub(crate) gateway: Option<Arc<Acceptor>>,
    pub(crate) grpc: Option<Arc<Acceptor>>,
    pub(crate) admin: Option<Arc<Acceptor>>,
    pub(crate) peer: Option<Arc<Acceptor>>,
}

fn acceptor(
    listener: &'static str,
    files: Option<&TlsFiles>,
    metrics: &Metrics,
) -> Result<Option<Arc<Acceptor>>, TlsError> {
    let Some(files) = files else { return Ok(None) };
    let material = Material::read(files)?;
    let config = material.server(listener)?;
    note_end(listener, &material, metrics);
    let failures = metrics.tls_failures(listener);
    Ok(Some(Arc::new(Acceptor::new(listener, config, files.accept_plain, failures))))
}

/// Seconds until a certificate ends, by the wall clock, which TLS clients use too.
fn left_s(ends_s: i64) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    ends_s.saturating_sub(i64::try_from(now).unwrap_or(i64::MAX))
}

/// Publishes when a certificate ends, and warns if that is soon.
fn note_end(listener: &'static str, material: &Material, metrics: &Metrics) {
    metrics.set_certificate_end(listener, material.ends_s);
    let left_s = left_s(material.ends_s);
    if left_s < 0 {
        tracing::error!(listener, "the certificate has expired: callers will reject it");
    } else if left_s < ENDS_SOON_S {
        tracing::warn!(listener, days = left_s / 86_400, "the certificate ends soon");
    }
}

impl Listeners {
    /// Reads the files of each listener.
    pub(crate) fn open(config: &Config, metrics: &Metrics) -> Result<Self, TlsError> {
        Ok(Self {
            gateway: acceptor("gateway", config.gateway_tls.as_ref(), metrics)?,
            grpc: match config.grpc_listen {
                Some(_) => acceptor("grpc", config.gateway_tls.as_ref(), metrics)?,
                None => None,
            },
            admin: acceptor("admin", config.admin_tls.as_ref(), metrics)?,
            peer: acceptor("peer", config.peer_tls.as_ref(), metrics)?,
        })
    }
}

/// The files of one listener, and what was last found in them.
struct Watched {
    listener: &'static str,
    files: TlsFiles,
    acceptor: Arc<Acceptor>,
    /// Digest of the files in use, and when their certificate ends, Unix seconds.
    in_use: Option<(Digest, i64)>,
    /// The error that was logged last.
    logged: Option<TlsError>,
}

impl Watched {
    fn new(
        listener: &'static str,
        files: Option<&TlsFiles>,
        acceptor: Option<&Arc<Acceptor>>,
    ) -> Option<Self> {
        let (files, acceptor) = (files?.clone(), Arc::clone(acceptor?));
        Some(Self { listener, files, acceptor, in_use: None, logged: None })
    }

    /// Uses the files if they changed. The first call only records what is there.
    async fn look(&mut self, state: &NodeState) {
        let files = self.files.clone();
        let Ok(read) = process::blocking(move || Material::read(&files)).await else { return };
        match read.and_then(|material| self.take(state, &material)) {
            Ok(()) => self.logged = None,
            Err(error) => {
                if self.logged.as_ref() != Some(&error) {
                    let listener = self.listener;
                    tracing::error!(listener, %error, "certificates not reloaded: those in use stay");
                }
                self.logged = Some(error);
            }
        }
    }

    fn take(&mut self, state: &NodeState, material: &Material) -> Result<(), TlsError> {
        let before = self.in_use;
        if let Some((digest, ends_s)) = before {
            if digest == material.digest {
                return Ok(());
            }
            if ends_s > material.ends_s && left_s(material.ends_s) < 0 {
                return Err(TlsError::Expired { path: self.files.cert_file.clone() });
            }
        }
        let server = material.server(self.listener)?;
        if self.listener == "peer" {
            let tls = PeerTls { config: material.client()?, accept_plain: self.files.accept_plain };
            state.transport.set_tls(tls).map_err(TlsError::Together)?;
        }
        self.acceptor.install(server);
        self.in_use = Some((material.digest, material.ends_s));
        if before.is_some() {
            tracing::info!(listener = self.listener, "certificates reloaded");
            note_end(self.listener, material, &state.metrics);
        }
        Ok(())
    }
}

/// A file of tokens.
struct WatchedTokens {
    whose: &'static str,
    tokens: Tokens,
    /// The error that was logged last.
    logged: Option<String>,
}

impl WatchedTokens {
    fn new(whose: &'static str, tokens: Option<&Tokens>) -> Option<Self> {
        let tokens = tokens.filter(|tokens| tokens.has_file())?.clone();
        Some(Self { whose, tokens, logged: None })
    }

    async fn look(&mut self) {
        let (whose, tokens) = (self.whose, self.tokens.clone());
        let Ok(looked) = process::blocking(move || tokens.look()).await else { return };
        match looked {
            Ok(changed) => {
                self.logged = None;
                if let Some(count) = changed {
                    tracing::info!(whose, count, "tokens reloaded: these are accepted from now on");
                }
            }
            Err(error) => {
                if self.logged.as_ref() != Some(&error) {
                    tracing::error!(whose, %error, "tokens not reloaded: those in use stay");
                }
                self.logged = Some(error);
            }
        }
    }
}

/// Reads the files again and again, until the task is dropped.
pub(crate) async fn run_reload(state: Arc<NodeState>, listeners: Listeners) {
    let config = &state.config;
    let mut watched: Vec<Watched> = [
        Watched::new("gateway", config.gateway_tls.as_ref(), listeners.gateway.as_ref()),
        Watched::new("grpc", config.gateway_tls.as_ref(), listeners.grpc.as_ref()),
        Watched::new("admin", config.admin_tls.as_ref(), listeners.admin.as_ref()),
        Watched::new("peer", config.peer_tls.as_ref(), listeners.peer.as_ref()),
    ]
    .into_iter()
    .flatten()
    .collect();
    let mut tokens: Vec<WatchedTokens> =
        [("operator", &config.operator_token), ("gateway", &config.gateway_token)]
            .into_iter()
            .filter_map(|(whose, tokens)| WatchedTokens::new(whose, tokens.as_ref()))
            .collect();
    if watched.is_empty() && tokens.is_empty() {
        return;
    }
    loop {
        for one in &mut watched {
            one.look(&state).await;
        }
        for one in &mut tokens {
            one.look().await;
        }
        timeout(READ_EVERY, state.look_at_files.notified()).await.ok();
    }
}
