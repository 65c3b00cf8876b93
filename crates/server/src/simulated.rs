//! A node without sockets and disks, for the simulator: the simulator calls its listeners, provides
//! the link to its peers, and observes its state.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use bytes::Bytes;
use fluxgate_engine::quota::{CounterId, Observed};
use fluxgate_engine::state::Shared;
use fluxgate_node::NodeError;
use fluxgate_node::config::Config;
use fluxgate_node::node::{self, Surroundings};
use fluxgate_node::state::NodeState;
use fluxgate_types::{BootId, BootNs, ClusterMs, LogIndex};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tower::util::ServiceExt as _;

use crate::admin;
use crate::gateway;
use crate::node::{Addresses, Node};
use crate::peer;

/// Which of the three listeners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listener {
    /// For gateways.
    Gateway,
    /// For administrators.
    Admin,
    /// For the other nodes.
    Peer,
}

/// An answer: status, headers with names in lower case, body.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
}

impl Answer {
    /// A header's value.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// Calls a node’s routers without sockets, and shows its state to an observer.
#[derive(Clone, Debug)]
pub struct Simulated {
    state: Arc<NodeState>,
    gateway: Router,
    admin: Router,
    peer: Router,
}

impl Simulated {
    /// Serves one request, as a listener would.
    pub async fn call(&self, listener: Listener, request: Request<Bytes>) -> Answer {
        let router = match listener {
            Listener::Gateway => &self.gateway,
            Listener::Admin => &self.admin,
            Listener::Peer => &self.peer,
        };
        let request = request.map(Body::from);
        let Ok(response) = router.clone().oneshot(request).await;
        let (parts, body) = response.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap_or_default();
        let text = |value: &axum::http::HeaderValue| {
            String::from_utf8_lossy(value.as_bytes()).into_owned()
        };
        let headers = parts.headers.iter();
        let headers = headers.map(|(name, value)| (name.as_str().to_owned(), text(value)));
        Answer { status: parts.status.as_u16(), headers: headers.collect(), body }
    }

    /// Its incarnation.
    #[must_use]
    pub fn boot(&self) -> BootId {
        self.state.start.boot()
    }

    /// The replicated state.
    #[must_use]
    pub fn shared(&self) -> &Arc<Shared> {
        &self.state.shared
    }

    /// The last log entry that was applied to it.
    #[must_use]
    pub fn applied(&self) -> LogIndex {
        self.state.raft.applied()
    }

    /// Cluster time at a moment of the boot clock; `None` before the node has synchronised its clock.
    #[must_use]
    pub fn cluster_at(&self, boot_ns: u64) -> Option<ClusterMs> {
        self.state.clock.is_synced().then(|| self.state.clock.at(BootNs(boot_ns)))
    }

    /// The term in which it leads, once its leadership has begun.
    #[must_use]
    pub fn leads_in(&self) -> Option<u64> {
        self.state.raft.leads_in()
    }

    /// What it has of a counter, if the counter is open here.
    #[must_use]
    pub fn observe(&self, counter: &CounterId) -> Option<Observed> {
        self.state.counters.observe(counter)
    }
}

impl Node {
    /// Starts a node in simulated surroundings. Must be called inside the node's process.
    ///
    /// # Errors
    /// When the data directory cannot be used.
    pub async fn start_simulated(
        config: Config,
        surroundings: Surroundings,
    ) -> Result<(Self, Simulated), NodeError> {
        let addresses = Addresses {
            gateway: config.gateway_listen,
            admin: config.admin_listen,
            peer: config.peer_listen,
        };
        let state = node::open_simulated(config, surroundings).await?;
        let simulated = Simulated {
            gateway: gateway::router(Arc::clone(&state)),
            admin: admin::router(Arc::clone(&state)),
            peer: peer::router(Arc::clone(&state)),
            state: Arc::clone(&state),
        };
        let (stop, _) = watch::channel(false);
        let node = Self::run(state, (stop, JoinSet::new()), addresses);
        Ok((node, simulated))
    }
}
