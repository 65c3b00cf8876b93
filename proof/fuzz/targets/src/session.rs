//! A node's counters among peers that lie.
//!
//! Drives one real shard with explicit time, as the node would drive it: a message is handled after
//! its sender's incarnation is recorded, and late messages are dropped. A ledger beside it holds
//! what the shard must have: its share plus tokens received, minus tokens given and spent. Peers
//! may lie about everything, so the target judges only this node and not the cluster: the node must
//! never spend or give tokens that it does not have.

mod ledger;
mod speech;

use std::collections::BTreeMap;

use fluxgate_engine::quota::{
    Context, CounterGossip, CounterId, Cursor, Effect, Entitlement, Handoff, Incarnation,
    Incarnations, Peer, Sender, Shard, Step, SubjectLimits, TransferReply, TransferRequest,
    WaitPolicy, WaiterId,
};
use fluxgate_engine::share_map::ShareMap;
use fluxgate_engine::state::View;
use fluxgate_types::{BootId, BootNs, ClusterMs, Cost, KeyId, LogIndex, NodeId, Subject};
use ledger::Account;
use speech::{report, sent_and_read, specs};

use crate::source::Source;

const ME: NodeId = NodeId(1);
const BOOT: BootId = BootId(1);
const PEERS: [NodeId; 2] = [NodeId(2), NodeId(3)];
const KEYS: [&str; 2] = ["key_000000000001", "key_000000000002"];
const PERIOD_MS: u64 = 1_000;
const STEPS_MAX: usize = 400;
/// Start of the session, milliseconds of cluster time.
const BEGIN_MS: u64 = 1_700_000_000_000;

pub(crate) struct Session {
    shard: Shard,
    view: View,
    incarnation: Incarnation,
    key_limits: BTreeMap<Subject, SubjectLimits>,
    boot: BootNs,
    now: ClusterMs,
    leased: bool,
    draining: bool,
    waiter: u64,
    waiting: BTreeMap<WaiterId, (Subject, u64)>,
    handoffs: Vec<(Sender, Handoff)>,
    accounts: BTreeMap<CounterId, Account>,
    /// Counters that the present step spent from or requested tokens for.
    touched: Vec<(CounterId, &'static str)>,
    out: Vec<Effect>,
}

pub(crate) fn run(source: &mut Source<'_>) {
    let mut session = Session::new(source);
    for _ in 0..STEPS_MAX {
        if source.is_empty() {
            break;
        }
        session.step(source);
    }
}

impl Session {
    fn new(source: &mut Source<'_>) -> Self {
        let mut nodes = vec![(ME, 1 + u32::from(source.byte() % 3))];
        nodes.extend(PEERS.map(|peer| (peer, 1 + u32::from(source.byte() % 3))));
        let map = ShareMap { from: ClusterMs(0), nodes };
        let mut incarnations = Incarnations::default();
        incarnations.note(ME, BOOT);
        let entitlement = match source.below(3) {
            0 => Some(Entitlement::All),
            1 => Some(Entitlement::After {
                from: ClusterMs(BEGIN_MS + source.short()),
                index: LogIndex(1),
            }),
            _ => None,
        };
        let key = |text: &str| Subject::from(text.parse::<KeyId>().expect("an id"));
        let key_limits = KEYS.map(|text| {
            let count = 1 + source.below(2);
            (key(text), SubjectLimits { created: LogIndex(1), specs: specs(source, count) })
        });
        Self {
            shard: Shard::new(WaitPolicy::default()),
            view: View { share_maps: vec![map], ..View::default() },
            incarnation: Incarnation {
                me: ME,
                entitlement,
                first_lease: None,
                carryover: None,
                reached: ClusterMs(0),
                incarnations_tag: incarnations.tag(),
                incarnations,
                peers: PEERS.map(Peer::new).to_vec(),
                clock_error_ms_max: 100,
            },
            key_limits: key_limits.into(),
            boot: BootNs(1_000_000_000),
            now: ClusterMs(BEGIN_MS),
            leased: true,
            draining: false,
            waiter: 0,
            waiting: BTreeMap::new(),
            handoffs: Vec::new(),
            accounts: BTreeMap::new(),
            touched: Vec::new(),
            out: Vec::new(),
        }
    }

    /// One step of the real shard, in the current context.
    fn with<R>(
        &mut self,
        work: impl FnOnce(&mut Shard, &Context<'_>, Find<'_>, &mut Vec<Effect>) -> R,
    ) -> R {
        let Self { shard, view, incarnation, key_limits, out, .. } = self;
        let context = Context {
            boot: self.boot,
            now: self.now,
            leased: self.leased,
            horizon: ClusterMs(u64::MAX),
            view,
            incarnation,
        };
        let find = |key: &Subject| key_limits.get(key).cloned();
        work(shard, &context, &find, out)
    }

