//! One node: the engine's machines and a small Raft on a simulated machine.
//!
//! Answers for: what the driver of a node does with time, messages and requests. Every rule is the
//! engine's ([`Member`], [`Shard`]); here is a pump that carries its effects out on virtual time, as
//! `crates/node` does on real time.

mod around;
mod calls;
mod counting;
mod machine;
mod torn;

use std::collections::BTreeMap;
use std::sync::Arc;

use fluxgate_engine::clock::{ClockReading, signed_difference};
use fluxgate_engine::member::{self, Effect, LEASE_TIMEOUT_MS, Member, SeenLeadership};
use fluxgate_engine::quota::{Context, KeyLimits, Sender, Shard, TransferRequest};
use fluxgate_engine::state::command::{Actor, Applied, Batch, Outcome, Proposal};
use fluxgate_engine::state::{Registry, Shared, View};
use fluxgate_types::{BootId, BootNs, ClusterMs, KeyId, LogIndex, NodeId};

use crate::messages::{CallId, Message, MessageHeader, Request, Seen, Timer};
use crate::mutation::DriverMutation;
use crate::plan::{MS, Plan, SECOND, Us};
use crate::raft::{self, Raft};
use crate::rng::Rng;

use around::Around;
use calls::Call;
use torn::{Moment, Torn};

pub use around::PeerSaid;
pub use machine::{Disk, Machine};

/// How long a client waits for a change.
const WRITE_TIMEOUT: Us = 10 * SECOND;

/// What a step of a node wants done.
#[derive(Debug)]
pub enum Action {
    /// Send a message.
    Send(NodeId, Message),
    /// Wake the node.
    At(Us, Timer),
    /// Tell the observer.
    See(Seen),
}

/// What a step needs of the world.
pub struct Step<'a> {
    /// True time.
    pub now: Us,
    /// Chance.
    pub rng: &'a mut Rng,
    /// The plan.
    pub plan: &'a Plan,
    /// The rule that drivers leave out, if any.
    pub driver_mutation: Option<DriverMutation>,
    /// Numbers for calls.
    pub next: &'a mut u64,
    /// What is to be done.
    pub out: Vec<Action>,
}

impl Step<'_> {
    fn number(&mut self) -> u64 {
        *self.next += 1;
        *self.next
    }

    fn send(&mut self, to: NodeId, message: Message) {
        self.out.push(Action::Send(to, message));
    }

    fn wake(&mut self, after: Us, timer: Timer) {
        self.out.push(Action::At(self.now + after, timer));
    }

    fn see(&mut self, seen: Seen) {
        self.out.push(Action::See(seen));
    }

    fn is(&self, driver_mutation: DriverMutation) -> bool {
        self.driver_mutation == Some(driver_mutation)
    }
}

/// The one that waits for an entry.
#[derive(Clone, Copy, Debug)]
enum ProposalWaiter {
    /// The member, for a command of the cluster's own.
    Own(member::CallId),
    /// The member, for a client's change.
    Client(member::CallId),
}

/// The one that waits for a change.
#[derive(Clone, Copy, Debug)]
enum WriteWaiter {
    /// A client of this node.
    Client(u64),
    /// Another node, which forwarded it.
    Node(NodeId, CallId),
}

