//! The parts of a running node, and how they are put together.
//!
//! Answers for: a part knows the parts that it is made of, and none that is made of it. Locks of
//! parts are held for microseconds and never across an await. Must never decide anything.

use std::sync::Arc;

use fluxgate_api::paths;
use fluxgate_engine::quota::Incarnation;
use fluxgate_engine::state::Shared;
use fluxgate_peer::Transport;
use fluxgate_raft::RaftHandle;
use fluxgate_store::DataDir;
use fluxgate_types::{ClusterMs, NodeId};
use tokio::sync::{Notify, Semaphore};

use crate::agreement::Agreement;
use crate::calls::Calls;
use crate::clock::Clock;
use crate::config::Config;
use crate::counters::{CounterParts, Counters};
use crate::health::{Health, HealthParts};
use crate::heard::Heard;
use crate::last_uses::LastUses;
use crate::lifecycle::Lifecycle;
use crate::member::{MemberDriver, MemberParts};
use crate::metrics::{HotRoute, Metrics};
use crate::own_start::OwnStart;
use crate::peer::{PeerParts, Peers};
use crate::published::Published;
use crate::reason::Reason;
use crate::writes::{WriteParts, Writes};

/// Backups that may be written at the same time: each keeps a copy of the table from when it began.
pub const BACKUPS_MAX: usize = 2;

#[derive(Debug)]
pub struct NodeState {
    pub config: Config,
    pub me: NodeId,
    /// This start, and the starts that the data directory remembers.
    pub start: Arc<OwnStart>,
    pub lifecycle: Arc<Lifecycle>,
    pub clock: Arc<Clock>,
    pub raft: RaftHandle,
    pub shared: Arc<Shared>,
    pub data: Arc<DataDir>,
    pub transport: Transport,
    pub metrics: Arc<Metrics>,
    pub validate_route: HotRoute,
    pub authorize_route: HotRoute,
    pub authorize_nginx_route: HotRoute,
    /// What requests read of the member.
    pub published: Arc<Published>,
    /// When each key was last used, as written to disk.
    pub last_uses: Arc<LastUses>,
    pub counters: Arc<Counters>,
    /// Whether this node's state equals that of the other nodes.
    pub agreement: Arc<Agreement>,
    /// What the other nodes last reported about themselves.
    pub heard: Arc<Heard>,
    /// Whether this node would answer, and why not.
    pub health: Arc<Health>,
    /// Calls to the other nodes.
    pub calls: Calls,
    /// This node's part in the cluster.
    pub member: Arc<MemberDriver>,
    /// What this node and its peers say to each other.
    pub peers: Arc<Peers>,
    /// Changes to the replicated state.
    pub writes: Writes,
    /// Notified when certificate files may have changed.
    pub look_at_files: Notify,
    /// Permits for backups that are being written.
    pub backups: Arc<Semaphore>,
}

/// What a [`NodeState`] is made of.
pub struct NodeStateParts {
    pub config: Config,
    pub start: Arc<OwnStart>,
    pub clock: Arc<Clock>,
    pub raft: RaftHandle,
    pub data: Arc<DataDir>,
    pub transport: Transport,
    pub metrics: Arc<Metrics>,
    pub incarnation: Incarnation,
}

