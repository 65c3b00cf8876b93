//! The granter's side: what a leader grants, and when a write may be acknowledged.

use std::collections::BTreeMap;

use fluxgate_types::{BootNs, ClusterMs, LogIndex, NodeId};

use super::{Grant, LeaseTerms};
use crate::fault::Mutation;

/// The previous leader, as far as this node knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PreviousLeader {
    /// The node that led.
    pub node: NodeId,
    /// When this node first saw an entry of that term; the leadership began earlier.
    pub seen_since: BootNs,
    /// A majority of the voters had no contact with it after this ([`super::majority_contact`]), so
    /// none proved a later lease of its own; `None` if that is not known.
    pub contact: Option<BootNs>,
}

#[derive(Clone, Copy, Debug)]
struct Granted {
    index: LogIndex,
    until: BootNs,
}

/// What a leader knows of the leases that nodes may hold. Created for each term of leadership.
#[derive(Clone, Debug)]
pub struct Granter {
    // The terms to grant by, and the longest terms whose promises may not have ended.
    terms: LeaseTerms,
    cautious: LeaseTerms,
    me: NodeId,
    // Entries up to here are committed, so no grant may carry less.
    floor: LogIndex,
    // The begin of a share map that is proposed and not known to be committed: horizons end there.
    map_from: Option<ClusterMs>,
    granted: BTreeMap<NodeId, Vec<Granted>>,
    applied: BTreeMap<NodeId, LogIndex>,
    // The index that each node must apply before its lease is valid, and since when it has not.
    behind: BTreeMap<NodeId, (LogIndex, BootNs)>,
}

impl Granter {
    /// A new leader does not know what the previous one granted: every node that may have a lease
    /// is assumed to hold a full one. The previous leader is known better: while leading it held
    /// only its own short lease, which counts from no later than `contact`, and an earlier lease ended
    /// one lease after its leadership began.
    ///
    /// `terms` are the longest ones whose promises may not have ended
    /// ([`super::TermsWatch::cautious`]); [`Granter::set_terms`] sets the terms to grant by.
    ///
    /// `previous` must be the leader of the last entry before the first one of this term: a
    /// leader grants only once it has committed an entry of its own, so no other can have granted
    /// in between.
    #[must_use]
    pub fn new(
        terms: LeaseTerms,
        me: NodeId,
        now: BootNs,
        nodes: impl IntoIterator<Item = NodeId>,
        previous: Option<PreviousLeader>,
    ) -> Self {
        let whole = now.plus_ms(terms.granter_ms());
        let until = |node: NodeId| match previous {
            Some(previous) if previous.node == node => previous
                .contact
                .map_or(now, |contact| contact.min(now))
                .plus_ms(terms.own_granter_ms())
                .max(previous.seen_since.plus_ms(terms.granter_ms()))
                .min(whole),
            _ => whole,
        };
        let granted = nodes
            .into_iter()
            .filter(|node| *node != me && !Mutation::LeaseTableEmpty.active())
            .map(|node| (node, vec![Granted { index: LogIndex(0), until: until(node) }]))
            .collect();
        Self {
            terms,
            cautious: terms,
            me,
            floor: LogIndex(0),
            map_from: None,
            granted,
            applied: BTreeMap::new(),
            behind: BTreeMap::new(),
        }
    }

    /// Grants by `terms` from this call on, and allows for promises under `cautious`. Call under
    /// the same lock as every grant, with the terms in force once the grant's index is applied.
    pub fn set_terms(&mut self, terms: LeaseTerms, cautious: LeaseTerms) {
        (self.terms, self.cautious) = (terms, cautious);
    }

    /// The node that leads.
    #[must_use]
    pub fn me(&self) -> NodeId {
        self.me
    }

    /// Whether a node requests leases without applying what its earlier grants require: it would
    /// delay every write meanwhile. Grant it nothing until it has caught up.
    pub fn lags(&mut self, now: BootNs, node: NodeId, applied: LogIndex) -> bool {
        let lease_ns = self.terms.lease_ms * 1_000_000;
        match self.behind.get(&node) {
            Some((index, _)) if applied >= *index => {
                self.behind.remove(&node);
                false
            }
            Some((_, since)) => now.since(*since) > lease_ns,
            None => false,
        }
    }