/// A running process.
pub struct Node {
    /// Its number.
    pub id: NodeId,
    /// Its incarnation.
    pub boot: BootId,
    /// Its machine's clocks.
    pub machine: Machine,
    /// Its part in consensus.
    pub raft: Raft,
    /// The replicated state.
    pub registry: Registry,
    /// The part of it that others read.
    pub shared: Arc<Shared>,
    /// Entries applied.
    pub applied: usize,
    /// Its counters.
    pub shard: Shard,
    /// Its part in the cluster.
    pub member: Member,
    // Cluster time as the disk has it.
    noted: Option<(ClusterMs, BootNs)>,
    leaderships: (Option<SeenLeadership>, Option<SeenLeadership>),
    outbox: BTreeMap<NodeId, Vec<TransferRequest>>,
    asking: BTreeMap<NodeId, (CallId, Vec<TransferRequest>)>,
    peers: BTreeMap<NodeId, PeerSaid>,
    telling: BTreeMap<NodeId, counting::Telling>,
    torn: Torn,
    waiting: BTreeMap<u64, Request>,
    ticking: bool,
    raft_wake: Us,
    // The leader when the member last looked.
    led_by: Option<NodeId>,
    // True time for which the member's timer is set.
    member_wake: Us,
    // Calls to other nodes, by their number on the network.
    calls: BTreeMap<CallId, Call>,
    // Requests of other nodes that the member answers later, by its call.
    lease_requests: BTreeMap<member::CallId, (NodeId, CallId)>,
    writes: BTreeMap<member::CallId, WriteWaiter>,
    proposals: Vec<(usize, u64, ProposalWaiter)>,
    applied_waits: Vec<(NodeId, CallId, LogIndex)>,
    stopping: u8,
    giving: Option<(CallId, NodeId, Vec<fluxgate_engine::quota::Handoff>)>,
    given_to: Vec<NodeId>,
}

impl Node {
    /// Starts a process on a disk. The file of an orderly stop is used once.
    pub fn start(id: NodeId, machine: Machine, disk: &mut Disk, step: &mut Step<'_>) -> Self {
        disk.boots += 1;
        let boot = BootId(disk.boots);
        let carryover = if step.is(DriverMutation::FileUsedTwice) {
            disk.carryover.clone()
        } else {
            disk.carryover.take()
        };
        let noted = disk.clock;
        let member = machine::new_member(id, &machine, disk, carryover, step);
        let nodes: Vec<NodeId> = (1..=step.plan.nodes).map(NodeId).collect();
        let registry = Registry::default();
        let disk = std::mem::take(&mut disk.raft);
        let mut raft = Raft::new(id, nodes, disk, step.plan.heartbeat, step.now, step.rng);
        raft.driver_mutation = step.is(DriverMutation::AckBeforeSync);
        let mut node = Self {
            id,
            boot,
            machine,
            raft,
            shared: registry.shared(),
            registry,
            applied: 0,
            shard: Shard::new(step.plan.waits),
            member,
            noted,
            leaderships: (None, None),
            outbox: BTreeMap::new(),
            asking: BTreeMap::new(),
            peers: BTreeMap::new(),
            telling: BTreeMap::new(),
            torn: Torn::default(),
            waiting: BTreeMap::new(),
            ticking: false,
            raft_wake: 0,
            led_by: None,
            member_wake: 0,
            calls: BTreeMap::new(),
            lease_requests: BTreeMap::new(),
            writes: BTreeMap::new(),
            proposals: Vec::new(),
            applied_waits: Vec::new(),
            stopping: 0,
            giving: None,
            given_to: Vec::new(),
        };
        node.watch_raft(step);
        let gossip = step.rng.below(step.plan.gossip);
        step.wake(gossip, Timer::Gossip);
        step.wake(SECOND, Timer::Note);
        node.member_timeout(step);
        node
    }

    /// What a crash leaves on the disk.
    pub fn crash(self, disk: &mut Disk) {
        disk.raft = self.raft.crash();
        disk.clock = self.noted;
    }

    /// The boot clock.
    #[must_use]
    pub fn boot_now(&self, now: Us) -> BootNs {
        self.machine.boot(now)
    }

    /// Cluster time.
    #[must_use]
    pub fn cluster_now(&self, now: Us) -> ClusterMs {
        self.member.clock().now(self.boot_now(now))
    }

    /// Steps that came with a part of their context from a while ago.
    #[must_use]
    pub fn torn_steps(&self) -> u64 {
        self.torn.steps
    }

    /// Whether it would answer validates.
    #[must_use]
    pub fn is_leased(&self, now: Us) -> bool {
        self.boot_now(now) < self.member.holder().until() && self.stopping < 2
    }

