//! The leases in the nodes' files: the same on every node, short ones, or different and changing ones.

use fluxgate_plan::Rng;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Terms {
    /// The defaults: 3 s.
    Plain,
    /// 1 s, with election timeouts that fit.
    Short,
    /// 10 s on the first node and 3 s on the others; a restart may change them.
    Mixed,
}

/// The leases that a changed file may have, milliseconds.
const LEASES_MS: [u64; 3] = [3_000, 10_000, 5_000];

impl Terms {
    const ALL: [Self; 3] = [Self::Plain, Self::Short, Self::Mixed];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Short => "short",
            Self::Mixed => "mixed",
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|terms| terms.as_str() == name)
    }

    /// Half of the seeds have the defaults.
    pub(crate) fn of_seed(seed: u64) -> Self {
        match Rng::stream(seed, 4).between(0, 3) {
            0 => Self::Short,
            1 => Self::Mixed,
            _ => Self::Plain,
        }
    }

    /// The lease in a node's first configuration file, milliseconds.
    pub(crate) const fn lease_ms(self, node: u64) -> u64 {
        match self {
            Self::Plain => 3_000,
            Self::Short => 1_000,
            Self::Mixed => {
                if node == 1 {
                    10_000
                } else {
                    3_000
                }
            }
        }
    }

    /// The lease that a changed file gets, by this draw.
    pub(crate) fn other_ms(draw: u64) -> u64 {
        LEASES_MS[usize::try_from(draw % LEASES_MS.len() as u64).unwrap_or(0)]
    }

    /// The longest lease that may be in force, milliseconds.
    pub(crate) fn longest_ms(self) -> u64 {
        match self {
            Self::Plain | Self::Short => self.lease_ms(1),
            Self::Mixed => LEASES_MS.into_iter().max().unwrap_or(0),
        }
    }

    /// After this time without a grant a node is certainly out of the share map, milliseconds.
    pub(crate) fn out_of_map_ms(self) -> u64 {
        match self {
            Self::Plain => 12_000,
            Self::Short => 6_000,
            // Nodes with long leases may return earlier; those with shorter ones leave the map.
            Self::Mixed => 16_000,
        }
    }

    /// Heartbeats and elections: a lease must be at least four times the longest election timeout.
    pub(crate) const fn raft(self) -> &'static str {
        match self {
            Self::Plain | Self::Mixed => "",
            Self::Short => "heartbeat = \"50ms\"\nelection_timeout = \"125ms..250ms\"\n",
        }
    }
}
