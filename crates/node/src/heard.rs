//! What the other nodes last reported about themselves, and the version of messages each speaks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use fluxgate_types::NodeId;
use fluxgate_wire::peer::{About, More};

use crate::clock::Clock;

/// How long what a node reported counts as recent, milliseconds.
const HEARD_MS: u64 = 2_000;
/// The same in gossip periods, for nodes that gossip seldom.
const HEARD_GOSSIPS: u64 = 3;

#[derive(Debug)]
pub struct Heard {
    clock: Arc<Clock>,
    gossip_ms: u64,
    /// The last status that each other node sent.
    about: RwLock<BTreeMap<NodeId, About>>,
    /// The rest of that status, from nodes that send it.
    more: RwLock<BTreeMap<NodeId, More>>,
    // Peers that speak only version 1 of the messages.
    older: Mutex<BTreeSet<NodeId>>,
}

impl Heard {
    pub fn new(clock: Arc<Clock>, gossip_ms: u64) -> Self {
        Self {
            clock,
            gossip_ms,
            about: RwLock::default(),
            more: RwLock::default(),
            older: Mutex::default(),
        }
    }

    /// Whether to send a peer messages of version 2. True until the peer rejects one.
    pub fn speaks_2(&self, peer: NodeId) -> bool {
        !self.older.lock().unwrap_or_else(PoisonError::into_inner).contains(&peer)
    }

    /// Records whether a peer speaks version 2, as its answer, or the lack of one, shows.
    pub fn note_speaks_2(&self, peer: NodeId, speaks: bool) {
        let mut older = self.older.lock().unwrap_or_else(PoisonError::into_inner);
        if speaks {
            older.remove(&peer);
        } else {
            older.insert(peer);
        }
    }

    /// What every other node last reported, however long ago.
    pub fn all(&self) -> BTreeMap<NodeId, About> {
        self.about.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What a node last reported, however long ago.
    pub fn about(&self, node: NodeId) -> Option<About> {
        self.about.read().unwrap_or_else(PoisonError::into_inner).get(&node).cloned()
    }

    /// Whether a node last reported that it would answer validates; a stopping node does not.
    pub fn said_ready(&self, node: NodeId) -> bool {
        self.is_true_of(node, |about| about.ready)
    }

    /// Whether a node last reported this program's version.
    pub fn is_alike(&self, node: NodeId) -> bool {
        self.is_true_of(node, |about| about.version == env!("CARGO_PKG_VERSION"))
    }

    fn is_true_of(&self, node: NodeId, of: impl FnOnce(&About) -> bool) -> bool {
        self.about.read().unwrap_or_else(PoisonError::into_inner).get(&node).is_some_and(of)
    }

    pub fn note_about(&self, node: NodeId, about: About) {
        let about = About { heard_ms: self.clock.now().0, ..about };
        self.about.write().unwrap_or_else(PoisonError::into_inner).insert(node, about);
    }

    pub fn note_more(&self, node: NodeId, more: More) {
        self.more.write().unwrap_or_else(PoisonError::into_inner).insert(node, more);
    }

    /// Whether a node was heard from recently.
    pub fn heard_lately(&self, node: NodeId) -> bool {
        let now_ms = self.clock.now().0;
        self.is_true_of(node, |about| self.is_recent(about, now_ms))
    }

    /// Whether this was heard recently: within a few gossip periods, however long they are.
    pub fn is_recent(&self, about: &About, now_ms: u64) -> bool {
        let lately_ms = HEARD_MS.max(HEARD_GOSSIPS * self.gossip_ms);
        now_ms.saturating_sub(about.heard_ms) <= lately_ms
    }

    /// What a node last reported from version 2 on, if that is recent.
    pub fn more_of(&self, node: NodeId) -> Option<More> {
        if !self.heard_lately(node) {
            return None;
        }
        self.more.read().unwrap_or_else(PoisonError::into_inner).get(&node).cloned()
    }
}
