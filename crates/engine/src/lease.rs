//! Node leases and the write barrier.
//!
//! Answers for: when a node may answer from its own copy of the key table ([`Holder`]), what a
//! leader grants, and when a write may be acknowledged ([`Granter`]). Assumes that the caller of
//! [`Granter::grant`] proved its leadership by a quorum *after* the request arrived, and had an
//! entry of its own term committed.
//!
//! The holder counts from when it sent the request, the granter from when it answers, each with
//! its own margin for the drift between their clocks, so the holder always stops first (Gray and
//! Cheriton, "Leases", SOSP 1989).
//!
//! The leader's own lease is a short one. It costs the leader nothing, since it can renew it at
//! will, and it means that after a leader's death the next leader waits for that short time, not
//! for a whole lease, before it acknowledges a write.

use std::collections::BTreeMap;

use fluxgate_types::{BootNs, ClusterMs, LogIndex, NodeId};
use serde::{Deserialize, Serialize};

use crate::mutation::Mutation;

/// The durations that follow from the configured lease, all in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseTerms {
    /// The lease as configured: the longest that a silent node can hold up a write.
    pub lease_ms: u64,
    /// A node whose estimate of cluster time is further off than this is out of the model.
    pub clock_error_ms_max: u64,
}

impl LeaseTerms {
    /// How long a holder trusts a lease, from when it sent the request.
    #[must_use]
    pub const fn holder_ms(&self) -> u64 {
        self.lease_ms * 97 / 100
    }

    /// How long a granter reckons with a lease, from when it answered: 2 % more than the holder,
    /// for two clocks that drift by 1 % each way, and still less than the configured lease.
    #[must_use]
    pub const fn granter_ms(&self) -> u64 {
        self.lease_ms * 99 / 100
    }

    /// The short lease that a leader gives itself.
    #[must_use]
    pub const fn own_ms(&self) -> u64 {
        self.lease_ms * 2 / 5
    }

    /// How long a leader trusts its own lease, from before it asked the quorum.
    #[must_use]
    pub const fn own_holder_ms(&self) -> u64 {
        self.own_ms() * 97 / 100
    }

    /// How long the next leader reckons with it.
    #[must_use]
    pub const fn own_granter_ms(&self) -> u64 {
        self.own_ms() * 99 / 100
    }

    /// How far ahead of a grant windows may be opened under it: past the end of the lease by any
    /// clock within the bound.
    #[must_use]
    pub const fn horizon_ms(&self) -> u64 {
        self.lease_ms + 2 * self.clock_error_ms_max
    }

    /// How far ahead a new share map must begin: behind every horizon that an earlier grant, of
    /// this leader or of the one before it, can have promised.
    #[must_use]
    pub const fn map_ahead_ms(&self) -> u64 {
        self.horizon_ms() + 2 * self.clock_error_ms_max
    }

    /// How often a follower renews.
    #[must_use]
    pub const fn renew_ms(&self) -> u64 {
        self.lease_ms / 6
    }

    /// How often a leader renews its own.
    #[must_use]
    pub const fn own_renew_ms(&self) -> u64 {
        self.lease_ms / 15
    }
}

/// A leader's answer to a lease request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// The lease counts only once the holder has applied up to here.
    pub index: LogIndex,
    /// How long it lasts from when the request was sent, milliseconds.
    pub holder_ms: u64,
    /// Cluster time at the leader when it answered, nanoseconds.
    pub cluster_ns: u64,
    /// No share map that is not among the entries up to `index` counts for a window that begins
    /// before this moment: the holder opens no window at or after it.
    pub horizon: ClusterMs,
}

/// The first lease of this life: what an earlier life cannot have known or spent lies behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FirstLease {
    /// The leader's cluster time when it granted.
    pub at: ClusterMs,
    /// The commit index that the grant carried.
    pub index: LogIndex,
}

/// A node's view of its own lease.
#[derive(Clone, Debug, Default)]
pub struct Holder {
    until: BootNs,
    horizon: ClusterMs,
    // Grants that wait for their index to be applied, oldest first.
    waiting: Vec<(LogIndex, BootNs, ClusterMs)>,
    first: Option<FirstLease>,
}

/// Grants that may wait for their index at one time; older ones make room.
const WAITING_GRANTS_MAX: usize = 16;

