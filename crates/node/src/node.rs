//! A whole node: starts its parts in order, and stops them in order.

mod addresses;
mod background;
mod carryover;
mod error;
mod figures;
mod join;
pub(crate) mod last_uses;
mod opening;
#[cfg(feature = "sim")]
mod simulated;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use fluxgate_engine::quota::Sender;
use fluxgate_peer::{CallError, process};
use fluxgate_raft::Role;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::config::{Config, TlsFiles};
use crate::http::server::Server;
use crate::http::{admin, authorize, gateway};
use crate::reason::Reason;
use crate::state::NodeState;
use crate::tls::{Acceptor, Listeners, run_reload};
use crate::{counters, grpc, leader, lease, peer};

pub use addresses::recover_addresses;
pub use error::NodeError;
#[cfg(feature = "sim")]
pub use simulated::{Answer, Listener, Simulated, Surroundings};

/// How long a stopping node tries to hand its holdings to one peer.
const GIVE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a stopping leader waits for another.
const HAND_OVER_TIMEOUT: Duration = Duration::from_millis(1_500);
/// How often it is looked whether the node can go on.
const LOOK: Duration = Duration::from_millis(500);
/// A node that leaves says so for so many gossip periods before it stops.
const LEAVE_GOSSIPS: u64 = 3;

/// A running node.
#[derive(Debug)]
pub struct Node {
    state: Arc<NodeState>,
    stop: watch::Sender<bool>,
    servers: JoinSet<()>,
    tasks: Tasks,
    addresses: Addresses,
}

/// What runs beside the listeners. One that ends has done its work, or says why the node cannot go
/// on.
type Tasks = JoinSet<Result<(), NodeError>>;

