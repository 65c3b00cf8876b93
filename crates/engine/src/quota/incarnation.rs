//! Incarnations of nodes: the newest one of each, its entitlement, and what it leaves to the next.
//!
//! A process that restarts has forgotten what it spent. What it may still use follows from what an
//! earlier incarnation can have spent or given, and from the file that an orderly stop leaves.

use std::collections::BTreeMap;
use std::sync::Arc;

use fluxgate_types::{BootId, ClusterMs, LogIndex, NodeId, Window, caps};

use super::order::{self, FORGET_AFTER_MS};
use super::{CounterId, Sender};
use crate::fault::Mutation;
use crate::lease::FirstLease;

/// The newest incarnation of every node that this node knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Incarnations {
    boot_ids: BTreeMap<NodeId, BootId>,
}

impl Incarnations {
    /// Records an incarnation; true if it is new. One beyond [`caps::STARTS_MAX`] is not believed.
    pub fn note(&mut self, node: NodeId, boot: BootId) -> bool {
        let known = self.boot_ids.get(&node).copied();
        let news = boot.0 <= caps::STARTS_MAX && known.is_none_or(|known| known < boot);
        if news {
            self.boot_ids.insert(node, boot);
        }
        news
    }

    /// The newest known incarnation of every node.
    #[must_use]
    pub fn all(&self) -> Vec<(NodeId, BootId)> {
        self.boot_ids.iter().map(|(node, boot)| (*node, *boot)).collect()
    }

    /// The newest known incarnation of a node.
    #[must_use]
    pub fn of(&self, node: NodeId) -> Option<BootId> {
        self.boot_ids.get(&node).copied()
    }

    /// Rises with every change: of two states within one process, the higher one is newer.
    #[must_use]
    pub fn progress(&self) -> u64 {
        self.boot_ids.values().map(|boot| boot.0 + 1).sum()
    }

    /// A digest of all entries: equal on two nodes that know the same incarnations. Never 0.
    #[must_use]
    pub fn tag(&self) -> u64 {
        let fold = |tag: u64, (node, boot): (&NodeId, &BootId)| {
            fluxgate_types::id::mix64(tag ^ node.0.rotate_left(48) ^ boot.0)
        };
        self.boot_ids.iter().fold(1, fold).max(1)
    }
}

/// The shares that no earlier incarnation of this node can have spent or given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entitlement {
    /// All: no process ran on this data directory before.
    All,
    /// Those of windows that begin at or after `from`, and of subjects created after `index`.
    After {
        /// Cluster time.
        from: ClusterMs,
        /// Log position.
        index: LogIndex,
    },
}

/// The balance of one counter at an orderly stop, and when its window ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CarriedBalance {
    /// Tokens; negative where the limit was lowered below what was spent.
    pub tokens: i64,
    /// The limit at that moment: if it has changed since and `follows` is set, this node's share
    /// of the difference is added.
    pub limit: u64,
    /// Whether later limit changes apply; false if the share was unusable after a crash.
    pub follows: bool,
    /// End of the window.
    pub ends: ClusterMs,
}

/// What an incarnation saves for the next one at an orderly stop. A counter that is not listed
/// was not opened by any incarnation since `entitlement`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Carryover {
    /// Cluster time at the stop: the next incarnation's clock does not begin before it.
    pub at: ClusterMs,
    /// The entitlement of this incarnation: the next one gets no more.
    pub entitlement: Entitlement,
    /// The counters that were opened, exhausted ones included.
    pub counters: BTreeMap<CounterId, CarriedBalance>,
}

impl Carryover {
    /// Builds what `incarnation` leaves: the counters that it had open, and those from its
    /// predecessor's carryover that it did not open. `None` if the incarnation never learnt its
    /// entitlement: then nothing may be written, and the next one starts as after a crash.
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
            // A clock that no leader has set cannot say which windows are over.
            if !synced || held.ends + order::OPEN_LATE_MS >= now {
                counters.entry(*counter).or_insert(*held);
            }
        }
        Some(Self { at: now, entitlement, counters })
    }
}

