//! A step of the [`Member`], what it reads of the node around it, and its effects.

use fluxgate_engine::lease::LeaderId;
use fluxgate_engine::member::{
    self, APPLIED_WAIT_MS, ClocksHeard, ClusterMember, Effect, LEASE_TIMEOUT_MS, Member, OwnHealth,
    PeerReport, SeenLeadership, Settings, Surroundings,
};
use fluxgate_engine::quota::{Carryover, Incarnation};
use fluxgate_engine::state::Shared;
use fluxgate_engine::state::cluster_state::{LEVEL, StartId};
use fluxgate_engine::state::command::{Actor, Proposal};
use fluxgate_types::{BootId, BootNs, Limit, LogIndex, NodeId, SubjectSeed};

use super::{Asker, Node, counters};
use crate::calls::Waiter;
use crate::machine::{Disk, Machine};
use crate::messages::{Answer, Call, Ended, Message, Seen, Timer};
use crate::mutation::DriverMutation;
use crate::raft::{Proposer, Replica};
use crate::step::Step;
use fluxgate_plan::{MS, limit_name};

/// The member of a process that begins on this disk, with what an orderly stop left.
pub(super) fn at_start(
    me: NodeId,
    machine: &Machine,
    disk: &Disk,
    (carryover, nonce): (Option<Carryover>, u64),
    step: &Step<'_>,
) -> Member {
    let (plan, boot) = (step.plan, BootId(disk.boots));
    let saved = disk.clock.filter(|_| !step.is(DriverMutation::ClockFromWall));
    let clock = Disk::clock_at_start(machine, step.now, saved, carryover.as_ref());
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
        seed: Some(SubjectSeed(u128::from(nonce).to_le_bytes())),
        look_ms: plan.leader_look / MS,
        clock_carried: saved.is_some(),
    };
    Member::new(StartId { boot, nonce }, disk.dir_id, settings, clock, incarnation)
}

/// The node around the member, for one step.
struct Around<'a> {
    replica: &'a Replica,
    peers: &'a std::collections::BTreeMap<NodeId, counters::Peer>,
    own: OwnHealth,
}

impl Surroundings for Around<'_> {
    fn leader(&self) -> Option<NodeId> {
        self.replica.raft.leader()
    }

    fn leads_in(&self) -> Option<u64> {
        self.replica.raft.leads_in()
    }

    fn applied(&self) -> LogIndex {
        LogIndex(self.replica.applied as u64)
    }

    fn leaderships(&self) -> (Option<SeenLeadership>, Option<SeenLeadership>) {
        self.replica.leaderships
    }

    fn electorate(&self, term: u64) -> Vec<Vec<NodeId>> {
        self.replica.raft.electorate(term)
    }

    fn last_contact(&self, before: LeaderId) -> Option<BootNs> {
        self.replica.contacts.last_before(before)
    }

    fn members(&self) -> Vec<ClusterMember> {
        let (raft, members) = (&self.replica.raft, self.replica.raft.members());
        let matched = |node| LogIndex(raft.matched(node) as u64);
        let votes = |node| members.voters.contains(&node);
        let member = |node| ClusterMember { node, votes: votes(node), matched: matched(node) };
        members.all().map(member).collect()
    }

    fn shared(&self) -> &Shared {
        &self.replica.shared
    }

    fn peer(&self, node: NodeId) -> Option<PeerReport> {
        let said = self.peers.get(&node)?.said?;
        Some(PeerReport {
            is_recent: true,
            is_ready: said.is_ready,
            can_write: Some(said.can_write),
            level: LEVEL,
            wall_offset_ns: said.wall_offset_ns,
        })
    }

    fn own(&self) -> OwnHealth {
        self.own
    }
}

impl Node {
    /// The members have changed: the others are this node's peers. Before it knows of any, those of
    /// its file are.
    pub(super) fn note_members(&mut self, step: &Step<'_>) {
        self.replica.has_new_members();
        let mut nodes: Vec<NodeId> = self.replica.raft.members().all().collect();
        if nodes.is_empty() {
            nodes = (1..=step.plan.nodes).map(NodeId).collect();
        }
        nodes.retain(|node| *node != self.id);
        nodes.sort_unstable();
        self.member.set_peers(&nodes);
    }

