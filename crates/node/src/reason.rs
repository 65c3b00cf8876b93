//! The reason why a node does not answer: one of a closed list, the same in `/readyz`,
//! `/v1/cluster`, `cluster status`, the console and the log.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use fluxgate_engine::lease::LeaseRefusal;
use fluxgate_peer::{Fault, RefusedFor};
use fluxgate_raft::WriteHealth;
use fluxgate_types::{BootNs, NodeId, caps};

use crate::clock::{boot_now, nanos};
use crate::state::NodeState;

/// The shortest time between two log lines about calls with another cluster secret.
const LOG_STRANGERS_EVERY: Duration = Duration::from_secs(60);
/// How long after such a call the operator is warned of its node.
const WARN_OF_STRANGERS: Duration = Duration::from_secs(10);

/// Why this node does not answer. A closed list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The node is shutting down.
    Stopping,
    /// Its state differs from that of the others.
    Differs,
    Removed,
    /// Nodes that a majority needs belong to another cluster.
    OtherCluster(Vec<NodeId>),
    /// Nodes that a majority needs have another cluster secret.
    WrongSecret(Vec<NodeId>),
    /// TLS to nodes that a majority needs fails, with the error of the first.
    Certificate(Vec<NodeId>, String),
    /// The wall clocks differ by more than the bound.
    Clock(String),
    /// There is no cluster yet, and these nodes are missing.
    NotFormed(Vec<NodeId>),
    /// These nodes do not answer, and the others are no majority.
    NoMajority(Vec<NodeId>),
    /// The node can store no new entries.
    DiskFull,
    /// The node must catch up first.
    Behind,
    /// Nothing is wrong: the node has requested its lease, or the cluster elects a leader.
    Waiting,
}

impl Reason {
    /// The name that documents and alerts use.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Stopping => "stopping",
            Self::Differs => "state differs",
            Self::Removed => "removed",
            Self::OtherCluster(_) => "other cluster",
            Self::WrongSecret(_) => "wrong cluster secret",
            Self::Certificate(..) => "certificate",
            Self::Clock(_) => "clock out of bounds",
            Self::NotFormed(_) => "not formed",
            Self::NoMajority(_) => "no majority",
            Self::DiskFull => "disk full",
            Self::Behind => "behind",
            Self::Waiting => "waiting for its lease",
        }
    }
}

/// "node 1", "nodes 1 and 3".
fn listed(nodes: &[NodeId]) -> String {
    let numbers: Vec<u64> = nodes.iter().map(|node| node.0).collect();
    fluxgate_console::health::nodes_text(&numbers)
}

fn verb<'a>(nodes: &[NodeId], one: &'a str, many: &'a str) -> &'a str {
    if nodes.len() == 1 { one } else { many }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.name())?;
        match self {
            Self::Stopping => f.write_str("this node is stopping"),
            Self::Differs => {
                f.write_str("this node's state differs from that of the other nodes: see its log")
            }
            Self::Removed => f.write_str(
                "this node was removed from the cluster: empty its data directory and add it again",
            ),
            Self::OtherCluster(nodes) => write!(
                f,
                "{} {} to another cluster: compare cluster.name and the addresses",
                listed(nodes),
                verb(nodes, "belongs", "belong")
            ),
            Self::WrongSecret(nodes) => write!(
                f,
                "{} {} another cluster secret than this node: compare the files",
                listed(nodes),
                verb(nodes, "has", "have")
            ),
            Self::Certificate(nodes, why) => {
                write!(f, "TLS between this node and {} fails: {why}", listed(nodes))
            }
            Self::Clock(what) => f.write_str(what),
            Self::NotFormed(nodes) if nodes.is_empty() => f.write_str(
                "this node is in no cluster yet: one is being formed, or it waits for \
                     `fluxgate cluster add-node`",
            ),
            Self::NotFormed(nodes) => {
                write!(f, "there is no cluster yet, and {} did not answer", listed(nodes))
            }
            Self::NoMajority(nodes) => write!(
                f,
                "{} {} not answer this node, and the others are no majority",
                listed(nodes),
                verb(nodes, "does", "do")
            ),
            Self::DiskFull => f.write_str(
                "the disk of the data directory is full: this node can store no new entries",
            ),
            Self::Behind => {
                f.write_str("this node must catch up with what the others have committed")
            }
            Self::Waiting => f.write_str("this node holds no lease from the leader yet"),
        }
    }
}

/// Callers that were rejected: nodes with another cluster secret (last call, and last log line
/// about it), and callers without a certificate.
#[derive(Debug, Default)]
pub struct Strangers {
    nodes: Mutex<BTreeMap<NodeId, (BootNs, Option<BootNs>)>>,
    /// When a caller without a certificate was last logged.
    without_certificate: Mutex<Option<BootNs>>,
}

impl Strangers {
    /// Whether a caller without a certificate may be logged again.
    pub fn may_tell_of_missing_certificate(&self) -> bool {
        let now = boot_now();
        let mut logged = self.without_certificate.lock().unwrap_or_else(PoisonError::into_inner);
        let may = logged.is_none_or(|logged| now.since(logged) > nanos(LOG_STRANGERS_EVERY));
        if may {
            *logged = Some(now);
        }
        may
    }

    /// Records a call that was rejected for its cluster secret. The node id is only what the caller
    /// claims.
    pub fn note(&self, state: &NodeState, claimed: Option<NodeId>) {
        // Only ids of this cluster are recorded: a caller may claim anything.
        let Some(node) = claimed.filter(|node| *node != state.me && state.others().contains(node))
        else {
            return;
        };
        let now = boot_now();
        let mut seen = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= caps::NODES_MAX && !seen.contains_key(&node) {
            return;
        }
        let (last, logged) = seen.entry(node).or_insert((now, None));
        *last = now;
        if logged.is_none_or(|logged| now.since(logged) > nanos(LOG_STRANGERS_EVERY)) {
            *logged = Some(now);
            tracing::warn!(
                node = node.0,
                "wrong cluster secret: a caller that claims to be this node presented another one"
            );
        }
    }

    /// The nodes that recently called with another secret.
    pub fn lately(&self) -> Vec<NodeId> {
        let now = boot_now();
        let seen = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        let lately =
            seen.iter().filter(|(_, (last, _))| now.since(*last) < nanos(WARN_OF_STRANGERS));
        lately.map(|(node, _)| *node).collect()
    }
}

impl NodeState {
    /// The other voters, or before the cluster is formed, the nodes that will vote.
    pub fn others(&self) -> Vec<NodeId> {
        let members = self.raft.status().nodes;
        let voters = members.iter().filter(|(_, member)| member.votes).map(|(node, _)| *node);
        let mut nodes: Vec<NodeId> = voters.collect();
        if nodes.is_empty() {
            nodes = self.config.members.keys().copied().collect();
        }
        nodes.retain(|node| *node != self.me);
        nodes
    }

    /// Why this node would not answer a validate now; `None` if it would. Uses the results of the
    /// last calls to the other nodes: for pages and the log, not for requests.
    pub fn reason(&self) -> Option<Reason> {
        if self.lifecycle.is_leaving() {
            return Some(Reason::Stopping);
        }
        if self.agreement.differs() {
            return Some(Reason::Differs);
        }
        if boot_now() < self.published.lease_until() {
            let waits =
                !self.published.may_open_windows() || self.shared.view().share_maps.is_empty();
            return waits.then_some(Reason::Waiting);
        }
        Some(self.no_lease())
    }

    fn no_lease(&self) -> Reason {
        let refusal = self.lease_refusal();
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
