//! Faults from the seed: of processes, links, disks and clocks.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use fluxgate_plan::{FaultKind, MS, SECOND, Us};
use fluxgate_store::memory::Faults;
use fluxgate_types::NodeId;

use super::Shared;
use crate::plan::ClusterFault;

/// Injects faults until `faulty` is cleared.
pub(super) async fn run(world: Arc<Shared>, cooldown: Us) {
    world.sleep(cooldown).await;
    loop {
        let pause = {
            let mut state = world.lock();
            // Now and then a long calm phase, so that windows without any fault occur, too.
            let calm = if state.rng.permille(200) { 3 * cooldown } else { 0 };
            state.rng.span(world.plan.base.faults).max(10 * MS) + calm
        };
        world.sleep(pause).await;
        let held = world.lock().hold_until.saturating_sub(world.now());
        world.sleep(held).await;
        if !world.lock().faulty {
            return;
        }
        world.next_fault();
    }
}

impl Shared {
    fn some_node(&self) -> Option<NodeId> {
        let leader = self.running().into_iter().find(|(_, r)| r.node.leads_in().is_some());
        let leader = leader.map(|(id, _)| id);
        let nodes = self.nodes();
        let mut state = self.lock();
        let any = (!nodes.is_empty()).then(|| state.rng.pick(&nodes));
        // Faults hit the leader more often: it has the most to lose.
        if state.rng.permille(400) { leader.or(any) } else { any }
    }

    fn next_fault(self: &Arc<Self>) {
        let (kinds, extra) = (&self.plan.base.kinds, &self.plan.extra);
        let place = self.draw((kinds.len() + extra.len()).saturating_sub(1) as u64);
        let place = usize::try_from(place).unwrap_or(0);
        let Some(node) = self.some_node() else { return };
        match (kinds.get(place), extra.get(place.wrapping_sub(kinds.len()))) {
            (Some(kind), _) => self.inject(*kind, node),
            (None, Some(extra)) => self.inject_cluster_fault(*extra, node),
            (None, None) => {}
        }
    }

    pub(super) fn count(&self, kind: &'static str, node: NodeId, span: Us) {
        self.say(|| format!("fault {kind} at node {node} for {} ms", span / MS));
        *self.lock().observations.counts.faults.entry(kind).or_default() += 1;
    }

    pub(super) fn disturb(&self, span: Us) {
        let (now, cooldown) = (self.now(), self.plan.cooldown());
        self.lock().observations.disturb(now, now + span + cooldown);
    }

    fn inject(self: &Arc<Self>, kind: FaultKind, node: NodeId) {
        // Whole clusters have full disks and wrong clocks of their own (`operator_faults`), and their
        // machines do not stand still.
        if matches!(kind, FaultKind::FullDisk | FaultKind::WallLeap | FaultKind::StandStill) {
            return;
        }
        let lease = self.plan.base.terms.lease_ms * MS;
        let span = {
            let mut state = self.lock();
            // Some faults are too short to be noticed.
            let mean = if state.rng.permille(250) { 200 * MS } else { lease };
            state.rng.span(mean).max(MS)
        };
        self.count(kind.as_str(), node, span);
        match kind {
            FaultKind::WallJump => {
                let size = i64::try_from(self.draw(7_200_000)).unwrap_or(0) - 3_600_000;
                crate::checks::time_is_bounded::note(self);
                if let Some(host) = self.lock().hosts.get(&node) {
                    host.clocks.jump(size);
                }
                // The machine may have been suspended: its node drops its lease at the next renewal
                // and gets another one a moment later.
                self.disturb(lease);
                return;
            }
            FaultKind::HandOver => {
                // No disturbance: a hand-over must cost no request.
                tokio::spawn(super::writes::hand_over(Arc::clone(self), node));
                return;
            }
            FaultKind::Crash => self.crash(node, span),
            FaultKind::CrashAll => {
                for node in self.nodes() {
                    let down = self.lock().rng.span(lease).max(MS);
                    self.crash(node, down);
                }
                // Spans are cut at ten times their mean.
                self.disturb(10 * lease);
            }
            FaultKind::Pause => self.pause(node, span),
            FaultKind::Restart => self.stop(node),
            FaultKind::RestartAll => self.nodes().into_iter().for_each(|node| self.stop(node)),
            FaultKind::Cut | FaultKind::OneWay => self.cut(kind, node, span),
            FaultKind::Loss => {
                let until = self.now() + span;
                let mut state = self.lock();
                let permille = state.rng.pick(&[10, 100, 500]);
                state.net.lose(until, permille);
            }
            FaultKind::Slow => {
                let until = self.now() + span;
                let mut state = self.lock();
                let most = state.rng.pick(&[5, 50, 500, 3_000]) * MS;
                state.net.delay(until, most);
            }
            FaultKind::Lopsided => self.lopside(node, 4 * span),
            FaultKind::SlowDisk => {
                self.slow_down(node);
                self.disturb(SECOND);
            }
            // This simulator has kinds of its own for these.
            FaultKind::FullDisk
            | FaultKind::WallLeap
            | FaultKind::StandStill
            | FaultKind::PutBack
            | FaultKind::LostDisk
            | FaultKind::Replace => {}
        }
        self.disturb(4 * span);
    }

