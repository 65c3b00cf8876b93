//! An orderly stop: carries out what the engine's machine for it asks for.

use std::collections::BTreeMap;

use fluxgate_engine::quota::{Carryover, Cursor, Handoff, Sender};
use fluxgate_engine::stop::{Effect, HANDOFF_TIMEOUT_MS, LEADER_TIMEOUT_MS, Stop};
use fluxgate_types::caps;

use super::Node;
use crate::calls::Waiter;
use crate::messages::{Call, MessageHeader, Seen, Timer};
use crate::step::Step;
use fluxgate_plan::{MS, Us};

/// A stop under way.
pub(super) struct Stopping {
    machine: Stop,
    // The peer that handoffs were last taken for, and up to which counter.
    drained: Option<(Sender, Cursor)>,
    pub(super) has_drained: bool,
    carryover: Option<Carryover>,
}

impl Node {
    /// Begins an orderly stop.
    pub fn begin_stop(&mut self, step: &mut Step<'_>) {
        let mut out = Vec::new();
        let machine = Stop::begin(step.plan.gossip / MS, 0, &mut out);
        let stopping = Stopping { machine, drained: None, has_drained: false, carryover: None };
        self.stop = Some(Box::new(stopping));
        out.into_iter().for_each(|effect| self.carry_out_stop(effect, step));
    }

    /// The wait of the present stage is over.
    pub(super) fn stop_timeout(&mut self, step: &mut Step<'_>) {
        if self.stop.as_ref().is_some_and(|stop| stop.has_drained) {
            self.stop_with(step, |stop, _, out| stop.handle_leader_gone(out));
        } else {
            self.stop_with(step, Stop::handle_announced);
        }
    }

    /// A step of the stop, which knows the peers that would take handoffs, and its effects.
    pub(super) fn stop_with(
        &mut self,
        step: &mut Step<'_>,
        act: impl FnOnce(&mut Stop, &[Sender], &mut Vec<Effect>),
    ) {
        let is_ready = |node| {
            self.peers.get(&node).and_then(|peer| peer.said).is_some_and(|said| said.is_ready)
        };
        let peers = self.member.incarnation().recipients(is_ready);
        let Some(stop) = &mut self.stop else { return };
        let mut out = Vec::new();
        act(&mut stop.machine, &peers, &mut out);
        out.into_iter().for_each(|effect| self.carry_out_stop(effect, step));
    }

    fn carry_out_stop(&mut self, effect: Effect, step: &mut Step<'_>) {
        match effect {
            Effect::Announce { for_ms } => step.wake(for_ms * MS, Timer::Stop),
            Effect::BeginDrain => {
                self.shard.begin_drain();
                if let Some(stop) = &mut self.stop {
                    stop.has_drained = true;
                }
            }
            Effect::Drain { to } => {
                let handoffs = self.drain(&to, step);
                self.stop_with(step, |stop, _, out| stop.handle_drained(handoffs, out));
            }
            Effect::HandOff { to, handoffs } => {
                let head = MessageHeader { to: Some(to.boot), ..self.head(to.node) };
                let asked = Call::Handoffs(head, handoffs);
                self.call(&[to.node], HANDOFF_TIMEOUT_MS, Waiter::Handoffs, Some(asked), step);
            }
            Effect::TakeBack { from, handoff } => self.shard.take_back(&from, &handoff),
            Effect::Save => {
                let has_room = self.machine.has_room(step.now);
                let left = self.what_is_left(step.now).filter(|_| has_room);
                if let (Some(stop), Some(left)) = (&mut self.stop, left) {
                    stop.carryover = Some(left);
                }
                let leads = self.replica.raft.leads_in().is_some();
                self.stop_with(step, |stop, peers, out| stop.handle_saved(leads, peers, out));
            }
            Effect::HandLeadershipOver => {
                self.hand_over(None, step);
                step.wake(LEADER_TIMEOUT_MS * MS, Timer::Stop);
            }
            Effect::End => step.see(Seen::Stopped),
        }
    }

    fn drain(&mut self, to: &Sender, step: &mut Step<'_>) -> Vec<Handoff> {
        let drained = self.stop.as_ref().and_then(|stop| stop.drained);
        let mut cursor = drained.filter(|(of, _)| of == to).map_or_else(Cursor::default, |d| d.1);
        let handoffs = self.count(step, |shard, context, find| {
            let mut handoffs = Vec::new();
            while handoffs.len() < caps::PEER_ITEMS_MAX
                && shard.drain(context, find, to, &mut cursor, 1, &mut handoffs)
            {}
            handoffs
        });
        handoffs.iter().for_each(|handoff| step.see(Seen::Moved(handoff.reply.counter)));
        if let Some(stop) = &mut self.stop {
            stop.drained = Some((*to, cursor));
        }
        handoffs
    }

    fn what_is_left(&mut self, now: Us) -> Option<Carryover> {
        let (mut cursor, mut opened) = (Cursor::default(), BTreeMap::new());
        while self.shard.carryover(&mut cursor, caps::PEER_ITEMS_MAX, &mut opened) {}
        let synced = self.member.clock().is_synced();
        Carryover::of(self.member.incarnation(), opened, self.cluster_now(now), synced)
    }

    /// What this incarnation has written for the next one, at the end of an orderly stop.
    #[must_use]
    pub fn carryover(&mut self) -> Option<Carryover> {
        self.stop.as_mut().and_then(|stop| stop.carryover.take())
    }
}
