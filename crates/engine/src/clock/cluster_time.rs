//! Cluster time: the clock that windows follow.
//!
//! Answers for: turning this machine's boot clock into cluster time, which never falls. It is slewed
//! by at most 1 % towards the leader's time or, on the leader, towards the median wall clock of the
//! members; a follower that is more than 20 ms behind steps forward, one that is more than 20 ms ahead
//! runs slower, down to half speed. It never reads a clock: every method takes the boot time as an
//! argument.

use fluxgate_types::{BootNs, ClusterMs};

/// The largest slew rate, parts per million: 1 %.
pub const SLEW_PPM_MAX: i64 = 10_000;
/// How long one correction slews the clock; then it needs another, nanoseconds.
const SLEW_SPAN_NS: u64 = 1_000_000_000;
/// A follower that is further behind than this steps forward at once, nanoseconds.
const STEP_FORWARD_NS: i64 = 20_000_000;
/// A follower that is further ahead than this runs slower, down to half speed, nanoseconds.
const FAR_AHEAD_NS: i64 = 20_000_000;
/// How much slower it runs at most, parts per million.
const SLOW_PPM_MAX: i64 = 500_000;

/// This node's estimate of cluster time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClusterClock {
    base_boot: BootNs,
    base_ns: u64,
    ppm: i64,
    synced: bool,
}

impl ClusterClock {
    /// Starts from the best guess before any lease: the checkpoint of an earlier incarnation,
    /// carried on ([`ClusterClock::carried_on`]), otherwise the wall clock.
    #[must_use]
    pub fn new(boot: BootNs, guess: ClusterMs) -> Self {
        Self { base_boot: boot, base_ns: guess.0.saturating_mul(1_000_000), ppm: 0, synced: false }
    }

    /// Cluster time as computed from an earlier checkpoint: carried on by the boot clock or, if the
    /// machine has rebooted since (`boot` is then `None`), by the wall clock.
    #[must_use]
    pub fn carried_on(
        noted: ClusterMs,
        boot: Option<(BootNs, BootNs)>,
        wall_ms: (u64, u64),
    ) -> ClusterMs {
        let elapsed_ms = match boot {
            Some((then, now)) => now.since(then) / 1_000_000,
            None => wall_ms.1.saturating_sub(wall_ms.0),
        };
        noted + elapsed_ms
    }

    /// Nanoseconds of cluster time since the Unix epoch. Never falls unless `boot` does.
    #[must_use]
    pub fn now_ns(&self, boot: BootNs) -> u64 {
        let elapsed = boot.since(self.base_boot);
        let steered = i128::from(elapsed.min(SLEW_SPAN_NS)) * i128::from(self.ppm) / 1_000_000;
        // |ppm| < 1 000 000, so the sum cannot be negative.
        let moved = u64::try_from(i128::from(elapsed) + steered).unwrap_or(0);
        self.base_ns.saturating_add(moved)
    }

    /// Cluster time in milliseconds.
    #[must_use]
    pub fn now(&self, boot: BootNs) -> ClusterMs {
        ClusterMs(self.now_ns(boot) / 1_000_000)
    }

    /// Whether a leader has set this clock in this incarnation of the node.
    #[must_use]
    pub fn is_synced(&self) -> bool {
        self.synced
    }

    /// A follower has learnt the leader's time: `estimate_ns` is the cluster time at `boot` (the
    /// leader's time plus half the round trip).
    pub fn follow(&mut self, boot: BootNs, estimate_ns: u64) {
        let error = signed_difference(estimate_ns, self.now_ns(boot));
        if !self.synced {
            // This incarnation has decided nothing by this clock: it may step in either direction.
            *self = Self { base_boot: boot, base_ns: estimate_ns, ppm: 0, synced: true };
        } else if error > STEP_FORWARD_NS {
            self.rebase(boot, 0);
            self.base_ns = estimate_ns;
        } else if error < -FAR_AHEAD_NS {
            // Just slow enough to remove the error within one span: half speed would overshoot a
            // small error, and the leader's next answer would look like a jump of its time.
            self.rebase(boot, (error / 1_000).max(-SLOW_PPM_MAX));
        } else {
            self.rebase(boot, (error / 1_000).clamp(-SLEW_PPM_MAX, SLEW_PPM_MAX));
        }
    }

    /// The leader slews by at most 1 % towards `wall_ns`, the median wall clock of the members.
    pub fn lead(&mut self, boot: BootNs, wall_ns: u64) {
        let error = signed_difference(wall_ns, self.now_ns(boot));
        self.rebase(boot, (error / 1_000).clamp(-SLEW_PPM_MAX, SLEW_PPM_MAX));
        self.synced = true;
    }

    /// Begins the leadership of a node whose clock no leader has set, at the time that the clocks of
    /// the voters show ([`super::sync::start_ns`]). Does nothing if it was set before.
    pub fn begin_leadership(&mut self, boot: BootNs, start_ns: u64) {
        if !self.synced {
            *self = Self { base_boot: boot, base_ns: start_ns, ppm: 0, synced: true };
        }
    }

