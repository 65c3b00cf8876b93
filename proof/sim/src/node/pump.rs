//! The pump of the member: a step of [`Member`], and its effects.

use fluxgate_engine::clock::ClockReading;
use fluxgate_engine::clock::sync::ClockAnswer;
use fluxgate_engine::member::{self, Effect, LEASE_TIMEOUT_MS, Member};
use fluxgate_engine::state::command::{Actor, Proposal};
use fluxgate_types::{BootNs, LogIndex, NodeId};

use super::Node;
use super::around::Around;
use super::calls::Call;
use super::consensus::ProposalWaiter;
use super::requests::WriteWaiter;
use super::step::{Action, Step};
use crate::messages::{Ended, Message, Seen, Timer};
use fluxgate_plan::MS;

impl Node {
    /// What this node knows of the time.
    pub(super) fn clocks(&mut self, step: &mut Step<'_>) -> ClockAnswer {
        self.act(step, |member, at| member.own_clocks(at))
    }

    /// The members have changed: the others are this node's peers. Before it knows of any, those of
    /// its file are.
    pub(super) fn note_members(&mut self, step: &Step<'_>) {
        let mut nodes: Vec<NodeId> = self.raft.members().all().collect();
        if nodes.is_empty() {
            nodes = (1..=step.plan.nodes).map(NodeId).collect();
        }
        nodes.retain(|node| *node != self.id);
        nodes.sort_unstable();
        self.member.set_peers(&nodes);
        self.members_at = self.raft.members_at();
    }

    /// A step of the member, and its effects.
    pub(super) fn act<R>(
        &mut self,
        step: &mut Step<'_>,
        act: impl FnOnce(&mut Member, &mut member::Step<'_>) -> R,
    ) -> R {
        let mut out = Vec::new();
        let reading = ClockReading {
            boot: self.machine.boot(step.now),
            wall_ns: self.machine.wall_ns(step.now),
            apart_ns: 0,
        };
        let around = Around {
            raft: &self.raft,
            shared: &self.shared,
            applied: LogIndex(self.applied as u64),
            leaderships: self.leaderships,
            peers: &self.peers,
            is_stopping: self.is_stopping(),
            has_room: self.machine.has_room(step.now),
            has_joined: self.joining.takes_part,
        };
        let result =
            act(&mut self.member, &mut member::Step { reading, around: &around, out: &mut out });
        self.checkpoint_if_due(step.now);
        out.into_iter().for_each(|effect| self.carry_out(effect, step));
        self.arm(step);
        result
    }

    pub(super) fn member_timeout(&mut self, step: &mut Step<'_>) {
        self.act(step, Member::handle_timeout);
    }

    /// Sets the timer for what the member does next.
    fn arm(&mut self, step: &mut Step<'_>) {
        let due = self.member.poll_timeout();
        if due == BootNs(u64::MAX) {
            return;
        }
        let at = self.machine.when(due, step.now);
        if self.member_wake <= step.now || at < self.member_wake {
            self.member_wake = at;
            step.out.push(Action::At(at, Timer::Member));
        }
    }

    fn carry_out(&mut self, effect: Effect, step: &mut Step<'_>) {
        match effect {
            Effect::SaveStart { start, registered } => {
                let saved = self.machine.has_room(step.now);
                let starts = &mut self.joining.starts;
                if saved {
                    _ = if registered { starts.confirm(start) } else { starts.ask(start) };
                }
                self.act(step, |m, at| m.handle_start_saved(start, registered, saved, at));
            }
            Effect::RequestLease { call, to, request } => {
                self.lease_asked = step.now;
                self.call(to, LEASE_TIMEOUT_MS, Call::Lease(call), step, |call| {
                    Message::Lease(call, request)
                });
            }
            Effect::AnswerLease { request, answer } => {
                if let Some((node, call)) = self.lease_requests.remove(&request) {
                    step.send(node, Message::Leased(call, Box::new(answer)));
                }
            }
            Effect::Elected { term, .. } => step.see(Seen::Elected(term)),
            Effect::Renewed(Ok(())) => step.see(Seen::Renewed(self.lease_asked)),
            Effect::ProveLeadership { call } => {
                let number = step.number();
                self.calls.insert(number, Call::Proof(call));
                step.wake(LEASE_TIMEOUT_MS * MS, Timer::Over(number));
                let mut out = Vec::new();
                self.raft.confirm(number, &mut out);
                self.consent(out, step);
            }
            Effect::AskClocks { call, nodes, enough } => {
                self.ask_clocks(call, &nodes, enough, step);
            }
            Effect::Propose { call, command } => {
                let request = u128::from(step.rng.draw()) << 64 | u128::from(step.rng.draw());
                let command = *command;
                let actor = Actor::System;
                let proposal = Proposal { request, actor, presented: None, from: None, command };
                self.propose(proposal, ProposalWaiter::Own(call), step);
            }
            Effect::Submit { call, proposal, .. } => self.submit(call, *proposal, step),
            Effect::Forward { call, to, proposal, timeout_ms, .. } => {
                self.call(to, timeout_ms, Call::Forward(call), step, |call| {
                    Message::Propose(call, proposal, timeout_ms)
                });
            }
            Effect::AskApplied { peer, index } => {
                let wait_ms = member::APPLIED_WAIT_MS;
                self.call(peer, wait_ms, Call::Applied(peer), step, |call| {
                    Message::Applied(call, index)
                });
            }
            Effect::AnswerWrite { write, result } => match self.writes.remove(&write) {
                Some(WriteWaiter::Client(id)) => step.see(Seen::Wrote(id, result)),
                Some(WriteWaiter::Node(node, call)) => {
                    step.send(node, Message::Proposed(call, Box::new(result)));
                }
                None => {}
            },
            Effect::HandOver { to: Some(to) } => self.hand_over(Some(to), step),
            Effect::End(why) => step.see(Seen::Ended(Ended::NoLease(why))),
            Effect::CountOn(boot) => self.count_on_from(boot, step),
            Effect::HandOver { to: None }
            | Effect::Renewed(Err(_))
            | Effect::LeaseDropped(_)
            | Effect::EndChange
            | Effect::BarrierPassed { .. } => {}
        }
    }
}
