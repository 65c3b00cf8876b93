//! A machine: its clocks, its disk, and what a process on it begins with.

use std::sync::Arc;

use fluxgate_engine::clock::ClusterClock;
use fluxgate_engine::quota::{Carryover, Entitlement, Incarnation, Incarnations};
use fluxgate_types::{BootId, BootNs, ClusterMs, NodeId};

use crate::plan::{Plan, Us};
use crate::raft;

/// What cluster time may run ahead of its last note, milliseconds.
const NOTE_SLACK_MS: u64 = 2_000;

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
}

/// Wall-clock time at true time 0, milliseconds: 2024-01-20.
const EPOCH_MS: u64 = 1_705_747_200_000;

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

    /// Cluster time at the start of a process: carried on from a note, else the wall clock, and not
    /// before an orderly stop.
    pub(super) fn clock_at_start(
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

/// What lies on a node's disk.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    /// The log.
    pub raft: raft::Disk,
    /// What an orderly stop left.
    pub carryover: Option<Carryover>,
    /// Cluster time, noted now and then.
    pub clock: Option<(ClusterMs, BootNs)>,
    /// Lives so far.
    pub boots: u64,
}

/// What a process begins its life with.
pub(super) fn first_life(
    me: NodeId,
    boot: BootId,
    carryover: Option<Carryover>,
    noted: Option<(ClusterMs, BootNs)>,
    plan: &Plan,
) -> Incarnation {
    let mut incarnations = Incarnations::default();
    incarnations.note(me, boot);
    let first = (boot == BootId(1)).then_some(Entitlement::All);
    let others = (1..=plan.nodes).map(NodeId).filter(|node| *node != me);
    Incarnation {
        me,
        entitlement: carryover.as_ref().map(|left| left.entitlement).or(first),
        first_lease: None,
        carryover: carryover.map(|left| Arc::new(left.counters)),
        reached: noted.map_or(ClusterMs(0), |(at, _)| at + NOTE_SLACK_MS),
        incarnations_tag: incarnations.tag(),
        incarnations,
        peers: others.map(|node| (node, true)).collect(),
        clock_error_ms_max: plan.terms.clock_error_ms_max,
    }
}