impl Holder {
    /// The lease is valid before this moment. Compare with a clock read at the spend itself.
    #[must_use]
    pub fn until(&self) -> BootNs {
        self.until
    }

    /// Windows that begin before this moment may be opened.
    #[must_use]
    pub fn horizon(&self) -> ClusterMs {
        self.horizon
    }

    /// The first grant of this life, once there was one.
    #[must_use]
    pub fn first(&self) -> Option<FirstLease> {
        self.first
    }

    /// Takes the answer to a request that was sent at `sent`.
    pub fn handle_grant(&mut self, sent: BootNs, grant: &Grant, applied: LogIndex) {
        let at = ClusterMs(grant.cluster_ns / 1_000_000);
        self.first.get_or_insert(FirstLease { at, index: grant.index });
        if self.waiting.len() == WAITING_GRANTS_MAX {
            self.waiting.remove(0);
        }
        self.waiting.push((grant.index, sent.plus_ms(grant.holder_ms), grant.horizon));
        self.handle_applied(applied);
    }

    /// Entries up to `applied` are in this node's table: grants that waited for them count.
    pub fn handle_applied(&mut self, applied: LogIndex) {
        for &(_, until, horizon) in self.waiting.iter().filter(|(index, ..)| *index <= applied) {
            self.until = self.until.max(until);
            self.horizon = self.horizon.max(horizon);
        }
        self.waiting.retain(|(index, ..)| *index > applied);
    }

    /// This node leads from `now` on: what an earlier leader granted it is cut to the short
    /// lease that the next leader will reckon with.
    pub fn handle_elected(&mut self, now: BootNs, terms: &LeaseTerms) {
        self.waiting.clear();
        self.until = self.until.min(now.plus_ms(terms.own_holder_ms()));
    }
}

