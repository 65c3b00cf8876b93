//! A node without sockets and disks, for the simulator: its listeners are called, its peers are
//! reached over a link of somebody else's making, and an observer may look into it.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use bytes::Bytes;
use fluxgate_engine::quota::{CounterId, Observed};
use fluxgate_engine::state::Shared;
use fluxgate_peer::{Link, Transport};
use fluxgate_raft::{RaftHandle, SimulatedDisk};
use fluxgate_types::{BootId, BootNs, ClusterMs, LogIndex};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tower::util::ServiceExt as _;

use super::opening::Opening;
use super::{Addresses, Node, NodeError};
use crate::config::Config;
use crate::http::{admin, gateway};
use crate::peer;
use crate::state::NodeState;

/// The surroundings of a simulated node.
#[derive(Clone)]
pub struct Surroundings {
    /// Carries its calls to other nodes.
    pub link: Arc<dyn Link>,
    /// Holds its log.
    pub disk: SimulatedDisk,
}

impl std::fmt::Debug for Surroundings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Surroundings").finish_non_exhaustive()
    }
}

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

/// What stands in for the sockets of a node, and its windows for an observer.
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

    /// Its life.
    #[must_use]
    pub fn boot(&self) -> BootId {
        self.state.boot()
    }

    /// The replicated state.
    #[must_use]
    pub fn shared(&self) -> &Arc<Shared> {
        &self.state.shared
    }

    /// The last entry in it.
    #[must_use]
    pub fn applied(&self) -> LogIndex {
        self.state.raft.applied()
    }

    /// Cluster time at a moment of the boot clock, where the node was told it.
    #[must_use]
    pub fn cluster_at(&self, boot_ns: u64) -> Option<ClusterMs> {
        self.state.clock.is_synced().then(|| self.state.clock.at(BootNs(boot_ns)))
    }

    /// The term that it leads in, with its office begun.
    #[must_use]
    pub fn leads_in(&self) -> Option<u64> {
        self.state.raft.leads_in()
    }

    /// What it holds of a counter, if that is open here.
    #[must_use]
    pub fn observe(&self, counter: &CounterId) -> Option<Observed> {
        self.state.counters.observe(counter)
    }
}

impl Node {
    /// Starts a node in simulated surroundings. Call it inside of the node's process.
    ///
    /// # Errors
    /// When the data directory is not as it should be.
    pub async fn start_simulated(
        config: Config,
        surroundings: Surroundings,
    ) -> Result<(Self, Simulated), NodeError> {
        let addresses = Addresses {
            gateway: config.gateway_listen,
            admin: config.admin_listen,
            peer: config.peer_listen,
        };
        let opening = Opening::begin(config)?;
        let mut calls = opening.calls()?;
        calls.link = Some(surroundings.link);
        let transport = Transport::new(calls).map_err(NodeError::Transport)?;
        let mut options = opening.options(&transport);
        options.simulated = Some(surroundings.disk);
        let cluster = RaftHandle::start_here(&opening.data, options).await?;
        let state = Arc::new(opening.finish(cluster, transport)?);
        let simulated = Simulated {
            gateway: gateway::router(Arc::clone(&state)),
            admin: admin::router(Arc::clone(&state)),
            peer: peer::listener::router(Arc::clone(&state)),
            state: Arc::clone(&state),
        };
        let (stop, _) = watch::channel(false);
        let node = Self::run(state, (stop, JoinSet::new()), addresses);
        Ok((node, simulated))
    }
}