impl NodeState {
    /// Puts the parts together, each AFTER those that it uses.
    pub fn new(parts: NodeStateParts) -> Arc<Self> {
        let shared = parts.raft.shared();
        let lifecycle = Arc::<Lifecycle>::default();
        let published = Arc::new(Published::new(
            Arc::clone(&parts.clock),
            Arc::clone(&shared),
            Arc::clone(&lifecycle),
            parts.incarnation.clone(),
        ));
        let last_uses = Arc::new(LastUses::new(Arc::clone(&parts.data), Arc::clone(&shared)));
        let counters = counters_of(&parts, &published, &last_uses);
        let agreement = Arc::new(Agreement::new(parts.raft.clone(), Arc::clone(&parts.metrics)));
        let heard = Arc::new(Heard::new(Arc::clone(&parts.clock), parts.config.gossip_ms));
        let health = health_of(&parts, &lifecycle, &published, &agreement);
        let calls = Calls::new(parts.transport.clone(), Arc::clone(&heard));
        let member = MemberParts {
            raft: parts.raft.clone(),
            shared: Arc::clone(&shared),
            clock: Arc::clone(&parts.clock),
            start: Arc::clone(&parts.start),
            lifecycle: Arc::clone(&lifecycle),
            published: Arc::clone(&published),
            agreement: Arc::clone(&agreement),
            health: Arc::clone(&health),
            heard: Arc::clone(&heard),
            calls: calls.clone(),
            metrics: Arc::clone(&parts.metrics),
        };
        let member = MemberDriver::new(&parts.config, member, parts.incarnation.clone());
        let peers = peers_of(&parts, &published, &heard, &calls, &member);
        let writes = WriteParts {
            member: Arc::clone(&member),
            shared: Arc::clone(&shared),
            metrics: Arc::clone(&parts.metrics),
        };
        let NodeStateParts { config, start, clock, raft, data, transport, metrics, .. } = parts;
        Arc::new(Self {
            me: config.node_id,
            validate_route: metrics.shown_route(paths::VALIDATE, "POST"),
            authorize_route: metrics.hot_route(paths::AUTHORIZE, "GET"),
            authorize_nginx_route: metrics.hot_route(paths::AUTHORIZE_NGINX, "GET"),
            writes: Writes::new(&config, writes),
            look_at_files: Notify::new(),
            backups: Arc::new(Semaphore::new(BACKUPS_MAX)),
            config,
            start,
            lifecycle,
            clock,
            raft,
            shared,
            data,
            transport,
            metrics,
            published,
            last_uses,
            counters,
            agreement,
            heard,
            health,
            calls,
            member,
            peers,
        })
    }

    pub fn now(&self) -> ClusterMs {
        self.clock.now()
    }

    /// Why this node would not answer validates now; `None` when it would.
    pub fn not_ready(&self) -> Option<&'static str> {
        self.member.not_ready()
    }

    /// The same as one of the closed list, for pages and the log.
    pub fn reason(&self) -> Option<Reason> {
        self.member.reason()
    }
}

fn counters_of(
    parts: &NodeStateParts,
    published: &Arc<Published>,
    last_uses: &Arc<LastUses>,
) -> Arc<Counters> {
    let used = CounterParts {
        shared: parts.raft.shared(),
        published: Arc::clone(published),
        last_uses: Arc::clone(last_uses),
        metrics: Arc::clone(&parts.metrics),
    };
    Arc::new(Counters::new(&parts.config, used))
}

fn health_of(
    parts: &NodeStateParts,
    lifecycle: &Arc<Lifecycle>,
    published: &Arc<Published>,
    agreement: &Arc<Agreement>,
) -> Arc<Health> {
    let used = HealthParts {
        raft: parts.raft.clone(),
        transport: parts.transport.clone(),
        lifecycle: Arc::clone(lifecycle),
        published: Arc::clone(published),
        agreement: Arc::clone(agreement),
    };
    Arc::new(Health::new(&parts.config, used))
}

fn peers_of(
    parts: &NodeStateParts,
    published: &Arc<Published>,
    heard: &Arc<Heard>,
    calls: &Calls,
    member: &Arc<MemberDriver>,
) -> Arc<Peers> {
    let used = PeerParts {
        raft: parts.raft.clone(),
        shared: parts.raft.shared(),
        clock: Arc::clone(&parts.clock),
        start: Arc::clone(&parts.start),
        published: Arc::clone(published),
        heard: Arc::clone(heard),
        calls: calls.clone(),
        member: Arc::clone(member),
    };
    Arc::new(Peers::new(&parts.config, used))
}
