//! The granter's side: what a leader grants, and when a write may be acknowledged.

use std::collections::BTreeMap;

use fluxgate_types::{BootNs, ClusterMs, LogIndex, NodeId};

use super::{Grant, LeaseTerms};
use crate::fault::Mutation;

/// The leader before this one, as far as this node can know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PreviousLeader {
    /// The node that led.
    pub node: NodeId,
    /// When this node first saw an entry of that leadership, which is after it began.
    pub seen_since: BootNs,
}

#[derive(Clone, Copy, Debug)]
struct Granted {
    index: LogIndex,
    until: BootNs,
}

/// What a leader knows of the leases that are out. Made anew with each leadership.
#[derive(Clone, Debug)]
pub struct Granter {
    // What it grants by, and the longest terms whose promises may not have ended.
    terms: LeaseTerms,
    cautious: LeaseTerms,
    me: NodeId,
    // Entries up to here are committed, so no grant may carry less.
    floor: LogIndex,
    // A share map is proposed and not known to be committed: horizons end where it begins.
    map_from: Option<ClusterMs>,
    granted: BTreeMap<NodeId, Vec<Granted>>,
    applied: BTreeMap<NodeId, LogIndex>,
    // What each node was to apply first, and since when it has not.
    behind: BTreeMap<NodeId, (LogIndex, BootNs)>,
}

impl Granter {
    /// A new leader does not know what the one before it granted: every node that may have held
    /// a lease is reckoned with for a whole one. Of the former leader itself it knows more: in
    /// its office it had only the short lease of its own, and what it held before that ran out
    /// one lease after it took office.
    ///
    /// `terms` are the longest ones whose promises may not have ended
    /// ([`super::TermsWatch::cautious`]); [`Granter::set_terms`] says what to grant by.
    ///
    /// `previous` must be the leader of the last entry before this leadership's first one: a
    /// leader grants only once an entry of its own is committed, so no other can have granted
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
            Some(previous) if previous.node == node => now
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

    /// Grants by `terms` from here on, and allows for promises under `cautious`. Call under the same
    /// lock as every grant, with what is in force once the grant's index is applied.
    pub fn set_terms(&mut self, terms: LeaseTerms, cautious: LeaseTerms) {
        (self.terms, self.cautious) = (terms, cautious);
    }

    /// The node that leads.
    #[must_use]
    pub fn me(&self) -> NodeId {
        self.me
    }

    /// Whether a node asks for leases without applying what the ones before told it to: it would
    /// hold up every write for as long as it does. Refuse it until it has caught up.
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

    /// Grants a lease. `read_index` is the commit index that a quorum confirmed after the request
    /// arrived; `applied` is what the asking node says it has applied.
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
        // What is past needs no memory; of two with the same index the later one covers both.
        out.retain(|granted| granted.until > now && granted.index != index);
        out.push(Granted { index, until: now.plus_ms(self.terms.granter_ms()) });
        Grant { index, holder_ms: self.terms.holder_ms(), cluster_ns, horizon }
    }

    /// A share map that counts from `from` is about to be proposed. Until it is known committed
    /// no grant promises more than that. Returns whether `from` is late enough: every horizon
    /// that anybody may hold without knowing the map must end before it.
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

    /// The map that was to count from `from` was certainly not proposed after all.
    pub fn handle_map_dropped(&mut self, from: ClusterMs) {
        if self.map_from == Some(from) {
            self.map_from = None;
        }
    }

    /// Where the share map begins that was proposed and is not known to be committed.
    #[must_use]
    pub fn map_pending(&self) -> Option<ClusterMs> {
        self.map_from
    }

    /// The proposed share map is the entry `index`: grants that carry it need no such end.
    pub fn handle_map_committed(&mut self, index: LogIndex) {
        self.handle_committed(index);
        self.map_from = None;
    }

    /// Entry `index` is committed: from here on no grant carries less. Call before the first
    /// [`Granter::holders`] for it, under the same lock as every grant.
    pub fn handle_committed(&mut self, index: LogIndex) {
        self.floor = self.floor.max(index);
    }

    /// `node` has applied up to `index`.
    pub fn handle_applied(&mut self, node: NodeId, index: LogIndex) {
        let known = self.applied.entry(node).or_default();
        *known = (*known).max(index);
    }

    /// The nodes that may still answer without having applied `index`, each with the moment at
    /// which its lease will have run out. Empty: the write may be acknowledged.
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

    /// When the latest lease that was granted to `node` runs out; `None` where there was none.
    #[must_use]
    pub fn latest(&self, node: NodeId) -> Option<BootNs> {
        self.granted.get(&node)?.iter().map(|granted| granted.until).max()
    }
}
