//! A few nodes with several shards each, under virtual time, and requests over several subjects.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fluxgate_engine::lease::FirstLease;
use fluxgate_engine::quota::{
    Charge, Context, CounterGossip, CounterId, Decision, Effect, Entitlement, Incarnation,
    Incarnations, Locked, Peer, Sender, Shard, Step, SubjectLimits, TransferReply, TransferRequest,
    Verdict, WaitPolicy, WaiterId,
};
use fluxgate_engine::share_map::ShareMap;
use fluxgate_engine::state::View;
use fluxgate_engine::state::record::LimitSpec;
use fluxgate_types::id::mix64;
use fluxgate_types::{
    BootId, BootNs, ClusterMs, Cost, Limit, LogIndex, NodeId, Subject, SubjectKind, SubjectSeed,
};

const START_MS: u64 = 1_705_747_200_000;
const SHARDS: usize = 3;
const SEED: SubjectSeed = SubjectSeed([9; 16]);
/// The one window of every counter here.
pub(crate) const PERIOD_MS: u64 = 60_000;

pub(crate) fn subject(name: &str) -> Subject {
    Subject::named(&SEED, SubjectKind::Pool, name)
}

#[derive(Clone)]
enum Message {
    Asks(Vec<TransferRequest>),
    Replies(Vec<TransferReply>),
    Gossip(Vec<CounterGossip>),
}

struct Node {
    shards: Vec<Shard>,
    incarnation: Incarnation,
    outbox: BTreeMap<NodeId, Vec<TransferRequest>>,
    busy: BTreeSet<NodeId>,
}

/// What a request asked for.
type Asked = Vec<(Subject, u64)>;

#[derive(Default)]
pub(crate) struct Net {
    nodes: BTreeMap<NodeId, Node>,
    view: View,
    limits: BTreeMap<Subject, SubjectLimits>,
    /// Verdicts in the order in which they were given.
    pub(crate) verdicts: Vec<(Asked, Decision)>,
    /// What was admitted, by subject.
    pub(crate) admitted: BTreeMap<Subject, u64>,
    /// Denials at a moment when all charges could have been paid; one of 0 needs a token to see.
    pub(crate) false_denials: u64,
    pub(crate) loss_percent: u64,
    /// By how much messages differ in how long they take, microseconds.
    pub(crate) jitter_us: u64,
    events: BTreeMap<(u64, u64), (NodeId, Sender, Message)>,
    waiters: BTreeMap<(NodeId, WaiterId), Asked>,
    now_us: u64,
    next: u64,
    random: u64,
}

fn place(subject: &Subject) -> usize {
    usize::try_from(subject.mix() % SHARDS as u64).expect("small")
}

impl Net {
    /// Nodes 1 to `nodes` with equal shares, and a limit for each subject.
    pub(crate) fn new(random: u64, nodes: u64, limits: &[(Subject, u64)]) -> Self {
        let ids: Vec<NodeId> = (1..=nodes).map(NodeId).collect();
        let map = ShareMap { from: ClusterMs(0), nodes: ids.iter().map(|id| (*id, 1)).collect() };
        let view = View { share_maps: vec![map], seed: Some(SEED), ..View::default() };
        let mut net = Self { view, random, jitter_us: 200, ..Self::default() };
        for (subject, tokens) in limits {
            let spec = LimitSpec::new(Limit::new("l", *tokens, PERIOD_MS));
            let limits = SubjectLimits { created: LogIndex(1), specs: [spec].into() };
            net.limits.insert(*subject, limits);
        }
        let mut incarnations = Incarnations::default();
        ids.iter().for_each(|id| assert!(incarnations.note(*id, BootId(1))));
        for me in &ids {
            let incarnation = Incarnation {
                me: *me,
                entitlement: Some(Entitlement::All),
                first_lease: Some(FirstLease { at: ClusterMs(START_MS), index: LogIndex(5) }),
                carryover: None,
                reached: ClusterMs(0),
                incarnations_tag: incarnations.tag(),
                incarnations: incarnations.clone(),
                peers: ids.iter().filter(|id| *id != me).map(|id| Peer::new(*id)).collect(),
                clock_error_ms_max: 1_000,
            };
            let shards = (0..SHARDS).map(|_| Shard::new(WaitPolicy::default())).collect();
            let (outbox, busy) = Default::default();
            net.nodes.insert(*me, Node { shards, incarnation, outbox, busy });
        }
        net
    }

    pub(crate) fn any(&mut self, below: u64) -> u64 {
        self.random = mix64(self.random);
        self.random % below
    }

    pub(crate) fn pick(&mut self, of: &[Subject]) -> Subject {
        of[usize::try_from(self.any(of.len() as u64)).expect("an index")]
    }

    pub(crate) fn tokens(&self, subject: &Subject) -> u64 {
        self.limits[subject].specs[0].limit.tokens
    }

