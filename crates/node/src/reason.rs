//! The reason why a node does not answer: one of a closed list, the same in `/readyz`,
//! `/v1/cluster`, `cluster status`, the console and the log.

use std::fmt;

use fluxgate_types::NodeId;

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
