//! A counter's search for tokens among the peers.

use fluxgate_types::{BootNs, NodeId};

/// The first and the longest pause after a round in which no peer gave, milliseconds; each pause
/// is twice the previous one.
const RETRY_MS: (u64, u64) = (1, 8);

/// The state of a counter's search for tokens.
#[derive(Clone, Debug, Default)]
pub(super) struct TokenSearch {
    /// The peer whose reply is pending, and when the transfer request times out.
    pub(super) asked: Option<(NodeId, BootNs)>,
    /// Peers that gave nothing in this round.
    pub(super) tried: Vec<NodeId>,
    /// No new round before this.
    pub(super) retry_at: BootNs,
    /// A transfer request failed since tokens last came: some tokens may be out of reach.
    pub(super) failed: bool,
    /// Rounds so far, for the back-off.
    pub(super) rounds: u32,
}

impl TokenSearch {
    /// Skips a peer for the rest of this round: it gave nothing or did not answer.
    pub(super) fn note_tried(&mut self, peer: NodeId) {
        if !self.tried.contains(&peer) {
            self.tried.push(peer);
        }
    }

    /// Records that a peer answered, perhaps without giving anything.
    pub(super) fn note_answer(&mut self, peer: NodeId) {
        if self.asked.is_some_and(|(asked, _)| asked == peer) {
            self.asked = None;
        }
        self.note_tried(peer);
    }

    /// Records that the pending transfer request to a peer failed or timed out.
    pub(super) fn note_failed(&mut self, peer: NodeId) {
        if self.asked.is_some_and(|(asked, _)| asked == peer) {
            self.asked = None;
            self.failed = true;
            self.note_tried(peer);
        }
    }

    /// Whether a transfer request may go out now: no reply is pending, and the next round has begun.
    /// A request that has timed out counts as failed.
    pub(super) fn is_due(&mut self, now: BootNs) -> bool {
        if let Some((peer, until)) = self.asked {
            if now < until {
                return false;
            }
            self.note_failed(peer);
        }
        now >= self.retry_at
    }

    /// Ends a round in which no peer gave. The next one begins after a pause: exhaustion is not
    /// proven, so tokens are in flight or out of reach.
    pub(super) fn end_round(&mut self, now: BootNs) {
        let pause_ms = (RETRY_MS.0 << self.rounds.min(8)).min(RETRY_MS.1);
        self.rounds += 1;
        self.retry_at = now.plus_ms(pause_ms);
        self.tried.clear();
    }
}
