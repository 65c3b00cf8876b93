//! A machine: its clocks, its disk, and what a process on it begins with.

use fluxgate_engine::clock::ClusterClock;
use fluxgate_engine::join::MadeStarts;
use fluxgate_engine::member::{Member, Settings};
use fluxgate_engine::quota::{Carryover, Incarnation};
use fluxgate_engine::state::cluster_state::StartId;
use fluxgate_types::{BootId, BootNs, ClusterMs, DirId, Limit, NodeId};

use super::Step;
use crate::mutation::DriverMutation;
use crate::raft;
use crate::world::limit_name;
use fluxgate_plan::{MS, Us};

/// A machine's clocks, wrong as they may be.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    /// Drift of its boot clock, parts per million.
    pub drift_ppm: i64,
    /// Its boot clock at true time 0, nanoseconds.
    pub boot_ns: u64,
    /// What its wall clock is ahead of true time, milliseconds.
    pub wall_ms: i64,
    /// How long a sync takes.
    pub sync: Us,
    /// Its disk has no room before then.
    pub full_until: Us,
}

/// Wall-clock time at true time 0, milliseconds: 2024-01-20.
pub const EPOCH_MS: u64 = 1_705_747_200_000;

impl Machine {
    /// The boot clock.
    #[must_use]
    pub fn boot(&self, now: Us) -> BootNs {
        let drift = i128::from(now) * i128::from(self.drift_ppm) / 1_000;
        let ns = i128::from(now) * 1_000 + drift + i128::from(self.boot_ns);
        BootNs(u64::try_from(ns).unwrap_or(0))
    }

    /// The wall clock, nanoseconds.
    #[must_use]
    pub fn wall_ns(&self, now: Us) -> u64 {
        let ms = i128::from(EPOCH_MS) + i128::from(self.wall_ms);
        u64::try_from(ms * 1_000_000 + i128::from(now) * 1_000).unwrap_or(0)
    }

    /// Whether its disk takes new entries and files. A reserve takes votes, and the first entry of a
    /// term.
    #[must_use]
    pub fn has_room(&self, now: Us) -> bool {
        self.full_until <= now
    }

    /// The true time at which the boot clock shows `due`, not before `now`.
    #[must_use]
    pub fn when(&self, due: BootNs, now: Us) -> Us {
        let left = i128::from(due.since(self.boot(now)));
        // A clock that runs fast by some parts per million gets there sooner.
        let us = left * 1_000 / (1_000_000 + i128::from(self.drift_ppm));
        now + u64::try_from(us).unwrap_or(0) + 1
    }

    /// Cluster time at the start of a process: carried on from a checkpoint, otherwise the wall
    /// clock, and not before an orderly stop.
    fn clock_at_start(
        &self,
        now: Us,
        noted: Option<(ClusterMs, BootNs)>,
        left: Option<&Carryover>,
    ) -> ClusterClock {
        let boot = self.boot(now);
        let guess = match noted {
            Some((noted, then)) => ClusterClock::carried_on(noted, Some((then, boot)), (0, 0)),
            None => ClusterMs(self.wall_ns(now) / 1_000_000),
        };
        let mut clock = ClusterClock::new(boot, guess);
        if let Some(left) = left {
            clock.catch_up(boot, left.at.0.saturating_mul(1_000_000));
        }
        clock
    }
}

/// A node's data directory.
#[derive(Clone, Debug)]
pub struct Disk {
    /// Which directory this is.
    pub dir_id: DirId,
    /// What it remembers of the starts made from it.
    pub starts: MadeStarts,
    /// The log.
    pub raft: raft::Disk,
    /// What an orderly stop left.
    pub carryover: Option<Carryover>,
    /// Cluster time, noted now and then.
    pub clock: Option<(ClusterMs, BootNs)>,
    /// Starts so far.
    pub boots: u64,
}

impl Disk {
    /// An empty directory.
    #[must_use]
    pub fn new(dir_id: DirId) -> Self {
        Self {
            dir_id,
            starts: MadeStarts::default(),
            raft: raft::Disk::default(),
            carryover: None,
            clock: None,
            boots: 0,
        }
    }
}

/// The member of a process that begins.
pub(super) fn new_member(
    me: NodeId,
    machine: &Machine,
    disk: &Disk,
    (carryover, nonce): (Option<Carryover>, u64),
    step: &Step<'_>,
) -> Member {
    let boot = BootId(disk.boots);
    // What an earlier incarnation saved of cluster time, if the rule of it is in its place.
    let noted = disk.clock.filter(|_| !step.is(DriverMutation::ClockFromWall));
    let clock = machine.clock_at_start(step.now, noted, carryover.as_ref());
    let plan = step.plan;
    let peers: Vec<NodeId> = (1..=plan.nodes).map(NodeId).filter(|node| *node != me).collect();
    let reached = disk.clock.map(|(at, _)| at);
    let incarnation =
        Incarnation::at_start(me, boot, carryover, reached, &peers, plan.terms.clock_error_ms_max);
    let limit = |(n, &(tokens, period_ms)): (usize, &(u64, u64))| {
        Limit::new(limit_name(n), tokens, period_ms)
    };
    let settings = Settings {
        terms: plan.file(me, boot),
        default_limits: plan.limits.iter().enumerate().map(limit).collect(),
        look_ms: plan.leader_look / MS,
        clock_carried: noted.is_some(),
    };
    let start = StartId { boot, nonce };
    Member::new(start, disk.dir_id, settings, clock, incarnation)
}
