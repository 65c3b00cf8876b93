//! Lives of nodes: which one runs, what it is entitled to, and what it hands on.
//!
//! A process that restarts has forgotten what it spent. What it may still use follows from what an
//! earlier life can have touched, and from the file that an orderly stop leaves.

use std::collections::BTreeMap;
use std::sync::Arc;

use fluxgate_types::{BootId, ClusterMs, LogIndex, NodeId};

use super::{CounterId, key};
use crate::fault::Mutation;
use crate::lease::FirstLease;

/// The newest life of every node, as far as this one has heard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Incarnations {
    boot_ids: BTreeMap<NodeId, BootId>,
}

impl Incarnations {
    /// Notes a life; true if that is news.
    pub fn note(&mut self, node: NodeId, boot: BootId) -> bool {
        let known = self.boot_ids.get(&node).copied();
        let news = known.is_none_or(|known| known < boot);
        if news {
            self.boot_ids.insert(node, boot);
        }
        news
    }

    /// Every life known.
    #[must_use]
    pub fn all(&self) -> Vec<(NodeId, BootId)> {
        self.boot_ids.iter().map(|(node, boot)| (*node, *boot)).collect()
    }

    /// The newest life known of a node.
    #[must_use]
    pub fn of(&self, node: NodeId) -> Option<BootId> {
        self.boot_ids.get(&node).copied()
    }

    /// Rises with every change: of two states of one process the one with more is the newer.
    #[must_use]
    pub fn progress(&self) -> u128 {
        self.boot_ids.values().map(|boot| u128::from(boot.0) + 1).sum()
    }

    /// One number for all of it: equal on two nodes that know the same lives. Never 0.
    #[must_use]
    pub fn tag(&self) -> u64 {
        let fold = |tag: u64, (node, boot): (&NodeId, &BootId)| {
            fluxgate_types::id::mix64(tag ^ node.0.rotate_left(48) ^ boot.0)
        };
        self.boot_ids.iter().fold(1, fold).max(1)
    }
}

/// Which shares no earlier life of this node can have spent or given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entitlement {
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CarriedBalance {
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
/// listed was opened by no life since `entitlement`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Carryover {
    /// Cluster time at the stop: the next life's clock does not begin before it.
    pub at: ClusterMs,
    /// What this life itself was entitled to: the next one is to no more.
    pub entitlement: Entitlement,
    /// The counters that were opened, exhausted ones included.
    pub counters: BTreeMap<CounterId, CarriedBalance>,
}

impl Carryover {
    /// Puts together what `incarnation` leaves: what it had open, and what its own predecessor left and it
    /// did not touch. `None` where a life never learnt what it was entitled to: then nothing may be
    /// written, and the next life starts as after a crash.
    #[must_use]
    pub fn of(
        incarnation: &Incarnation,
        opened: BTreeMap<CounterId, CarriedBalance>,
        now: ClusterMs,
        synced: bool,
    ) -> Option<Self> {
        let entitlement = incarnation.entitlement()?;
        let mut counters = opened;
        for (counter, held) in incarnation.carryover.iter().flat_map(|map| map.iter()) {
            // A clock that no leader has set says nothing about which windows are over.
            if !synced || held.ends + key::OPEN_LATE_MS >= now {
                counters.entry(*counter).or_insert(*held);
            }
        }
        Some(Self { at: now, entitlement, counters })
    }
}

/// This life of this node, as far as counters depend on it. Replaced whole when it changes.
#[derive(Clone, Debug)]
pub struct Incarnation {
    /// This node.
    pub me: NodeId,
    /// Which shares no earlier life can have touched, where that is known from the beginning: on a
    /// new data directory, or from the file of an orderly stop. After a crash it follows from the
    /// first lease.
    pub entitlement: Option<Entitlement>,
    /// The first lease of this life.
    pub first_lease: Option<FirstLease>,
    /// What the life before this one held of the counters that it had opened, if it stopped in
    /// good order.
    pub carryover: Option<Arc<BTreeMap<CounterId, CarriedBalance>>>,
    /// Before this moment of cluster time the life before may have been, even where the first lease
    /// of this one says that it is earlier.
    pub reached: ClusterMs,
    /// Lives of all nodes.
    pub incarnations: Incarnations,
    /// [`Incarnations::tag`] of them.
    pub incarnations_tag: u64,
    /// The other nodes, and whether each can be reached.
    pub peers: Vec<(NodeId, bool)>,
    /// A node's estimate of cluster time is at most this far off, milliseconds.
    pub clock_error_ms_max: u64,
}

impl Incarnation {
    /// Which shares no earlier life can have touched; `None` before the first lease after a crash.
    #[must_use]
    pub fn entitlement(&self) -> Option<Entitlement> {
        if Mutation::RestartRuleForgotten.active() {
            return Some(Entitlement::All);
        }
        let (mut margin_ms, mut reached) = (self.clock_error_ms_max, self.reached);
        if Mutation::ClockMarginForgotten.active() {
            (margin_ms, reached) = (0, ClusterMs(0));
        }
        let after = |first: FirstLease| Entitlement::After {
            from: if Mutation::ShareNeverComesBack.active() {
                ClusterMs(u64::MAX)
            } else {
                (first.at + margin_ms).max(reached)
            },
            index: first.index,
        };
        self.entitlement.or(self.first_lease.map(after))
    }

    /// Whether no earlier life of this node can have spent or given its share of this counter.
    pub(super) fn may_use(&self, created: LogIndex, start: ClusterMs, counter: &CounterId) -> bool {
        // What the life before had opened comes back as it left it, not as a share.
        let listed = self.carryover.as_ref().is_some_and(|map| map.contains_key(counter));
        !listed
            && match self.entitlement() {
                Some(Entitlement::All) => true,
                Some(Entitlement::After { from, index }) => created > index || start >= from,
                None => false,
            }
    }
}
