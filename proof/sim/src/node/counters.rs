//! Validates, transfers and gossip: hands the shard what arrives, and carries out its effects.

use std::collections::VecDeque;
use std::sync::Arc;

use fluxgate_engine::clock::signed_difference;
use fluxgate_engine::fault::Mutation;
use fluxgate_engine::quota::{
    Charge, Context, CounterGossip, CounterId, Decision, Effect, IDLE_MS, Joint, Locked, Outbox,
    Repeats, Sender, Shard, Step as Came, SubjectLimits, TransferReply, TransferRequest, WaiterId,
};
use fluxgate_engine::state::record::{LimitSpec, Status};
use fluxgate_types::{BootId, ClusterMs, Cost, KeyId, NodeId, Subject, caps};

use super::{Node, Validate};
use crate::calls::Waiter;
use crate::machine::Moment;
use crate::messages::{Call, Charged, Message, MessageHeader, PeerSaid, Request, Seen, Timer};
use crate::step::Step;

/// Counters that are repeated in one gossip message: few, so that repeating takes several.
const REPEATED_MAX: usize = 2;

/// What a node has to do with a peer.
#[derive(Debug, Default)]
pub(super) struct Peer {
    outbox: Outbox,
    repeats: Repeats,
    /// Whether it answered the last gossip message; `None` before the first one.
    pub answered: Option<bool>,
    /// What it said of itself.
    pub said: Option<PeerSaid>,
}

type Find<'a> = &'a dyn Fn(&Subject) -> Option<SubjectLimits>;

impl Node {
    /// The limits of a subject.
    #[must_use]
    pub fn limits_of(&self, subject: &Subject) -> Option<SubjectLimits> {
        SubjectLimits::find(&self.replica.shared, &self.view(), subject)
    }

    /// A step of the counters, with everything that it depends on, or with a part of it as it was
    /// earlier.
    pub(super) fn count<R>(
        &mut self,
        at: &mut Step<'_>,
        step: impl FnOnce(&mut Shard, &Context<'_>, Find<'_>) -> R,
    ) -> R {
        let shared = Arc::clone(&self.replica.shared);
        let boot = self.boot_now(at.now);
        let newest = Moment {
            at: at.now,
            now: self.member.clock().now(boot),
            horizon: self.member.holder().horizon(),
            view: shared.view(),
            incarnation: Arc::clone(self.member.incarnation()),
        };
        let Moment { now, horizon, view, incarnation, .. } = self.threads.look(newest, at);
        let (horizon, leased) = (horizon.min(self.saved.covered), self.is_leased(at.now));
        let context =
            Context { boot, now, leased, horizon, view: &view, incarnation: &incarnation };
        let find = |subject: &Subject| SubjectLimits::find(&shared, &view, subject);
        step(&mut self.shard, &context, &find)
    }

    /// A step of the counters, whose effects are then carried out. Judges look at the counters
    /// that `moved` names before that: an effect may be an answer, which other judges look at.
    fn act_on_counters<R>(
        &mut self,
        at: &mut Step<'_>,
        step: impl FnOnce(&mut Shard, &Context<'_>, Find<'_>, &mut Vec<Effect>) -> R,
        moved: impl FnOnce(&R) -> Vec<CounterId>,
    ) -> R {
        let mut effects = Vec::new();
        let result =
            self.count(at, |shard, context, find| step(shard, context, find, &mut effects));
        moved(&result).into_iter().for_each(|counter| at.see(Seen::Moved(counter)));
        self.carry_out_counts(effects, at);
        result
    }

