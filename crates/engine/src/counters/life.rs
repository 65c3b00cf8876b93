//! Lives of nodes: which one runs, what it is entitled to, and what it hands on.
//!
//! A process that restarts has forgotten what it spent. What it may still use follows from what an
//! earlier life can have touched, and from the file that an orderly stop leaves.

use std::collections::BTreeMap;
use std::sync::Arc;

use fluxgate_types::{BootId, ClusterMs, LogIndex, NodeId};
use serde::{Deserialize, Serialize};

use super::{CounterId, key};
use crate::lease::FirstLease;
use crate::mutation::Mutation;

/// The newest life of every node, as far as this one has heard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lives {
    boots: BTreeMap<NodeId, BootId>,
}

impl Lives {
    /// Notes a life; true if that is news.
    pub fn note(&mut self, node: NodeId, boot: BootId) -> bool {
        let known = self.boots.get(&node).copied();
        let news = known.is_none_or(|known| known < boot);
        if news {
            self.boots.insert(node, boot);
        }
        news
    }

    /// Every life known.
    #[must_use]
    pub fn all(&self) -> Vec<(NodeId, BootId)> {
        self.boots.iter().map(|(node, boot)| (*node, *boot)).collect()
    }

    /// The newest life known of a node.
    #[must_use]
    pub fn of(&self, node: NodeId) -> Option<BootId> {
        self.boots.get(&node).copied()
    }

    /// Rises with every change: of two states of one process the one with more is the newer.
    #[must_use]
    pub fn progress(&self) -> u128 {
        self.boots.values().map(|boot| u128::from(boot.0) + 1).sum()
    }

    /// One number for all of it: equal on two nodes that know the same lives. Never 0.
    #[must_use]
    pub fn tag(&self) -> u64 {
        let fold = |tag: u64, (node, boot): (&NodeId, &BootId)| {
            fluxgate_types::id::mix64(tag ^ node.0.rotate_left(48) ^ boot.0)
        };
        self.boots.iter().fold(1, fold).max(1)
    }
}

/// Which shares no earlier life of this node can have spent or given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Untouched {
    /// All: no process ran on this data directory before.
    All,
    /// Those of windows that begin at or after `from`, and of keys created behind `index`.
    After {
        /// Cluster time.
        from: ClusterMs,
        /// Log position.
        index: LogIndex,
    },
}

/// What was held of one counter, and when its window ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Tokens; negative where the limit was lowered below what was spent.
    pub tokens: i64,
    /// The limit at that moment: if it has changed since, this node's share of the difference
    /// comes on top, where it `follows`.
    pub limit: u64,
    /// Not where the share itself was out of use since a crash.
    pub follows: bool,
    /// End of the window.
    pub ends: ClusterMs,
}

/// What a life that stops in good order writes down for the next one. A counter that is not
/// listed was opened by no life since `untouched`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOver {
    /// Cluster time at the stop: the next life's clock does not begin before it.
    pub at: ClusterMs,
    /// What this life itself was entitled to: the next one is to no more.
    pub untouched: Untouched,
    /// The counters that were opened, exhausted ones included.
    pub counters: BTreeMap<CounterId, Held>,
}

impl LeftOver {
    /// Puts together what `life` leaves: what it had open, and what its own predecessor left and it
    /// did not touch. `None` where a life never learnt what it was entitled to: then nothing may be
    /// written, and the next life starts as after a crash.
    #[must_use]
    pub fn of(
        life: &Life,
        opened: BTreeMap<CounterId, Held>,
        now: ClusterMs,
        synced: bool,
    ) -> Option<Self> {
        let untouched = life.untouched()?;
        let mut counters = opened;
        for (counter, held) in life.left_over.iter().flat_map(|map| map.iter()) {
            // A clock that no leader has set says nothing about which windows are over.
            if !synced || held.ends + key::OPEN_LATE_MS >= now {
                counters.entry(*counter).or_insert(*held);
            }
        }
        Some(Self { at: now, untouched, counters })
    }
}

/// This life of this node, as far as counters depend on it. Replaced whole when it changes.
#[derive(Clone, Debug)]
pub struct Life {
    /// This node.
    pub me: NodeId,
    /// Which shares no earlier life can have touched, where that is known from the beginning: on a
    /// new data directory, or from the file of an orderly stop. After a crash it follows from the
    /// first lease.
    pub untouched: Option<Untouched>,
    /// The first lease of this life.
    pub first_lease: Option<FirstLease>,
    /// What the life before this one held of the counters that it had opened, if it stopped in
    /// good order.
    pub left_over: Option<Arc<BTreeMap<CounterId, Held>>>,
    /// Before this moment of cluster time the life before may have been, even where the first lease
    /// of this one says that it is earlier.
    pub reached: ClusterMs,
    /// Lives of all nodes.
    pub lives: Lives,
    /// [`Lives::tag`] of them.
    pub lives_tag: u64,
    /// The other nodes, and whether each can be reached.
    pub peers: Vec<(NodeId, bool)>,
    /// A node's estimate of cluster time is at most this far off, milliseconds.
    pub clock_error_ms_max: u64,
}

impl Life {
    /// Which shares no earlier life can have touched; `None` before the first lease after a crash.
    #[must_use]
    pub fn untouched(&self) -> Option<Untouched> {
        if Mutation::RestartRuleForgotten.active() {
            return Some(Untouched::All);
        }
        let (mut margin_ms, mut reached) = (self.clock_error_ms_max, self.reached);
        if Mutation::ClockMarginForgotten.active() {
            (margin_ms, reached) = (0, ClusterMs(0));
        }
        let after = |first: FirstLease| Untouched::After {
            from: if Mutation::ShareNeverComesBack.active() {
                ClusterMs(u64::MAX)
            } else {
                (first.at + margin_ms).max(reached)
            },
            index: first.index,
        };
        self.untouched.or(self.first_lease.map(after))
    }

    /// Whether no earlier life of this node can have spent or given its share of this counter.
    pub(super) fn may_use(&self, created: LogIndex, start: ClusterMs, counter: &CounterId) -> bool {
        // What the life before had opened comes back as it left it, not as a share.
        let listed = self.left_over.as_ref().is_some_and(|map| map.contains_key(counter));
        !listed
            && match self.untouched() {
                Some(Untouched::All) => true,
                Some(Untouched::After { from, index }) => created > index || start >= from,
                None => false,
            }
    }
}
