//! One node: the real engine, driven as `crates/node` drives it.
//!
//! Answers for: what a node does with time, messages and requests. Everything that decides is the
//! engine's; what stands here mirrors the shell around it (`node/lease`, `node/leader`,
//! `node/writes`, `node/counters`, `node/peer`), rule by rule, on virtual time.

mod counting;
mod leases;
mod machine;
mod torn;
mod writing;

use std::collections::BTreeMap;
use std::sync::Arc;

use fluxgate_engine::clock::ClusterClock;
use fluxgate_engine::fault::Mutation;
use fluxgate_engine::lease::{Granter, LeaseHolder, TermsWatch};
use fluxgate_engine::quota::{Context, Incarnation, KeyLimits, Sender, Shard, TransferRequest};
use fluxgate_engine::share_map::ShareMapPlanner;
use fluxgate_engine::state::{Registry, Shared, View};
use fluxgate_types::{BootId, BootNs, ClusterMs, KeyId, LogIndex, NodeId};

use crate::messages::{CallId, Message, MessageHeader, Request, Seen, Timer};
use crate::mutation::DriverMutation;
use crate::plan::{Plan, SECOND, Us};
use crate::raft::{self, Raft};
use crate::rng::Rng;

use machine::first_life;
use torn::{Moment, Torn};

pub use machine::{Disk, Machine};
pub use writing::Write;

/// A peer that was silent so often in a row is skipped until it is heard of.
const SILENCES_MAX: u32 = 3;
/// Counters and figures in one message.
const ITEMS_MAX: usize = 1_000;

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

/// The granter of one term of office.
pub struct LeaderTerm {
    term: u64,
    granter: Granter,
    planner: ShareMapPlanner,
}

/// A lease that was asked for and waits for a proof of leadership.
struct Granting {
    // Another node, by its call, or this one itself.
    to: Option<(NodeId, CallId)>,
    applied: LogIndex,
    // Cluster time when the proof was asked for, nanoseconds.
    cluster_ns: u64,
}

/// An office as its entries went by.
#[derive(Clone, Copy, Debug)]
struct Leadership {
    term: u64,
    node: NodeId,
    since: BootNs,
}

