//! A small network of counter shards under virtual time: messages take a random while, one is in
//! flight per pair of nodes, and the test sees everything.

#![expect(clippy::unwrap_used, reason = "a test harness: a failed unwrap is a failed test")]

mod ending;
mod observer;
mod remaining;
mod replaced;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fluxgate_engine::lease::FirstLease;
use fluxgate_engine::quota::{
    Carryover, Context, CounterGossip, CounterId, CounterReport, Cursor, Decision, Effect,
    Entitlement, Incarnation, Incarnations, Peer, Sender, Shard, Step, SubjectLimits,
    TransferReply, TransferRequest, WaitPolicy, WaiterId,
};
use fluxgate_engine::share_map::ShareMap;
use fluxgate_engine::state::record::LimitSpec;
use fluxgate_engine::state::{NodeRecord, View};
use fluxgate_types::id::mix64;
use fluxgate_types::{
    BootId, BootNs, ClusterMs, Cost, DirId, KeyId, Limit, LogIndex, NodeId, Subject,
};

pub(crate) const START_MS: u64 = 1_705_747_200_000;

#[derive(Clone)]
enum Message {
    Asks(Vec<TransferRequest>),
    Replies(Vec<TransferReply>),
    CounterGossip(Vec<CounterGossip>),
}

struct Packet {
    to: NodeId,
    to_boot: BootId,
    from: Sender,
    message: Message,
}

pub(crate) struct Node {
    pub(crate) shard: Shard,
    pub(crate) incarnation: Incarnation,
    pub(crate) alive: bool,
    outbox: BTreeMap<NodeId, Vec<TransferRequest>>,
    busy: BTreeSet<NodeId>,
}

/// What the clients saw, and what was true when they saw it.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) admitted: u64,
    pub(crate) limited: u64,
    pub(crate) degraded: u64,
    pub(crate) unavailable: u64,
    pub(crate) waited: u64,
    pub(crate) asks: u64,
    pub(crate) unproven_denials: u64,
}

pub(crate) struct Net {
    pub(crate) nodes: BTreeMap<NodeId, Node>,
    pub(crate) view: View,
    pub(crate) limits: SubjectLimits,
    pub(crate) key: Subject,
    pub(crate) tally: Tally,
    pub(crate) spent: BTreeMap<(u32, u64), u64>,
    pub(crate) loss_percent: u64,
    pub(crate) duplicate_percent: u64,
    /// The last decision.
    pub(crate) last: Option<Decision>,
    /// A node that no other node can reach.
    pub(crate) cut: Option<NodeId>,
    // The pairs (sender, receiver) where the sender still has to repeat its gossip, with its place.
    missed: BTreeMap<(NodeId, NodeId), Cursor>,
    events: BTreeMap<(u64, u64), Packet>,
    waiters: BTreeMap<WaiterId, u64>,
    now_us: u64,
    next: u64,
    seed: u64,
}

impl Net {
    pub(crate) fn new(seed: u64, nodes: u64, limits: &[(u64, u64)]) -> Self {
        let limits: Vec<Limit> = limits
            .iter()
            .enumerate()
            .map(|(n, &(tokens, period_ms))| Limit::new(format!("l{n}"), tokens, period_ms))
            .collect();
        let specs = LimitSpec::all(&limits).unwrap();
        let ids: Vec<NodeId> = (1..=nodes).map(NodeId).collect();
        let record = |n: &NodeId| (*n, NodeRecord { dir_id: DirId(n.0), removed: false });
        let view = View {
            defaults: Arc::clone(&specs),
            share_maps: vec![ShareMap {
                from: ClusterMs(0),
                nodes: ids.iter().map(|n| (*n, 1)).collect(),
            }],
            nodes: ids.iter().map(record).collect(),
            ..View::default()
        };
        let mut net = Self {
            nodes: BTreeMap::new(),
            view,
            limits: SubjectLimits { created: LogIndex(1), specs },
            key: KeyId::from_random(&mix64(seed).to_le_bytes().repeat(12))
                .unwrap_or_else(|| "key_abcdefghijkl".parse().unwrap())
                .into(),
            tally: Tally::default(),
            spent: BTreeMap::new(),
            loss_percent: 0,
            duplicate_percent: 0,
            last: None,
            cut: None,
            missed: BTreeMap::new(),
            events: BTreeMap::new(),
            waiters: BTreeMap::new(),
            now_us: 0,
            next: 0,
            seed,
        };
        for id in &ids {
            net.start(*id, BootId(1), true, None);
        }
        for id in &ids {
            for other in &ids {
                net.introduce(*id, *other);
            }
        }
        net
    }

    pub(crate) fn random(&mut self, below: u64) -> u64 {
        self.seed = mix64(self.seed);
        self.seed % below.max(1)
    }

    pub(crate) fn now_ms(&self) -> u64 {
        START_MS + self.now_us / 1_000
    }