    /// A step of the member, and its effects.
    pub(super) fn act<R>(
        &mut self,
        step: &mut Step<'_>,
        act: impl FnOnce(&mut Member, &mut member::Step<'_>) -> R,
    ) -> R {
        let has_room = self.machine.has_room(step.now);
        let own = OwnHealth {
            has_joined: self.takes_part(),
            lacks_entries: !has_room && self.replica.raft.lacks_entries(),
            can_write: has_room,
            differs: false,
            is_stopping: self.is_stopping(),
            is_changing_members: false,
            wall_is_plausible: true,
        };
        let around = Around { replica: &self.replica, peers: &self.peers, own };
        let (reading, mut out) = (self.machine.reading(step.now), Vec::new());
        let result =
            act(&mut self.member, &mut member::Step { reading, around: &around, out: &mut out });
        if self.saved.is_due(self.cluster_now(step.now)) {
            self.save_time(step.now);
        }
        out.into_iter().for_each(|effect| self.carry_out(effect, step));
        self.arm(step);
        result
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
            step.wake_at(at, Timer::Member);
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
                let waiter = Waiter::Lease(call);
                self.call(&[to], LEASE_TIMEOUT_MS, waiter, Some(Call::Lease(request)), step);
            }
            Effect::AnswerLease { request, answer } => {
                self.answer(request, Answer::Lease(Box::new(answer)), step);
            }
            Effect::Elected { term, .. } => step.see(Seen::Elected(term)),
            Effect::Renewed(Ok(())) => step.see(Seen::Renewed(self.lease_asked)),
            Effect::ProveLeadership { call } => {
                let waiter = Waiter::Proof(call);
                let round = self.call(&[], LEASE_TIMEOUT_MS, waiter, None, step);
                self.consent(step, |raft, _, out| raft.confirm(round, out));
            }
            Effect::AskClocks { call, nodes, term, enough } => {
                let waiter = Waiter::Clocks(call, enough, ClocksHeard::default());
                let asked = Call::Clocks(LeaderId { term, node: self.id });
                self.call(&nodes, LEASE_TIMEOUT_MS, waiter, Some(asked), step);
            }
            Effect::Propose { call, command } => {
                let request = u128::from(step.rng.draw()) << 64 | u128::from(step.rng.draw());
                let (actor, command) = (Actor::System, *command);
                let proposal = Proposal { request, actor, presented: None, from: None, command };
                self.propose(proposal, Proposer::Own(call), step);
            }
            Effect::Submit { call, proposal, .. } => self.submit(call, *proposal, step),
            Effect::Forward { call, to, proposal, timeout_ms, .. } => {
                let asked = Call::Propose(proposal, timeout_ms);
                self.call(&[to], timeout_ms, Waiter::Forward(call), Some(asked), step);
            }
            Effect::AskApplied { peer, index } => {
                let (waiter, asked) = (Waiter::Applied(peer), Call::Applied(index));
                self.call(&[peer], APPLIED_WAIT_MS, waiter, Some(asked), step);
            }
            Effect::AnswerWrite { write, result } => {
                if let Some(Asker::Client(id)) = self.askers.get(&write).copied() {
                    step.see(Seen::Wrote(id, result));
                    self.askers.remove(&write);
                } else {
                    self.answer(write, Answer::Written(Box::new(result)), step);
                }
            }
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

    /// The member's answer to another node.
    fn answer(&mut self, to: member::CallId, answer: Answer, step: &mut Step<'_>) {
        if let Some(Asker::Node(node, call)) = self.askers.remove(&to) {
            step.send(node, Message::Answer(call, answer));
        }
    }

    /// A client asks for a change.
    pub fn write(&mut self, id: u64, proposal: Proposal, step: &mut Step<'_>) {
        let call = self.member.next_call();
        self.askers.insert(call, Asker::Client(id));
        let within_ms = step.plan.write_timeout_ms();
        self.act(step, |m, at| m.handle_write(call, proposal, within_ms, true, at));
    }
}
