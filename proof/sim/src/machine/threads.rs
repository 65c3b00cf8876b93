//! Threads that were held up: a step gets parts of its context from a while ago.
//!
//! The driver reads the context under the lock of the shard, but nothing keeps a thread from being
//! held up between two reads, and the engine must withstand it. Each part is torn independently, as
//! far as the order of reading allows: no horizon is newer than the view.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use fluxgate_engine::member::{self, LEASE_TIMEOUT_MS};
use fluxgate_engine::quota::{CounterGossip, Incarnation, Sender};
use fluxgate_engine::state::View;
use fluxgate_engine::state::command::Proposal;
use fluxgate_types::{ClusterMs, NodeId};

use crate::messages::{MessageHeader, Timer};
use crate::mutation::DriverMutation;
use crate::step::Step;
use fluxgate_plan::{MS, SECOND, Us};

/// What a step depends on, at one moment.
#[derive(Clone)]
pub struct Moment {
    /// True time.
    pub at: Us,
    /// Cluster time.
    pub now: ClusterMs,
    /// Windows that begin then or later are not opened.
    pub horizon: ClusterMs,
    /// The replicated state.
    pub view: Arc<View>,
    /// The incarnations that the node knows.
    pub incarnation: Arc<Incarnation>,
}

/// The threads of a process that are held up, and the moments of the near past that they looked at.
#[derive(Default)]
pub struct Threads {
    // Oldest first.
    past: VecDeque<Moment>,
    // Gossip whose sender was checked, by a thread that continues at that time.
    gossip: Vec<(Us, Sender, Vec<CounterGossip>)>,
    // Changes whose thread proposes them later.
    changes: BTreeMap<member::CallId, Proposal>,
    /// Steps that got something old.
    pub steps: u64,
}

/// How often a moment is kept, and for how long.
const EVERY: Us = 50 * MS;
const KEPT: Us = 6 * SECOND;

impl Threads {
    /// The newest moment, or, now and then, parts of earlier ones.
    pub fn look(&mut self, newest: Moment, step: &mut Step<'_>) -> Moment {
        let driver_mutation = step.is(DriverMutation::ViewBeforeHorizon);
        if step.plan.torn_permille == 0 && !driver_mutation {
            return newest;
        }
        let (scale, now) = (step.plan.terms.lease_ms.div_ceil(3_000), step.now);
        if self.past.back().is_none_or(|last| last.at + EVERY * scale <= now) {
            self.past.push_back(newest.clone());
        }
        while self.past.front().is_some_and(|first| first.at + KEPT * scale < now) {
            self.past.pop_front();
        }
        if driver_mutation {
            // Like a driver that reads the view first, and is held up before it reads the rest.
            let view = Arc::clone(&self.some(now, KEPT * scale, step).view);
            return Moment { view, ..newest };
        }
        if !step.rng.permille(step.plan.torn_permille) {
            return newest;
        }
        self.steps += 1;
        let mut torn = newest;
        if step.rng.permille(500) {
            // Never ahead: a clock that no leader had set yet may have been.
            torn.now = torn.now.min(self.some(now, KEPT * scale, step).now);
        }
        if step.rng.permille(500) {
            torn.incarnation = Arc::clone(&self.some(now, KEPT * scale, step).incarnation);
        }
        if step.rng.permille(500) {
            // By a part of a lease at most: that a window may not be opened yet is no fault of the
            // engine. The view is of the same moment or newer.
            let part = step.plan.terms.lease_ms * MS / 4;
            let old = self.some(now, part, step);
            torn.horizon = old.horizon;
            let at = old.at;
            if step.rng.permille(500) {
                torn.view = Arc::clone(&self.some(now, now - at, step).view);
            }
        }
        torn
    }

    /// Some moment that is at most so old.
    fn some(&self, now: Us, oldest: Us, step: &mut Step<'_>) -> &Moment {
        let first = self.past.partition_point(|moment| moment.at + oldest < now);
        let first = first.min(self.past.len() - 1);
        let count = (self.past.len() - first) as u64;
        let at = first + usize::try_from(step.rng.below(count)).unwrap_or(0);
        &self.past[at]
    }

    /// Gossip that arrived, unless the thread that took it is held up.
    pub fn take_gossip(
        &mut self,
        sender: Sender,
        gossip: Vec<CounterGossip>,
        step: &mut Step<'_>,
    ) -> Option<Vec<CounterGossip>> {
        let torn = step.plan.torn_permille;
        if torn == 0 || gossip.is_empty() || !step.rng.permille(torn) {
            return Some(gossip);
        }
        self.steps += 1;
        let scale = step.plan.terms.lease_ms.div_ceil(3_000);
        let at = step.now + step.rng.below(KEPT * scale);
        self.gossip.push((at, sender, gossip));
        None
    }

    /// Gossip of the threads that were held up and continue now.
    pub fn late_gossip(&mut self, now: Us) -> Vec<(Sender, Vec<CounterGossip>)> {
        let due = self.gossip.extract_if(.., |(at, ..)| *at <= now);
        due.map(|(_, sender, gossip)| (sender, gossip)).collect()
    }

    /// A client's change, unless the thread that is to propose it is held up: the leadership may have
    /// changed when it continues.
    pub fn take_change(
        &mut self,
        call: member::CallId,
        proposal: Proposal,
        step: &mut Step<'_>,
    ) -> Option<Proposal> {
        let late = if step.faulty { step.plan.late_permille } else { 0 };
        if late == 0 || !step.rng.permille(late) {
            return Some(proposal);
        }
        self.changes.insert(call, proposal);
        let after = step.rng.below(LEASE_TIMEOUT_MS * MS);
        step.wake(after, Timer::Submit(call));
        None
    }

    /// The change of the thread that continues.
    pub fn late_change(&mut self, call: member::CallId) -> Option<Proposal> {
        self.changes.remove(&call)
    }

    /// For how long the thread is held up that waits for a proof of leadership; `None`: it is not.
    /// Less than it takes a leader to lose its own lease: that would be a fault of its own, and that
    /// lease may be shorter than a thread is held up, so this ends with the other faults.
    pub fn proof_is_late(step: &mut Step<'_>) -> Option<Us> {
        let torn = if step.faulty { step.plan.torn_permille } else { 0 };
        if torn == 0 || !step.rng.permille(torn) {
            return None;
        }
        let own_ms = step.plan.terms.own_holder_ms();
        Some(step.rng.below(LEASE_TIMEOUT_MS.min(own_ms) * MS / 2))
    }

    /// What a thread concluded from a message's header that looked a while ago, and was held up
    /// since.
    pub fn accepted(
        &self,
        from: NodeId,
        head: &MessageHeader,
        step: &mut Step<'_>,
    ) -> Option<Sender> {
        if self.past.is_empty() || step.plan.torn_permille == 0 || !step.rng.permille(500) {
            return None;
        }
        let now = step.now;
        self.some(now, now, step).incarnation.accepted(from, head.boot, head.to)
    }
}
