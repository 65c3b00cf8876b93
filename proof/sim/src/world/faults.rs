//! Faults of processes, links, disks and clocks, from the seed.

use std::collections::BTreeSet;

use fluxgate_engine::quota::{CounterId, TransferTotals};
use fluxgate_types::{BootId, NodeId};

use super::operator::Work;
use super::{Event, SYNC_MAX, World};
use crate::book::WindowId;
use crate::invariants::Violation;
use crate::messages::{Call, Message};
use crate::node::Node;
use fluxgate_plan::{FaultKind, MS, SECOND, Us};

/// The longest time for which a stopping node announces its stop and hands its balance over.
const LEAVE_MAX: Us = 10 * SECOND;

impl World {
    /// The next fault of the plan.
    pub(super) fn next_fault(&mut self) -> Result<(), Violation> {
        if !self.faulty {
            return Ok(());
        }
        // Now and then a long calm, so that windows without any fault are seen too.
        let calm =
            if self.rng.permille(self.plan.calm_permille) { 4 * self.settle_time() } else { 0 };
        let after = self.rng.span(self.plan.faults).max(10 * MS) + calm;
        self.schedule(self.now + after, Event::Fault);
        if self.plan.kinds.is_empty() {
            return Ok(());
        }
        let kind = self.rng.pick(&self.plan.kinds.clone());
        self.inflict(kind)
    }

    fn some_node(&mut self) -> NodeId {
        // The leader has the most to lose.
        let leader = self.nodes().find(|node| node.is_leading()).map(|node| node.id);
        let any = NodeId(self.rng.between(1, self.plan.nodes));
        if self.rng.permille(400) { leader.unwrap_or(any) } else { any }
    }

    fn inflict(&mut self, kind: FaultKind) -> Result<(), Violation> {
        let lease = self.plan.terms.lease_ms * MS;
        let node = self.some_node();
        // Some are over before any node notices.
        let mean = if self.rng.permille(250) { 200 * MS } else { lease };
        let span = self.rng.span(mean).max(MS);
        let now = self.now;
        self.say(|| format!("fault {} at node {node} for {span} us", kind.as_str()));
        *self.book.counts.faults.entry(kind.as_str()).or_default() += 1;
        let settle = self.settle_time();
        match kind {
            FaultKind::WallJump | FaultKind::WallLeap => {
                self.set_wall_clock(kind, node);
                return Ok(());
            }
            FaultKind::StandStill => {
                self.stand_still(node, (now + lease + span).min(self.plan.span));
                return Ok(());
            }
            FaultKind::HandOver => {
                // Costs no node anything where a vote is on the disk well before a lease ends.
                if self.slots.iter().any(|slot| slot.machine.sync > SYNC_MAX) {
                    self.book.disturb(now, now, settle);
                }
                return self.transfer_leadership();
            }
            FaultKind::Crash => self.crash(node, span),
            FaultKind::CrashAll => {
                let nodes: Vec<NodeId> = (1..=self.plan.nodes).map(NodeId).collect();
                for node in nodes {
                    let down = self.rng.span(lease).max(MS);
                    self.crash(node, down);
                }
            }
            FaultKind::Pause => {
                // What waits for it is scheduled then: no pause lasts beyond the faults.
                let until = (now + span).min(self.plan.span);
                let slot = self.slot(node);
                slot.paused_until = slot.paused_until.max(until);
            }
            FaultKind::Restart => {
                let opened = self.opened_at(node);
                self.book.restarts.push((now, opened));
                self.book.disturb_in_order(now, now + span, settle);
                return self.begin_stop(node);
            }
            FaultKind::RestartAll => {
                let longest = SECOND + LEAVE_MAX;
                self.book.disturb(now, now + longest, settle);
                for node in 1..=self.plan.nodes {
                    self.begin_stop(NodeId(node))?;
                }
            }
            FaultKind::Cut | FaultKind::OneWay => self.cut(kind, node, now + span),
            FaultKind::Loss => {
                let permille = self.rng.pick(&[10, 100, 500]);
                self.net.lose(now + span, permille);
            }
            FaultKind::Slow => {
                let most = self.rng.pick(&[5, 50, 500, 3_000]) * MS;
                self.net.delay(now + span, most);
            }
            FaultKind::Lopsided => self.lopside(node, now + 4 * span),
            FaultKind::SlowDisk => self.slow_down(node),
            FaultKind::FullDisk => {
                self.fill_disk(node, span);
                return Ok(());
            }
            FaultKind::PutBack => return self.begin_work(Work::PutBack, node),
            FaultKind::LostDisk => return self.begin_work(Work::ReplaceLost, node),
            FaultKind::Replace => return self.begin_work(Work::Replace, node),
        }
        self.book.disturb(now, now + span, settle);
        Ok(())
    }

