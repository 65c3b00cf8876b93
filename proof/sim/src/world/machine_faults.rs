//! Faults of one machine: its disk and its clocks.

use fluxgate_types::NodeId;

use super::{Host, SYNC_MAX, World};
use fluxgate_plan::{FaultKind, MS, SECOND, Us};

/// A wall clock leaps ahead by at most this much, milliseconds: three years.
const YEARS_MS: i64 = 3 * 365 * 86_400_000;

impl Host {
    /// A machine whose clocks stand still continues.
    pub(super) fn go_on(&mut self, now: Us) {
        let Some(until) = self.stood_still_until.filter(|until| *until > now) else { return };
        let early = self.machine.boot(until).0 - self.machine.boot(now).0;
        self.change_machine(|machine| machine.boot_ns += early);
        self.stood_still_until = Some(now);
    }
}

impl World {
    /// A wall clock jumps, or leaps ahead. The node drops its lease until it is renewed.
    pub(super) fn set_wall_clock(&mut self, kind: FaultKind, id: NodeId) {
        let signed = |size: u64| i64::try_from(size).unwrap_or(0);
        let size = if kind == FaultKind::WallJump {
            signed(self.rng.below(7_200_000)) - 3_600_000
        } else {
            let most = self.rng.pick(&[60_000, 86_400_000, YEARS_MS.unsigned_abs()]);
            signed(self.rng.below(most))
        };
        let (now, settle) = (self.now, self.settle_time());
        self.book.disturb(now, now, settle);
        let slot = self.slot(id);
        if kind == FaultKind::WallJump || slot.machine.wall_ms < YEARS_MS {
            slot.change_machine(|machine| machine.wall_ms += size);
        }
    }

    /// The disk becomes slow, and stays so.
    pub(super) fn slow_down(&mut self, node: NodeId) {
        let sync = self.rng.pick(&[2, 10, 100, 1_000]) * MS;
        self.slot(node).change_machine(|machine| machine.sync = sync);
        if sync > SYNC_MAX {
            self.book.hinder_writes(self.now, self.plan.span.max(self.now));
        }
        if 2 * sync > self.plan.terms.lease_ms * MS {
            // What must be on it before a lease ends comes too late.
            let settle = self.settle_time();
            self.book.disturb(self.now, self.plan.span.max(self.now), settle);
        }
    }

    /// The machine is stopped, together with its boot clock and perhaps its wall clock.
    pub(super) fn stand_still(&mut self, id: NodeId, until: Us) {
        let (now, wall_too) = (self.now, self.rng.permille(500));
        let settle = self.settle_time();
        self.book.disturb(now, until, settle);
        let slot = self.slot(id);
        if slot.paused_until > now || slot.node.is_none() {
            return;
        }
        let (from, to) = (slot.machine.boot(now).0, slot.machine.boot(until).0);
        slot.change_machine(|machine| {
            machine.boot_ns = machine.boot_ns.saturating_sub(to - from);
            if wall_too {
                machine.wall_ms -= i64::try_from((until - now) / MS).unwrap_or(0);
            }
        });
        if let Some(node) = slot.node.as_mut() {
            node.replica.raft.stand_still(until - now);
        }
        (slot.paused_until, slot.stood_still_until) = (until, Some(until));
        self.book.stood_still += until - now;
    }

    /// After a machine's clocks stood still, it may lead with a cluster time that is far behind: a node
    /// that is ahead of its leader waits, and until then the two are in different windows.
    pub(super) fn note_clocks_apart(&mut self) {
        if self.book.stood_still == 0 {
            return;
        }
        let synced = self.nodes().filter(|node| node.member.clock().is_synced());
        let times: Vec<u64> = synced.map(|node| node.cluster_now(self.now).0).collect();
        let apart_ms = times.iter().max().zip(times.iter().min()).map_or(0, |(max, min)| max - min);
        if apart_ms > self.plan.terms.clock_error_ms_max {
            let (now, settle) = (self.now, self.settle_time());
            self.book.disturb(now, now + SECOND, settle);
        }
    }

    /// The disk has no room for long enough that writes must continue without it.
    pub(super) fn fill_disk(&mut self, id: NodeId, span: Us) {
        let (now, settle) = (self.now, self.settle_time());
        let until = now + 2 * self.full_disk_time() + span;
        self.slot(id).change_machine(|machine| machine.full_until = machine.full_until.max(until));
        let full = self.slots.iter().filter(|slot| !slot.machine.has_room(now)).count();
        if 2 * full < self.slots.len() {
            self.book.disturb_by_full_disk(now, until, settle);
        } else {
            self.book.disturb(now, until, settle);
        }
    }
}
