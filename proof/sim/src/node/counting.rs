//! Counters, asks, gossip and the orderly stop: mirrors `node/counters`, `node/peer` and
//! `Node::stop`.

use std::collections::BTreeMap;

use fluxgate_engine::quota::{
    Carryover, CounterGossip, Cursor, Effect, Handoff, KeyLimits, Sender, Step as Came,
    TransferReply, TransferRequest,
};
use fluxgate_types::{BootId, ClusterMs, NodeId, caps};

use super::calls::Call;
use super::{Node, PeerSaid, Step};
use crate::messages::{CallId, Message, Request, Seen, Timer};
use crate::plan::SECOND;

/// A node that leaves says so for so many gossip periods before it stops.
const LEAVE_GOSSIPS: u64 = 3;
/// Counters that are told again in one gossip: few, so that a cursor goes on over some.
const TOLD_AGAIN_MAX: usize = 2;

/// How far one peer is told what it missed: mirrors `node/counters/telling`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Telling {
    boot: Option<BootId>,
    heard: bool,
    missed: bool,
    at: Option<Cursor>,
}

/// How long a stopping node tries to hand its holdings to one peer.
const GIVE_TIMEOUT_MS: u64 = 2_000;

impl Node {
    /// A validate of a known key.
    pub(super) fn request(&mut self, request: Request, limits: &KeyLimits, step: &mut Step<'_>) {
        let number = step.number();
        // Known BEFORE the step: it may settle it.
        self.waiting.insert(number, request);
        let mut effects = Vec::new();
        let came = self.count(step, |shard, context, _| {
            let Request { key, cost, .. } = request;
            shard.handle_request(context, &key, limits, cost, number, &mut effects)
        });
        if let Came::Decided(decision) = came {
            self.waiting.remove(&number);
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
                Effect::TransferRequest { peer, request: ask } => {
                    self.outbox.entry(peer).or_default().push(ask);
                    self.send_asks(peer, step);
                }
                Effect::Decided { waiter, decision, limits } => {
                    if let Some(request) = self.waiting.remove(&waiter) {
                        let created = fluxgate_types::LogIndex(0);
                        self.decided(request, decision, KeyLimits { created, limits }, step);
                    }
                }
            }
        }
        if !self.ticking && self.shard.has_waiting() {
            self.ticking = true;
            step.wake(step.plan.tick, Timer::Tick);
        }
    }

    fn send_asks(&mut self, peer: NodeId, step: &mut Step<'_>) {
        if self.asking.contains_key(&peer) {
            return;
        }
        let Some(asks) = self.outbox.remove(&peer).filter(|asks| !asks.is_empty()) else { return };
        let (head, sent, timeout_ms) =
            (self.head(peer), asks.clone(), step.plan.waits.transfer_timeout_ms);
        let call = self
            .call(peer, timeout_ms, Call::Asks(peer), step, |call| Message::Asks(call, head, sent));
        self.asking.insert(peer, (call, asks));
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
    pub(super) fn gossip(&mut self, step: &mut Step<'_>) {
        step.wake(step.plan.gossip, Timer::Gossip);
        for (sender, told) in self.torn.go_on(step.now) {
            self.handle_gossip(&sender, &told, step);
        }
        let told = self.count(step, |shard, context, _| {
            while shard.sweep(context, 3_600_000) {}
            shard.take_gossip(context, caps::PEER_ITEMS_MAX)
        });
        let said = self.said(step);
        for (peer, _) in self.member.incarnation().peers.clone() {
            let (head, incarnations) =
                (self.head(peer), self.member.incarnation().incarnations.all());
            let mut told = told.clone();
            told.extend(self.repeat_gossip(peer, step));
            // Not delivered until an answer comes.
            self.telling.entry(peer).or_default().heard = false;
            step.send(peer, Message::Gossip(head, told, incarnations, said));
        }
    }

    /// What a peer missed: all figures, where its life is new or it did not answer the last time.
    fn repeat_gossip(&mut self, peer: NodeId, step: &mut Step<'_>) -> Vec<CounterGossip> {
        let boot = self.member.incarnation().incarnations.of(peer);
        let telling = self.telling.entry(peer).or_default();
        if telling.boot != boot {
            *telling = Telling { boot, at: Some(Cursor::default()), ..*telling };
        }
        if !telling.heard {
            telling.missed = true;
            return Vec::new();
        }
        let missed = std::mem::take(&mut telling.missed);
        let from = if missed { Some(Cursor::default()) } else { telling.at };
        let (Some(mut cursor), mut told) = (from, Vec::new()) else { return Vec::new() };
        let more = self.count(step, |shard, context, find| {
            shard.repeat_gossip(context, find, &mut cursor, TOLD_AGAIN_MAX, &mut told)
        });
        if let Some(telling) = self.telling.get_mut(&peer) {
            telling.at = more.then_some(cursor);
        }
        told
    }

    /// A gossip was answered. One that was not ready before may not have known the keys.
    fn note_said(&mut self, from: NodeId, said: PeerSaid) {
        let was = self.peers.insert(from, said).is_some_and(|said| said.is_ready);
        if said.is_ready && !was {
            self.telling.entry(from).or_default().at = Some(Cursor::default());
        }
    }

    /// Takes a message about counters.
    pub(super) fn handle_counting(&mut self, from: NodeId, message: Message, step: &mut Step<'_>) {
        match message {
            Message::Asks(call, head, asks) => {
                let replies = self
                    .receive(from, &head, step)
                    .map(|sender| self.handle_asks(&sender, &asks, step));
                let replies = replies.unwrap_or_default();
                step.send(from, Message::Replies(call, self.head(from), replies));
            }
            Message::Replies(call, head, mut replies) => {
                // Answered: its end is no silence of the peer.
                self.calls.remove(&call);
                if self.asking.get(&from).is_none_or(|(of, _)| *of != call) {
                    return;
                }
                match self.receive(from, &head, step) {
                    Some(sender) => {
                        if let Some((_, asks)) = self.asking.remove(&from) {
                            TransferReply::complete(&mut replies, &asks);
                        }
                        self.handle_replies(&sender, &replies, step);
                    }
                    // The answer of another life is none.
                    None => self.asks_failed(call, step),
                }
                self.send_asks(from, step);
            }
            Message::Gossip(head, told, incarnations, said) => {
                if let Some(sender) = self.receive(from, &head, step)
                    && let Some(told) = self.torn.hold_up(sender, told, step)
                {
                    self.handle_gossip(&sender, &told, step);
                }
                self.note_lives(&incarnations);
                self.note_said(from, said);
                let incarnations = self.member.incarnation().incarnations.all();
                step.send(from, Message::Heard(self.head(from), incarnations, self.said(step)));
            }
            Message::Heard(head, incarnations, said) => {
                self.receive(from, &head, step);
                self.note_lives(&incarnations);
                self.telling.entry(from).or_default().heard = true;
                self.note_said(from, said);
            }
            Message::Gifts(call, head, gifts) => {
                let sender = self.receive(from, &head, step).filter(|_| self.stopping == 0);
                let replies: Vec<TransferReply> =
                    gifts.into_iter().map(|gift| gift.reply).collect();
                let taken = match sender {
                    Some(sender) => self.handle_replies(&sender, &replies, step),
                    None => vec![false; replies.len()],
                };
                step.send(from, Message::Taken(call, taken));
            }
            Message::Taken(call, taken) => self.handle_taken(call, &taken, step),
            Message::Raft(_)
            | Message::Lease(..)
            | Message::Leased(..)
            | Message::Applied(..)
            | Message::AppliedAt(..)
            | Message::Time(_)
            | Message::TimeIs(..)
            | Message::Propose(..)
            | Message::Proposed(..)
            | Message::Refused(_) => {}
        }
    }

    fn handle_gossip(&mut self, sender: &Sender, told: &[CounterGossip], step: &mut Step<'_>) {
        let mut effects = Vec::new();
        self.count(step, |shard, context, find| {
            for one in told {
                shard.handle_gossip(context, find, sender, one, &mut effects);
            }
        });
        told.iter().for_each(|one| step.see(Seen::Moved(one.counter)));
        self.carry_out_counts(effects, step);
    }

    fn note_lives(&mut self, incarnations: &[(NodeId, fluxgate_types::BootId)]) {
        let me = self.id;
        for (node, boot) in incarnations.iter().filter(|(node, _)| *node != me) {
            self.member.note_incarnation(*node, *boot);
        }
    }

    fn handle_asks(
        &mut self,
        sender: &Sender,
        asks: &[TransferRequest],
        step: &mut Step<'_>,
    ) -> Vec<TransferReply> {
        let mut effects = Vec::new();
        let replies = self.count(step, |shard, context, find| {
            let mut answer =
                |ask| shard.handle_transfer_request(context, find, sender, ask, &mut effects);
            asks.iter().map(&mut answer).collect::<Vec<TransferReply>>()
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

    /// An ask brought nothing: each counter asks somebody else.
    pub(super) fn asks_failed(&mut self, call: CallId, step: &mut Step<'_>) {
        let peer = self.asking.iter().find(|(_, (of, _))| *of == call).map(|(peer, _)| *peer);
        let Some((peer, (_, asks))) = peer.and_then(|p| self.asking.remove_entry(&p)) else {
            return;
        };
        let mut effects = Vec::new();
        self.count(step, |shard, context, find| {
            for ask in &asks {
                shard.handle_transfer_failed(context, find, peer, &ask.counter, &mut effects);
            }
        });
        self.carry_out_counts(effects, step);
        self.send_asks(peer, step);
    }

    /// Begins an orderly stop: first it says so.
    pub fn stop(&mut self, step: &mut Step<'_>) {
        self.stopping = 1;
        step.wake(LEAVE_GOSSIPS * step.plan.gossip, Timer::Stop);
    }

    /// The next part of an orderly stop.
    pub(super) fn stop_on(&mut self, step: &mut Step<'_>) {
        if self.stopping == 1 {
            self.stopping = 2;
            self.shard.begin_drain();
            self.give_on(step);
        } else if self.stopping == 3 {
            step.see(Seen::Stopped);
        }
    }

    /// Gives what it holds to the next peer that stays.
    fn give_on(&mut self, step: &mut Step<'_>) {
        for (peer, reachable) in self.member.incarnation().peers.clone() {
            let stays = self.peers.get(&peer).is_some_and(|said| said.is_ready);
            let Some(boot) =
                self.member.incarnation().incarnations.of(peer).filter(|_| reachable && stays)
            else {
                continue;
            };
            if self.given_to.contains(&peer) {
                continue;
            }
            let to = Sender { node: peer, boot };
            let gifts = self.count(step, |shard, context, find| {
                let (mut cursor, mut gifts) = (Cursor::default(), Vec::new());
                while gifts.len() < caps::PEER_ITEMS_MAX
                    && shard.drain(context, find, &to, &mut cursor, 1, &mut gifts)
                {}
                gifts
            });
            if gifts.is_empty() {
                break;
            }
            gifts.iter().for_each(|gift| step.see(Seen::Moved(gift.reply.counter)));
            let (head, sent) = (self.head(peer), gifts.clone());
            let call = self.call(peer, GIVE_TIMEOUT_MS, Call::Gifts, step, |call| {
                Message::Gifts(call, head, sent)
            });
            self.giving = Some((call, peer, gifts));
            return;
        }
        self.stopping = 3;
        if self.raft.leads_in().is_some() {
            self.transfer_leadership(step);
        }
        // The leadership has this long to go over.
        step.wake(SECOND, Timer::Stop);
    }

    fn handle_taken(&mut self, call: CallId, taken: &[bool], step: &mut Step<'_>) {
        self.calls.remove(&call);
        let Some((_, peer, gifts)) = self.giving.take_if(|(of, ..)| *of == call) else { return };
        let refused: Vec<&Handoff> =
            gifts.iter().zip(taken).filter(|(_, taken)| !**taken).map(|(gift, _)| gift).collect();
        self.take_back(peer, &refused);
        if !refused.is_empty() || taken.len() != gifts.len() {
            self.given_to.push(peer);
        }
        self.give_on(step);
    }

    /// A gift brought no answer. `unsent`: it certainly did not arrive.
    pub(super) fn gifts_failed(&mut self, call: CallId, unsent: bool, step: &mut Step<'_>) {
        let Some((_, peer, gifts)) = self.giving.take_if(|(of, ..)| *of == call) else { return };
        if unsent {
            self.take_back(peer, &gifts.iter().collect::<Vec<_>>());
        }
        self.given_to.push(peer);
        self.give_on(step);
    }

    fn take_back(&mut self, peer: NodeId, gifts: &[&Handoff]) {
        let Some(boot) = self.member.incarnation().incarnations.of(peer) else { return };
        let to = Sender { node: peer, boot };
        gifts.iter().for_each(|gift| self.shard.take_back(&to, gift));
    }

    /// What this life leaves to the next one, at the end of an orderly stop.
    #[must_use]
    pub fn carryover(&mut self, now: crate::plan::Us) -> Option<Carryover> {
        let (mut cursor, mut opened) = (Cursor::default(), BTreeMap::new());
        while self.shard.carryover(&mut cursor, caps::PEER_ITEMS_MAX, &mut opened) {}
        let synced = self.member.clock().is_synced();
        Carryover::of(self.member.incarnation(), opened, self.cluster_now(now), synced)
    }
}
