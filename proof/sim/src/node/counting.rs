//! Counters, transfer requests and gossip: carries out what the engine's shard asks for, and hands
//! it what arrives.

use fluxgate_engine::quota::{
    CounterGossip, Effect, IDLE_MS, KeyLimits, Repeats, Sender, Step as Came, TransferReply,
    TransferRequest, WaiterId,
};
use fluxgate_engine::stop::HandedOff;
use fluxgate_types::{BootId, ClusterMs, Cost, NodeId, caps};

use super::calls::Call;
use super::{Node, Step};
use crate::messages::{CallId, Message, Request, Seen, Timer};

/// Counters that are repeated in one gossip message: few, so that repeating takes several.
const REPEATED_MAX: usize = 2;

/// Gossip with one peer.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Gossip {
    repeats: Repeats,
    // Whether the last message was answered; `None` before the first one.
    answered: Option<bool>,
}

impl Node {
    /// A validate of a known key.
    pub(super) fn request(&mut self, request: Request, limits: &KeyLimits, step: &mut Step<'_>) {
        let waiter = WaiterId(step.number());
        // Known BEFORE the step: it may settle it.
        self.waiting.insert(waiter, request);
        let mut effects = Vec::new();
        let came = self.count(step, |shard, context, _| {
            let Request { key, cost, .. } = request;
            shard.handle_request(context, &key, limits, Cost(cost), waiter, &mut effects)
        });
        if let Came::Decided(decision) = came {
            self.waiting.remove(&waiter);
            self.decided(request, decision, limits.clone(), step);
        }
        self.carry_out_counts(effects, step);
    }

    /// The request that has waited longest.
    #[must_use]
    pub fn waits_longest(&self) -> Option<&Request> {
        self.waiting.values().min_by_key(|request| request.taken)
    }

    fn decided(
        &mut self,
        request: Request,
        decision: fluxgate_engine::quota::Decision,
        limits: KeyLimits,
        step: &mut Step<'_>,
    ) {
        // The moment that it was decided at, which a thread that was held up does not know.
        let latest = self.shard.latest();
        let at = if latest > ClusterMs(0) { latest } else { self.cluster_now(step.now) };
        step.see(Seen::Decided { request, decision, at, limits });
    }

    fn carry_out_counts(&mut self, effects: Vec<Effect>, step: &mut Step<'_>) {
        for effect in effects {
            match effect {
                Effect::TransferRequest { peer, request } => {
                    let now = self.boot_now(step.now);
                    self.outboxes.entry(peer).or_default().put(request, now);
                    self.send_requests(peer, step);
                }
                Effect::Decided { waiter, decision, limits } => {
                    if let Some(request) = self.waiting.remove(&waiter) {
                        let created = fluxgate_types::LogIndex(0);
                        self.decided(request, decision, KeyLimits { created, specs: limits }, step);
                    }
                }
            }
        }
        if !self.ticking && self.shard.has_waiting() {
            self.ticking = true;
            step.wake(step.plan.tick, Timer::Tick);
        }
    }

    fn send_requests(&mut self, peer: NodeId, step: &mut Step<'_>) {
        let (now, timeout_ms) = (self.boot_now(step.now), step.plan.waits.transfer_timeout_ms);
        let outbox = self.outboxes.entry(peer).or_default();
        let Some(requests) = outbox.next_message(now, timeout_ms) else { return };
        let head = self.head(peer);
        let call = self.call(peer, timeout_ms, Call::TransferRequests(peer), step, |call| {
            Message::TransferRequests(call, head, requests)
        });
        self.asking.insert(peer, call);
    }

    /// Looks after what waits.
    pub(super) fn tick(&mut self, step: &mut Step<'_>) {
        self.ticking = false;
        let mut effects = Vec::new();
        self.count(step, |shard, context, find| {
            shard.handle_timeout(context, find, &mut effects);
        });
        self.carry_out_counts(effects, step);
    }

    /// Tells the peers what was spent here.
    pub(super) fn send_gossip(&mut self, step: &mut Step<'_>) {
        step.wake(step.plan.gossip, Timer::Gossip);
        // Nothing is sent before it is known that this directory may act for its node.
        if !self.takes_part() {
            return;
        }
        for (sender, reports) in self.torn.go_on(step.now) {
            self.handle_gossip(&sender, &reports, step);
        }
        let reports = self.count(step, |shard, context, _| {
            while shard.sweep(context, IDLE_MS) {}
            shard.take_gossip(context, caps::PEER_ITEMS_MAX)
        });
        let said = self.said(step);
        let peers: Vec<NodeId> =
            self.member.incarnation().peers.iter().map(|peer| peer.id).collect();
        for peer in peers {
            let (head, incarnations) =
                (self.head(peer), self.member.incarnation().incarnations.all());
            let mut reports = reports.clone();
            reports.extend(self.repeat_gossip(peer, step));
            self.gossip.entry(peer).or_default().answered = Some(false);
            step.send(peer, Message::Gossip(head, reports, incarnations, said));
        }
    }

    /// Reports that a peer missed, at most a few.
    fn repeat_gossip(&mut self, peer: NodeId, step: &mut Step<'_>) -> Vec<CounterGossip> {
        let boot = self.member.incarnation().incarnations.of(peer);
        let is_ready = self.peers.get(&peer).is_some_and(|said| said.is_ready);
        let Gossip { mut repeats, answered } = self.gossip.get(&peer).copied().unwrap_or_default();
        if let Some(answered) = answered {
            repeats.note_outcome(answered, is_ready);
        }
        repeats.note_incarnation(boot);
        let mut reports = Vec::new();
        if let Some((shard, mut cursor)) = repeats.next() {
            let more = self.count(step, |shard, context, find| {
                shard.repeat_gossip(context, find, &mut cursor, REPEATED_MAX, &mut reports)
            });
            repeats.advance(shard, cursor, more, 1);
        }
        self.gossip.entry(peer).or_default().repeats = repeats;
        reports
    }

