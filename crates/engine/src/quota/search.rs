//! A counter's search for tokens among the peers.

use fluxgate_types::{BootNs, NodeId};

use super::Context;
use super::window_counter::WindowCounter;
use crate::fault::Mutation;

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
}

/// The peer to ask next for this counter and how much is missing. `None` while a reply is
/// pending, if nothing is missing, or before the next round.
pub(super) fn next_to_ask(
    context: &Context<'_>,
    cell: &mut WindowCounter,
    waits: u64,
) -> Option<(NodeId, u64)> {
    let missing = i64::try_from(waits).unwrap_or(i64::MAX).saturating_sub(cell.balance());
    let need = u64::try_from(missing).ok().filter(|need| *need > 0)?;
    if Mutation::NobodyAsks.active() {
        return None;
    }
    if let Some((peer, until)) = cell.search.asked {
        if context.boot < until {
            return None;
        }
        cell.search.asked = None;
        cell.search.failed = true;
        cell.search.note_tried(peer);
    }
    if context.boot < cell.search.retry_at {
        return None;
    }
    let reachable = context.incarnation.peers.iter().filter(|peer| peer.reachable);
    let untried = reachable.map(|peer| peer.id).filter(|n| !cell.search.tried.contains(n));
    let best = untried
        .map(|node| (cell.believed_left(context, node), node))
        .reduce(|a, b| if (b.0, cell.outranks(b.1, a.1)) > (a.0, false) { b } else { a });
    let Some((_, peer)) = best else {
        // No peer gave, and exhaustion is not proven: tokens are in flight or out of reach.
        let pause_ms = (RETRY_MS.0 << cell.search.rounds.min(8)).min(RETRY_MS.1);
        cell.search.rounds += 1;
        cell.search.retry_at = context.boot.plus_ms(pause_ms);
        cell.search.tried.clear();
        return None;
    };
    Some((peer, need))
}