    /// One direction of all links of a node becomes slow.
    fn lopside(&mut self, node: NodeId, until: Us) {
        let (inward, by) = (self.rng.permille(500), self.rng.below(450 * MS));
        for other in (1..=self.plan.nodes).map(NodeId) {
            let (from, to) = if inward { (other, node) } else { (node, other) };
            self.net.lopside(from, to, until, by);
        }
        let settle = self.settle_time();
        self.book.disturb(self.now, until, settle);
    }

    fn transfer_leadership(&mut self) -> Result<(), Violation> {
        // Also one that has not taken the leadership over yet. A deposed leader may not know it.
        let leader =
            self.nodes().max_by_key(|node| node.replica.raft.leads_in()).map(|node| node.id);
        leader.map_or(Ok(()), |leader| self.step(leader, |node, step| node.hand_over(None, step)))
    }

    /// Cuts links of a node: some or all, both ways or one.
    fn cut(&mut self, kind: FaultKind, node: NodeId, until: Us) {
        let (all, inward) = (self.rng.permille(500), self.rng.permille(500));
        for other in (1..=self.plan.nodes).map(NodeId) {
            if kind == FaultKind::OneWay {
                let (from, to) = if inward { (other, node) } else { (node, other) };
                self.net.cut(from, to, until);
            } else if all || self.rng.permille(500) {
                self.net.cut(node, other, until);
                self.net.cut(other, node, until);
            }
        }
    }

    /// The process dies now and starts again later.
    pub(super) fn crash(&mut self, id: NodeId, down: Us) {
        self.note_lost(id, false);
        let now = self.now;
        let slot = self.slot(id);
        let Some(node) = slot.node.take() else { return };
        node.crash(&mut slot.disk);
        slot.epoch += 1;
        // No process starts while the machine is stopped.
        let start = (now + down).max(slot.stood_still_until.take().unwrap_or(0));
        slot.paused_until = 0;
        self.schedule(start, Event::Start(id));
        let settle = self.settle_time();
        self.book.disturb(now, start, settle);
        self.note_down(id);
    }

    /// The windows that a node has opened.
    fn opened_at(&self, id: NodeId) -> BTreeSet<WindowId> {
        let Some(node) = self.node(id) else { return BTreeSet::new() };
        let is_open = |id: &&WindowId| {
            let counter = CounterId { subject: id.0, limit: id.1, window: id.2 };
            node.shard.observe(&counter).is_some()
        };
        self.book.windows.keys().filter(is_open).copied().collect()
    }

    pub(super) fn begin_stop(&mut self, id: NodeId) -> Result<(), Violation> {
        if self.node(id).is_some_and(|node| !node.is_stopping()) {
            self.step(id, |node, step| node.begin_stop(step))?;
        }
        Ok(())
    }

    /// An orderly stop is over: the file is written, the process ends, and another one starts.
    pub(super) fn stopped(&mut self, id: NodeId) {
        let (now, down) = (self.now, self.rng.span(SECOND).max(MS));
        let carryover = self.slot(id).node.as_mut().and_then(|node| node.carryover());
        let known = carryover.is_some();
        self.note_lost(id, known);
        let slot = self.slot(id);
        let Some(node) = slot.node.take() else { return };
        slot.disk.carryover = carryover;
        node.crash(&mut slot.disk);
        slot.epoch += 1;
        (slot.paused_until, slot.stood_still_until) = (0, None);
        self.note_down(id);
        if !known {
            // It never learnt its entitlement, or the disk is full: as after a crash.
            self.say(|| format!("node {id} stopped without a file"));
        }
        self.schedule(now + down, Event::Start(id));
        let settle = self.settle_time();
        if known {
            self.book.disturb_in_order(now, now + down, settle);
        } else {
            self.book.disturb(now, now + down, settle);
        }
    }