    /// Cluster time has reached at least `other_ns` before: steps forward to it.
    pub fn catch_up(&mut self, boot: BootNs, other_ns: u64) {
        if other_ns > self.now_ns(boot) {
            self.rebase(boot, 0);
            self.base_ns = other_ns;
        }
    }

    fn rebase(&mut self, boot: BootNs, ppm: i64) {
        *self = Self { base_boot: boot, base_ns: self.now_ns(boot), ppm, synced: self.synced };
    }
}

/// `a - b`, saturating.
#[must_use]
pub fn signed_difference(a: u64, b: u64) -> i64 {
    let magnitude = i64::try_from(a.abs_diff(b)).unwrap_or(i64::MAX);
    if a >= b { magnitude } else { -magnitude }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_restart_of_all_nodes_does_not_set_time_back() {
        let mut clock = ClusterClock::new(BootNs(5), ClusterMs(1_000));
        clock.catch_up(BootNs(5), 9 * SECOND);
        assert_eq!(clock.now(BootNs(5)), ClusterMs(9_000));
    }

    #[test]
    fn a_leader_an_hour_wrong_drifts_by_one_percent() {
        let mut clock = ClusterClock::new(BootNs(0), ClusterMs(0));
        clock.lead(BootNs(0), 3_600 * SECOND);
        assert_eq!(clock.now_ns(BootNs(SECOND)), SECOND + SECOND / 100);
        // Without another correction by the wall clock it stops slewing.
        assert_eq!(clock.now_ns(BootNs(2 * SECOND)), 2 * SECOND + SECOND / 100);
    }

    #[test]
    fn the_first_word_of_a_leader_sets_the_clock_and_later_ones_steer_it() {
        let mut clock = ClusterClock::new(BootNs(0), ClusterMs(777_000));
        clock.follow(BootNs(0), 5 * SECOND);
        assert_eq!(clock.now_ns(BootNs(0)), 5 * SECOND);
        clock.follow(BootNs(0), 5 * SECOND + 2_000_000);
        assert_eq!(clock.now_ns(BootNs(SECOND)), 6 * SECOND + 2_000_000);
    }

    #[test]
    fn a_follower_that_is_ahead_comes_back_without_falling_behind() {
        for ahead_ms in [30, 150, 600] {
            let mut clock = ClusterClock::new(BootNs(0), ClusterMs(0));
            clock.follow(BootNs(0), ahead_ms * 1_000_000);
            let mut worst = 0;
            for half in 1..20 {
                // The leader's time is the boot clock.
                let boot = BootNs(half * SECOND / 2);
                clock.follow(boot, boot.0);
                worst = worst.min(signed_difference(
                    clock.now_ns(BootNs(boot.0 + SECOND / 2)),
                    boot.0 + SECOND / 2,
                ));
            }
            assert!(
                worst > -1_000_000,
                "{ahead_ms} ms ahead: {} ms behind later",
                -worst / 1_000_000
            );
            assert!(signed_difference(clock.now_ns(BootNs(10 * SECOND)), 10 * SECOND) < 1_000_000);
        }
    }

    #[test]
    fn a_note_is_carried_on_by_the_boot_clock_and_else_by_the_wall_clock() {
        let noted = ClusterMs(10_000);
        let boot = Some((BootNs(5 * SECOND), BootNs(8 * SECOND)));
        // The wall clock has jumped by an hour in between.
        let wall = (1_000, 3_604_000);
        assert_eq!(ClusterClock::carried_on(noted, boot, wall), ClusterMs(13_000));
        assert_eq!(ClusterClock::carried_on(noted, None, (1_000, 4_000)), ClusterMs(13_000));
        assert_eq!(ClusterClock::carried_on(noted, None, (9_000, 4_000)), noted);
    }

    #[test]
    fn a_new_leader_takes_the_time_of_the_voters_only_if_its_clock_was_not_set() {
        let mut clock = ClusterClock::new(BootNs(0), ClusterMs(5_000));
        for (voters_s, shows_s) in [(2, 2), (99, 2)] {
            clock.begin_leadership(BootNs(0), voters_s * SECOND);
            assert!(clock.is_synced());
            assert_eq!(clock.now_ns(BootNs(0)) / SECOND, shows_s);
        }
    }

    proptest! {
        #[test]
        fn time_never_falls(words in proptest::collection::vec((0u64..3 * SECOND, 0u64..20 * SECOND, any::<bool>()), 1..40)) {
            let mut clock = ClusterClock::new(BootNs(0), ClusterMs(0));
            clock.follow(BootNs(0), SECOND);
            let (mut boot, mut last) = (0, 0);
            for (step, word, leads) in words {
                for part in 0..4 {
                    let now = clock.now_ns(BootNs(boot + step * part / 4));
                    prop_assert!(now >= last);
                    last = now;
                }
                boot += step;
                if leads { clock.lead(BootNs(boot), word) } else { clock.follow(BootNs(boot), word) }
                let now = clock.now_ns(BootNs(boot));
                prop_assert!(now >= last);
                last = now;
            }
        }
    }
}
