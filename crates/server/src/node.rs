//! A node with its listeners: starts and stops them in order.

use std::net::SocketAddr;
use std::sync::Arc;

use fluxgate_node::NodeError;
use fluxgate_node::config::{Config, TlsFiles};
use fluxgate_node::node::{self, Drivers};
use fluxgate_node::state::NodeState;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::gateway::{Gateway, authorize};
use crate::listen::accept::Server;
use crate::listen::answers::Routes;
use crate::listen::guarded::OnMalformed;
use crate::listen::tls::{Listeners, run_reload};
use crate::{admin, grpc, peer};

/// A running node.
#[derive(Debug)]
pub struct Node {
    state: Arc<NodeState>,
    stop: watch::Sender<bool>,
    servers: JoinSet<()>,
    drivers: Drivers,
    addresses: Addresses,
}

/// The addresses that a node listens on.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// For gateways.
    pub gateway: SocketAddr,
    /// For administrators.
    pub admin: SocketAddr,
    /// For the other nodes.
    pub peer: SocketAddr,
}

async fn bind(address: SocketAddr, what: &'static str) -> Result<TcpListener, NodeError> {
    TcpListener::bind(address).await.map_err(|source| NodeError::Listen { address, what, source })
}

impl Node {
    /// Starts a node and returns once its listeners serve; it may join the cluster a little later.
    ///
    /// # Errors
    /// When a listener cannot be bound, or the data directory cannot be used.
    pub async fn start(config: Config) -> Result<Self, NodeError> {
        // BEFORE the data directory is opened: if a port is in use, the directory stays as it is.
        let gateway_listener = bind(config.gateway_listen, "gateway").await?;
        let admin_listener = bind(config.admin_listen, "admin").await?;
        let peer_listener = bind(config.peer_listen, "peer").await?;
        let grpc_listener = match config.grpc_listen {
            Some(address) => Some(bind(address, "gRPC").await?),
            None => None,
        };
        let local = |listener: &TcpListener, fallback| listener.local_addr().unwrap_or(fallback);
        let addresses = Addresses {
            gateway: local(&gateway_listener, config.gateway_listen),
            admin: local(&admin_listener, config.admin_listen),
            peer: local(&peer_listener, config.peer_listen),
        };
        let state = node::open(config).await?;
        let (stop, stopped) = watch::channel(false);
        let mut servers = JoinSet::new();
        let tls = Listeners::open(&state.config, &state.metrics)
            .map_err(|error| NodeError::Tls(error.to_string()))?;
        let malformed: OnMalformed = {
            let state = Arc::clone(&state);
            Arc::new(move |flavour| authorize::malformed(&state, flavour))
        };
        let probes = |files: Option<&TlsFiles>, with_metrics: bool| {
            let ca_file = files.and_then(|files| files.ca_file.as_ref());
            ca_file.map(|_| admin::probes(Arc::clone(&state), with_metrics))
        };
        // On the runtime of consensus: a busy API must not delay heartbeats and votes.
        let peers = Routes(peer::router(Arc::clone(&state)));
        let moved = peer_listener.into_std().map_err(moving)?;
        let peers = Server::new(moved, peers, None, Arc::clone(&malformed), tls.peer.clone());
        let stop_peers = stopped.clone();
        state.raft.spawn(&mut servers, async move { peers.run(stop_peers).await });
        let (admin_files, gateway_files) = (&state.config.admin_tls, &state.config.gateway_tls);
        let open_metrics = state.config.metrics_without_certificate;
        let admins = Server::new(
            admin_listener.into_std().map_err(moving)?,
            Routes(admin::router(Arc::clone(&state))),
            probes(admin_files.as_ref(), open_metrics),
            Arc::clone(&malformed),
            tls.admin.clone(),
        );
        servers.spawn(admins.run(stopped.clone()));
        let gateways = Server::new(
            gateway_listener.into_std().map_err(moving)?,
            Gateway::new(Arc::clone(&state)),
            probes(gateway_files.as_ref(), false),
            malformed,
            tls.gateway.clone(),
        );
        servers.spawn(gateways.run(stopped.clone()));
        if let Some(listener) = grpc_listener {
            let service = Arc::new(grpc::Service(Arc::clone(&state)));
            let listener = listener.into_std().map_err(moving)?;
            let server = Server::with(listener, service, tls.grpc.clone());
            servers.spawn(server.run(stopped.clone()));
        }
        let mut node = Self::run(state, (stop, servers), addresses);
        node.drivers.spawn(run_reload(Arc::clone(&node.state), tls));
        Ok(node)
    }

    /// Reads the files of certificates and tokens now instead of within the usual interval.
    pub fn look_at_files(&self) {
        self.state.look_at_files.notify_one();
    }

    /// Starts the drivers that run beside the listeners.
    pub(crate) fn run(
        state: Arc<NodeState>,
        (stop, servers): (watch::Sender<bool>, JoinSet<()>),
        addresses: Addresses,
    ) -> Self {
        let incarnation = state.start.boot().0;
        tracing::info!(node = state.me.0, incarnation, gateway = %addresses.gateway, admin = %addresses.admin, "node started");
        let drivers = Drivers::start(Arc::clone(&state));
        Self { state, stop, servers, drivers, addresses }
    }

    /// The addresses that it listens on.
    #[must_use]
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Whether it would answer validates now.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.state.not_ready().is_none()
    }

    /// Waits until the node fails; see [`Drivers::failed`]. After that the process should end.
    pub async fn failed(&mut self) -> NodeError {
        self.drivers.failed().await
    }

    /// Returns a function that ends the drain of a stop that is under way.
    pub fn hurry(&self) -> impl Fn() + Send + Sync + 'static {
        let state = Arc::clone(&self.state);
        move || state.lifecycle.end_drain.notify_one()
    }

    /// Shuts down in order: hands balances and leadership over, lets requests under way finish, and
    /// closes the log.
    pub async fn stop(self) {
        let Self { stop, mut servers, drivers, .. } = self;
        let close_listeners = async move {
            stop.send_replace(true);
            while servers.join_next().await.is_some() {}
        };
        drivers.stop(close_listeners).await;
    }
}

fn moving(source: std::io::Error) -> NodeError {
    NodeError::Fatal(format!("a listener cannot be moved to its runtime: {source}"))
}
