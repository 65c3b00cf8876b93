//! The HTTP clients that carry calls, in plaintext or over TLS, and the choice between the two.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use fluxgate_types::NodeId;
use rustls::{ClientConfig, RootCertStore};
use tokio::time::Instant;

use super::{CallError, Fault};

/// Idle connections kept to one node.
const IDLE_PER_NODE_MAX: usize = 16;
/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
/// How long to keep using plaintext to a node that spoke no TLS before retrying TLS.
const PLAIN_FOR: Duration = Duration::from_secs(5);
/// The shortest time between two log lines about a node's TLS failures.
const COMPLAIN_EVERY: Duration = Duration::from_secs(10);

/// How calls to the other nodes are encrypted.
#[derive(Clone, Debug)]
pub struct PeerTls {
    /// This node's certificate, and the CAs that it trusts.
    pub config: ClientConfig,
    /// Use plaintext to nodes that speak no TLS, while a cluster is moved to TLS.
    pub accept_plain: bool,
}

/// The clients of one set of certificates.
pub(super) struct Clients {
    /// `Some` if calls are encrypted: whether plaintext is accepted too.
    pub(super) tls: Option<bool>,
    other: reqwest::Client,
    // Consensus has connections of its own, so that its own runtime drives them.
    raft: reqwest::Client,
}

/// A configuration that trusts no CA: for plaintext calls. Does not need the system's list of CAs,
/// which an image without an operating system lacks.
fn untrusting() -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    Ok(versions.with_root_certificates(RootCertStore::empty()).with_no_client_auth())
}

impl Clients {
    /// Makes the clients; opens no connection yet.
    pub(super) fn new(tls: Option<PeerTls>) -> Result<Self, String> {
        let (config, plain) = match tls {
            Some(tls) => (tls.config, Some(tls.accept_plain)),
            None => (untrusting()?, None),
        };
        let client = || {
            reqwest::Client::builder()
                .tls_backend_preconfigured(config.clone())
                .connect_timeout(CONNECT_TIMEOUT)
                .tcp_nodelay(true)
                .pool_max_idle_per_host(IDLE_PER_NODE_MAX)
                .pool_idle_timeout(Duration::from_secs(60))
                .no_proxy()
                .redirect(reqwest::redirect::Policy::none())
                .build()
                .map_err(|error| error.to_string())
        };
        Ok(Self { tls: plain, other: client()?, raft: client()? })
    }

    pub(super) fn of(&self, consensus: bool) -> &reqwest::Client {
        if consensus { &self.raft } else { &self.other }
    }
}

/// Peers that recently answered in plaintext, when each TLS failure was last logged, and why calls
/// to a node are not served.
#[derive(Debug, Default)]
pub(super) struct Habits {
    plain: RwLock<BTreeMap<NodeId, Instant>>,
    told: RwLock<BTreeMap<NodeId, Instant>>,
    // The TLS error of the last connection to a node.
    tls: RwLock<BTreeMap<NodeId, String>>,
    faults: RwLock<BTreeMap<NodeId, Fault>>,
}

impl Habits {
    pub(super) fn is_plain(&self, node: NodeId) -> bool {
        let plain = self.plain.read().unwrap_or_else(PoisonError::into_inner);
        plain.get(&node).is_some_and(|seen| seen.elapsed() < PLAIN_FOR)
    }

    pub(super) fn note_plain(&self, node: NodeId) {
        let mut plain = self.plain.write().unwrap_or_else(PoisonError::into_inner);
        plain.insert(node, Instant::now());
    }

    /// Why the last call to a node was not served.
    pub(super) fn fault(&self, node: NodeId) -> Option<Fault> {
        self.faults.read().unwrap_or_else(PoisonError::into_inner).get(&node).cloned()
    }

    /// Records how a call to a node ended.
    pub(super) fn note(&self, node: NodeId, outcome: Result<(), &CallError>) {
        let fault = match outcome {
            Ok(()) => None,
            Err(CallError::Refused { why: Some(why), .. }) => Some(Fault::Refused(*why)),
            // The node is up, and rejected only this call.
            Err(CallError::Refused { why: None, .. }) => None,
            Err(_) => {
                let tls = self.tls.read().unwrap_or_else(PoisonError::into_inner);
                Some(tls.get(&node).map_or(Fault::Silent, |why| Fault::Tls(why.clone())))
            }
        };
        // Usually nothing changes, and the read lock delays no other call.
        if self.fault(node) == fault {
            return;
        }
        let mut faults = self.faults.write().unwrap_or_else(PoisonError::into_inner);
        match fault {
            None => faults.remove(&node),
            Some(fault) => faults.insert(node, fault),
        };
    }

    /// Why a call failed. Logs TLS failures, at a bounded rate.
    pub(super) fn cause(&self, node: NodeId, error: reqwest::Error) -> String {
        let why = tls_fault(&error);
        {
            let mut tls = self.tls.write().unwrap_or_else(PoisonError::into_inner);
            match &why {
                None => tls.remove(&node),
                Some(why) => tls.insert(node, why.clone()),
            };
        }
        let Some(why) = why else { return error.without_url().to_string() };
        let mut told = self.told.write().unwrap_or_else(PoisonError::into_inner);
        if told.get(&node).is_none_or(|told| told.elapsed() >= COMPLAIN_EVERY) {
            told.insert(node, Instant::now());
            tracing::warn!(node = node.0, "TLS handshake failed with this node: {why}");
        }
        why
    }
}

/// The TLS error, if that is why a call failed.
fn tls_fault(error: &reqwest::Error) -> Option<String> {
    let mut source = error.source();
    while let Some(cause) = source {
        let fault = cause
            .downcast_ref::<rustls::Error>()
            .or_else(|| within(cause.downcast_ref::<std::io::Error>()?));
        if let Some(fault) = fault {
            return Some(fault.to_string());
        }
        source = cause.source();
    }
    None
}

/// I/O errors hide their cause from `source`, and may be nested.
fn within(error: &std::io::Error) -> Option<&rustls::Error> {
    let mut inner = error.get_ref()?;
    while let Some(next) = inner.downcast_ref::<std::io::Error>() {
        inner = next.get_ref()?;
    }
    inner.downcast_ref()
}
