//! Plans in which only some things happen, and those often: for rules that few faults together put to
//! the test.

use super::{FaultKind, MS, Plan, SECOND};

impl Plan {
    /// The plan of a seed with these kinds of faults only, many of them, at the pace of the default
    /// configuration: for rules that only some faults together put to the test.
    #[must_use]
    pub fn focused(seed: u64, kinds: &[FaultKind]) -> Self {
        let fine = |n: &u64| Self::of(*n).terms.lease_ms == 3_000 && Self::of(*n).nodes >= 3;
        let base = (seed << 16..).find(fine).unwrap_or(seed);
        let plan = Self::of(base);
        let (faults, writes, torn_permille, late_permille) = (SECOND, SECOND, 0, 0);
        let (kinds, limit_changes) = (kinds.to_vec(), 0);
        let plan = Self {
            seed,
            kinds,
            faults,
            writes,
            torn_permille,
            late_permille,
            limit_changes,
            ..plan
        };
        plan.with_terms(false)
    }

    /// The plan of a seed with orderly restarts only, each alone for long, and this much torn.
    #[must_use]
    pub fn of_restarts(seed: u64, torn_permille: u64) -> Self {
        let plan = Self::focused(seed, &[FaultKind::Restart]);
        let (span, faults) = (4 * plan.span, 60 * SECOND);
        Self { span, faults, torn_permille, demand_percent: 300, cost_max: 1, ..plan }
    }

    /// The plan of a seed in which leaders lose their leadership before they have taken it over,
    /// while clients write: hand-overs among slow disks, leases that cut nodes still hold, and changes
    /// whose threads are held up before they propose them.
    #[must_use]
    pub fn of_short_leaderships(seed: u64) -> Self {
        use FaultKind::{Crash, Cut, HandOver, SlowDisk};
        let mut kinds = vec![HandOver; 12];
        kinds.extend([Cut, Cut, SlowDisk, Crash]);
        let plan = Self::focused(seed, &kinds);
        let (span, faults, writes) = (120 * SECOND, 250 * MS, 20 * MS);
        Self { span, faults, writes, keys: 4, late_permille: 800, calm_permille: 0, ..plan }
    }

    /// The plan of a seed in which proofs of leadership are answered late, and nodes lose their
    /// leases, while clients write.
    #[must_use]
    pub fn of_late_proofs(seed: u64) -> Self {
        let plan = Self::focused(seed, &[FaultKind::Crash, FaultKind::Cut]);
        let (span, faults, writes) = (120 * SECOND, SECOND, 200 * MS);
        Self { span, faults, writes, keys: 4, torn_permille: 500, calm_permille: 0, ..plan }
    }

    /// The plan of a seed with full disks, each for long.
    #[must_use]
    pub fn of_full_disks(seed: u64) -> Self {
        let plan = Self::focused(seed, &[FaultKind::FullDisk]);
        Self { span: 2 * plan.span, faults: 60 * SECOND, calm_permille: 0, ..plan }
    }

    /// The plan of a seed with machines that are stopped together with their clocks, while clients
    /// write and messages are lost.
    #[must_use]
    pub fn of_stopped_clocks(seed: u64) -> Self {
        let plan = Self::focused(seed, &[FaultKind::StandStill, FaultKind::Loss]);
        Self { faults: 2 * SECOND, writes: 100 * MS, keys: 4, calm_permille: 0, ..plan }
    }

    /// The plan of a seed in which leaders change all the time, and machines are stopped together with
    /// their clocks.
    #[must_use]
    pub fn of_late_leaders(seed: u64) -> Self {
        use FaultKind::{Crash, Cut, HandOver, StandStill};
        let plan = Self::focused(seed, &[StandStill, HandOver, HandOver, Cut, Crash]);
        Self { span: 2 * plan.span, faults: SECOND, writes: 100 * MS, calm_permille: 0, ..plan }
    }

    /// The plan of a seed with orderly stops of all nodes, and machines that are stopped together with
    /// their clocks: cluster time may go back.
    #[must_use]
    pub fn of_stopped_machines(seed: u64) -> Self {
        let kinds = [FaultKind::RestartAll, FaultKind::Restart, FaultKind::StandStill];
        let plan = Self::focused(seed, &kinds);
        Self { span: 2 * plan.span, faults: 2 * SECOND, calm_permille: 0, ..plan }
    }

    /// The plan of a seed with these kinds of faults, which change directories and members.
    #[must_use]
    pub fn of_directories(seed: u64, kinds: &[FaultKind]) -> Self {
        let plan = Self::focused(seed, kinds);
        Self { faults: 8 * SECOND, calm_permille: 0, ..plan }
    }

    /// The plan of a seed in which limits change while requests wait for slow peers.
    #[must_use]
    pub fn of_changing_limits(seed: u64) -> Self {
        let plan = Self::focused(seed, &[FaultKind::Slow]);
        let limits = vec![(30, 1_000), (100, 10_000)];
        Self { limits, limit_changes: 200 * MS, demand_percent: 300, cost_max: 3, ..plan }
    }

    /// The plan of a seed that begins with wrong wall clocks, and with nodes that start late.
    #[must_use]
    pub fn of_wrong_clocks(seed: u64) -> Self {
        let plan = Self::focused(seed, &[FaultKind::Crash, FaultKind::Cut]);
        Self { wall_error_ms: 3_600_000, starts: 3 * SECOND, ..plan }
    }
}
