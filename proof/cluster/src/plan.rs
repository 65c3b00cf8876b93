//! The plan of a seed for a whole cluster: the plan of the protocol's simulator, shortened so that
//! real nodes can run it, and the faults that only real nodes have.

use fluxgate_plan::Rng;
use fluxgate_plan::{Plan as Base, SECOND, Us};

/// Everything about a run that its seed decides.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Sizes, intervals, traffic, faults.
    pub base: Base,
    /// Entries between snapshots.
    pub snapshot_every: u64,
    /// Faults that only a whole cluster has: replaced nodes, failing disks.
    pub extra: Vec<ClusterFault>,
}

/// A fault that the protocol's simulator does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClusterFault {
    /// A node is removed, and another node with a new id is added.
    Replace,
    /// A sync fails: the node must stop, and its supervisor starts it again.
    DiskFails,
    /// The leader's disk has no room.
    DiskFull,
    /// One wall clock goes three years ahead.
    YearsAhead,
    /// A node's disk is restored to its state before the last incarnation.
    Restored,
}

/// Seeds from here on may have the newer kinds, so that smaller seeds keep their meaning.
pub const NEWER_FROM: u64 = 3_000;

impl ClusterFault {
    /// The kinds that every seed may have.
    pub const ALWAYS: [Self; 2] = [Self::Replace, Self::DiskFails];
    /// The kinds that seeds from [`NEWER_FROM`] on may have. Leaving a kind out here switches it
    /// off.
    pub const NEWER: [Self; 3] = [Self::DiskFull, Self::YearsAhead, Self::Restored];

    /// The name in summaries.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Replace => "replace",
            Self::DiskFails => "disk_fails",
            Self::DiskFull => "disk_full",
            Self::YearsAhead => "years_ahead",
            Self::Restored => "restored",
        }
    }
}

impl Plan {
    /// The plan of a seed.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        let mut rng = Rng::new(seed.rotate_left(29) ^ 0xc1a5);
        let mut base = Base::of(seed);
        let coarse = base.terms.lease_ms > 3_000;
        base.span = if coarse { rng.pick(&[900, 1_800, 3_600]) } else { 60 } * SECOND;
        // One limit per key: the headers of an answer describe one limit.
        base.limits.truncate(1);
        base.cost_max = base.cost_max.min(base.limits[0].0);
        let mut extra: Vec<ClusterFault> =
            ClusterFault::ALWAYS.into_iter().filter(|_| rng.permille(300)).collect();
        if seed >= NEWER_FROM {
            let mut rng = Rng::new(seed.rotate_left(17) ^ 0x0ead_5eed);
            extra.extend(ClusterFault::NEWER.into_iter().filter(|_| rng.permille(400)));
        }
        Self { base, snapshot_every: rng.pick(&[20, 100, 20_000]), extra }
    }

    /// The shortest and longest election timeout, milliseconds.
    #[must_use]
    pub fn election_ms(&self) -> (u64, u64) {
        let heartbeat_ms = self.base.heartbeat / 1_000;
        (3 * heartbeat_ms, 6 * heartbeat_ms)
    }

    /// How long a fault may have effects after it ended.
    #[must_use]
    pub fn cooldown(&self) -> Us {
        let terms = &self.base.terms;
        (10 * terms.lease_ms + 2 * terms.clock_error_ms_max) * 1_000 + 20 * SECOND
    }

    /// Whether everything but the network is ten times slower than by default.
    #[must_use]
    pub fn is_coarse(&self) -> bool {
        self.base.terms.lease_ms > 3_000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newer_kinds_come_only_in_newer_seeds_and_not_in_all_of_them() {
        let has = |seed, kind| Plan::of(seed).extra.contains(&kind);
        for kind in ClusterFault::NEWER {
            assert!((0..200).all(|seed| !has(seed, kind)), "{kind:?}");
            let seen = (NEWER_FROM..NEWER_FROM + 200).filter(|seed| has(*seed, kind)).count();
            assert!((40..160).contains(&seen), "{kind:?}: {seen}");
        }
    }
}