    fn left(&self, subject: &Subject) -> u64 {
        let tokens = self.limits.get(subject).map_or(0, |limits| limits.specs[0].limit.tokens);
        tokens - self.admitted.get(subject).copied().unwrap_or(0)
    }

    pub(crate) fn count(&self, verdict: Verdict) -> usize {
        self.verdicts.iter().filter(|(_, decision)| decision.verdict == verdict).count()
    }

    /// What all nodes together have spent of a subject, by their own accounts.
    pub(crate) fn spent(&self, subject: &Subject) -> u64 {
        let limit = &self.limits[subject].specs[0];
        let window = limit.limit.window_at(ClusterMs(START_MS)).number;
        let counter = CounterId { subject: *subject, limit: limit.tag, window };
        let of = |node: &Node| node.shards[place(subject)].observe(&counter).map_or(0, |c| c.spent);
        self.nodes.values().map(of).sum()
    }

    /// Whether any request still waits.
    pub(crate) fn has_waiting(&self) -> bool {
        !self.waiters.is_empty()
    }

    fn step<R>(
        &mut self,
        id: NodeId,
        step: impl FnOnce(&mut [Shard], &Context<'_>, &Self, &mut Vec<Effect>) -> R,
    ) -> R {
        // Out of the network while it works, so that the step may read the rest.
        let mut node = self.nodes.remove(&id).expect("a node");
        let mut out = Vec::new();
        let context = Context {
            boot: BootNs(self.now_us * 1_000),
            now: ClusterMs(START_MS + self.now_us / 1_000),
            leased: true,
            horizon: ClusterMs(u64::MAX),
            view: &self.view,
            incarnation: &node.incarnation,
        };
        let result = step(&mut node.shards, &context, self, &mut out);
        self.nodes.insert(id, node);
        self.carry_out(id, out);
        result
    }

    fn locked<R>(
        shards: &mut [Shard],
        subjects: impl Iterator<Item = Subject>,
        step: impl FnOnce(&mut Locked<'_, '_>) -> R,
    ) -> R {
        let places: Vec<usize> = subjects.map(|subject| place(&subject)).collect();
        let used: BTreeSet<usize> = places.iter().copied().collect();
        let at: Vec<usize> =
            places.iter().map(|place| used.iter().position(|u| u == place).expect("one")).collect();
        let chosen = shards.iter_mut().enumerate().filter(|(place, _)| used.contains(place));
        let mut shards: Vec<&mut Shard> = chosen.map(|(_, shard)| shard).collect();
        step(&mut Locked { shards: &mut shards, at: &at })
    }

    fn carry_out(&mut self, id: NodeId, mut effects: Vec<Effect>) {
        // What is decided already is known before anything else is decided.
        effects.sort_by_key(|effect| matches!(effect, Effect::Again { .. }));
        for effect in effects {
            match effect {
                Effect::TransferRequest { peer, request } => {
                    let node = self.nodes.get_mut(&id).expect("a node");
                    node.outbox.entry(peer).or_default().push(request);
                    self.flush(id, peer);
                }
                Effect::Decided { waiter, decision, .. } => {
                    let asked = self.waiters.remove(&(id, waiter)).expect("it is decided once");
                    self.settle(asked, decision);
                }
                Effect::Again { waiter, joint } => self.step(id, |shards, context, net, out| {
                    let subjects = joint.charges.iter().map(|charge| charge.subject);
                    let limits: Vec<Option<SubjectLimits>> =
                        subjects.clone().map(|s| net.limits.get(&s).cloned()).collect();
                    Self::locked(shards, subjects, |locked| {
                        locked.handle_again(context, &joint, &limits, waiter, out);
                    });
                }),
            }
        }
    }

    /// A request arrives at a node.
    pub(crate) fn request(&mut self, id: NodeId, asked: &[(Subject, u64)]) {
        self.next += 1;
        let waiter = WaiterId(self.next);
        // Registered first: the step itself may settle it.
        self.waiters.insert((id, waiter), asked.to_vec());
        let step = self.step(id, |shards, context, net, out| {
            if let [(subject, cost)] = asked {
                let (shard, limits) = (&mut shards[place(subject)], &net.limits[subject]);
                return shard.handle_request(context, subject, limits, Cost(*cost), waiter, out);
            }
            let charge = |(subject, cost): &(Subject, u64)| {
                let limits = net.limits[subject].clone();
                Charge { subject: *subject, limits, cost: Cost(*cost) }
            };
            let charges: Vec<Charge> = asked.iter().map(charge).collect();
            Self::locked(shards, asked.iter().map(|(subject, _)| *subject), |locked| {
                locked.handle_joint(context, &charges, waiter, out)
            })
        });
        if let Step::Decided(decision) = step {
            self.waiters.remove(&(id, waiter));
            self.settle(asked.to_vec(), decision);
        }
    }

    fn settle(&mut self, asked: Asked, decision: Decision) {
        let payable = asked.iter().all(|(subject, cost)| self.left(subject) >= (*cost).max(1));
        match decision.verdict {
            Verdict::Admitted => {
                for (subject, cost) in &asked {
                    assert!(self.left(subject) >= *cost, "above the limit: {asked:?}");
                    *self.admitted.entry(*subject).or_default() += cost;
                }
            }
            Verdict::Limited => self.false_denials += u64::from(payable),
            Verdict::Degraded | Verdict::Unavailable => {}
        }
        self.verdicts.push((asked, decision));
    }

    fn flush(&mut self, from: NodeId, to: NodeId) {
        let node = self.nodes.get_mut(&from).expect("a node");
        let asks = node.outbox.get_mut(&to).map(std::mem::take).unwrap_or_default();
        if asks.is_empty() {
            return;
        }
        if !node.busy.insert(to) {
            node.outbox.insert(to, asks);
            return;
        }
        self.send(from, to, &Message::Asks(asks));
    }

    fn send(&mut self, from: NodeId, to: NodeId, message: &Message) {
        if self.any(100) < self.loss_percent {
            return;
        }
        let at = self.now_us + 100 + self.any(self.jitter_us + 1);
        self.next += 1;
        let sender = Sender { node: from, boot: BootId(1) };
        self.events.insert((at, self.next), (to, sender, message.clone()));
    }

    fn deliver(&mut self, to: NodeId, from: &Sender, message: Message) {
        match message {
            Message::Asks(asks) => {
                let answer = |ask: &TransferRequest| {
                    self.step(to, |shards, context, net, out| {
                        let find = |subject: &Subject| net.limits.get(subject).cloned();
                        let shard = &mut shards[place(&ask.counter.subject)];
                        shard.handle_transfer_request(context, &find, from, ask, out)
                    })
                };
                let replies = asks.iter().map(answer).collect();
                self.send(to, from.node, &Message::Replies(replies));
            }
            Message::Replies(replies) => {
                for reply in &replies {
                    self.step(to, |shards, context, net, out| {
                        let find = |subject: &Subject| net.limits.get(subject).cloned();
                        let shard = &mut shards[place(&reply.counter.subject)];
                        shard.handle_transfer_reply(context, &find, from, reply, out)
                    });
                }
                self.nodes.get_mut(&to).expect("a node").busy.remove(&from.node);
                self.flush(to, from.node);
            }
            Message::Gossip(gossip) => {
                for one in &gossip {
                    self.step(to, |shards, context, net, out| {
                        let find = |subject: &Subject| net.limits.get(subject).cloned();
                        let shard = &mut shards[place(&one.counter.subject)];
                        shard.handle_gossip(context, &find, from, one, out)
                    });
                }
            }
        }
    }

    /// Lets so much time pass, with gossip every 100 ms.
    pub(crate) fn run_ms(&mut self, ms: u64) {
        let until = self.now_us + ms * 1_000;
        while self.now_us < until {
            let tick = (self.now_us / 1_000 + 1) * 1_000;
            while let Some(event) = self.events.first_entry().filter(|event| event.key().0 <= tick)
            {
                let ((at, _), (to, from, message)) = event.remove_entry();
                self.now_us = self.now_us.max(at);
                self.deliver(to, &from, message);
            }
            self.now_us = tick;
            let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
            for id in ids {
                for place in 0..SHARDS {
                    self.step(id, |shards, context, net, out| {
                        let find = |subject: &Subject| net.limits.get(subject).cloned();
                        shards[place].handle_timeout(context, &find, out);
                    });
                }
                if self.loss_percent > 0 && tick.is_multiple_of(300_000) {
                    // The driver's time-out, after which a lost message is given up.
                    self.nodes.get_mut(&id).expect("a node").busy.clear();
                }
                if tick.is_multiple_of(100_000) {
                    self.gossip(id);
                }
            }
        }
    }

    fn gossip(&mut self, id: NodeId) {
        for place in 0..SHARDS {
            let gossip =
                self.step(id, |shards, context, _, _| shards[place].take_gossip(context, 1_000));
            let peers: Vec<NodeId> =
                self.nodes.keys().copied().filter(|peer| *peer != id).collect();
            for peer in peers.into_iter().filter(|_| !gossip.is_empty()) {
                self.send(id, peer, &Message::Gossip(gossip.clone()));
            }
        }
    }

    /// Changes the limit of a subject, on all nodes at once.
    pub(crate) fn set_limit(&mut self, subject: &Subject, tokens: u64) {
        let specs: Arc<[LimitSpec]> = [LimitSpec::new(Limit::new("l", tokens, PERIOD_MS))].into();
        self.limits.insert(*subject, SubjectLimits { created: LogIndex(1), specs });
    }

    /// A subject does not exist any more.
    pub(crate) fn erase(&mut self, subject: &Subject) {
        self.limits.remove(subject);
    }
}