    /// Changes the speed of a disk, until the next fault of this kind.
    fn slow_down(&self, node: NodeId) {
        let (election_ms, _) = self.plan.election_ms();
        let mut state = self.lock();
        let mut sync_ms = state.rng.pick(&[10, 100, 1_000]);
        // If syncs took longer than an election on a majority of disks, no node would ever be
        // elected.
        let others = state.hosts.iter().filter(|(id, host)| **id != node && !host.removed);
        let others: Vec<u64> =
            others.map(|(_, host)| host.disk.sync_ms.load(Ordering::Relaxed)).collect();
        let slow = others.iter().filter(|sync_ms| **sync_ms > election_ms).count();
        if sync_ms > election_ms && 2 * (slow + 1) > others.len() + 1 {
            sync_ms = 100;
        }
        if let Some(host) = state.hosts.get(&node) {
            host.disk.sync_ms.store(sync_ms, Ordering::Relaxed);
        }
    }

    fn crash(self: &Arc<Self>, node: NodeId, down: Us) {
        self.kill(node);
        self.start_later(node, down.max(2 * MS));
    }

    fn pause(self: &Arc<Self>, node: NodeId, span: Us) {
        let until = self.now() + span;
        {
            let mut state = self.lock();
            let Some(host) = state.hosts.get_mut(&node) else { return };
            let Some(process) = host.process.clone() else { return };
            host.paused_until = host.paused_until.max(until);
            process.pause();
        }
        let world = Arc::clone(self);
        tokio::spawn(async move {
            world.sleep(span).await;
            let mut state = world.lock();
            let host = state.hosts.get_mut(&node);
            // Another fault may have extended the pause.
            if let Some(host) = host.filter(|host| host.paused_until <= until)
                && let Some(process) = &host.process
            {
                process.resume();
            }
        });
    }

    fn cut(&self, kind: FaultKind, node: NodeId, span: Us) {
        let (until, nodes) = (self.now() + span, self.nodes());
        let mut state = self.lock();
        let (all, inward) = (state.rng.permille(500), state.rng.permille(500));
        for other in nodes {
            if kind == FaultKind::OneWay {
                let (from, to) = if inward { (other, node) } else { (node, other) };
                state.net.cut(from, to, until);
            } else if all || state.rng.permille(500) {
                state.net.cut(node, other, until);
                state.net.cut(other, node, until);
            }
        }
    }

    fn lopside(&self, node: NodeId, span: Us) {
        let (until, nodes) = (self.now() + span, self.nodes());
        let mut state = self.lock();
        let (inward, by) = (state.rng.permille(500), state.rng.below(450 * MS));
        for other in nodes {
            let (from, to) = if inward { (other, node) } else { (node, other) };
            state.net.lopside(from, to, until, by);
        }
    }

    /// Injects a fault that the protocol's simulator does not have.
    fn inject_cluster_fault(self: &Arc<Self>, extra: ClusterFault, node: NodeId) {
        match extra {
            ClusterFault::DiskFails => {
                self.count(extra.as_str(), node, 0);
                let after = self.draw(3);
                if let Some(host) = self.lock().hosts.get_mut(&node) {
                    host.failing = true;
                    let error = Some(std::io::ErrorKind::Other);
                    host.disk.memory.set_faults(Faults {
                        barriers_left: Some(after),
                        error,
                        ..Faults::default()
                    });
                }
                self.disturb(60 * SECOND);
            }
            ClusterFault::DiskFull | ClusterFault::YearsAhead | ClusterFault::Restored => {
                self.inject_operator_fault(extra, node);
            }
            ClusterFault::Replace => {
                // One replacement at a time, and never the second of three nodes.
                let begun = std::mem::replace(&mut self.lock().replacing, true);
                if !begun && self.plan.base.nodes >= 3 {
                    self.count(extra.as_str(), node, 0);
                    tokio::spawn(super::writes::replace(Arc::clone(self), node));
                }
            }
        }
    }
}
