//! Configuration: built-in defaults < file < environment < flags.
//!
//! Answers for: all mistakes are reported at once, each with its setting; an unknown setting is
//! rejected with the nearest known name; a secret cannot be printed. The defaults exist once, in
//! `config/node.toml`, which is embedded here.

mod check;
mod layers;
pub mod material;
mod members;
mod reader;
mod tls;
mod tokens;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use fluxgate_engine::lease::LeaseTerms;
use fluxgate_engine::quota::WaitPolicy;
use fluxgate_types::{Limit, NodeId};

pub use layers::{Layers, Problems};
pub use members::is_host_port;
pub use tokens::Tokens;

/// The built-in defaults, with comments.
pub const DEFAULTS: &str = include_str!("../../../config/node.toml");

/// The value of a setting that can be turned off.
pub const OFF: &str = "off";

/// A text that is never printed or logged.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, to compare it or to send it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Compares in constant time.
    #[must_use]
    pub fn matches(&self, presented: &[u8]) -> bool {
        use subtle::ConstantTimeEq as _;
        // Digests of equal length: neither the content nor the length can be timed.
        let digest = |bytes: &[u8]| fluxgate_types::Digest::of(bytes);
        digest(self.0.as_bytes()).as_bytes().ct_eq(digest(presented).as_bytes()).into()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"…\"")
    }
}

/// The files of one listener's TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// Its certificate and those between it and the CA, PEM.
    pub cert_file: PathBuf,
    /// The certificate's private key, PEM.
    pub key_file: PathBuf,
    /// The CA that must have signed the callers' certificates, PEM. On the peer listener also the CA
    /// of the nodes that this node calls.
    pub ca_file: Option<PathBuf>,
    /// While a cluster is switched to TLS: the listener also serves plaintext, and this node calls
    /// peers without TLS in plaintext.
    pub accept_plain: bool,
}

/// The whole configuration of one node, checked.
#[derive(Clone, Debug)]
pub struct Config {
    pub cluster_name: String,
    /// Nodes authenticate to each other with it.
    pub cluster_secret: Option<Secret>,
    /// The file that `cluster_secret` was read from.
    pub cluster_secret_file: Option<PathBuf>,
    /// The first members with their peer addresses.
    pub members: BTreeMap<NodeId, String>,
    pub node_id: NodeId,
    pub data_dir: PathBuf,
    /// How long a node that received a stop signal reports it on `/readyz` and still answers,
    /// milliseconds.
    pub drain_ms: u64,
    /// Listener for gateways.
    pub gateway_listen: SocketAddr,
    /// Listener for Envoy's gRPC services, if configured.
    pub grpc_listen: Option<SocketAddr>,
    /// Gateways must present one of these.
    pub gateway_token: Option<Tokens>,
    pub gateway_tls: Option<TlsFiles>,
    /// Also send the headers of the IETF draft.
    pub ratelimit_draft_headers: bool,
    /// Listener for administrators.
    pub admin_listen: SocketAddr,
    pub admin_tls: Option<TlsFiles>,
    /// `/metrics` needs no client certificate, although the other routes do.
    pub metrics_without_certificate: bool,
    /// Administrators present one of these.
    pub operator_token: Option<Tokens>,
    /// Largest request body, bytes.
    pub max_body_bytes: usize,
    pub request_timeout: Duration,
    /// Listener for the other nodes.
    pub peer_listen: SocketAddr,
    /// Mutual TLS between nodes.
    pub peer_tls: Option<TlsFiles>,
    /// The address that this node gives to the others.
    pub peer_advertise: String,
    /// The first part of a credential.
    pub key_prefix: String,
    /// The second part of a credential.
    pub key_environment: String,
    /// Records of revoked or expired keys are erased after this time, milliseconds; `None` keeps
    /// them.
    pub purge_after_ms: Option<u64>,
    /// Limits of keys without limits of their own.
    pub default_limits: Vec<Limit>,
    /// The longest that a request waits for tokens.
    pub transfer_wait_ms: u64,
    /// Timeout of a transfer request.
    pub transfer_timeout_ms: u64,
    /// Time between two rounds of gossip.
    pub gossip_ms: u64,
    pub lease_ms: u64,
    /// Bound on the error of a node's estimate of cluster time.
    pub clock_error_ms_max: u64,
    /// Time between two Raft heartbeats.
    pub heartbeat_ms: u64,
    /// Shortest and longest election timeout.
    pub election_ms: (u64, u64),
    /// Log entries between two snapshots.
    pub snapshot_every: u64,
    /// The filter of log lines.
    pub log: String,
    /// Log lines are JSON.
    pub log_json: bool,
    /// Spans are sent there.
    pub otlp_endpoint: Option<String>,
    /// Fraction of the traces that is kept, 0 to 1.
    pub trace_sample_ratio: f64,
}

impl Config {
    /// How long requests wait for tokens, and transfer requests for replies.
    pub fn waits(&self) -> WaitPolicy {
        WaitPolicy {
            transfer_wait_ms: self.transfer_wait_ms,
            transfer_timeout_ms: self.transfer_timeout_ms,
        }
    }

