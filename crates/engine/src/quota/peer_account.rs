//! What one node knows of another, for one counter.

use fluxgate_types::{BootId, NodeId};

/// What a node said to be burned of its part. It counts only beside figures that were reckoned
/// under the same lives and by the same limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Burned {
    pub(super) incarnations: u64,
    pub(super) limit: u64,
    pub(super) tokens: i64,
}

/// What this node knows of another, for one counter.
#[derive(Clone, Copy, Debug)]
pub(super) struct PeerAccount {
    pub(super) node: NodeId,
    // The life that the totals below are tied to; `None` until one is known.
    pub(super) boot: Option<BootId>,
    pub(super) given: u64,
    pub(super) got: u64,
    pub(super) spent: u64,
    // Spent by lives that have ended, as far as they said: stays a lower bound.
    pub(super) spent_before: u64,
    // What third nodes know all its lives to have spent.
    pub(super) heard: u64,
    pub(super) burned: Option<Burned>,
    pub(super) left: Option<u64>,
}

impl PeerAccount {
    pub(super) fn new(node: NodeId) -> Self {
        let (given, got, spent, spent_before, heard) = (0, 0, 0, 0, 0);
        Self { node, boot: None, given, got, spent, spent_before, heard, burned: None, left: None }
    }

    /// A lower bound of what all lives of the node have spent.
    pub(super) fn spent_in_all(&self) -> u64 {
        self.spent.saturating_add(self.spent_before).max(self.heard)
    }
}