/// The leader before this one, as far as this node can know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Former {
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
    terms: LeaseTerms,
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
    /// `former` must be the leader of the last entry before this leadership's first one: a
    /// leader grants only once an entry of its own is committed, so no other can have granted
    /// in between.
    #[must_use]
    pub fn new(
        terms: LeaseTerms,
        me: NodeId,
        now: BootNs,
        nodes: impl IntoIterator<Item = NodeId>,
        former: Option<Former>,
    ) -> Self {
        let whole = now.plus_ms(terms.granter_ms());
        let until = |node: NodeId| match former {
            Some(former) if former.node == node => now
                .plus_ms(terms.own_granter_ms())
                .max(former.seen_since.plus_ms(terms.granter_ms()))
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
            me,
            floor: LogIndex(0),
            map_from: None,
            granted,
            applied: BTreeMap::new(),
            behind: BTreeMap::new(),
        }
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
        let mut index = read_index.max(self.floor);
        if Mutation::GrantWithoutIndex.active() {
            index = LogIndex(0);
        }
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
        let late_enough = from >= now + self.terms.map_ahead_ms();
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

#[cfg(test)]
mod tests {
    use super::*;

    const TERMS: LeaseTerms = LeaseTerms { lease_ms: 3_000, clock_error_ms_max: 1_000 };

    fn ms(ms: u64) -> BootNs {
        BootNs(0).plus_ms(ms)
    }

    fn grant(index: u64) -> Grant {
        Grant { index: LogIndex(index), holder_ms: 3_000, cluster_ns: 0, horizon: ClusterMs(5_000) }
    }

    fn granter(former: Option<Former>) -> Granter {
        Granter::new(TERMS, NodeId(1), ms(10_000), (1..=3).map(NodeId), former)
    }

    #[test]
    fn a_lease_counts_from_the_sending_and_only_once_applied() {
        let mut holder = Holder::default();
        holder.handle_grant(ms(100), &grant(7), LogIndex(6));
        assert_eq!(holder.until(), ms(0));
        holder.handle_applied(LogIndex(7));
        assert_eq!(holder.until(), ms(3_100));
        assert_eq!(holder.first().unwrap().index, LogIndex(7));
    }

    #[test]
    fn the_holder_stops_before_the_granter_even_with_two_percent_of_drift() {
        assert!(TERMS.holder_ms() * 102 / 100 <= TERMS.granter_ms());
        assert!(TERMS.own_holder_ms() * 102 / 100 <= TERMS.own_granter_ms() + 1);
        assert!(TERMS.granter_ms() <= TERMS.lease_ms);
    }

    #[test]
    fn a_write_waits_for_every_holder_that_has_not_applied_it() {
        let mut granter = granter(None);
        let later = ms(20_000);
        granter.grant(later, NodeId(2), LogIndex(5), LogIndex(5), 0);
        granter.handle_committed(LogIndex(6));
        assert_eq!(granter.holders(LogIndex(6), later), [(NodeId(2), ms(22_970))]);
        granter.handle_applied(NodeId(2), LogIndex(6));
        assert_eq!(granter.holders(LogIndex(6), later), []);
        assert_eq!(granter.applied_on(LogIndex(6)), [NodeId(1), NodeId(2)]);
    }

    #[test]
    fn a_grant_after_the_commit_carries_it_and_does_not_prolong_the_wait() {
        let mut granter = granter(None);
        granter.grant(ms(20_000), NodeId(2), LogIndex(5), LogIndex(5), 0);
        granter.handle_committed(LogIndex(6));
        // The quorum was asked before the commit; the floor corrects it.
        let late = granter.grant(ms(21_000), NodeId(2), LogIndex(5), LogIndex(5), 0);
        assert_eq!(late.index, LogIndex(6));
        assert_eq!(granter.holders(LogIndex(6), ms(22_000)), [(NodeId(2), ms(22_970))]);
        assert_eq!(granter.holders(LogIndex(6), ms(22_970)), []);
    }

    #[test]
    fn a_new_leader_reckons_with_every_node_for_a_whole_lease() {
        let granter = granter(None);
        let holders = granter.holders(LogIndex(1), ms(12_969));
        assert_eq!(holders.iter().map(|h| h.0).collect::<Vec<_>>(), [NodeId(2), NodeId(3)]);
        assert_eq!(granter.holders(LogIndex(1), ms(12_970)), []);
    }

    #[test]
    fn of_a_former_leader_only_the_short_lease_is_reckoned_with() {
        let long_ago = Former { node: NodeId(3), seen_since: ms(1_000) };
        assert_eq!(granter(Some(long_ago)).latest(NodeId(3)), Some(ms(11_188)));
        let just_elected = Former { node: NodeId(3), seen_since: ms(9_500) };
        assert_eq!(granter(Some(just_elected)).latest(NodeId(3)), Some(ms(12_470)));
    }

    #[test]
    fn a_renewal_with_the_new_leader_does_not_hide_what_the_old_one_granted() {
        let mut granter = granter(None);
        granter.grant(ms(10_500), NodeId(2), LogIndex(3), LogIndex(9), 0);
        // Node 2 may still answer under its old lease, without entry 9.
        assert!(granter.holders(LogIndex(9), ms(11_000)).iter().any(|h| h.0 == NodeId(2)));
    }

    #[test]
    fn no_grant_promises_windows_beyond_a_map_that_may_yet_be_committed() {
        let mut granter = granter(None);
        assert!(!granter.handle_map_proposed(ClusterMs(0), ClusterMs(6_999)));
        assert!(granter.handle_map_proposed(ClusterMs(0), ClusterMs(7_000)));
        let grant = |granter: &mut Granter, at_ms: u64| {
            granter.grant(ms(20_000), NodeId(2), LogIndex(5), LogIndex(5), at_ms * 1_000_000)
        };
        assert_eq!(grant(&mut granter, 1_000).horizon, ClusterMs(6_000));
        assert_eq!(grant(&mut granter, 4_000).horizon, ClusterMs(7_000));
        granter.handle_map_committed(LogIndex(6));
        let free = grant(&mut granter, 4_000);
        assert_eq!((free.horizon, free.index), (ClusterMs(9_000), LogIndex(6)));
    }

    #[test]
    fn a_node_that_does_not_apply_is_refused_after_a_lease_until_it_has() {
        let mut granter = granter(None);
        granter.grant(ms(20_000), NodeId(2), LogIndex(5), LogIndex(9), 0);
        assert!(!granter.lags(ms(22_000), NodeId(2), LogIndex(8)));
        assert!(granter.lags(ms(23_001), NodeId(2), LogIndex(8)));
        assert!(!granter.lags(ms(23_002), NodeId(2), LogIndex(9)));
    }

    #[test]
    fn an_elected_node_keeps_no_long_lease() {
        let mut holder = Holder::default();
        holder.handle_grant(ms(0), &grant(1), LogIndex(1));
        holder.handle_elected(ms(100), &TERMS);
        assert_eq!(holder.until(), ms(1_264));
    }
}
