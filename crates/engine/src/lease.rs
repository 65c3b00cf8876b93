//! Node leases and the write barrier.
//!
//! Answers for: when a node may answer from its own copy of the key table ([`LeaseHolder`]), what a
//! leader grants, and when a write may be acknowledged ([`Granter`]). Assumes that the caller of
//! [`Granter::grant`] proved its leadership by a quorum AFTER the request arrived, and had
//! committed an entry of its own term.
//!
//! The lease holder counts from when it sent the request, the granter from when it answers, each
//! with its own margin for the drift between their clocks, so the lease holder always stops first
//! (Gray and Cheriton, "Leases", SOSP 1989).
//!
//! The leader's own lease is short. That costs the leader nothing, since it can renew it at any
//! time. When a leader crashes, the next leader waits only for this short lease, and not for a full
//! one, before it acknowledges a write; and it counts from when its voters last heard from the old
//! leader ([`Contacts`]), not from when it takes over.

mod contacts;
mod granter;
mod holder;
mod refusal;
mod terms;

use fluxgate_types::{ClusterMs, LogIndex};

pub use contacts::{Contacts, LeaderId, Voted, majority_contact};
pub use granter::{Granter, PreviousLeader};
pub use holder::{FirstLease, LeaseHolder};
pub use refusal::{LeaseRefusal, StartStanding, standing_of};
pub use terms::{TermsRecord, TermsWatch};

/// The shortest and the longest lease, milliseconds.
pub const LEASE_MS: std::ops::RangeInclusive<u64> = 500..=60_000;
/// The smallest and the largest bound of the clock error, milliseconds.
pub const CLOCK_ERROR_MS: std::ops::RangeInclusive<u64> = 100..=10_000;

/// The durations that follow from the configured lease, all in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LeaseTerms {
    /// The configured lease: the longest that a silent node can delay a write.
    pub lease_ms: u64,
    /// The protocol assumes that no node's estimate of cluster time is further off than this.
    pub clock_error_ms_max: u64,
}

impl LeaseTerms {
    /// Whether a cluster may run under these terms.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        LEASE_MS.contains(&self.lease_ms) && CLOCK_ERROR_MS.contains(&self.clock_error_ms_max)
    }

    /// How long a lease holder trusts a lease, counted from when it sent the request.
    #[must_use]
    pub const fn holder_ms(&self) -> u64 {
        self.lease_ms * 97 / 100
    }

    /// How long the granter assumes that the lease is held, counted from its reply. 2 % longer than the
    /// holder trusts it, because each of the two clocks may be off by 1 %; still shorter than the
    /// configured lease. Rounded up, and the holder's down.
    #[must_use]
    pub const fn granter_ms(&self) -> u64 {
        (self.lease_ms * 99).div_ceil(100)
    }

    /// The short lease that a leader gives itself.
    #[must_use]
    pub const fn own_ms(&self) -> u64 {
        self.lease_ms * 2 / 5
    }

    /// How long a leader trusts its own lease, counted from before it asked the quorum.
    #[must_use]
    pub const fn own_holder_ms(&self) -> u64 {
        self.own_ms() * 97 / 100
    }

    /// How long the next leader must assume that the previous leader's own lease is held.
    #[must_use]
    pub const fn own_granter_ms(&self) -> u64 {
        (self.own_ms() * 99).div_ceil(100)
    }

    /// How far ahead of a grant windows may be opened under it: beyond the end of the lease by any
    /// clock within the error bound.
    #[must_use]
    pub const fn horizon_ms(&self) -> u64 {
        self.lease_ms + 2 * self.clock_error_ms_max
    }

    /// How far ahead a new share map must begin: after every horizon that an earlier grant, of
    /// this leader or of the previous one, can have promised.
    #[must_use]
    pub const fn map_ahead_ms(&self) -> u64 {
        self.horizon_ms() + 2 * self.clock_error_ms_max
    }

    /// How often a follower renews its lease.
    #[must_use]
    pub const fn renew_ms(&self) -> u64 {
        self.lease_ms / 6
    }

    /// How often a leader renews its own lease.
    #[must_use]
    pub const fn own_renew_ms(&self) -> u64 {
        self.lease_ms / 15
    }
}

/// A leader's answer to a lease request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The lease is valid only once the lease holder has applied up to here.
    pub index: LogIndex,
    /// How long the lease lasts, counted from when the request was sent, milliseconds.
    pub holder_ms: u64,
    /// Cluster time at the leader when it answered, nanoseconds.
    pub cluster_ns: u64,
    /// Windows that begin before this moment depend only on share maps in entries up to `index`.
    /// The lease holder opens no window that begins at or after it.
    pub horizon: ClusterMs,
}

#[cfg(test)]
mod tests {
    use fluxgate_types::{BootNs, NodeId};

    use super::*;

    const TERMS: LeaseTerms = LeaseTerms { lease_ms: 3_000, clock_error_ms_max: 1_000 };

