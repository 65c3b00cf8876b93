//! Where a counter stands in its search for tokens.

use fluxgate_types::{BootNs, NodeId};

/// Where a counter stands in its search for tokens.
#[derive(Clone, Debug, Default)]
pub(super) struct TokenSearch {
    /// The peer that is being asked, and when to give it up.
    pub(super) asked: Option<(NodeId, BootNs)>,
    /// Peers that gave nothing in this round.
    pub(super) tried: Vec<NodeId>,
    /// No new round before this.
    pub(super) retry_at: BootNs,
    /// An ask got no answer since tokens last came: some may be out of reach.
    pub(super) failed: bool,
    /// Rounds so far, for the back-off.
    pub(super) rounds: u32,
}

impl TokenSearch {
    /// A peer that has nothing to give, or cannot be asked, in this round.
    pub(super) fn note_tried(&mut self, peer: NodeId) {
        if !self.tried.contains(&peer) {
            self.tried.push(peer);
        }
    }

    /// An answer came, perhaps one that gives nothing.
    pub(super) fn note_answer(&mut self, peer: NodeId) {
        if self.asked.is_some_and(|(asked, _)| asked == peer) {
            self.asked = None;
        }
        self.note_tried(peer);
    }
}