    /// A validate arrives.
    pub fn validate(&mut self, request: Request, step: &mut Step<'_>) {
        if !self.is_leased(step.now) && !Mutation::SpendWithoutLease.active() {
            return step.see(Seen::Unavailable(request));
        }
        let (Request { key, cost, .. }, at) = (request, self.cluster_now(step.now));
        let Some(charges) = self.charges(key, Cost(cost), at) else {
            return step.see(Seen::Rejected(request));
        };
        let waiter = WaiterId(step.number());
        // Known BEFORE the step: it may settle it.
        self.validates.insert(waiter, Validate { request, charges: charges.clone() });
        let mut effects = Vec::new();
        let came = self.count(step, |shard, context, _| match &charges[..] {
            [Charge { subject, limits, cost }] => {
                shard.handle_request(context, subject, limits, *cost, waiter, &mut effects)
            }
            _ => {
                let at = vec![0; charges.len()];
                let mut locked = Locked { shards: &mut [shard], at: &at };
                locked.handle_joint(context, &charges, waiter, &mut effects)
            }
        });
        if let Came::Decided(decision) = came {
            self.decided(waiter, decision, step);
        }
        self.carry_out_counts(effects, step);
    }

    /// What a request of a key is charged to: the key, and its pools.
    fn charges(&self, key: KeyId, cost: Cost, at: ClusterMs) -> Option<Vec<Charge>> {
        let (shared, view) = (&self.replica.shared, self.view());
        let pools = shared.table.with(&key, |entry| {
            let is_active = entry.status(at) == Status::Active;
            is_active.then(|| shared.with_in_force(&view, entry, |_, _, pools| pools.to_vec()))
        })??;
        let subjects = std::iter::once(Subject::from(key)).chain(pools);
        let charge = |subject| Some(Charge { subject, limits: self.limits_of(&subject)?, cost });
        subjects.map(charge).collect()
    }

    /// The request that has waited longest.
    #[must_use]
    pub fn waits_longest(&self) -> Option<&Request> {
        let requests = self.validates.values().map(|validate| &validate.request);
        requests.min_by_key(|request| request.taken)
    }

    fn decided(&mut self, waiter: WaiterId, decision: Decision, step: &mut Step<'_>) {
        let Some(Validate { request, charges }) = self.validates.remove(&waiter) else { return };
        // The limits that decided are known exactly.
        let now = |(at, Charge { subject, limits, .. }): (usize, Charge)| {
            let decided = at == decision.charge_at;
            let limits = if decided { limits } else { self.as_now(&subject, limits) };
            Charged { subject, limits }
        };
        let charged = charges.into_iter().enumerate().map(now).collect();
        // The moment that it was decided at, which a thread that was held up does not know.
        let latest = self.shard.latest();
        let at = if latest > ClusterMs(0) { latest } else { self.cluster_now(step.now) };
        step.see(Seen::Decided { request, decision, at, charged });
    }

    fn carry_out_counts(&mut self, effects: Vec<Effect>, step: &mut Step<'_>) {
        let mut effects = VecDeque::from(effects);
        while let Some(effect) = effects.pop_front() {
            match effect {
                Effect::TransferRequest { peer, request } => {
                    let now = self.boot_now(step.now);
                    self.peers.entry(peer).or_default().outbox.put(request, now);
                    self.send_requests(peer, step);
                }
                Effect::Again { waiter, joint } => effects.extend(self.again(waiter, &joint, step)),
                Effect::Decided { waiter, decision, limits } => {
                    if let Some(validate) = self.validates.get_mut(&waiter)
                        && let Some(charge) = validate.charges.get_mut(decision.charge_at)
                    {
                        charge.limits.specs = limits;
                    }
                    self.decided(waiter, decision, step);
                }
            }
        }
        if !self.ticking && self.shard.has_waiting() {
            self.ticking = true;
            step.wake(step.plan.tick, Timer::Tick);
        }
    }

    /// The limits that a request takes from that arrived under these, with their tokens of now.
    fn as_now(&self, subject: &Subject, mut limits: SubjectLimits) -> SubjectLimits {
        let Some(now) = self.limits_of(subject) else { return limits };
        let newest = |spec: &LimitSpec| {
            let is_it = |other: &&LimitSpec| {
                (other.tag, other.limit.period_ms) == (spec.tag, spec.limit.period_ms)
            };
            now.specs.iter().find(is_it).unwrap_or(spec).clone()
        };
        limits.specs = limits.specs.iter().map(newest).collect();
        limits
    }

