//! Why a leader grants a node no lease.

use fluxgate_types::{BootId, DirId, NodeId};

use crate::state::View;
use crate::state::cluster_state::{ClusterState, StartId};
use crate::state::command::CommandError;

/// Why a leader rejects a request for a lease.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeaseRefusal {
    /// It asks for leases without applying what they require.
    #[error(
        "this node has not applied the log entry that its last lease named: it must catch up first"
    )]
    Behind,
    /// It was removed from the cluster.
    #[error(
        "node {0} was removed from the cluster: stop it, empty its data directory, and add it again"
    )]
    Removed(NodeId),
    /// Another data directory is registered under its id.
    #[error(
        "node {0} ran on another data directory: remove it from the cluster, and add it again with an empty one"
    )]
    OtherDirectory(NodeId),
    /// A later start of it is registered.
    #[error(
        "start {newest} of node {node} is known: this data directory is older, or a copy of it runs elsewhere"
    )]
    Older {
        /// The node.
        node: NodeId,
        /// Its newest registered start.
        newest: BootId,
    },
    /// Its directory replaces a removed one: it counts its starts on above those of that one.
    #[error("this node counts on above start {newest}, of an earlier directory of node {node}")]
    CountOn {
        /// The node.
        node: NodeId,
        /// The newest start of the removed directory.
        newest: BootId,
    },
    /// The leader's state differs from that of the other nodes.
    #[error("the state of the leader differs from that of the other nodes")]
    Differs,
    /// Another reason, in words.
    #[error("{0}")]
    Other(String),
}

/// How the replicated state judges a start that requests a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StartStanding {
    /// It is registered.
    Registered,
    /// It must be registered before it gets a lease.
    Unknown,
    /// It gets none. Nothing is proposed then, however often the node asks.
    Rejected(LeaseRefusal),
}

/// One data directory per node id gets leases, and only its newest start: any other has forgotten
/// what the node promised. Below level 2, starts are not registered.
#[must_use]
pub fn standing_of(
    view: &View,
    cluster: &ClusterState,
    node: NodeId,
    dir_id: DirId,
    start: StartId,
) -> StartStanding {
    let Some(known) = view.nodes.get(&node) else { return StartStanding::Unknown };
    let newest = cluster.start_ids.get(&node);
    match (known.dir_id == dir_id, known.removed) {
        (true, true) => StartStanding::Rejected(LeaseRefusal::Removed(node)),
        (false, false) => StartStanding::Rejected(LeaseRefusal::OtherDirectory(node)),
        (false, true) => StartStanding::Unknown,
        (true, false) if cluster.level < 2 || newest == Some(&start) => StartStanding::Registered,
        (true, false) => match newest.filter(|newest| newest.boot >= start.boot) {
            None => StartStanding::Unknown,
            Some(newest) => {
                StartStanding::Rejected(LeaseRefusal::Older { node, newest: newest.boot })
            }
        },
    }
}

impl LeaseRefusal {
    /// Turns a rejection by the replicated state into the answer to the node. `removed`: its
    /// directory replaces a removed one, or was removed itself.
    #[must_use]
    pub fn of_command(error: CommandError, removed: bool) -> Self {
        match error {
            // A new directory in place of a removed one: its start number is too low, and it
            // continues above.
            CommandError::OlderStart { node, newest } if removed => Self::CountOn { node, newest },
            CommandError::OlderStart { node, newest } => Self::Older { node, newest },
            CommandError::Removed(node) => Self::Removed(node),
            CommandError::OtherDirectory(node) if removed => Self::Removed(node),
            CommandError::OtherDirectory(node) => Self::OtherDirectory(node),
            other @ (CommandError::NotFound
            | CommandError::IdTaken
            | CommandError::AlreadyDone(_)
            | CommandError::Revision(_)
            | CommandError::Revoked
            | CommandError::Invalid(_)
            | CommandError::OtherContent(_)
            | CommandError::NotEnded(_)
            | CommandError::Promised(_)
            | CommandError::InUse(_)
            | CommandError::Actor) => Self::Other(other.to_string()),
        }
    }
}
