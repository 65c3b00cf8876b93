//! What this node knows of another node, for one counter.

use fluxgate_types::{BootId, NodeId};

/// The burned tokens that a node reports. They count only together with reports that were computed
/// under the same incarnations and by the same limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Burned {
    pub(super) incarnations: u64,
    pub(super) limit: u64,
    pub(super) tokens: i64,
}

/// What this node knows of another node, for one counter.
#[derive(Clone, Copy, Debug)]
pub(super) struct PeerAccount {
    pub(super) node: NodeId,
    // The incarnation that the totals below are tied to; `None` until one is known.
    pub(super) boot: Option<BootId>,
    pub(super) given: u64,
    pub(super) got: u64,
    pub(super) spent: u64,
    // Spent by incarnations that have ended, as far as they reported: remains a lower bound.
    pub(super) spent_before: u64,
    // A lower bound of the spending of all its incarnations, as other nodes reported it.
    pub(super) heard: u64,
    pub(super) burned: Option<Burned>,
    pub(super) left: Option<u64>,
}

impl PeerAccount {
    pub(super) fn new(node: NodeId) -> Self {
        let (given, got, spent, spent_before, heard) = (0, 0, 0, 0, 0);
        Self { node, boot: None, given, got, spent, spent_before, heard, burned: None, left: None }
    }

    /// A lower bound of what all incarnations of the node have spent.
    pub(super) fn spent_in_all(&self) -> u64 {
        self.spent.saturating_add(self.spent_before).max(self.heard)
    }
}