    /// Tokens beyond its share that die with a process, and those on their way to and from it.
    /// `keeps`: its balance is written to the file of an orderly stop.
    fn note_lost(&mut self, id: NodeId, keeps: bool) {
        let Some(ending) = self.node(id) else { return };
        let boot = ending.boot;
        let mut lost = Vec::new();
        for window_id in self.book.windows.keys() {
            let counter =
                CounterId { subject: window_id.0, limit: window_id.1, window: window_id.2 };
            let held = ending.shard.observe(&counter);
            let held = held.as_ref();
            // The next incarnation finds the share itself unusable.
            let beyond = |o: &fluxgate_engine::quota::Observed| {
                let balance = u64::try_from(o.balance).unwrap_or(0);
                balance.saturating_sub(if o.usable { o.share } else { 0 })
            };
            let got = held.filter(|_| !keeps).map_or(0, beyond);
            let towards = |node: &crate::node::Node| {
                let seen = node.shard.observe(&counter)?;
                let to = seen.with(id, boot)?;
                Some(to.given.saturating_sub(ending.shard.received(&counter, node.id)))
            };
            let given: u64 = self.nodes().filter_map(towards).sum();
            let away = held.map_or(0, |seen| self.on_the_way(id, boot, &counter, seen));
            lost.push((*window_id, got + given + away));
        }
        for (window_id, tokens) in lost {
            if let Some(window) = self.book.windows.get_mut(&window_id) {
                window.lost += tokens;
            }
        }
    }

    /// The counters for which an incarnation requests tokens in a message that arrives after its end.
    pub(super) fn requested_by_ended(&self, from: NodeId, message: &Message) -> Vec<CounterId> {
        let Message::Call(_, Call::Transfers(head, requests)) = message else { return Vec::new() };
        let ended = self.boot(from) != Some(head.boot);
        requests.iter().filter(|_| ended).map(|request| request.counter).collect()
    }

    /// What a node has given of these counters to the newest incarnation that it knows of another node.
    pub(super) fn given(&self, by: NodeId, to: NodeId, counters: &[CounterId]) -> Vec<u64> {
        let given = |counter| {
            let seen = self.node(by)?.shard.observe(counter)?;
            seen.transfers.iter().find(|totals| totals.node == to).map(|totals| totals.given)
        };
        counters.iter().map(|counter| given(counter).unwrap_or(0)).collect()
    }

    /// A node that does not know of the end of an incarnation still answers its transfer request that
    /// was under way: those tokens are lost.
    pub(super) fn note_given_to_ended(
        &mut self,
        by: NodeId,
        to: NodeId,
        counters: &[CounterId],
        before: &[u64],
    ) {
        let after = self.given(by, to, counters);
        for (counter, (after, before)) in counters.iter().zip(after.iter().zip(before)) {
            let window = (counter.subject, counter.limit, counter.window);
            if let Some(window) = self.book.windows.get_mut(&window) {
                window.lost += after.saturating_sub(*before);
            }
        }
    }

    /// What an incarnation has given to running ones and they have not received.
    fn on_the_way(
        &self,
        from: NodeId,
        boot: BootId,
        counter: &CounterId,
        seen: &fluxgate_engine::quota::Observed,
    ) -> u64 {
        let missing = |totals: &TransferTotals| {
            let is_it = |node: &&Node| node.takes_part() && Some(node.boot) == totals.boot;
            let receiver = self.node(totals.node).filter(is_it)?;
            let theirs = receiver.shard.observe(counter).and_then(|seen| seen.with(from, boot));
            Some(totals.given.saturating_sub(theirs.map_or(0, |theirs| theirs.got)))
        };
        seen.transfers.iter().filter_map(missing).sum()
    }

    /// Ends every fault, and starts and wakes every node.
    pub(super) fn heal(&mut self) {
        self.faulty = false;
        self.net.heal();
        let settle = self.settle_time();
        let now = self.now;
        self.book.disturb(now, now, settle);
        for id in (1..=self.plan.nodes).map(NodeId) {
            let slot = self.slot(id);
            slot.paused_until = slot.paused_until.min(now);
            slot.go_on(now);
            slot.change_machine(|machine| (machine.sync, machine.full_until) = (MS, 0));
            if slot.node.is_none() {
                self.schedule(now, Event::Start(id));
            }
        }
        self.say(|| "all faults end".to_owned());
    }
}
