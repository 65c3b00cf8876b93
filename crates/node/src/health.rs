//! Whether this node would answer validates now, and why not.
//!
//! Answers for: [`Health::not_ready`] and [`Health::reason`] are there for the same nodes at the
//! same time, because both begin with the same obstacle.

use std::sync::{Arc, Mutex, PoisonError};

use fluxgate_engine::lease::LeaseRefusal;
use fluxgate_engine::state::Shared;
use fluxgate_peer::{Fault, RefusedFor, Transport};
use fluxgate_raft::{RaftHandle, WriteHealth};
use fluxgate_types::NodeId;

use crate::agreement::Agreement;
use crate::clock::boot_now;
use crate::config::Config;
use crate::lifecycle::Lifecycle;
use crate::published::Published;
use crate::reason::Reason;
use crate::strangers::Strangers;

/// The parts of the node that its health depends on.
pub struct HealthParts {
    pub raft: RaftHandle,
    pub transport: Transport,
    pub lifecycle: Arc<Lifecycle>,
    pub published: Arc<Published>,
    pub agreement: Arc<Agreement>,
}

#[derive(Debug)]
pub struct Health {
    raft: RaftHandle,
    shared: Arc<Shared>,
    transport: Transport,
    lifecycle: Arc<Lifecycle>,
    published: Arc<Published>,
    agreement: Arc<Agreement>,
    // The members of the configuration file.
    configured: Vec<NodeId>,
    /// Callers with another cluster secret.
    pub strangers: Strangers,
    // Why no cluster is formed although enough nodes answer: their wall clocks differ.
    clocks_differ: Mutex<Option<String>>,
}

/// What keeps a node from answering, before its cause is looked for.
enum Obstacle {
    Leaving,
    Differs,
    NoLease,
    NoWindows,
    NoShareMap,
}

impl Health {
    pub fn new(config: &Config, parts: HealthParts) -> Self {
        let HealthParts { raft, transport, lifecycle, published, agreement } = parts;
        Self {
            shared: raft.shared(),
            raft,
            transport,
            lifecycle,
            published,
            agreement,
            configured: config.members.keys().copied().collect(),
            strangers: Strangers::default(),
            clocks_differ: Mutex::default(),
        }
    }

    fn obstacle(&self) -> Option<Obstacle> {
        if self.lifecycle.is_leaving() {
            Some(Obstacle::Leaving)
        } else if self.agreement.differs() {
            Some(Obstacle::Differs)
        } else if boot_now() >= self.published.lease_until() {
            Some(Obstacle::NoLease)
        } else if !self.published.may_open_windows() {
            Some(Obstacle::NoWindows)
        } else if self.shared.view().share_maps.is_empty() {
            Some(Obstacle::NoShareMap)
        } else {
            None
        }
    }