    fn step(&mut self, source: &mut Source<'_>) {
        match source.below(16) {
            0 => {
                let ms = u64::from(source.byte());
                self.boot = self.boot.plus_ms(ms);
                self.now = self.now + ms;
            }
            1..=3 => self.request(source),
            4 | 5 => self.transfer_request(source),
            6 | 7 => self.transfer_reply(source),
            8 => self.incoming_gossip(source),
            9 => {
                let (peer, counter) = (source.pick(&PEERS), self.counter(source));
                self.with(|shard, context, find, out| {
                    shard.handle_transfer_failed(context, find, peer, &counter, out);
                });
            }
            10 => {
                self.with(|shard, context, find, out| shard.handle_timeout(context, find, out));
            }
            11 => self.change_limits(source),
            12 => self.change_incarnation(source),
            13 => {
                self.with(|shard, context, _, _| shard.sweep(context, 10));
            }
            14 => self.outgoing_gossip(source),
            _ => self.drain(source),
        }
        self.handle_effects();
    }

    fn request(&mut self, source: &mut Source<'_>) {
        let (key, cost) = (self.key(source), u64::from(source.byte() % 6));
        let key_limits = self.key_limits[&key].clone();
        self.waiter += 1;
        let waiter = WaiterId(self.waiter);
        let step = self.with(|shard, context, _, out| {
            shard.handle_request(context, &key, &key_limits, Cost(cost), waiter, out)
        });
        match step {
            Step::Decided(decision) => self.decided(&key, cost, &decision, &key_limits.specs),
            Step::Waiting => drop(self.waiting.insert(waiter, (key, cost))),
        }
    }

    /// Handles the effects of a step: decisions of queued requests.
    fn handle_effects(&mut self) {
        for effect in std::mem::take(&mut self.out) {
            match effect {
                Effect::Decided { waiter, decision, limits } => {
                    let waited = self.waiting.remove(&waiter);
                    let (key, cost) =
                        waited.expect("only a queued request is decided, and only once");
                    self.decided(&key, cost, &decision, &limits);
                }
                Effect::Again { .. } => unreachable!("every request is charged to one subject"),
                Effect::TransferRequest { peer, request } => {
                    assert!(
                        PEERS.contains(&peer) && request.need > 0 && request.want >= request.need
                    );
                    self.touched.push((request.counter, "asked"));
                }
            }
        }
        // One step may decide several requests: check the ledger after the last.
        for (counter, how) in std::mem::take(&mut self.touched) {
            self.check_ledger(&counter, how);
            assert!(how != "spent" || self.balance(&counter) >= 0, "spent too much: {counter:?}");
        }
    }

    fn transfer_request(&mut self, source: &mut Source<'_>) {
        let sender = self.sender(source);
        let request = TransferRequest {
            counter: self.counter(source),
            need: source.number(),
            want: source.number(),
            got: source.number(),
            mine: report(source, self.incarnation.incarnations_tag),
        };
        let request: TransferRequest = sent_and_read(&request);
        let Some(sender) = sender else { return };
        let before = self.given_to(&request.counter, &sender);
        let reply = self.with(|shard, context, find, out| {
            shard.handle_transfer_request(context, find, &sender, &request, out)
        });
        assert_eq!(reply.counter, request.counter);
        if self.draining {
            assert_eq!(reply.given, 0, "a draining node reported given tokens");
            return;
        }
        assert!(reply.given >= before || reply.mine.is_none(), "a total of given tokens fell");
        if reply.given > before {
            assert!(self.leased, "gave without a lease");
            let account = self.accounts.entry(request.counter).or_default();
            account.given.insert((sender.node, sender.boot), reply.given);
            // The same step may have admitted requests that waited here.
            self.handle_effects();
            self.check_ledger(&request.counter, "given");
            assert!(self.balance(&request.counter) >= 0, "gave what it did not hold: {reply:?}");
        }
    }

    fn transfer_reply(&mut self, source: &mut Source<'_>) {
        let sender = self.sender(source);
        let known = (0..source.below(3)).map(|_| (NodeId(source.number()), source.number()));
        let known = known.collect();
        let reply = TransferReply {
            counter: self.counter(source),
            given: source.number(),
            mine: source.once_in(2).then(|| report(source, self.incarnation.incarnations_tag)),
            known,
        };
        let reply: TransferReply = sent_and_read(&reply);
        let Some(sender) = sender else { return };
        let taken = self.with(|shard, context, find, out| {
            shard.handle_transfer_reply(context, find, &sender, &reply, out)
        });
        if taken {
            self.got(&reply.counter, &sender, reply.given);
        }
    }

    fn incoming_gossip(&mut self, source: &mut Source<'_>) {
        let sender = self.sender(source);
        let given = source.number();
        let to = if source.once_in(4) { BootId(source.number()) } else { BOOT };
        let gossip = CounterGossip {
            counter: self.counter(source),
            mine: report(source, self.incarnation.incarnations_tag),
            given: vec![(NodeId(source.number()), BootId(1), 7), (ME, to, given)],
        };
        let gossip: CounterGossip = sent_and_read(&gossip);
        let Some(sender) = sender else { return };
        let known = self.shard.observe(&gossip.counter).is_some();
        self.with(|shard, context, find, out| {
            shard.handle_gossip(context, find, &sender, &gossip, out)
        });
        let mine = gossip.given.iter().find(|(node, boot, _)| (*node, *boot) == (ME, BOOT));
        if let (true, Some((_, _, given))) = (known, mine) {
            self.got(&gossip.counter, &sender, *given);
        }
    }