/// Where a node listens.
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
    /// Starts a node and returns once it serves; it may take part in the cluster a little later.
    ///
    /// # Errors
    /// When a listener cannot be bound, or the data directory is not as it should be.
    pub async fn start(config: Config) -> Result<Self, NodeError> {
        // Bound first: a port that is taken must not touch the data directory.
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
        let opened = process::blocking(move || opening::open(config)).await;
        let state = opened.map_err(|error| NodeError::Fatal(error.to_string()))??;
        let state = Arc::new(state);
        let (stop, stopped) = watch::channel(false);
        let mut servers = JoinSet::new();
        let tls = Listeners::open(&state.config, &state.metrics)
            .map_err(|error| NodeError::Tls(error.to_string()))?;
        let served = |listener, router, probes, tls: &Option<Arc<Acceptor>>| {
            let state = Arc::clone(&state);
            let refusal = Arc::new(move |nginx| authorize::malformed(&state, nginx));
            Server::new(listener, router, probes, refusal, tls.clone())
        };
        let probes = |files: Option<&TlsFiles>, with_metrics: bool| {
            let ca_file = files.and_then(|files| files.ca_file.as_ref());
            ca_file.map(|_| admin::probes(Arc::clone(&state), with_metrics))
        };
        // On the runtime of consensus: a busy API must not delay heartbeats and votes.
        let peers = peer::listener::router(Arc::clone(&state));
        let moved = peer_listener.into_std().map_err(moving)?;
        let (peers, stop_peers) = (served(moved, peers, None, &tls.peer), stopped.clone());
        state.raft.spawn(&mut servers, async move { peers.run(stop_peers).await });
        let (admin_files, gateway_files) = (&state.config.admin_tls, &state.config.gateway_tls);
        let open_metrics = state.config.metrics_without_certificate;
        for (listener, router, probes, tls) in [
            (
                admin_listener,
                admin::router(Arc::clone(&state)),
                probes(admin_files.as_ref(), open_metrics),
                &tls.admin,
            ),
            (
                gateway_listener,
                gateway::router(Arc::clone(&state)),
                probes(gateway_files.as_ref(), false),
                &tls.gateway,
            ),
        ] {
            let listener = listener.into_std().map_err(moving)?;
            let server = served(listener, router, probes, tls);
            servers.spawn(server.run(stopped.clone()));
        }
        if let Some(listener) = grpc_listener {
            let service = Arc::new(grpc::Service(Arc::clone(&state)));
            let listener = listener.into_std().map_err(moving)?;
            let server = Server::with(listener, service, tls.grpc.clone());
            servers.spawn(server.run(stopped.clone()));
        }
        let mut node = Self::run(state, (stop, servers), addresses);
        let reload = run_reload(Arc::clone(&node.state), tls);
        spawn(&mut node.tasks, reload);
        Ok(node)
    }

    /// Looks now whether files of certificates changed, without waiting for the next look.
    pub fn look_at_files(&self) {
        self.state.look_at_files.notify_one();
    }

    /// Starts what runs beside the listeners.
    fn run(
        state: Arc<NodeState>,
        (stop, servers): (watch::Sender<bool>, JoinSet<()>),
        addresses: Addresses,
    ) -> Self {
        let mut tasks = Tasks::new();
        spawn(&mut tasks, lease::run_renewals(Arc::clone(&state)));
        spawn(&mut tasks, lease::run_applied(Arc::clone(&state)));
        spawn(&mut tasks, leader::run(Arc::clone(&state)));
        spawn(&mut tasks, peer::run_gossip(Arc::clone(&state)));
        spawn(&mut tasks, counters::run_ticks(Arc::clone(&state)));
        spawn(&mut tasks, counters::run_sweeps(Arc::clone(&state)));
        spawn(&mut tasks, background::run_peers(Arc::clone(&state)));
        spawn(&mut tasks, figures::run_refresh(Arc::clone(&state)));
        spawn(&mut tasks, figures::run_storage(Arc::clone(&state)));
        spawn(&mut tasks, background::run_clock_notes(Arc::clone(&state)));
        spawn(&mut tasks, last_uses::run(Arc::clone(&state)));
        // It was read when the directory was opened, so it can be read.
        let recovered = state.data.addresses().unwrap_or_default();
        spawn(&mut tasks, addresses::run(Arc::clone(&state), recovered));
        tasks.spawn(process::bind(join::join(Arc::clone(&state))));
        let boots = state.boot().0;
        tracing::info!(node = state.me.0, incarnation = boots, gateway = %addresses.gateway, admin = %addresses.admin, "node started");
        for warning in state.warnings() {
            tracing::warn!("{warning}");
        }
        Self { state, stop, servers, tasks, addresses }
    }

    /// Where it listens.
    #[must_use]
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Whether it would answer validates now.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.state.not_ready().is_none()
    }

    /// Waits until the node cannot go on: consensus stopped by itself, or a part of the node did.
    /// After that the process should end.
    pub async fn failed(&mut self) -> NodeError {
        loop {
            if let Some(why) = self.state.raft.status().fatal {
                return NodeError::Fatal(why);
            }
            tokio::select! {
                biased;
                Some(ended) = self.tasks.join_next() => match ended {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => return error,
                    // One that panicked leaves the node mute.
                    Err(error) => return NodeError::Fatal(error.to_string()),
                },
                () = self.state.must_end.notified() => {
                    if let Some(why) = self.state.why_ended() {
                        return why;
                    }
                }
                () = self.state.raft.wait_for_change(LOOK) => {}
            }
        }
    }

    /// Ends the drain of a stop that is under way, whenever it is called.
    pub fn hurry(&self) -> impl Fn() + Send + Sync + 'static {
        let state = Arc::clone(&self.state);
        move || state.end_drain.notify_one()
    }

    /// Stops in good order: hands holdings and leadership away, lets requests finish, and closes
    /// the log.
    pub async fn stop(mut self) {
        let state = Arc::clone(&self.state);
        tracing::info!(reason = %Reason::Stopping, drain_ms = state.config.drain_ms, "stopping");
        // First said, so that gateways turn away and peers that stop too are not given anything.
        state.begin_leaving();
        let told_ms = LEAVE_GOSSIPS * state.config.gossip_ms;
        // Answers go on meanwhile, also to new connections: whoever balances load by `/readyz` needs
        // this long to turn away.
        let drain = Duration::from_millis(told_ms.max(state.config.drain_ms));
        tokio::time::timeout(drain, state.end_drain.notified()).await.ok();
        state.begin_stopping();
        state.counters.begin_drain();
        give_away(&state).await;
        let left = Arc::clone(&state);
        let write = move || {
            carryover::write(&left, &left.data);
            last_uses::write(&left);
        };
        if let Err(error) = process::on_disk(write).await {
            tracing::error!(%error, "the holdings were not written down");
        }
        let somebody =
            state.incarnation().peers.iter().any(|(node, up)| *up && state.said_ready(*node));
        if state.raft.status().role == Role::Leader && somebody {
            match state.raft.transfer_leadership(None, HAND_OVER_TIMEOUT).await {
                Ok(leader) => tracing::info!(to = leader.0, "handed the leadership over"),
                Err(error) => tracing::warn!(%error, "nobody took the leadership"),
            }
        }
        self.stop.send_replace(true);
        while self.servers.join_next().await.is_some() {}
        self.tasks.shutdown().await;
        state.raft.shutdown().await;
        let ended = Arc::clone(&state);
        let noted = process::on_disk(move || ended.data.end_run()).await;
        if let Err(error) = noted.map_err(std::io::Error::other).and_then(|noted| noted) {
            tracing::warn!(%error, "it was not noted that this node stopped in good order");
        }
        tracing::info!("stopped");
    }
}

fn spawn(tasks: &mut Tasks, task: impl Future<Output = ()> + Send + 'static) {
    tasks.spawn(process::bind(async move {
        task.await;
        Ok(())
    }));
}

fn moving(source: std::io::Error) -> NodeError {
    NodeError::Fatal(format!("a listener cannot be moved: {source}"))
}

/// Gives this node's holdings to its peers, as far as they take them.
async fn give_away(state: &NodeState) {
    for (peer, reachable) in state.incarnation().peers.clone() {
        let boot = state
            .incarnation()
            .incarnations
            .of(peer)
            .filter(|_| reachable && state.said_ready(peer));
        let Some(boot) = boot else { continue };
        let (to, mut from) = (Sender { node: peer, boot }, Default::default());
        loop {
            let gifts = state.drain(&to, &mut from);
            if gifts.is_empty() {
                return;
            }
            match peer::give(state, &to, &gifts, GIVE_TIMEOUT).await {
                Ok(taken) => {
                    let refused: Vec<_> =
                        gifts.iter().zip(&taken).filter(|(_, taken)| !**taken).collect();
                    refused.iter().for_each(|(gift, _)| state.counters.take_back(&to, gift));
                    if !refused.is_empty() || taken.len() != gifts.len() {
                        break;
                    }
                }
                Err(CallError::Unreachable { .. } | CallError::Refused { .. }) => {
                    // Certainly not taken.
                    gifts.iter().for_each(|gift| state.counters.take_back(&to, gift));
                    break;
                }
                // They may have arrived: counting them here too would spend them twice.
                Err(CallError::Timeout { .. } | CallError::Broken { .. }) => break,
            }
        }
    }
}