    pub(crate) fn start(&mut self, id: NodeId, boot: BootId, first: bool, left: Option<Carryover>) {
        let mut incarnations = Incarnations::default();
        incarnations.note(id, boot);
        let peers = self.view.nodes.keys().filter(|n| **n != id).map(|n| Peer::new(*n)).collect();
        let incarnation = Incarnation {
            me: id,
            entitlement: left
                .as_ref()
                .map(|left| left.entitlement)
                .or(first.then_some(Entitlement::All)),
            first_lease: Some(FirstLease { at: ClusterMs(self.now_ms()), index: LogIndex(5) }),
            carryover: left.map(|left| Arc::new(left.counters)),
            reached: ClusterMs(0),
            incarnations_tag: incarnations.tag(),
            incarnations,
            peers,
            clock_error_ms_max: 1_000,
        };
        let node = Node {
            shard: Shard::new(WaitPolicy::default()),
            incarnation,
            alive: true,
            outbox: BTreeMap::new(),
            busy: BTreeSet::new(),
        };
        self.nodes.insert(id, node);
    }

    /// `a` learns the incarnation of `b`.
    pub(crate) fn introduce(&mut self, a: NodeId, b: NodeId) {
        let Some(boot) = self.nodes.get(&b).and_then(|n| n.incarnation.incarnations.of(b)) else {
            return;
        };
        let Some(node) = self.nodes.get_mut(&a) else {
            return;
        };
        node.incarnation.incarnations.note(b, boot);
        node.incarnation.incarnations_tag = node.incarnation.incarnations.tag();
    }

    /// Changes how much a limit allows, on all nodes at once.
    pub(crate) fn set_limit(&mut self, at: usize, tokens: u64) {
        let mut limits: Vec<Limit> = self.limits.specs.iter().map(|s| s.limit.clone()).collect();
        limits[at].tokens = tokens;
        self.limits.specs = LimitSpec::all(&limits).unwrap();
    }

    pub(crate) fn restart(&mut self, id: NodeId, left: Option<Carryover>) {
        let boot = BootId(self.nodes[&id].incarnation.incarnations.of(id).unwrap().0 + 1);
        let known = self.nodes[&id].incarnation.incarnations.clone();
        self.start(id, boot, false, left);
        let others: Vec<NodeId> = self.nodes.keys().copied().filter(|n| *n != id).collect();
        for other in others {
            if let Some(boot) = known.of(other) {
                let incarnation = &mut self.nodes.get_mut(&id).unwrap().incarnation;
                incarnation.incarnations.note(other, boot);
                incarnation.incarnations_tag = incarnation.incarnations.tag();
            }
            self.introduce(other, id);
            self.introduce(id, other);
            self.missed.insert((other, id), Cursor::default());
        }
    }