/// Another node of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Which one.
    pub id: NodeId,
    /// Whether it can be reached: it has not left several calls in a row unanswered.
    pub reachable: bool,
}

impl Peer {
    /// A peer that was not called yet: it counts as reachable.
    #[must_use]
    pub const fn new(id: NodeId) -> Self {
        Self { id, reachable: true }
    }
}

/// What the counters need to know of this node's incarnation. Replaced as a whole on change.
#[derive(Clone, Debug)]
pub struct Incarnation {
    /// This node.
    pub me: NodeId,
    /// The entitlement, if it is known from the start: on a new data directory, or from the file
    /// of an orderly stop. After a crash it follows from the first lease.
    pub entitlement: Option<Entitlement>,
    /// The first lease of this incarnation.
    pub first_lease: Option<FirstLease>,
    /// The previous incarnation's balances of the counters that it had opened, if it stopped
    /// orderly.
    pub carryover: Option<Arc<BTreeMap<CounterId, CarriedBalance>>>,
    /// The previous incarnation may have run up to this cluster time, even if the first lease of
    /// this one names an earlier time.
    pub reached: ClusterMs,
    /// The incarnations of all nodes.
    pub incarnations: Incarnations,
    /// [`Incarnations::tag`] of `incarnations`.
    pub incarnations_tag: u64,
    /// The other nodes, in the order of their ids.
    pub peers: Vec<Peer>,
    /// A node's estimate of cluster time is at most this far off, milliseconds.
    pub clock_error_ms_max: u64,
}

/// How often a driver saves cluster time to the disk, milliseconds.
pub const CHECKPOINT_MS: u64 = 1_000;
/// How far the windows that are opened may be ahead of the last checkpoint on disk, milliseconds: the
/// period of the checkpoints, and a second for a slow disk.
const CHECKPOINT_SLACK_MS: u64 = CHECKPOINT_MS + 1_000;

/// The end of what one checkpoint on disk covers. A driver opens only windows that begin before it:
/// the next incarnation takes it for the latest time that this one can have reached, and would use a
/// share again otherwise, if cluster time goes back with a crash of all nodes. The clock alone keeps
/// no such bound: after its machine stood still it leaps ahead with the next lease.
///
/// A driver whose disk rejects checkpoints opens windows nevertheless: a full disk must not end the
/// service.
#[must_use]
pub fn covered_by(checkpoint: Option<ClusterMs>) -> ClusterMs {
    checkpoint.map_or(ClusterMs(0), |at| at + CHECKPOINT_SLACK_MS)
}

impl Incarnation {
    /// The sender of a message whose header names it as `boot` and is meant for the incarnation
    /// `to` of this node. `None` for a late message, and for one to another incarnation: their
    /// totals belong to others. Call it AFTER the sender's incarnation was recorded.
    #[must_use]
    pub fn accepted(&self, from: NodeId, boot: BootId, to: Option<BootId>) -> Option<Sender> {
        let newest = self.incarnations.of(from) == Some(boot);
        let mine = to.is_none_or(|boot| Some(boot) == self.incarnations.of(self.me));
        let sound = (newest && mine) || Mutation::IncarnationsIgnored.active();
        sound.then_some(Sender { node: from, boot })
    }

    /// The peers that a stopping node may hand its balances to: those that can be reached and, as
    /// `is_ready` says, would answer requests. In the order of their ids.
    #[must_use]
    pub fn recipients(&self, is_ready: impl Fn(NodeId) -> bool) -> Vec<Sender> {
        let peers = self.peers.iter().filter(|peer| peer.reachable && is_ready(peer.id));
        let sender = |node| Some(Sender { node, boot: self.incarnations.of(node)? });
        peers.filter_map(|peer| sender(peer.id)).collect()
    }