    /// Continues with a request over several subjects; returns the effects of that.
    fn again(&mut self, waiter: WaiterId, joint: &Arc<Joint>, step: &mut Step<'_>) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.count(step, |shard, context, find| {
            let limits: Vec<Option<SubjectLimits>> =
                joint.charges.iter().map(|charge| find(&charge.subject)).collect();
            let at = vec![0; limits.len()];
            let mut locked = Locked { shards: &mut [shard], at: &at };
            locked.handle_again(context, joint, &limits, waiter, &mut effects);
        });
        effects
    }

    fn send_requests(&mut self, peer: NodeId, step: &mut Step<'_>) {
        let (now, timeout_ms) = (self.boot_now(step.now), step.plan.waits.transfer_timeout_ms);
        let outbox = &mut self.peers.entry(peer).or_default().outbox;
        if let Some(requests) = outbox.next_message(now, timeout_ms) {
            let asked = Call::Transfers(self.head(peer), requests);
            self.call(&[peer], timeout_ms, Waiter::Transfers(peer), Some(asked), step);
        }
    }

    /// Looks after what waits.
    pub(super) fn tick(&mut self, step: &mut Step<'_>) {
        self.ticking = false;
        self.act_on_counters(
            step,
            |shard, context, find, out| shard.handle_timeout(context, find, out),
            |()| Vec::new(),
        );
    }

    /// Tells the peers what was spent here.
    pub(super) fn send_gossip(&mut self, step: &mut Step<'_>) {
        step.wake(step.plan.gossip, Timer::Gossip);
        // Nothing is sent before it is known that this directory may act for its node.
        if !self.takes_part() {
            return;
        }
        for (sender, reports) in self.threads.late_gossip(step.now) {
            self.handle_gossip(&sender, &reports, step);
        }
        let reports = self.count(step, |shard, context, _| {
            while shard.sweep(context, IDLE_MS) {}
            shard.take_gossip(context, caps::PEER_ITEMS_MAX)
        });
        let said = self.said(step);
        let incarnation = Arc::clone(self.member.incarnation());
        for peer in incarnation.peers.iter().map(|peer| peer.id) {
            let mut reports = reports.clone();
            reports.extend(self.repeat_gossip(peer, step));
            self.peers.entry(peer).or_default().answered = Some(false);
            let (head, incarnations) = (self.head(peer), incarnation.incarnations.all());
            step.send(peer, Message::Gossip(head, reports, incarnations, said));
        }
    }

    /// Reports that a peer missed, at most a few.
    fn repeat_gossip(&mut self, to: NodeId, step: &mut Step<'_>) -> Vec<CounterGossip> {
        let peer = self.peers.entry(to).or_default();
        let mut repeats = peer.repeats;
        if let Some(answered) = peer.answered {
            repeats.note_outcome(answered, peer.said.is_some_and(|said| said.is_ready));
        }
        repeats.note_incarnation(self.member.incarnation().incarnations.of(to));
        let mut reports = Vec::new();
        if let Some((shard, mut cursor)) = repeats.next() {
            let more = self.count(step, |shard, context, find| {
                shard.repeat_gossip(context, find, &mut cursor, REPEATED_MAX, &mut reports)
            });
            repeats.advance(shard, cursor, more, 1);
        }
        self.peers.entry(to).or_default().repeats = repeats;
        reports
    }

    /// What this node says of itself.
    pub(super) fn said(&self, step: &Step<'_>) -> PeerSaid {
        let cluster_ns = self.member.clock().now_ns(self.boot_now(step.now));
        PeerSaid {
            is_ready: !self.is_stopping() && self.is_leased(step.now),
            can_write: self.machine.has_room(step.now),
            wall_offset_ns: signed_difference(self.machine.wall_ns(step.now), cluster_ns),
        }
    }

    /// What a peer said of itself and of the incarnations that it knows.
    pub(super) fn note_said(
        &mut self,
        peer: NodeId,
        incarnations: &[(NodeId, BootId)],
        said: PeerSaid,
    ) {
        incarnations.iter().for_each(|(node, boot)| self.member.note_incarnation(*node, *boot));
        self.peers.entry(peer).or_default().said = Some(said);
    }

    pub(super) fn head(&self, to: NodeId) -> MessageHeader {
        MessageHeader { boot: self.boot, to: self.member.incarnation().incarnations.of(to) }
    }

    /// Processes the header of a message. `None` for a late message, or one for another incarnation
    /// of this node.
    pub(super) fn receive(
        &mut self,
        from: NodeId,
        head: &MessageHeader,
        step: &mut Step<'_>,
    ) -> Option<Sender> {
        self.member.note_incarnation(from, head.boot);
        self.member.note_heard(from);
        let sender = self.member.incarnation().accepted(from, head.boot, head.to);
        // A thread that was held up since had looked before the newer incarnation was known.
        sender.or_else(|| self.threads.accepted(from, head, step))
    }

    /// Takes reports, unless they come late or the thread that does it is held up.
    pub(super) fn receive_gossip(
        &mut self,
        from: NodeId,
        head: &MessageHeader,
        reports: Vec<CounterGossip>,
        step: &mut Step<'_>,
    ) {
        if let Some(sender) = self.receive(from, head, step)
            && let Some(reports) = self.threads.take_gossip(sender, reports, step)
        {
            self.handle_gossip(&sender, &reports, step);
        }
    }

    fn handle_gossip(&mut self, sender: &Sender, reports: &[CounterGossip], step: &mut Step<'_>) {
        self.act_on_counters(
            step,
            |shard, context, find, out| {
                for report in reports {
                    shard.handle_gossip(context, find, sender, report, out);
                }
            },
            |()| reports.iter().map(|report| report.counter).collect(),
        );
    }

    pub(super) fn handle_requests(
        &mut self,
        sender: &Sender,
        requests: &[TransferRequest],
        step: &mut Step<'_>,
    ) -> Vec<TransferReply> {
        let given = |replies: &Vec<TransferReply>| {
            replies.iter().filter(|reply| reply.given > 0).map(|reply| reply.counter).collect()
        };
        self.act_on_counters(
            step,
            |shard, context, find, out| {
                let answer = |one| shard.handle_transfer_request(context, find, sender, one, out);
                requests.iter().map(answer).collect()
            },
            given,
        )
    }

    /// Takes replies or handoffs; tells of each whether its tokens were taken.
    pub(super) fn handle_replies(
        &mut self,
        sender: &Sender,
        replies: &[TransferReply],
        step: &mut Step<'_>,
    ) -> Vec<bool> {
        self.act_on_counters(
            step,
            |shard, context, find, out| {
                let take = |one| shard.handle_transfer_reply(context, find, sender, one, out);
                replies.iter().map(take).collect()
            },
            |_| replies.iter().map(|reply| reply.counter).collect(),
        )
    }

    /// A peer answered a message of transfer requests.
    pub(super) fn handle_transfers(
        &mut self,
        peer: NodeId,
        head: &MessageHeader,
        mut replies: Vec<TransferReply>,
        step: &mut Step<'_>,
    ) {
        // An answer of another incarnation is none.
        let Some(sender) = self.receive(peer, head, step) else {
            return self.handle_no_transfers(peer, step);
        };
        let requests = self.peers.entry(peer).or_default().outbox.answered();
        TransferReply::complete(&mut replies, &requests);
        self.handle_replies(&sender, &replies, step);
        self.send_requests(peer, step);
    }

    /// A message of transfer requests has no answer: each counter asks another peer.
    pub(super) fn handle_no_transfers(&mut self, peer: NodeId, step: &mut Step<'_>) {
        let requests = self.peers.entry(peer).or_default().outbox.answered();
        self.act_on_counters(
            step,
            |shard, context, find, out| {
                for request in &requests {
                    shard.handle_transfer_failed(context, find, peer, &request.counter, out);
                }
            },
            |()| Vec::new(),
        );
        self.send_requests(peer, step);
    }
}