    fn step<R>(
        &mut self,
        id: NodeId,
        f: impl FnOnce(&mut Shard, &Context<'_>, &SubjectLimits, &mut Vec<Effect>) -> R,
    ) -> R {
        let (boot, now) = (BootNs(self.now_us * 1_000), ClusterMs(self.now_ms()));
        let mut out = Vec::new();
        let node = self.nodes.get_mut(&id).unwrap();
        let incarnation = node.incarnation.clone();
        let context = Context {
            boot,
            now,
            leased: true,
            horizon: ClusterMs(u64::MAX),
            view: &self.view,
            incarnation: &incarnation,
        };
        let result = f(&mut node.shard, &context, &self.limits, &mut out);
        self.effects(id, out);
        result
    }

    fn effects(&mut self, id: NodeId, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::TransferRequest { peer, request } => {
                    self.tally.asks += 1;
                    self.nodes.get_mut(&id).unwrap().outbox.entry(peer).or_default().push(request);
                    self.flush(id, peer);
                }
                Effect::Decided { waiter, decision, .. } => {
                    let cost = self.waiters.remove(&waiter).expect("a waiter is settled once");
                    self.settle(decision, cost);
                }
                Effect::Again { .. } => unreachable!("every request is charged to one subject"),
            }
        }
    }

    pub(crate) fn request(&mut self, id: NodeId, cost: u64) {
        if !self.nodes[&id].alive {
            self.tally.unavailable += cost;
            return;
        }
        let (key, waiter) = (self.key, WaiterId(self.next));
        self.next += 1;
        // Registered first: the step itself may settle it.
        self.waiters.insert(waiter, cost);
        let step = self.step(id, |shard, context, limits, out| {
            shard.handle_request(context, &key, limits, Cost(cost), waiter, out)
        });
        match step {
            Step::Decided(decision) => {
                self.waiters.remove(&waiter);
                self.settle(decision, cost);
            }
            Step::Waiting => self.tally.waited += 1,
        }
    }

    fn flush(&mut self, from: NodeId, to: NodeId) {
        let node = self.nodes.get_mut(&from).unwrap();
        if node.busy.contains(&to) || node.outbox.get(&to).is_none_or(Vec::is_empty) {
            return;
        }
        let asks = node.outbox.remove(&to).unwrap();
        node.busy.insert(to);
        self.send(from, to, Message::Asks(asks));
    }

    fn send(&mut self, from: NodeId, to: NodeId, message: Message) {
        let incarnation = &self.nodes[&from].incarnation;
        let Some(to_boot) = incarnation.incarnations.of(to) else {
            return;
        };
        let sender = Sender { node: from, boot: incarnation.incarnations.of(from).unwrap() };
        let copies = if self.random(100) < self.loss_percent {
            0
        } else {
            1 + u64::from(self.random(100) < self.duplicate_percent)
        };
        for _ in 0..copies {
            let at = self.now_us + 100 + self.random(200);
            self.next += 1;
            let packet = Packet { to, to_boot, from: sender, message: message.clone() };
            self.events.insert((at, self.next), packet);
        }
    }

    fn deliver(&mut self, packet: Packet) {
        let Packet { to, to_boot, from, message } = packet;
        let Some(node) = self.nodes.get(&to) else {
            return;
        };
        let mine = node.incarnation.incarnations.of(to) == Some(to_boot);
        let newest = node.incarnation.incarnations.of(from.node) == Some(from.boot);
        if !node.alive || !mine || !newest {
            return;
        }
        match message {
            Message::Asks(asks) => {
                let replies = asks
                    .iter()
                    .map(|ask| {
                        self.step(to, |shard, context, limits, out| {
                            shard.handle_transfer_request(
                                context,
                                &|_| Some(limits.clone()),
                                &from,
                                ask,
                                out,
                            )
                        })
                    })
                    .collect();
                self.send(to, from.node, Message::Replies(replies));
            }
            Message::Replies(replies) => {
                for reply in &replies {
                    self.step(to, |shard, context, limits, out| {
                        shard.handle_transfer_reply(
                            context,
                            &|_| Some(limits.clone()),
                            &from,
                            reply,
                            out,
                        )
                    });
                }
                self.nodes.get_mut(&to).unwrap().busy.remove(&from.node);
                self.flush(to, from.node);
            }
            Message::CounterGossip(gossip) => {
                for one in &gossip {
                    self.step(to, |shard, context, limits, out| {
                        shard.handle_gossip(context, &|_| Some(limits.clone()), &from, one, out)
                    });
                }
            }
        }
    }

    /// Lets virtual time pass, in ticks of a millisecond, with gossip every 100.
    pub(crate) fn run_until_us(&mut self, until: u64) {
        while self.now_us < until {
            // A millisecond at a time while a request waits, otherwise to the next gossip.
            let waiting = self.nodes.values().any(|node| node.shard.has_waiting());
            let span = if waiting || !self.events.is_empty() { 1_000 } else { 100_000 };
            let tick = ((self.now_us / span + 1) * span).min(until);
            while let Some(entry) = self.events.first_entry() {
                if entry.key().0 > tick {
                    break;
                }
                let ((at, _), packet) = entry.remove_entry();
                self.now_us = self.now_us.max(at);
                self.deliver(packet);
            }
            self.now_us = tick;
            let alive: Vec<NodeId> =
                self.nodes.iter().filter(|(_, n)| n.alive).map(|(id, _)| *id).collect();
            for id in alive {
                self.step(id, |shard, context, limits, out| {
                    shard.handle_timeout(context, &|_| Some(limits.clone()), out);
                });
                if self.loss_percent > 0 && tick.is_multiple_of(300_000) {
                    // The driver's time-out: without it, a lost message would keep the pair busy permanently.
                    self.nodes.get_mut(&id).unwrap().busy.clear();
                }
                if tick.is_multiple_of(100_000) {
                    self.gossip(id);
                }
            }
        }
    }

    pub(crate) fn gossip(&mut self, id: NodeId) {
        let gossip = self.step(id, |shard, context, _, _| {
            while shard.sweep(context, 3_600_000) {}
            shard.take_gossip(context, 1_000)
        });
        let peers: Vec<NodeId> = self.nodes.keys().copied().filter(|n| *n != id).collect();
        for peer in peers {
            if self.cut.is_some_and(|cut| cut == peer || cut == id) {
                self.missed.insert((id, peer), Cursor::default());
                continue;
            }
            let mut gossip = gossip.clone();
            if let Some(mut cursor) = self.missed.remove(&(id, peer)) {
                // One counter at a time, so that the cursor is used again.
                let more = self.step(id, |shard, context, limits, _| {
                    shard.repeat_gossip(
                        context,
                        &|_| Some(limits.clone()),
                        &mut cursor,
                        1,
                        &mut gossip,
                    )
                });
                if more {
                    self.missed.insert((id, peer), cursor);
                }
            }
            self.send(id, peer, Message::CounterGossip(gossip));
        }
    }

    /// A node hears that another has spent so much of a counter.
    pub(crate) fn hear_report(&mut self, to: NodeId, by: NodeId, counter: CounterId, spent: u64) {
        let sender = Sender { node: by, boot: BootId(1) };
        let mine = CounterReport { spent, limit: 100, ..CounterReport::default() };
        let gossip = CounterGossip { counter, mine, given: Vec::new() };
        self.step(to, |shard, context, limits, out| {
            shard.handle_gossip(context, &|_| Some(limits.clone()), &sender, &gossip, out)
        });
    }
}
