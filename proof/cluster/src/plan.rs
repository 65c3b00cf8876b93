//! What a seed means for a whole cluster: the plan of the protocol's simulator, at lengths that a
//! real node can be run for, and what only real nodes have.

use fluxgate_sim::plan::{Plan as Base, SECOND, Us};
use fluxgate_sim::rng::Rng;

/// Everything about a run that its seed decides.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Sizes, paces, traffic, faults.
    pub base: Base,
    /// Entries between snapshots.
    pub snapshot_every: u64,
    /// Faults of consensus' own kinds: nodes that are replaced, disks that fail.
    pub extra: Vec<ClusterFault>,
}

/// A fault that the protocol's simulator does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClusterFault {
    /// A node is removed, and another one added with an id of its own.
    Replace,
    /// A sync fails: the node must stop, and its supervisor starts it again.
    DiskFails,
    /// The disk of the leader has no room.
    DiskFull,
    /// One wall clock goes three years ahead.
    YearsAhead,
    /// A node's disk is put back to what it was before its last life.
    Restored,
}

/// Seeds from here on have the newer kinds: those below mean what they meant.
pub const NEWER_FROM: u64 = 3_000;

impl ClusterFault {
    /// The kinds that every seed may have.
    pub const ALWAYS: [Self; 2] = [Self::Replace, Self::DiskFails];
    /// Those that seeds from [`NEWER_FROM`] on may have. One that is left out here is switched off.
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
        // One limit a key: the headers of an answer tell of one.
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

    /// Shortest and longest election time-out, milliseconds.
    #[must_use]
    pub fn election_ms(&self) -> (u64, u64) {
        let heartbeat_ms = self.base.heartbeat / 1_000;
        (3 * heartbeat_ms, 6 * heartbeat_ms)
    }

    /// How long a fault may be felt after it.
    #[must_use]
    pub fn settle(&self) -> Us {
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
    fn newer_kinds_come_in_newer_seeds_alone_and_each_is_left_out_somewhere() {
        let has = |seed, kind| Plan::of(seed).extra.contains(&kind);
        for kind in ClusterFault::NEWER {
            assert!((0..200).all(|seed| !has(seed, kind)), "{kind:?}");
            let seen = (NEWER_FROM..NEWER_FROM + 200).filter(|seed| has(*seed, kind)).count();
            assert!((40..160).contains(&seen), "{kind:?}: {seen}");
        }
    }
}