    /// What a process begins with: `boot` is the number of its start in the data directory,
    /// `carryover` what an orderly stop left there, `checkpoint` the last cluster time that an
    /// earlier incarnation saved there.
    #[must_use]
    pub fn at_start(
        me: NodeId,
        boot: BootId,
        carryover: Option<Carryover>,
        checkpoint: Option<ClusterMs>,
        peers: &[NodeId],
        clock_error_ms_max: u64,
    ) -> Self {
        let mut incarnations = Incarnations::default();
        incarnations.note(me, boot);
        let first = (boot == BootId(1)).then_some(Entitlement::All);
        Self {
            me,
            entitlement: carryover.as_ref().map(|left| left.entitlement).or(first),
            first_lease: None,
            carryover: carryover.map(|left| Arc::new(left.counters)),
            reached: covered_by(checkpoint),
            incarnations_tag: incarnations.tag(),
            incarnations,
            peers: peers.iter().copied().map(Peer::new).collect(),
            clock_error_ms_max,
        }
    }

    /// The shares that no earlier incarnation can have spent or given; `None` before the first
    /// lease after a crash.
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

    /// Whether no earlier incarnation of this node can have spent or given its share of this
    /// counter.
    pub(super) fn may_use(&self, created: LogIndex, window: Window, counter: &CounterId) -> bool {
        let start = window.start();
        // A counter that the previous incarnation had opened returns with its carried balance, not
        // with a share.
        let listed = self.carryover.as_ref().is_some_and(|map| map.contains_key(counter));
        // One that it had opened may have been dropped before the stop, as its window was over. It
        // is open again only if cluster time went back, with machines that stood still.
        let over = self.carryover.is_some()
            && window.end() + FORGET_AFTER_MS < self.reached
            && !Mutation::OverWindowsReturn.active();
        !listed
            && !over
            && match self.entitlement() {
                Some(Entitlement::All) => true,
                Some(Entitlement::After { from, index }) => created > index || start >= from,
                None => false,
            }
    }
}

#[cfg(test)]
mod tests {
    use fluxgate_types::KeyId;

    use super::*;

    const MINUTE_MS: u64 = 60_000;

    #[test]
    fn an_absurd_number_of_starts_is_not_believed() {
        let mut incarnations = Incarnations::default();
        assert!(incarnations.note(NodeId(2), BootId(7)));
        for absurd in [caps::STARTS_MAX + 1, u64::MAX - 1, u64::MAX] {
            assert!(!incarnations.note(NodeId(2), BootId(absurd)), "{absurd}");
            assert!(!incarnations.note(NodeId(absurd), BootId(absurd)), "{absurd}");
        }
        let before = incarnations.progress();
        assert!(incarnations.note(NodeId(3), BootId(caps::STARTS_MAX)));
        assert!(incarnations.progress() > before);
        assert!(incarnations.note(NodeId(2), BootId(8)));
        assert_eq!(incarnations.progress(), caps::STARTS_MAX + 1 + 9);
    }

    #[test]
    fn a_window_that_was_over_before_an_orderly_stop_is_not_used_again() {
        let stopped = ClusterMs(10 * MINUTE_MS + 30_000);
        let (entitlement, counters) = (Entitlement::All, BTreeMap::new());
        let left = Carryover { at: stopped, entitlement, counters };
        let next =
            |left| Incarnation::at_start(NodeId(1), BootId(2), left, Some(stopped), &[], 100);
        let incarnation = next(Some(left));
        let may_use = |number| {
            let key: KeyId = "key_abcdefghijkl".parse().expect("an id");
            let counter = CounterId { subject: key.into(), limit: 1, window: number };
            let window = Window { number, period_ms: MINUTE_MS };
            incarnation.may_use(LogIndex(1), window, &counter)
        };
        assert!(!may_use(8), "the earlier incarnation may have spent its share, and dropped it");
        assert!(!may_use(9));
        assert!(may_use(10), "it was open, and is not listed: nothing was spent");
        assert!(may_use(11));
    }
}