    /// Why this node would not answer validates now; `None` when it would. `refusal` is why the
    /// leader last rejected a request for a lease; it is looked up only if the lease is missing.
    pub fn not_ready(
        &self,
        refusal: impl FnOnce() -> Option<LeaseRefusal>,
    ) -> Option<&'static str> {
        Some(match self.obstacle()? {
            Obstacle::Leaving => "this node is stopping",
            Obstacle::Differs => {
                "this node's state differs from that of the other nodes: see its log"
            }
            Obstacle::NoLease => self.no_lease_because(refusal),
            Obstacle::NoWindows => "this node may open no window before it hears from the leader",
            Obstacle::NoShareMap => "the cluster has no share map yet",
        })
    }

    /// The same as one of the closed list. Uses the results of the last calls to the other nodes:
    /// for pages and the log, not for requests.
    pub fn reason(&self, refusal: impl FnOnce() -> Option<LeaseRefusal>) -> Option<Reason> {
        Some(match self.obstacle()? {
            Obstacle::Leaving => Reason::Stopping,
            Obstacle::Differs => Reason::Differs,
            Obstacle::NoLease => self.no_lease(refusal()),
            Obstacle::NoWindows | Obstacle::NoShareMap => Reason::Waiting,
        })
    }

    /// Why this node has no lease.
    fn no_lease_because(&self, refusal: impl FnOnce() -> Option<LeaseRefusal>) -> &'static str {
        if self.raft.write_health() == WriteHealth::DiskFull {
            return "the disk is full: this node can store no new entries, and holds no lease";
        }
        match refusal() {
            Some(LeaseRefusal::Behind) => {
                "this node is behind: it must catch up before it gets a lease"
            }
            Some(LeaseRefusal::Removed(_)) => "this node was removed from the cluster",
            Some(LeaseRefusal::OtherDirectory(_)) => {
                "the cluster knows this node with another data directory"
            }
            Some(LeaseRefusal::Older { .. }) => "the cluster knows a later start of this node",
            Some(LeaseRefusal::Differs) => {
                "the leader's state differs from that of the other nodes"
            }
            Some(LeaseRefusal::CountOn { .. } | LeaseRefusal::Other(_)) | None => {
                "this node holds no lease from the leader"
            }
        }
    }

    /// Records whether differing wall clocks keep the cluster from forming.
    pub fn note_clocks(&self, differ: Option<String>) {
        *self.clocks_differ.lock().unwrap_or_else(PoisonError::into_inner) = differ;
    }

    /// Why no cluster is formed, if differing wall clocks are the reason.
    pub fn clocks_differ(&self) -> Option<String> {
        self.clocks_differ.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Records a call that was rejected for its cluster secret. The node id is only what the caller
    /// claims.
    pub fn note_stranger(&self, claimed: Option<NodeId>) {
        // Only ids of this cluster are recorded: a caller may claim anything.
        if let Some(node) = claimed.filter(|node| self.others().contains(node)) {
            self.strangers.note(node);
        }
    }

    /// The other voters, or before the cluster is formed, the nodes that will vote.
    pub fn others(&self) -> Vec<NodeId> {
        let members = self.raft.status().nodes;
        let voters = members.iter().filter(|(_, member)| member.votes).map(|(node, _)| *node);
        let mut nodes: Vec<NodeId> = voters.collect();
        if nodes.is_empty() {
            nodes.clone_from(&self.configured);
        }
        let me = self.raft.me();
        nodes.retain(|node| *node != me);
        nodes
    }

    fn no_lease(&self, refusal: Option<LeaseRefusal>) -> Reason {
        match refusal {
            Some(LeaseRefusal::Removed(_)) => return Reason::Removed,
            Some(LeaseRefusal::Differs) => return Reason::Differs,
            Some(
                LeaseRefusal::Behind
                | LeaseRefusal::OtherDirectory(_)
                | LeaseRefusal::Older { .. }
                | LeaseRefusal::CountOn { .. }
                | LeaseRefusal::Other(_),
            )
            | None => {}
        }
        let others = self.others();
        let faults: Vec<(NodeId, Fault)> =
            others.iter().filter_map(|node| Some((*node, self.transport.fault(*node)?))).collect();
        let answering = others.len() + 1 - faults.len();
        let is_majority = answering * 2 > others.len() + 1;
        if !is_majority {
            return self.no_majority(&faults);
        }
        if self.raft.write_health() == WriteHealth::DiskFull || self.raft.lacks_entries() {
            return Reason::DiskFull;
        }
        if let Some(clocks) = self.clocks_differ() {
            return Reason::Clock(clocks);
        }
        if matches!(refusal, Some(LeaseRefusal::Behind)) {
            return Reason::Behind;
        }
        if self.raft.status().nodes.is_empty() {
            return Reason::NotFormed(Vec::new());
        }
        Reason::Waiting
    }

    /// Why too few nodes answer for a majority.
    fn no_majority(&self, faults: &[(NodeId, Fault)]) -> Reason {
        let strangers = self.strangers.lately();
        let of = |kind: &dyn Fn(&(NodeId, Fault)) -> bool| -> Vec<NodeId> {
            faults.iter().filter(|fault| kind(fault)).map(|(node, _)| *node).collect()
        };
        let secret = of(&|(node, fault)| {
            *fault == Fault::Refused(RefusedFor::Secret) || strangers.contains(node)
        });
        if !secret.is_empty() {
            return Reason::WrongSecret(secret);
        }
        let cluster = of(&|(_, fault)| *fault == Fault::Refused(RefusedFor::Cluster));
        if !cluster.is_empty() {
            return Reason::OtherCluster(cluster);
        }
        let tls = of(&|(_, fault)| matches!(fault, Fault::Tls(_)));
        let why = faults.iter().find_map(|(_, fault)| match fault {
            Fault::Tls(why) => Some(why.clone()),
            Fault::Refused(_) | Fault::Silent => None,
        });
        if let Some(why) = why {
            return Reason::Certificate(tls, why);
        }
        // All remaining nodes reject a removed node because of its directory.
        let removed = of(&|(_, fault)| *fault == Fault::Refused(RefusedFor::Directory));
        let missing = of(&|_| true);
        if self.raft.status().nodes.is_empty() {
            Reason::NotFormed(missing)
        } else if removed.len() == missing.len() {
            Reason::Removed
        } else {
            Reason::NoMajority(missing)
        }
    }

    /// Why calls to a node fail, as text; `None` if they succeed, or the node simply does not answer.
    pub fn trouble_with(&self, node: NodeId) -> Option<String> {
        let fault = self.transport.fault(node);
        let stranger = || self.strangers.lately().contains(&node);
        match fault {
            Some(Fault::Refused(why)) => Some(why.to_string()),
            Some(Fault::Tls(why)) => Some(format!("TLS fails: {why}")),
            Some(Fault::Silent) | None if stranger() => {
                Some("it has another cluster secret".to_owned())
            }
            Some(Fault::Silent) | None => None,
        }
    }
}
