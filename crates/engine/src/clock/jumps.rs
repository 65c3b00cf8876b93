//! Jumps of this machine's clocks, which make the age of a lease unknown.
//!
//! Answers for: a lease is dropped if one clock jumped against the other between two renewals, or
//! if the leader's time ran on while this machine's clocks stood still. The host may have paused
//! the virtual machine and set its wall clock afterwards: the lease then lasted longer than this
//! node assumed, and the balances that it spends from are void.

use fluxgate_types::BootNs;

use super::signed_difference;
use crate::lease::LeaseTerms;

/// Smallest jump of a clock that voids a lease, milliseconds.
const JUMP_MS_MIN: u64 = 20;
/// An error of cluster time up to this is slewed away, not stepped, nanoseconds.
const SLEWED_NS: u64 = 20_000_000;

/// Both clocks of this machine at nearly the same moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockReading {
    /// The boot clock.
    pub boot: BootNs,
    /// The wall clock, nanoseconds since the Unix epoch.
    pub wall_ns: u64,
    /// Time that may lie between the two readings, nanoseconds: the thread may be delayed.
    pub apart_ns: u64,
}

/// Compares this machine's clocks with each other, and with the leader's, from one renewal to the
/// next.
#[derive(Clone, Debug, Default)]
pub struct JumpWatch {
    last: Option<ClockReading>,
    // The round trip of the previous renewal that was answered.
    round_trip_ns: u64,
}

impl JumpWatch {
    /// Compares the clocks with the last reading. Returns how far the wall clock jumped against the
    /// boot clock, nanoseconds, if that voids a lease under these terms.
    pub fn compare_clocks(&mut self, reading: ClockReading, terms: &LeaseTerms) -> Option<i64> {
        let before = self.last.replace(reading)?;
        let expected = before.wall_ns.saturating_add(reading.boot.since(before.boot));
        let jump = signed_difference(reading.wall_ns, expected);
        let bound = jump_ns(terms) + before.apart_ns + reading.apart_ns;
        (jump.unsigned_abs() > bound).then_some(jump)
    }

    /// Compares cluster time by the leader's answer with cluster time by this node's own clock.
    /// Returns by how many nanoseconds the leader is ahead, if that is so much that this machine's
    /// clocks must have stood still since the last renewal.
    pub fn compare_leader(
        &mut self,
        own_ns: u64,
        estimate_ns: u64,
        round_trip_ns: u64,
        terms: &LeaseTerms,
    ) -> Option<i64> {
        let before_ns = std::mem::replace(&mut self.round_trip_ns, round_trip_ns);
        // Both estimates are off by part of their round trips.
        leap_ns(own_ns, estimate_ns, round_trip_ns + before_ns, terms)
    }

    /// Compares cluster time by a new leader's own clock with what another node has reached at least.
    /// Returns by how many nanoseconds that is ahead, if this machine's clocks must have stood still.
    #[must_use]
    pub fn compare_reached(&self, own_ns: u64, reached_ns: u64, terms: &LeaseTerms) -> Option<i64> {
        leap_ns(own_ns, reached_ns, self.round_trip_ns, terms)
    }
}

/// By how many nanoseconds `other_ns` is ahead, if that voids a lease under these terms: by more than
/// it may be off, and than is slewed away.
fn leap_ns(own_ns: u64, other_ns: u64, off_ns: u64, terms: &LeaseTerms) -> Option<i64> {
    let ahead = signed_difference(other_ns, own_ns);
    let bound = jump_ns(terms) + off_ns + SLEWED_NS;
    (ahead > i64::try_from(bound).unwrap_or(i64::MAX)).then_some(ahead)
}

/// A clock that jumps further than this between two renewals voids a lease: the margin that
/// granters and lease holders leave for drift, nanoseconds.
fn jump_ns(terms: &LeaseTerms) -> u64 {
    (terms.granter_ms() - terms.holder_ms()).max(JUMP_MS_MIN) * 1_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;
    const TERMS: LeaseTerms = LeaseTerms { lease_ms: 3_000, clock_error_ms_max: 1_000 };

    fn reading(boot_ms: u64, wall_ms: u64) -> ClockReading {
        ClockReading { boot: BootNs(boot_ms * MS), wall_ns: wall_ms * MS, apart_ns: 0 }
    }

    #[test]
    fn only_a_jump_beyond_the_margin_voids_a_lease() {
        // The margin under these terms is 60 ms.
        for (wall_ms, voids) in [(1_500, false), (1_560, false), (1_561, true), (1_439, true)] {
            let mut watch = JumpWatch::default();
            assert_eq!(watch.compare_clocks(reading(0, 1_000), &TERMS), None, "the first reading");
            let jump = watch.compare_clocks(reading(500, wall_ms), &TERMS);
            assert_eq!(jump.is_some(), voids, "{wall_ms}");
        }
    }

    #[test]
    fn a_thread_that_was_delayed_between_the_readings_is_no_jump() {
        let mut watch = JumpWatch::default();
        watch.compare_clocks(reading(0, 1_000), &TERMS);
        let late = ClockReading { apart_ns: 100 * MS, ..reading(500, 1_600) };
        assert_eq!(watch.compare_clocks(late, &TERMS), None);
    }

    #[test]
    fn a_new_leader_is_behind_only_beyond_its_last_round_trip() {
        let mut watch = JumpWatch::default();
        assert_eq!(watch.compare_leader(0, 0, 10 * MS, &TERMS), None);
        // 60 ms of margin, 20 ms that are slewed, and 10 ms of the last round trip.
        assert_eq!(watch.compare_reached(0, 90 * MS, &TERMS), None);
        assert!(watch.compare_reached(0, 91 * MS, &TERMS).is_some());
        assert_eq!(watch.compare_reached(90 * MS, 0, &TERMS), None, "the other one is behind");
    }

    #[test]
    fn a_leader_that_ran_on_voids_a_lease_beyond_both_round_trips() {
        let mut watch = JumpWatch::default();
        // 60 ms of margin, 20 ms that are slewed, and 10 ms of this round trip.
        assert_eq!(watch.compare_leader(0, 90 * MS, 10 * MS, &TERMS), None);
        assert_eq!(watch.compare_leader(0, 100 * MS, 10 * MS, &TERMS), None, "and the last one");
        assert!(watch.compare_leader(0, 101 * MS, 10 * MS, &TERMS).is_some());
        assert_eq!(watch.compare_leader(90 * MS, 0, 10 * MS, &TERMS), None, "a leader behind");
    }
}