    fn change_limits(&mut self, source: &mut Source<'_>) {
        let key = self.key(source);
        // The same names, so the same counters with other budgets, or one limit more or less.
        let count = 1 + source.below(2);
        let limits = specs(source, count);
        if let Some(known) = self.key_limits.get_mut(&key) {
            known.specs = limits;
        }
        // Remaining may rise when the limit is raised, and again when it returns.
        let of_key = self.accounts.iter_mut().filter(|(counter, _)| counter.subject == key);
        of_key.for_each(|(_, account)| account.shown = None);
    }

    fn change_incarnation(&mut self, source: &mut Source<'_>) {
        match source.below(4) {
            0 => self.leased = !self.leased,
            1 => {
                let peer = source.pick(&PEERS);
                let boot = self
                    .incarnation
                    .incarnations
                    .of(peer)
                    .map_or(1, |boot| boot.0.saturating_add(1));
                self.incarnation.incarnations.note(peer, BootId(boot));
                self.incarnation.incarnations_tag = self.incarnation.incarnations.tag();
            }
            2 => {
                let at = source.below(PEERS.len());
                let peer = &mut self.incarnation.peers[at];
                peer.reachable = !peer.reachable;
            }
            _ => {
                let from = self.view.share_maps.last().map_or(0, |map| map.from.0);
                let from = ClusterMs(self.now.0.max(from) + 1 + source.short());
                let weight = |source: &mut Source<'_>| 1 + u32::from(source.byte() % 3);
                let mut nodes = vec![(ME, weight(source))];
                nodes.extend(PEERS.map(|peer| (peer, weight(source))));
                self.view.share_maps.push(ShareMap { from, nodes });
            }
        }
    }

    fn outgoing_gossip(&mut self, source: &mut Source<'_>) {
        let most = source.below(4);
        let gossip = self.with(|shard, context, _, _| shard.take_gossip(context, most));
        assert!(gossip.len() <= most);
        for gossip in gossip {
            for (node, boot, given) in &gossip.given {
                let account = self.accounts.entry(gossip.counter).or_default();
                let known = account.given.get(&(*node, *boot)).copied();
                assert_eq!(
                    known,
                    Some(*given),
                    "gossip names tokens that were not given: {gossip:?}"
                );
            }
            self.check_ledger(&gossip.counter, "gossip");
        }
        let key = self.key(source);
        let _ = self.shard.usage(ME, &key);
    }

    fn drain(&mut self, source: &mut Source<'_>) {
        if !self.draining {
            // Rarely: little can happen after it.
            self.draining = source.once_in(8);
            if self.draining {
                self.shard.begin_drain();
            }
            return;
        }
        if source.once_in(2) {
            if let Some((to, handoff)) = self.handoffs.pop() {
                // Tokens for an incarnation that has ended count as lost, and are not taken back.
                let observed = self.shard.observe(&handoff.reply.counter);
                let back = observed.is_some_and(|seen| seen.with(to.node, to.boot).is_some());
                self.shard.take_back(&to, &handoff);
                let account = self.accounts.entry(handoff.reply.counter).or_default();
                let given = account.given.entry((to.node, to.boot)).or_default();
                *given -= if back { handoff.tokens } else { 0 };
                self.check_ledger(&handoff.reply.counter, "taken back");
            }
            let (mut cursor, mut left) = (Cursor::default(), BTreeMap::new());
            while self.shard.carryover(&mut cursor, 2, &mut left) {}
            return;
        }
        let Some(to) = self.sender(source) else { return };
        let most = source.below(3);
        let handoffs = self.with(|shard, context, find, _| {
            let (mut cursor, mut handoffs) = (Cursor::default(), Vec::new());
            while handoffs.len() < most
                && shard.drain(context, find, &to, &mut cursor, 1, &mut handoffs)
            {}
            handoffs
        });
        for handoff in handoffs {
            let counter = handoff.reply.counter;
            let account = self.accounts.entry(counter).or_default();
            *account.given.entry((to.node, to.boot)).or_default() += handoff.tokens;
            assert_eq!(account.given[&(to.node, to.boot)], handoff.reply.given);
            self.check_ledger(&counter, "drained");
            // The drain must give everything, by the current limit. A counter from which more was
            // spent than a lowered limit allows has nothing to give and only reports.
            let left = self.balance(&counter);
            let is_spent = left == 0 || (handoff.tokens == 0 && left < 0);
            assert!(is_spent, "gave what it did not hold, or not all: {left}, {handoff:?}");
            self.handoffs.push((to, handoff));
        }
    }
}

type Find<'a> = &'a dyn Fn(&Subject) -> Option<SubjectLimits>;
