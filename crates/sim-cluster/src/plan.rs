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
    pub extra: Vec<Extra>,
}

/// A fault that the protocol's simulator does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extra {
    /// A node is removed, and another one added with an id of its own.
    Replace,
    /// A sync fails: the node must stop, and its supervisor starts it again.
    DiskFails,
}

impl Extra {
    /// Every kind.
    pub const ALL: [Self; 2] = [Self::Replace, Self::DiskFails];

    /// The name in summaries.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Replace => "replace",
            Self::DiskFails => "disk_fails",
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
        let extra = Extra::ALL.into_iter().filter(|_| rng.permille(300)).collect();
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
