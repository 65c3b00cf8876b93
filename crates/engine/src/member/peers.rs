//! The other nodes, as messages from them show them: their incarnations, and whether they can be
//! reached.

use std::collections::BTreeMap;
use std::sync::Arc;

use fluxgate_types::{BootId, NodeId};

use super::Member;
use crate::fault::Mutation;
use crate::quota::{Incarnation, Peer};

/// After this many consecutive timeouts a peer counts as unreachable until we hear from it.
const SILENCES_MAX: u32 = 3;

/// How many calls in a row each peer left unanswered.
#[derive(Debug, Default)]
pub(super) struct Silences(BTreeMap<NodeId, u32>);

impl Member {
    /// This incarnation, for the counters. Replaced as a whole on change.
    #[must_use]
    pub fn incarnation(&self) -> &Arc<Incarnation> {
        &self.incarnation
    }

    pub(super) fn change_incarnation(&mut self, change: impl FnOnce(&mut Incarnation)) {
        let incarnation = Arc::make_mut(&mut self.incarnation);
        change(incarnation);
        incarnation.incarnations_tag = incarnation.incarnations.tag();
    }

    /// Records a peer's incarnation, if it is newer than the known one. This node's own is not
    /// learned from others.
    pub fn note_incarnation(&mut self, node: NodeId, boot: BootId) {
        let known = self.incarnation.incarnations.of(node);
        if node != self.me && known.is_none_or(|known| known < boot) {
            self.change_incarnation(|incarnation| {
                incarnation.incarnations.note(node, boot);
            });
        }
    }

    /// A call to a peer brought no answer. One timeout does not make it unreachable: it may still
    /// hold tokens. `refused`: nothing listens there.
    pub fn note_silence(&mut self, node: NodeId, refused: bool) {
        // An entry stays until the peer sends a message, also if nothing listens there.
        let silences = self.silences.0.entry(node).or_default();
        *silences = silences.saturating_add(1);
        if refused || *silences >= SILENCES_MAX {
            self.set_reachable(node, false);
        }
    }

    /// A message from a peer arrived.
    pub fn note_heard(&mut self, node: NodeId) {
        if Mutation::UnreachableForever.active() {
            return;
        }
        self.silences.0.remove(&node);
        self.set_reachable(node, true);
    }

    /// Whether some peer has left a call unanswered since it was last heard.
    #[must_use]
    pub fn has_silences(&self) -> bool {
        !self.silences.0.is_empty()
    }

    fn set_reachable(&mut self, node: NodeId, reachable: bool) {
        let changes = |peer: &Peer| peer.id == node && peer.reachable != reachable;
        if !self.incarnation.peers.iter().any(changes) {
            return;
        }
        self.change_incarnation(|incarnation| {
            for peer in incarnation.peers.iter_mut().filter(|peer| peer.id == node) {
                peer.reachable = reachable;
            }
        });
    }

    /// Sets the other nodes of the cluster. A new one counts as reachable.
    pub fn set_peers(&mut self, peers: &[NodeId]) {
        if self.incarnation.peers.iter().map(|peer| &peer.id).eq(peers) {
            return;
        }
        self.change_incarnation(|incarnation| {
            let before = std::mem::take(&mut incarnation.peers);
            let known = |id| before.iter().find(|peer| peer.id == id).copied();
            incarnation.peers =
                peers.iter().map(|id| known(*id).unwrap_or(Peer::new(*id))).collect();
        });
        self.barriers.retain_peers(|node| peers.contains(&node));
        self.silences.0.retain(|node, _| peers.contains(node));
    }

    /// The starts of this directory are counted on from `boot`, because an earlier directory ran
    /// under this id. Call it BEFORE this start sends any message to that effect.
    pub fn handle_counted_on(&mut self, boot: BootId) {
        self.start.boot = boot;
        self.change_incarnation(|incarnation| {
            incarnation.incarnations.note(incarnation.me, boot);
            // The earlier directory may have spent its shares of the open windows.
            incarnation.entitlement = None;
        });
    }

    /// The first lease decides which tokens this incarnation may use.
    pub(super) fn note_first_lease(&mut self) {
        let first = self.holder.first();
        if self.incarnation.first_lease != first {
            self.change_incarnation(|incarnation| incarnation.first_lease = first);
        }
    }
}