/// A running process.
pub struct Node {
    /// Its number.
    pub id: NodeId,
    /// Its life.
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
    /// Its life, for the counters.
    pub incarnation: Arc<Incarnation>,
    /// Cluster time.
    pub clock: ClusterClock,
    /// Its lease.
    pub holder: LeaseHolder,
    terms: TermsWatch,
    clock_noted: bool,
    noted: Option<(ClusterMs, BootNs)>,
    leaderships: (Option<Leadership>, Option<Leadership>),
    leadership: Option<LeaderTerm>,
    outbox: BTreeMap<NodeId, Vec<TransferRequest>>,
    asking: BTreeMap<NodeId, (CallId, Vec<TransferRequest>)>,
    silent: BTreeMap<NodeId, u32>,
    ready: BTreeMap<NodeId, bool>,
    telling: BTreeMap<NodeId, counting::Telling>,
    torn: Torn,
    waiting: BTreeMap<u64, Request>,
    ticking: bool,
    raft_wake: Us,
    renewing: Option<(CallId, BootNs)>,
    renew_at: Us,
    led_by: Option<NodeId>,
    barrier_at: Us,
    granting: BTreeMap<u64, Granting>,
    settling: Option<(CallId, usize, Option<u64>, u64)>,
    writes: BTreeMap<u64, Write>,
    carried: BTreeMap<CallId, u64>,
    proposals: Vec<(usize, u64, writing::ProposalWaiter)>,
    barriers: Vec<writing::Barrier>,
    wanted: LogIndex,
    known_applied: BTreeMap<NodeId, LogIndex>,
    applied_calls: BTreeMap<CallId, NodeId>,
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
        // What an earlier life noted of cluster time, if the rule of it is in its place.
        let noted = disk.clock.filter(|_| !step.is(DriverMutation::ClockFromWall));
        let clock = machine.clock_at_start(step.now, noted, carryover.as_ref());
        let incarnation = first_life(id, boot, carryover, disk.clock, step.plan);
        let members: Vec<NodeId> = (1..=step.plan.nodes).map(NodeId).collect();
        let registry = Registry::default();
        let mut raft = Raft::new(
            id,
            members,
            std::mem::take(&mut disk.raft),
            step.plan.heartbeat,
            step.now,
            step.rng,
        );
        raft.driver_mutation = step.is(DriverMutation::AckBeforeSync);
        let policy = step.plan.waits;
        let mut node = Self {
            id,
            boot,
            machine,
            raft,
            shared: registry.shared(),
            registry,
            applied: 0,
            shard: Shard::new(policy),
            incarnation: Arc::new(incarnation),
            clock,
            holder: LeaseHolder::default(),
            terms: TermsWatch::new(step.plan.file(id, boot)),
            clock_noted: noted.is_some(),
            noted: disk.clock,
            leaderships: (None, None),
            leadership: None,
            outbox: BTreeMap::new(),
            asking: BTreeMap::new(),
            silent: BTreeMap::new(),
            ready: BTreeMap::new(),
            telling: BTreeMap::new(),
            torn: Torn::default(),
            waiting: BTreeMap::new(),
            ticking: false,
            raft_wake: 0,
            renewing: None,
            renew_at: 0,
            led_by: None,
            barrier_at: 0,
            granting: BTreeMap::new(),
            settling: None,
            writes: BTreeMap::new(),
            carried: BTreeMap::new(),
            proposals: Vec::new(),
            barriers: Vec::new(),
            wanted: LogIndex(0),
            known_applied: BTreeMap::new(),
            applied_calls: BTreeMap::new(),
            applied_waits: Vec::new(),
            stopping: 0,
            giving: None,
            given_to: Vec::new(),
        };
        node.begin(step);
        node
    }

    /// Sets the timers that go on for as long as the process runs.
    fn begin(&mut self, step: &mut Step<'_>) {
        self.watch_raft(step);
        let gossip = step.rng.below(step.plan.gossip);
        step.wake(gossip, Timer::Gossip);
        step.wake(0, Timer::Renew);
        step.wake(step.plan.leader_look, Timer::Look);
        step.wake(SECOND, Timer::Note);
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
        self.clock.now(self.boot_now(now))
    }

    /// Steps that came with a part of their context from a while ago.
    #[must_use]
    pub fn torn_steps(&self) -> u64 {
        self.torn.steps
    }

    /// Whether it would answer validates.
    #[must_use]
    pub fn is_leased(&self, now: Us) -> bool {
        self.boot_now(now) < self.holder.until() && self.stopping < 2
    }

    /// Whether it is on its way out.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stopping > 0
    }

    /// Whether it leads and its office has begun.
    #[must_use]
    pub fn is_leading(&self) -> bool {
        self.leadership
            .as_ref()
            .is_some_and(|leadership| Some(leadership.term) == self.raft.leads_in())
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
            now: self.clock.now(boot),
            horizon: self.holder.horizon(),
            view: shared.view(),
            incarnation: Arc::clone(&self.incarnation),
        };
        let Moment { now, horizon, view, incarnation, .. } = self.torn.look(newest, at);
        let leased = self.is_leased(at.now);
        let context =
            Context { boot, now, leased, horizon, view: &view, incarnation: &incarnation };
        let find = |key: &KeyId| limits_of(&shared, &view, key);
        step(&mut self.shard, &context, &find)
    }

    fn change_incarnation(&mut self, change: impl FnOnce(&mut Incarnation)) {
        let incarnation = Arc::make_mut(&mut self.incarnation);
        change(incarnation);
        incarnation.incarnations_tag = incarnation.incarnations.tag();
    }

    /// Notes the life of a peer. False if a newer one is known.
    fn note_incarnation(&mut self, node: NodeId, boot: BootId) -> bool {
        match self.incarnation.incarnations.of(node) {
            Some(known) if known == boot => true,
            Some(known) if known > boot => false,
            Some(_) | None => {
                self.change_incarnation(|incarnation| {
                    incarnation.incarnations.note(node, boot);
                });
                true
            }
        }
    }

    fn note_reachable(&mut self, node: NodeId, reachable: bool) {
        if reachable {
            self.silent.remove(&node);
        }
        if self.incarnation.peers.contains(&(node, !reachable)) {
            self.change_incarnation(|incarnation| {
                for peer in incarnation.peers.iter_mut().filter(|peer| peer.0 == node) {
                    peer.1 = reachable;
                }
            });
        }
    }

    fn note_silence(&mut self, node: NodeId, refused: bool) {
        let count = self.silent.entry(node).or_default();
        *count += 1;
        if refused || *count >= SILENCES_MAX {
            self.note_reachable(node, false);
        }
    }

    fn head(&self, to: NodeId) -> MessageHeader {
        MessageHeader { boot: self.boot, to: self.incarnation.incarnations.of(to) }
    }

    /// Takes a head in. `None` for a late message, or one for another life of this node.
    fn receive(
        &mut self,
        from: NodeId,
        head: &MessageHeader,
        step: &mut Step<'_>,
    ) -> Option<Sender> {
        let newest = self.note_incarnation(from, head.boot);
        if !step.is(DriverMutation::UnreachableForEver) {
            self.note_reachable(from, true);
        }
        let mine = head.to.is_none_or(|boot| boot == self.boot);
        // Looked at before the newer life was known, by a thread that was held up since.
        let newest = newest || self.torn.was_newest(from, head.boot, step);
        let sound = (newest && mine) || Mutation::IncarnationsIgnored.active();
        sound.then_some(Sender { node: from, boot: head.boot })
    }

    /// Carries out what consensus wants, and applies what is committed.
    fn consent(&mut self, outputs: Vec<raft::Output>, step: &mut Step<'_>) {
        for output in outputs {
            match output {
                raft::Output::Send(to, message) => step.send(to, Message::Raft(message)),
                raft::Output::Sync => step.wake(self.machine.sync, Timer::Synced),
                raft::Output::Confirmed(token, at) => self.handle_confirmed(token, at, step),
            }
        }
        self.apply(step);
        self.watch_raft(step);
        if self.led_by != self.raft.leader() {
            self.led_by = self.raft.leader();
            self.renew_at = step.now;
            step.wake(0, Timer::Renew);
        }
    }

    fn watch_raft(&mut self, step: &mut Step<'_>) {
        let wake = self.raft.wake.max(step.now);
        if self.raft_wake != wake {
            self.raft_wake = wake;
            step.out.push(Action::At(wake, Timer::Raft));
        }
    }

    fn apply(&mut self, step: &mut Step<'_>) {
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
                self.leaderships.0 = Some(Leadership { term: entry.term, node: entry.node, since });
            }
            self.applied = index;
            self.look_at_terms(step);
            step.see(Seen::AppliedEntry(LogIndex(index as u64)));
            self.handle_applied(index, entry.term, applied, step);
        }
        self.holder.handle_applied(LogIndex(self.applied as u64));
    }

    /// Takes a message.
    pub fn handle(&mut self, from: NodeId, message: Message, step: &mut Step<'_>) {
        match message {
            Message::Raft(message) => {
                let mut out = Vec::new();
                self.raft.handle(step.now, from, message, step.rng, &mut out);
                self.consent(out, step);
            }
            Message::Lease(call, applied) => self.handle_lease(from, call, applied, step),
            Message::Leased(call, grant) => self.handle_leased(call, grant.as_ref(), step),
            Message::Time(call) => {
                let told = self.clock.is_synced().then(|| self.cluster_ns(step.now));
                step.send(from, Message::TimeIs(call, told, self.lower_bound_ns(step.now)));
            }
            Message::TimeIs(call, told, floor) => self.handle_time(call, told, floor, step),
            Message::Applied(call, index) => self.handle_applied_ask(from, call, index, step),
            Message::AppliedAt(call, at) => self.handle_applied_at(from, call, at, step),
            Message::Propose(call, proposal) => {
                self.propose(*proposal, writing::ProposalWaiter::Node(from, call), step);
            }
            Message::Proposed(call, written) => self.handle_proposed(call, written, step),
            Message::Refused(call) => self.handle_refused(from, call, step),
            Message::Asks(..)
            | Message::Replies(..)
            | Message::Gossip(..)
            | Message::Heard(..)
            | Message::Gifts(..)
            | Message::Taken(..) => self.handle_counting(from, message, step),
        }
    }

    /// Time has come.
    pub fn handle_timer(&mut self, timer: Timer, step: &mut Step<'_>) {
        match timer {
            Timer::Raft => {
                let mut out = Vec::new();
                self.raft.handle_time(step.now, step.rng, &mut out);
                self.consent(out, step);
            }
            Timer::Synced => {
                let mut out = Vec::new();
                self.raft.synced(&mut out);
                self.consent(out, step);
            }
            Timer::Tick => self.tick(step),
            Timer::Gossip => self.gossip(step),
            Timer::Renew => self.renew(step),
            Timer::Look => self.look_after(step),
            Timer::Note => {
                if self.clock.is_synced() {
                    self.noted = Some((self.cluster_now(step.now), self.boot_now(step.now)));
                }
                step.wake(SECOND, Timer::Note);
            }
            Timer::Over(call) => self.handle_over(call, step),
            Timer::Write(write) => self.pursue_write(write, step),
            Timer::Barrier => self.look_at_barriers(step),
            Timer::Stop => self.stop_on(step),
        }
    }

    fn handle_refused(&mut self, from: NodeId, call: CallId, step: &mut Step<'_>) {
        self.note_silence(from, true);
        self.asks_failed(call, step);
        self.gifts_failed(call, true, step);
        self.handle_proposed(call, crate::messages::Written::NotLeader, step);
        if self.renewing.is_some_and(|(of, _)| of == call) {
            self.renewing = None;
        }
        if let Some(node) = self.applied_calls.remove(&call) {
            self.applied_failed(node, step);
        }
    }

    fn handle_over(&mut self, call: CallId, step: &mut Step<'_>) {
        if let Some((&peer, _)) = self.asking.iter().find(|(_, (of, _))| *of == call) {
            self.note_silence(peer, false);
        }
        self.asks_failed(call, step);
        self.gifts_failed(call, false, step);
        self.handle_proposed(call, crate::messages::Written::Unknown, step);
        if self.renewing.is_some_and(|(of, _)| of == call) {
            self.renewing = None;
        }
        if self.granting.remove(&call).is_some() {
            self.raft.forget_confirm(call);
        }
        if self.settling.as_ref().is_some_and(|(of, ..)| *of == call) {
            self.settling = None;
        }
        if let Some(node) = self.applied_calls.remove(&call) {
            self.applied_failed(node, step);
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

    fn cluster_ns(&self, now: Us) -> u64 {
        self.clock.now_ns(self.boot_now(now))
    }

    fn lower_bound_ns(&self, now: Us) -> u64 {
        let stamp_ns = self.shared.last_stamp().0.saturating_mul(1_000_000);
        if self.clock_noted { stamp_ns.max(self.cluster_ns(now)) } else { stamp_ns }
    }
}

/// What the counters need to know of a key.
fn limits_of(shared: &Shared, view: &View, key: &KeyId) -> Option<KeyLimits> {
    shared.table.with(key, |entry| KeyLimits {
        created: entry.record.created_index,
        limits: Arc::clone(entry.record.limits(&view.defaults)),
    })
}