    fn ms(ms: u64) -> BootNs {
        BootNs(0).plus_ms(ms)
    }

    fn grant(index: u64) -> Grant {
        Grant { index: LogIndex(index), holder_ms: 3_000, cluster_ns: 0, horizon: ClusterMs(5_000) }
    }

    fn granter(previous: Option<PreviousLeader>) -> Granter {
        Granter::new(TERMS, NodeId(1), ms(10_000), (1..=3).map(NodeId), previous)
    }

    fn previous(seen_since: u64, contact: Option<u64>) -> PreviousLeader {
        PreviousLeader { node: NodeId(3), seen_since: ms(seen_since), contact: contact.map(ms) }
    }

    #[test]
    fn a_lease_counts_from_the_sending_and_only_once_applied() {
        let mut holder = LeaseHolder::default();
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
        // The leader asked the quorum before the commit; the floor raises the index.
        let late = granter.grant(ms(21_000), NodeId(2), LogIndex(5), LogIndex(5), 0);
        assert_eq!(late.index, LogIndex(6));
        assert_eq!(granter.holders(LogIndex(6), ms(22_000)), [(NodeId(2), ms(22_970))]);
        assert_eq!(granter.holders(LogIndex(6), ms(22_970)), []);
    }

    #[test]
    fn a_new_leader_assumes_that_every_node_holds_a_whole_lease() {
        let granter = granter(None);
        let holders = granter.holders(LogIndex(1), ms(12_969));
        assert_eq!(holders.iter().map(|h| h.0).collect::<Vec<_>>(), [NodeId(2), NodeId(3)]);
        assert_eq!(granter.holders(LogIndex(1), ms(12_970)), []);
    }

    #[test]
    fn a_new_leader_assumes_that_the_previous_leader_holds_a_short_lease() {
        let long_ago = previous(1_000, None);
        assert_eq!(granter(Some(long_ago)).latest(NodeId(3)), Some(ms(11_188)));
        let just_elected = previous(9_500, None);
        assert_eq!(granter(Some(just_elected)).latest(NodeId(3)), Some(ms(12_470)));
    }

    #[test]
    fn the_previous_leaders_lease_counts_from_when_a_majority_last_heard_from_it() {
        let latest = |previous| granter(Some(previous)).latest(NodeId(3));
        assert_eq!(latest(previous(1_000, Some(9_100))), Some(ms(10_288)));
        // Never later than from the moment of the take-over.
        assert_eq!(latest(previous(1_000, Some(10_500))), Some(ms(11_188)));
        // A lease from before its leadership is allowed for, whatever the contacts say.
        assert_eq!(latest(previous(9_500, Some(9_600))), Some(ms(12_470)));
        // Of another node nothing is known.
        let of = granter(Some(previous(1_000, Some(5_000))));
        assert_eq!(of.latest(NodeId(2)), Some(ms(12_970)));
        assert_eq!(of.holders(LogIndex(1), ms(10_000)), [(NodeId(2), ms(12_970))]);
    }

    /// Three clocks are involved: the old leader's may be slow, those of the voter that says the age
    /// of its contact and of the new leader fast.
    #[test]
    fn the_old_leader_stops_first_by_the_worst_of_three_clocks() {
        for lease_ms in LEASE_MS {
            let terms = LeaseTerms { lease_ms, ..TERMS };
            for part in [0, 10, 50, 95] {
                // Nanoseconds of true time: the contact is at 0, and the answer leaves at once.
                let taken_over = terms.own_ms() * part * 10_000;
                let stops = terms.own_holder_ms() * 100_000_000 / 99;
                let left_by_new = terms.own_granter_ms() * 1_000_000 - taken_over * 101 / 100;
                let allowed_until = taken_over + left_by_new * 100 / 101;
                assert!(stops <= allowed_until, "{part} {lease_ms}: {stops} > {allowed_until}");
            }
            assert!(terms.holder_ms() * 101 * 100 <= terms.granter_ms() * 99 * 100, "{lease_ms}");
        }
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
    fn a_node_that_does_not_apply_is_rejected_after_a_lease_until_it_has() {
        let mut granter = granter(None);
        granter.grant(ms(20_000), NodeId(2), LogIndex(5), LogIndex(9), 0);
        assert!(!granter.lags(ms(22_000), NodeId(2), LogIndex(8)));
        assert!(granter.lags(ms(23_001), NodeId(2), LogIndex(8)));
        assert!(!granter.lags(ms(23_002), NodeId(2), LogIndex(9)));
    }

    #[test]
    fn an_elected_node_keeps_no_long_lease() {
        let mut holder = LeaseHolder::default();
        holder.handle_grant(ms(0), &grant(1), LogIndex(1));
        holder.handle_elected(ms(100), &TERMS);
        assert_eq!(holder.until(), ms(1_264));
    }
}
