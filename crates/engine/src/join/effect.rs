//! What a directory that joins asks of its driver.

use std::collections::BTreeSet;

use fluxgate_types::{BootId, NodeId};

use crate::clock::sync::ClocksDiffer;

/// One thing to do. The driver carries effects out in order, each BEFORE it polls for the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Ask all these nodes at once for their introductions, each at its last known address and then
    /// at the configured one. Answer with [`super::Join::handle_introductions`], which takes those
    /// that came in time; with none of them too.
    Introduce {
        /// The nodes to ask; may be empty.
        nodes: BTreeSet<NodeId>,
        /// Longest wait for one answer, milliseconds.
        timeout_ms: u64,
    },
    /// Ask for an introduction at this node's own addresses: the replicated one and the configured
    /// one. Answer with [`super::Join::handle_own_addresses`].
    LookForCopy {
        /// Longest wait for one answer, milliseconds.
        timeout_ms: u64,
    },
    /// Continue the count of starts from this number, durably. No answer: the next situation has
    /// the number. Comes BEFORE [`Effect::TakePart`], so BEFORE this start sends any message.
    CountOn(BootId),
    /// Form a new cluster of the configured members. No answer: the next situation says whether
    /// consensus is formed, and otherwise a later attempt asks for it again.
    Form,
    /// From here on this node answers calls of consensus, may stand for election, and may ask for a
    /// lease. No answer.
    TakePart,
    /// Ask for a lease at once instead of at the next renewal: callers may wait for this node. No
    /// answer.
    AskForLease,
    /// Show why the cluster is not formed where operators ask whether this node is ready; `None`
    /// when the clocks agree. No answer.
    NoteClocks(Option<ClocksDiffer>),
    /// Inform the operator. Each thing is reported once. No answer.
    Report(Report),
    /// End the process: this directory must not take part. Nothing follows.
    End(JoinError),
    /// The node takes part in a cluster. Nothing follows.
    Done,
}

/// What an operator is informed of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// This directory is new, and too few nodes answered that may know an earlier one.
    Waiting {
        /// The configured members that did not answer.
        missing: Vec<NodeId>,
        /// How many more of them must answer.
        needed: usize,
    },
    /// This directory has a log, and no majority of the voters answered.
    WaitingForMajority {
        /// The voters that answered, this node included.
        answered: usize,
        /// All voters.
        voters: usize,
    },
    /// An earlier directory of this node was removed: this start is numbered above all its starts.
    CountsOn {
        /// The newest start of the earlier directory.
        after: BootId,
    },
    /// The cluster is not formed, because no majority of the wall clocks agrees.
    ClocksDiffer(ClocksDiffer),
    /// The wall clocks of these nodes are wrong: the others agree on another time.
    WrongClocks {
        /// The nodes with a wrong clock.
        nodes: Vec<NodeId>,
    },
}

/// Why a data directory must not take part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JoinError {
    /// The cluster knows this node with another data directory.
    OtherDirectory {
        /// This node.
        node: NodeId,
    },
    /// The data directory is an older copy, or a copy of it has started since.
    OlderDirectory {
        /// This node.
        node: NodeId,
        /// The newest start that the cluster knows.
        newest: BootId,
    },
    /// Another process runs on a copy of this data directory.
    Copy {
        /// This node.
        node: NodeId,
        /// Where the other process answers.
        address: String,
    },
}