    /// Whether it is on its way out.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stopping > 0
    }

    /// Whether it leads and has taken the leadership over.
    #[must_use]
    pub fn is_leading(&self) -> bool {
        self.raft.leads_in().is_some() && self.member.led_in() == self.raft.leads_in()
    }

    /// The replicated state's small part.
    #[must_use]
    pub fn view(&self) -> Arc<View> {
        self.shared.view()
    }

    pub(crate) fn key_limits(&self, key: &KeyId) -> Option<KeyLimits> {
        limits_of(&self.shared, &self.view(), key)
    }

    /// A step of the counters, with everything that it depends on, or a part of it as it was.
    fn count<R>(
        &mut self,
        at: &mut Step<'_>,
        step: impl FnOnce(&mut Shard, &Context<'_>, &dyn Fn(&KeyId) -> Option<KeyLimits>) -> R,
    ) -> R {
        let shared = Arc::clone(&self.shared);
        let boot = self.boot_now(at.now);
        let newest = Moment {
            at: at.now,
            now: self.member.clock().now(boot),
            horizon: self.member.holder().horizon(),
            view: shared.view(),
            incarnation: Arc::clone(self.member.incarnation()),
        };
        let Moment { now, horizon, view, incarnation, .. } = self.torn.look(newest, at);
        let leased = self.is_leased(at.now);
        let context =
            Context { boot, now, leased, horizon, view: &view, incarnation: &incarnation };
        let find = |key: &KeyId| limits_of(&shared, &view, key);
        step(&mut self.shard, &context, &find)
    }

    /// A step of the member, and everything that it asks for.
    fn act<R>(
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
            is_stopping: self.stopping > 0,
        };
        let result =
            act(&mut self.member, &mut member::Step { reading, around: &around, out: &mut out });
        out.into_iter().for_each(|effect| self.carry_out(effect, step));
        self.arm(step);
        result
    }

    fn member_timeout(&mut self, step: &mut Step<'_>) {
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
                self.act(step, |m, at| m.handle_start_saved(start, registered, true, at));
            }
            Effect::RequestLease { call, to, request } => {
                self.call(to, LEASE_TIMEOUT_MS, Call::Lease(call), step, |call| {
                    Message::Lease(call, request)
                });
            }
            Effect::AnswerLease { request, answer } => {
                if let Some((node, call)) = self.lease_requests.remove(&request) {
                    step.send(node, Message::Leased(call, Box::new(answer)));
                }
            }
            Effect::ProveLeadership { call } => {
                let number = step.number();
                self.calls.insert(number, Call::Proof(call));
                step.wake(LEASE_TIMEOUT_MS * MS, Timer::Over(number));
                let mut out = Vec::new();
                self.raft.confirm(number, &mut out);
                self.consent(out, step);
            }
            Effect::AskClocks { call, nodes } => self.ask_clocks(call, &nodes, step),
            Effect::Propose { call, command } => {
                let request = u128::from(step.rng.draw()) << 64 | u128::from(step.rng.draw());
                let command = *command;
                let actor = Actor::System;
                let proposal = Proposal { request, actor, presented: None, from: None, command };
                self.propose(proposal, ProposalWaiter::Own(call), step);
            }
            Effect::Submit { call, proposal, .. } => {
                self.propose(*proposal, ProposalWaiter::Client(call), step);
            }
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
            Effect::HandOver { to: Some(_) } => self.transfer_leadership(step),
            Effect::End(_) => step.see(Seen::Stopped),
            Effect::CountOn(boot) => {
                self.act(step, |member, _| member.handle_counted_on(boot));
            }
            Effect::HandOver { to: None }
            | Effect::Renewed(_)
            | Effect::LeaseDropped(_)
            | Effect::Elected { .. }
            | Effect::EndChange
            | Effect::BarrierPassed { .. } => {}
        }
    }

    /// Proposes here, where this node leads.
    fn propose(&mut self, proposal: Proposal, waiter: ProposalWaiter, step: &mut Step<'_>) {
        let batch = Batch { at: self.cluster_now(step.now), proposals: vec![proposal] };
        let mut out = Vec::new();
        match self.raft.propose(batch, &mut out) {
            Some((term, index)) => self.proposals.push((index, term, waiter)),
            None => self.proposed(waiter, Err(member::SubmitError::NotLeader), step),
        }
        self.consent(out, step);
    }

    fn proposed(
        &mut self,
        waiter: ProposalWaiter,
        result: Result<member::Submitted, member::SubmitError>,
        step: &mut Step<'_>,
    ) {
        match waiter {
            ProposalWaiter::Own(call) => {
                self.act(step, |member, at| member.handle_proposed(call, &result, at));
            }
            ProposalWaiter::Client(call) => {
                self.act(step, |member, at| member.handle_submitted(call, result, at));
            }
        }
    }

    /// Carries out what consensus wants, and applies what is committed.
    fn consent(&mut self, outputs: Vec<raft::Output>, step: &mut Step<'_>) {
        for output in outputs {
            match output {
                raft::Output::Send(to, message) => step.send(to, Message::Raft(message)),
                raft::Output::Sync => step.wake(self.machine.sync, Timer::Synced),
                raft::Output::Confirmed(number, at) => {
                    if let Some(Call::Proof(call)) = self.calls.remove(&number) {
                        let at = at.map(|index| LogIndex(index as u64));
                        self.act(step, |member, step| member.handle_proof(call, at, step));
                    }
                }
            }
        }
        let applied = self.apply(step);
        self.watch_raft(step);
        if applied || self.led_by != self.raft.leader() {
            self.led_by = self.raft.leader();
            self.member_timeout(step);
        }
    }

    fn watch_raft(&mut self, step: &mut Step<'_>) {
        let wake = self.raft.wake.max(step.now);
        if self.raft_wake != wake {
            self.raft_wake = wake;
            step.out.push(Action::At(wake, Timer::Raft));
        }
    }

    /// Applies what is committed; returns whether there was any.
    fn apply(&mut self, step: &mut Step<'_>) -> bool {
        let before = self.applied;
        while self.applied < self.raft.committed() {
            let index = self.applied + 1;
            let Some(entry) = self.raft.entry(index).cloned() else { break };
            let skipped =
                step.is(DriverMutation::ApplySkips) && self.id.0 == 2 && index.is_multiple_of(7);
            let applied = entry
                .batch
                .as_ref()
                .filter(|_| !skipped)
                .map(|batch| self.registry.apply(entry.term, LogIndex(index as u64), batch));
            if self.leaderships.0.is_none_or(|o| (o.term, o.node) != (entry.term, entry.node)) {
                self.leaderships.1 = self.leaderships.0;
                let since = self.boot_now(step.now);
                let seen = SeenLeadership { term: entry.term, node: entry.node, since };
                self.leaderships.0 = Some(seen);
            }
            self.applied = index;
            step.see(Seen::AppliedEntry(LogIndex(index as u64)));
            self.handle_applied(index, entry.term, applied.as_ref(), step);
        }
        self.applied > before
    }

    /// Entry `index` is applied here: answers those that wait for it.
    fn handle_applied(
        &mut self,
        index: usize,
        term: u64,
        applied: Option<&Applied>,
        step: &mut Step<'_>,
    ) {
        let at = LogIndex(index as u64);
        let due: Vec<_> = self.proposals.extract_if(.., |(of, ..)| *of <= index).collect();
        for (_, proposed_in, waiter) in due {
            let outcome: Option<Outcome> = applied
                .filter(|_| proposed_in == term)
                .and_then(|applied| applied.outcomes.first().cloned());
            let submitted = |outcome| member::Submitted { term, index: at, outcome };
            let result = outcome.map(submitted).ok_or(member::SubmitError::Unknown);
            self.proposed(waiter, result, step);
        }
        for (node, call, _) in self.applied_waits.extract_if(.., |(_, _, wanted)| *wanted <= at) {
            step.send(node, Message::AppliedAt(call, at));
        }
    }

    /// A client asks for a change.
    pub fn write(&mut self, id: u64, proposal: Proposal, step: &mut Step<'_>) {
        let call = self.member.next_call();
        self.writes.insert(call, WriteWaiter::Client(id));
        let within_ms = WRITE_TIMEOUT / MS;
        self.act(step, |m, at| m.handle_write(call, proposal, within_ms, true, at));
    }

    /// Time has come.
    pub fn handle_timer(&mut self, timer: Timer, step: &mut Step<'_>) {
        let mut out = Vec::new();
        match timer {
            Timer::Raft => {
                self.raft.handle_time(step.now, step.rng, &mut out);
                self.consent(out, step);
            }
            Timer::Synced => {
                self.raft.synced(&mut out);
                self.consent(out, step);
            }
            Timer::Tick => self.tick(step),
            Timer::Gossip => self.gossip(step),
            Timer::Member => self.member_timeout(step),
            Timer::Note => {
                if self.member.clock().is_synced() {
                    self.noted = Some((self.cluster_now(step.now), self.boot_now(step.now)));
                }
                step.wake(SECOND, Timer::Note);
            }
            Timer::Over(call) => self.call_failed(call, None, step),
            Timer::Stop => self.stop_on(step),
        }
    }

    /// Hands the leadership over.
    pub fn transfer_leadership(&mut self, step: &mut Step<'_>) {
        let mut out = Vec::new();
        self.raft.transfer_leadership(&mut out);
        self.consent(out, step);
    }

    /// A validate arrives.
    pub fn validate(&mut self, request: Request, step: &mut Step<'_>) {
        let now = step.now;
        let leased =
            self.is_leased(now) || fluxgate_engine::fault::Mutation::SpendWithoutLease.active();
        if !leased {
            step.see(Seen::Unavailable(request));
            return;
        }
        let at = self.cluster_now(now);
        let active = self.shared.table.with(&request.key, |entry| {
            entry.record.status(at) == fluxgate_engine::state::record::Status::Active
        });
        let limits = self.key_limits(&request.key);
        let (Some(true), Some(limits)) = (active, limits) else {
            step.see(Seen::Rejected(request));
            return;
        };
        self.request(request, &limits, step);
    }

    /// What this node says of itself.
    fn said(&self, step: &Step<'_>) -> PeerSaid {
        let cluster_ns = self.member.clock().now_ns(self.boot_now(step.now));
        PeerSaid {
            is_ready: self.stopping == 0 && self.is_leased(step.now),
            wall_offset_ns: signed_difference(self.machine.wall_ns(step.now), cluster_ns),
        }
    }

    fn head(&self, to: NodeId) -> MessageHeader {
        MessageHeader { boot: self.boot, to: self.member.incarnation().incarnations.of(to) }
    }

    /// Processes the header of a message. `None` for a late message, or one for another incarnation
    /// of this node.
    fn receive(
        &mut self,
        from: NodeId,
        head: &MessageHeader,
        step: &mut Step<'_>,
    ) -> Option<Sender> {
        let newest = self.member.note_incarnation(from, head.boot);
        self.member.note_heard(from);
        let mine = head.to.is_none_or(|boot| boot == self.boot);
        // Looked at before the newer incarnation was known, by a thread that was held up since.
        let newest = newest || self.torn.was_newest(from, head.boot, step);
        let sound =
            (newest && mine) || fluxgate_engine::fault::Mutation::IncarnationsIgnored.active();
        sound.then_some(Sender { node: from, boot: head.boot })
    }
}

/// What the counters need to know of a key.
fn limits_of(shared: &Shared, view: &View, key: &KeyId) -> Option<KeyLimits> {
    shared.table.with(key, |entry| KeyLimits {
        created: entry.record.created_index,
        limits: Arc::clone(entry.record.limits(&view.defaults)),
    })
}