    /// Takes a message about counters.
    pub(super) fn handle_counting(&mut self, from: NodeId, message: Message, step: &mut Step<'_>) {
        match message {
            Message::TransferRequests(call, head, requests) => {
                let replies = self
                    .receive(from, &head, step)
                    .map(|sender| self.handle_asks(&sender, &requests, step));
                let replies = replies.unwrap_or_default();
                step.send(from, Message::TransferReplies(call, self.head(from), replies));
            }
            Message::TransferReplies(call, head, mut replies) => {
                // Answered: its end is no silence of the peer.
                self.calls.remove(&call);
                if self.asking.get(&from) != Some(&call) {
                    return;
                }
                match self.receive(from, &head, step) {
                    Some(sender) => {
                        let requests = self.answered(from);
                        TransferReply::complete(&mut replies, &requests);
                        self.handle_replies(&sender, &replies, step);
                    }
                    // An answer of another incarnation is none.
                    None => self.requests_failed(call, step),
                }
                self.send_requests(from, step);
            }
            Message::Gossip(head, reports, incarnations, said) => {
                if let Some(sender) = self.receive(from, &head, step)
                    && let Some(reports) = self.torn.hold_up(sender, reports, step)
                {
                    self.handle_gossip(&sender, &reports, step);
                }
                self.note_incarnations(&incarnations);
                self.peers.insert(from, said);
                let incarnations = self.member.incarnation().incarnations.all();
                step.send(from, Message::Heard(self.head(from), incarnations, self.said(step)));
            }
            Message::Heard(head, incarnations, said) => {
                self.receive(from, &head, step);
                self.note_incarnations(&incarnations);
                self.gossip.entry(from).or_default().answered = Some(true);
                self.peers.insert(from, said);
            }
            Message::Handoffs(call, head, handoffs) => {
                let sender = self.receive(from, &head, step).filter(|_| self.stop.is_none());
                let replies: Vec<TransferReply> =
                    handoffs.into_iter().map(|handoff| handoff.reply).collect();
                let taken = match sender {
                    Some(sender) => self.handle_replies(&sender, &replies, step),
                    None => vec![false; replies.len()],
                };
                step.send(from, Message::HandoffsTaken(call, taken));
            }
            Message::HandoffsTaken(call, taken) => {
                self.calls.remove(&call);
                self.handed_off(call, &HandedOff::Answered(taken), step);
            }
            Message::Raft(_)
            | Message::Lease(..)
            | Message::Leased(..)
            | Message::Applied(..)
            | Message::AppliedAt(..)
            | Message::Time(_)
            | Message::TimeIs(..)
            | Message::Introduce(_)
            | Message::Introduced(..)
            | Message::Propose(..)
            | Message::Proposed(..)
            | Message::Refused(_) => {}
        }
    }

    fn handle_gossip(&mut self, sender: &Sender, reports: &[CounterGossip], step: &mut Step<'_>) {
        let mut effects = Vec::new();
        self.count(step, |shard, context, find| {
            for report in reports {
                shard.handle_gossip(context, find, sender, report, &mut effects);
            }
        });
        reports.iter().for_each(|one| step.see(Seen::Moved(one.counter)));
        self.carry_out_counts(effects, step);
    }

    fn note_incarnations(&mut self, incarnations: &[(NodeId, BootId)]) {
        incarnations.iter().for_each(|(node, boot)| self.member.note_incarnation(*node, *boot));
    }

    fn handle_asks(
        &mut self,
        sender: &Sender,
        requests: &[TransferRequest],
        step: &mut Step<'_>,
    ) -> Vec<TransferReply> {
        let mut effects = Vec::new();
        let replies = self.count(step, |shard, context, find| {
            let mut answer =
                |ask| shard.handle_transfer_request(context, find, sender, ask, &mut effects);
            requests.iter().map(&mut answer).collect::<Vec<TransferReply>>()
        });
        for reply in replies.iter().filter(|reply| reply.given > 0) {
            step.see(Seen::Moved(reply.counter));
        }
        self.carry_out_counts(effects, step);
        replies
    }

    fn handle_replies(
        &mut self,
        sender: &Sender,
        replies: &[TransferReply],
        step: &mut Step<'_>,
    ) -> Vec<bool> {
        let mut effects = Vec::new();
        let taken = self.count(step, |shard, context, find| {
            let mut take =
                |reply| shard.handle_transfer_reply(context, find, sender, reply, &mut effects);
            replies.iter().map(&mut take).collect()
        });
        for reply in replies {
            step.see(Seen::Moved(reply.counter));
        }
        self.carry_out_counts(effects, step);
        taken
    }

    /// The requests of the message to a peer that is not in flight any more.
    fn answered(&mut self, peer: NodeId) -> Vec<TransferRequest> {
        self.asking.remove(&peer);
        self.outboxes.entry(peer).or_default().answered()
    }

    /// A message of transfer requests has no answer: each counter asks another peer.
    pub(super) fn requests_failed(&mut self, call: CallId, step: &mut Step<'_>) {
        let peer = self.asking.iter().find(|(_, of)| **of == call).map(|(peer, _)| *peer);
        let Some(peer) = peer else { return };
        let requests = self.answered(peer);
        let mut effects = Vec::new();
        self.count(step, |shard, context, find| {
            for request in &requests {
                shard.handle_transfer_failed(context, find, peer, &request.counter, &mut effects);
            }
        });
        self.carry_out_counts(effects, step);
        self.send_requests(peer, step);
    }
}