    /// Grants a lease. `read_index` is the commit index that a quorum confirmed AFTER the request
    /// arrived; `applied` is the index that the requesting node reports as applied.
    pub fn grant(
        &mut self,
        now: BootNs,
        node: NodeId,
        applied: LogIndex,
        read_index: LogIndex,
        cluster_ns: u64,
    ) -> Grant {
        let index = read_index.max(self.floor);
        self.handle_applied(node, applied);
        if applied < index {
            self.behind.entry(node).or_insert((index, now));
        }
        let ahead = ClusterMs(cluster_ns / 1_000_000) + self.terms.horizon_ms();
        let horizon = self.map_from.map_or(ahead, |from| ahead.min(from));
        if node == self.me {
            return Grant { index, holder_ms: self.terms.own_holder_ms(), cluster_ns, horizon };
        }
        let out = self.granted.entry(node).or_default();
        // Drop expired grants; of two grants with the same index the later one suffices.
        out.retain(|granted| granted.until > now && granted.index != index);
        out.push(Granted { index, until: now.plus_ms(self.terms.granter_ms()) });
        Grant { index, holder_ms: self.terms.holder_ms(), cluster_ns, horizon }
    }

    /// The leader is about to propose a share map that begins at `from`. Until the map is known to
    /// be committed, no grant promises a horizon after `from`. Returns whether `from` is late
    /// enough: every horizon that a node may hold without knowing the map must end before it.
    #[must_use]
    pub fn handle_map_proposed(&mut self, now: ClusterMs, from: ClusterMs) -> bool {
        if Mutation::MapAtOnce.active() {
            return true;
        }
        let late_enough = from >= now + self.cautious.map_ahead_ms();
        if late_enough {
            self.map_from = Some(self.map_from.map_or(from, |earlier| earlier.min(from)));
        }
        late_enough
    }

    /// The share map that was to begin at `from` was certainly not proposed.
    pub fn handle_map_dropped(&mut self, from: ClusterMs) {
        if self.map_from == Some(from) {
            self.map_from = None;
        }
    }

    /// The begin of the share map that is proposed and not known to be committed.
    #[must_use]
    pub fn map_pending(&self) -> Option<ClusterMs> {
        self.map_from
    }

    /// The proposed share map is committed at `index`: grants that carry this index may promise
    /// horizons after its begin.
    pub fn handle_map_committed(&mut self, index: LogIndex) {
        self.handle_committed(index);
        self.map_from = None;
    }

    /// Entry `index` is committed: from this call on no grant carries a lower index. Call BEFORE
    /// the first [`Granter::holders`] for it, under the same lock as every grant.
    pub fn handle_committed(&mut self, index: LogIndex) {
        self.floor = self.floor.max(index);
    }

    /// `node` has applied up to `index`.
    pub fn handle_applied(&mut self, node: NodeId, index: LogIndex) {
        let known = self.applied.entry(node).or_default();
        *known = (*known).max(index);
    }

    /// The nodes that may still answer without having applied `index`, each with the moment at
    /// which its lease will have expired. If there are none, the write may be acknowledged.
    #[must_use]
    pub fn holders(&self, index: LogIndex, now: BootNs) -> Vec<(NodeId, BootNs)> {
        if Mutation::NoBarrier.active() {
            return Vec::new();
        }
        let behind = |node: &NodeId| self.applied.get(node).is_none_or(|a| *a < index);
        self.granted
            .iter()
            .filter(|(node, _)| behind(node))
            .filter_map(|(node, out)| {
                let until = out.iter().filter(|g| g.index < index).map(|g| g.until).max()?;
                (until > now).then_some((*node, until))
            })
            .collect()
    }

    /// The nodes known to have applied `index`, this one included.
    #[must_use]
    pub fn applied_on(&self, index: LogIndex) -> Vec<NodeId> {
        let others = self.applied.iter().filter(|(_, at)| **at >= index).map(|(node, _)| *node);
        let mut nodes: Vec<NodeId> = others.chain([self.me]).collect();
        nodes.sort_unstable();
        nodes.dedup();
        nodes
    }

    /// When the latest lease of `node` expires; `None` if it has none.
    #[must_use]
    pub fn latest(&self, node: NodeId) -> Option<BootNs> {
        self.granted.get(&node)?.iter().map(|granted| granted.until).max()
    }
}
