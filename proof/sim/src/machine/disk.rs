//! A node's data directory, and cluster time as it is saved there.

use fluxgate_engine::clock::ClusterClock;
use fluxgate_engine::join::MadeStarts;
use fluxgate_engine::quota::{CHECKPOINT_MS, Carryover, covered_by};
use fluxgate_types::{BootNs, ClusterMs, DirId};

use super::Machine;
use crate::raft;
use fluxgate_plan::Us;

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
    /// Cluster time, saved now and then.
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

    /// Cluster time at the start of a process: carried on from what was saved, if it was and the
    /// process reads it, otherwise the wall clock; and not before an orderly stop.
    #[must_use]
    pub fn clock_at_start(
        machine: &Machine,
        now: Us,
        saved: Option<(ClusterMs, BootNs)>,
        carryover: Option<&Carryover>,
    ) -> ClusterClock {
        let boot = machine.boot(now);
        let guess = match saved {
            Some((saved, then)) => ClusterClock::carried_on(saved, Some((then, boot)), (0, 0)),
            None => ClusterMs(machine.wall_ns(now) / 1_000_000),
        };
        let mut clock = ClusterClock::new(boot, guess);
        if let Some(left) = carryover {
            clock.catch_up(boot, left.at.0.saturating_mul(1_000_000));
        }
        clock
    }
}

/// Cluster time as a running process has saved it.
#[derive(Clone, Copy, Debug)]
pub struct SavedTime {
    saved: Option<(ClusterMs, BootNs)>,
    /// Windows that begin then or later are not opened.
    pub covered: ClusterMs,
}

impl SavedTime {
    /// As the disk has it.
    #[must_use]
    pub fn of(disk: &Disk) -> Self {
        Self { saved: disk.clock, covered: covered_by(disk.clock.map(|(at, _)| at)) }
    }

    /// What a crash leaves.
    #[must_use]
    pub fn crash(self) -> Option<(ClusterMs, BootNs)> {
        self.saved
    }

    /// Whether cluster time has leapt ahead since, or was never saved.
    #[must_use]
    pub fn is_due(&self, now: ClusterMs) -> bool {
        now >= self.saved.map_or(ClusterMs(0), |(at, _)| at) + CHECKPOINT_MS
    }

    /// Saves it; if the disk has no room, windows are opened without that.
    pub fn save(&mut self, now: ClusterMs, boot: BootNs, has_room: bool) {
        self.covered = ClusterMs(u64::MAX);
        if has_room {
            *self = Self { saved: Some((now, boot)), covered: covered_by(Some(now)) };
        }
    }
}