    pub fn lease_terms(&self) -> LeaseTerms {
        LeaseTerms { lease_ms: self.lease_ms, clock_error_ms_max: self.clock_error_ms_max }
    }

    /// The configuration as TOML, secrets masked.
    #[must_use]
    #[expect(clippy::too_many_lines, reason = "one line a setting, and nothing else")]
    pub fn masked(&self) -> String {
        // Escaped as TOML requires.
        let text = |text: &str| toml::Value::from(text).to_string();
        let duration = |ms| text(&fluxgate_types::format_duration_ms(ms));
        let path = |path: &std::path::Path| text(&path.to_string_lossy());
        // The path of a secret's file is not secret, and shows which file was read.
        let secret = |name: &str, set: bool, file: Option<&std::path::Path>| match file {
            Some(file) => format!("{name}_file = {}\n", path(file)),
            None if set => format!("{name} = \"…\"\n"),
            None => String::new(),
        };
        let tokens = |name: &str, tokens: Option<&Tokens>| {
            secret(name, tokens.is_some(), tokens.and_then(Tokens::file))
        };
        let tls = |files: Option<&TlsFiles>, ca: &str| {
            let Some(files) = files else { return String::new() };
            let (cert, key) = (path(&files.cert_file), path(&files.key_file));
            let ca = files.ca_file.as_ref().map(|file| format!(", {ca} = {}", path(file)));
            let ca = ca.unwrap_or_default();
            let plain = if files.accept_plain { ", accept_plain = true" } else { "" };
            format!("tls = {{ cert_file = {cert}, key_file = {key}{ca}{plain} }}\n")
        };
        let members: Vec<String> = self
            .members
            .iter()
            .map(|(id, peer)| format!("{{ id = {id}, peer = {} }}", text(peer)))
            .collect();
        let limits: Vec<String> = self
            .default_limits
            .iter()
            .map(|l| {
                let period = duration(l.period_ms);
                format!("{{ name = {}, tokens = {}, period = {period} }}", text(&l.name), l.tokens)
            })
            .collect();
        let data_dir = self.data_dir.to_string_lossy();
        let otlp = self.otlp_endpoint.as_ref().map(|e| format!("otlp_endpoint = {}\n", text(e)));
        [
            format!("[cluster]\nname = {}\n", text(&self.cluster_name)),
            secret("secret", self.cluster_secret.is_some(), self.cluster_secret_file.as_deref()),
            format!("members = [{}]\n\n", members.join(", ")),
            format!("[node]\nid = {}\ndata_dir = {}\n", self.node_id, text(&data_dir)),
            format!("drain = {}\n\n", duration(self.drain_ms)),
            format!("[gateway]\nlisten = \"{}\"\n", self.gateway_listen),
            self.grpc_listen.map(|at| format!("grpc_listen = \"{at}\"\n")).unwrap_or_default(),
            tokens("token", self.gateway_token.as_ref()),
            tls(self.gateway_tls.as_ref(), "client_ca_file"),
            format!("ratelimit_draft_headers = {}\n\n", self.ratelimit_draft_headers),
            format!("[admin]\nlisten = \"{}\"\n", self.admin_listen),
            tokens("operator_token", self.operator_token.as_ref()),
            format!("metrics_without_certificate = {}\n", self.metrics_without_certificate),
            tls(self.admin_tls.as_ref(), "client_ca_file"),
            format!("\n[http]\nmax_body_bytes = {}\n", self.max_body_bytes),
            format!(
                "request_timeout = {}\n\n",
                duration(u64::try_from(self.request_timeout.as_millis()).unwrap_or(u64::MAX))
            ),
            format!(
                "[peer]\nlisten = \"{}\"\nadvertise = {}\n",
                self.peer_listen,
                text(&self.peer_advertise)
            ),
            tls(self.peer_tls.as_ref(), "ca_file"),
            "\n".to_owned(),
            format!(
                "[keys]\nprefix = {}\nenvironment = {}\npurge_after = {}\n\n",
                text(&self.key_prefix),
                text(&self.key_environment),
                self.purge_after_ms.map_or_else(|| text(OFF), duration)
            ),
            format!("[limits]\ndefault = [{}]\n", limits.join(", ")),
            format!("transfer_wait = {}\n", duration(self.transfer_wait_ms)),
            format!("transfer_timeout = {}\n", duration(self.transfer_timeout_ms)),
            format!("gossip = {}\n\n", duration(self.gossip_ms)),
            format!("[lease]\nduration = {}\n", duration(self.lease_ms)),
            format!("clock_error_max = {}\n\n", duration(self.clock_error_ms_max)),
            format!("[raft]\nheartbeat = {}\n", duration(self.heartbeat_ms)),
            format!("election_timeout = \"{}ms..{}ms\"\n", self.election_ms.0, self.election_ms.1),
            format!("snapshot_every = {}\n\n", self.snapshot_every),
            format!("[telemetry]\nlog = {}\n", text(&self.log)),
            format!("log_format = {:?}\n", if self.log_json { "json" } else { "text" }),
            otlp.unwrap_or_default(),
            format!("trace_sample_ratio = {}\n", self.trace_sample_ratio),
        ]
        .concat()
    }
}
