//! A node's counters between peers that say anything.
//!
//! One real shard is driven with time given, as the node would drive it: messages are handed over
//! once their sender's life is noted, and late ones are dropped. Beside it a ledger is kept of what
//! the shard must have: the share, and what it was given, less what it gave and spent. Peers may lie
//! about everything, so nothing can be said of the whole cluster here; of this node it must hold
//! that it never spends or gives what it does not have.

mod ledger;
mod speech;

use std::collections::BTreeMap;
use std::sync::Arc;

use fluxgate_engine::quota::{
    Context, CounterGossip, CounterId, Cursor, Effect, Entitlement, Handoff, Incarnation,
    Incarnations, KeyLimits, Sender, Shard, Step, TransferReply, TransferRequest, WaitPolicy,
};
use fluxgate_engine::share_map::ShareMap;
use fluxgate_engine::state::View;
use fluxgate_types::{BootId, BootNs, ClusterMs, KeyId, LogIndex, NodeId};

use crate::source::Source;
use ledger::Account;
use speech::{carried, report, specs};

const ME: NodeId = NodeId(1);
const BOOT: BootId = BootId(1);
const PEERS: [NodeId; 2] = [NodeId(2), NodeId(3)];
const KEYS: [&str; 2] = ["key_000000000001", "key_000000000002"];
const PERIOD_MS: u64 = 1_000;
/// Steps of one session.
const STEPS_MAX: usize = 400;
/// When the session begins, milliseconds of cluster time.
const BEGIN_MS: u64 = 1_700_000_000_000;

pub(crate) struct Session {
    shard: Shard,
    view: View,
    incarnation: Incarnation,
    limits: BTreeMap<KeyId, KeyLimits>,
    boot: BootNs,
    now: ClusterMs,
    leased: bool,
    draining: bool,
    waiter: u64,
    waiting: BTreeMap<u64, (KeyId, u64)>,
    gifts: Vec<(Sender, Handoff)>,
    accounts: BTreeMap<CounterId, Account>,
    /// What the present step spent from or asked for.
    touched: Vec<(CounterId, &'static str)>,
    out: Vec<Effect>,
}

/// Runs one session.
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
        let key = |text: &str| text.parse::<KeyId>().expect("an id");
        let limits = KEYS.map(|text| {
            let count = 1 + source.below(2);
            (key(text), KeyLimits { created: LogIndex(1), limits: specs(source, count) })
        });
        Self {
            shard: Shard::new(WaitPolicy::default()),
            view: View { defaults: Arc::new([]), share_maps: vec![map], nodes: BTreeMap::new() },
            incarnation: Incarnation {
                me: ME,
                entitlement,
                first_lease: None,
                carryover: None,
                reached: ClusterMs(0),
                incarnations_tag: incarnations.tag(),
                incarnations,
                peers: PEERS.map(|peer| (peer, true)).to_vec(),
                clock_error_ms_max: 100,
            },
            limits: limits.into(),
            boot: BootNs(1_000_000_000),
            now: ClusterMs(BEGIN_MS),
            leased: true,
            draining: false,
            waiter: 0,
            waiting: BTreeMap::new(),
            gifts: Vec::new(),
            accounts: BTreeMap::new(),
            touched: Vec::new(),
            out: Vec::new(),
        }
    }

    /// One step of the real shard, in the context of now.
    fn with<R>(
        &mut self,
        work: impl FnOnce(&mut Shard, &Context<'_>, Find<'_>, &mut Vec<Effect>) -> R,
    ) -> R {
        let Self { shard, view, incarnation, limits, out, .. } = self;
        let context = Context {
            boot: self.boot,
            now: self.now,
            leased: self.leased,
            horizon: ClusterMs(u64::MAX),
            view,
            incarnation,
        };
        let find = |key: &KeyId| limits.get(key).cloned();
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
            4 | 5 => self.ask(source),
            6 | 7 => self.reply(source),
            8 => self.told(source),
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
            14 => self.tell(source),
            _ => self.drain(source),
        }
        self.settle();
    }

    fn request(&mut self, source: &mut Source<'_>) {
        let (key, cost) = (self.key(source), u64::from(source.byte() % 6));
        let limits = self.limits[&key].clone();
        self.waiter += 1;
        let waiter = self.waiter;
        let step = self.with(|shard, context, _, out| {
            shard.handle_request(context, &key, &limits, cost, waiter, out)
        });
        match step {
            Step::Decided(decision) => self.decided(&key, cost, &decision, &limits.limits),
            Step::Waiting => drop(self.waiting.insert(waiter, (key, cost))),
        }
    }

    /// Takes the effects of a step: what waited and is decided.
    fn settle(&mut self) {
        for effect in std::mem::take(&mut self.out) {
            match effect {
                Effect::Decided { waiter, decision, limits } => {
                    let waited = self.waiting.remove(&waiter);
                    let (key, cost) = waited.expect("decided once, and only what waits");
                    self.decided(&key, cost, &decision, &limits);
                }
                Effect::TransferRequest { peer, request: ask } => {
                    assert!(PEERS.contains(&peer) && ask.need > 0 && ask.want >= ask.need);
                    self.touched.push((ask.counter, "asked"));
                }
            }
        }
        // One step may decide several: the books are closed after the last.
        for (counter, how) in std::mem::take(&mut self.touched) {
            self.balanced(&counter, how);
            assert!(how != "spent" || self.balance(&counter) >= 0, "spent too much: {counter:?}");
        }
    }

    fn ask(&mut self, source: &mut Source<'_>) {
        let sender = self.sender(source);
        let ask = TransferRequest {
            counter: self.counter(source),
            need: source.number(),
            want: source.number(),
            got: source.number(),
            mine: report(source, self.incarnation.incarnations_tag),
        };
        let ask: TransferRequest = carried(&ask);
        let Some(sender) = sender else { return };
        let before = self.given_to(&ask.counter, &sender);
        let reply = self.with(|shard, context, find, out| {
            shard.handle_transfer_request(context, find, &sender, &ask, out)
        });
        assert_eq!(reply.counter, ask.counter);
        if self.draining {
            assert_eq!(reply.given, 0, "an answer of a node that stops says nothing of gifts");
            return;
        }
        assert!(reply.given >= before || reply.mine.is_none(), "a total fell");
        if reply.given > before {
            assert!(self.leased, "gave without a lease");
            let account = self.accounts.entry(ask.counter).or_default();
            account.given.insert((sender.node, sender.boot), reply.given);
            // What waited here may have been admitted in the same step.
            self.settle();
            self.balanced(&ask.counter, "given");
            assert!(self.balance(&ask.counter) >= 0, "gave what it did not hold: {reply:?}");
        }
    }

    fn reply(&mut self, source: &mut Source<'_>) {
        let sender = self.sender(source);
        let known = (0..source.below(3)).map(|_| (NodeId(source.number()), source.number()));
        let known = known.collect();
        let reply = TransferReply {
            counter: self.counter(source),
            given: source.number(),
            mine: source.once_in(2).then(|| report(source, self.incarnation.incarnations_tag)),
            known,
        };
        let reply: TransferReply = carried(&reply);
        let Some(sender) = sender else { return };
        let taken = self.with(|shard, context, find, out| {
            shard.handle_transfer_reply(context, find, &sender, &reply, out)
        });
        if taken {
            self.got(&reply.counter, &sender, reply.given);
        }
    }

    fn told(&mut self, source: &mut Source<'_>) {
        let sender = self.sender(source);
        let given = source.number();
        let to = if source.once_in(4) { BootId(source.number()) } else { BOOT };
        let told = CounterGossip {
            counter: self.counter(source),
            mine: report(source, self.incarnation.incarnations_tag),
            given: vec![(NodeId(source.number()), BootId(1), 7), (ME, to, given)],
        };
        let told: CounterGossip = carried(&told);
        let Some(sender) = sender else { return };
        let known = self.shard.observe(&told.counter).is_some();
        self.with(|shard, context, find, out| {
            shard.handle_gossip(context, find, &sender, &told, out)
        });
        let mine = told.given.iter().find(|(node, boot, _)| (*node, *boot) == (ME, BOOT));
        if let (true, Some((_, _, given))) = (known, mine) {
            self.got(&told.counter, &sender, *given);
        }
    }

    fn change_limits(&mut self, source: &mut Source<'_>) {
        let key = self.key(source);
        // The same names, so the same counters with other budgets, or one limit more or less.
        let count = 1 + source.below(2);
        let limits = specs(source, count);
        if let Some(known) = self.limits.get_mut(&key) {
            known.limits = limits;
        }
        // What remains of a limit may rise when it is raised, and back again.
        let of_key = self.accounts.iter_mut().filter(|(counter, _)| counter.key == key);
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
                self.incarnation.peers[at].1 = !self.incarnation.peers[at].1;
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

    fn tell(&mut self, source: &mut Source<'_>) {
        let most = source.below(4);
        let told = self.with(|shard, context, _, _| shard.take_gossip(context, most));
        assert!(told.len() <= most);
        for told in told {
            for (node, boot, given) in &told.given {
                let account = self.accounts.entry(told.counter).or_default();
                let known = account.given.get(&(*node, *boot)).copied();
                assert_eq!(known, Some(*given), "told of a gift that was none: {told:?}");
            }
            self.balanced(&told.counter, "told");
        }
        let key = self.key(source);
        let _ = self.shard.usage(ME, &key);
    }

    fn drain(&mut self, source: &mut Source<'_>) {
        if !self.draining {
            // Seldom: nothing much happens after it.
            self.draining = source.once_in(8);
            if self.draining {
                self.shard.begin_drain();
            }
            return;
        }
        if source.once_in(2) {
            if let Some((to, gift)) = self.gifts.pop() {
                // What went to a life that has ended by now counts as lost, and stays away.
                let observed = self.shard.observe(&gift.reply.counter);
                let incarnations = |(node, boot, ..): &(NodeId, Option<BootId>, u64, u64)| {
                    (*node, *boot) == (to.node, Some(to.boot))
                };
                let back = observed.is_some_and(|o| o.transfers.iter().any(incarnations));
                self.shard.take_back(&to, &gift);
                let account = self.accounts.entry(gift.reply.counter).or_default();
                let given = account.given.entry((to.node, to.boot)).or_default();
                *given -= if back { gift.tokens } else { 0 };
                self.balanced(&gift.reply.counter, "taken back");
            }
            let (mut cursor, mut left) = (Cursor::default(), BTreeMap::new());
            while self.shard.carryover(&mut cursor, 2, &mut left) {}
            return;
        }
        let Some(to) = self.sender(source) else { return };
        let most = source.below(3);
        let gifts = self.with(|shard, context, find, _| {
            let (mut cursor, mut gifts) = (Cursor::default(), Vec::new());
            while gifts.len() < most && shard.drain(context, find, &to, &mut cursor, 1, &mut gifts)
            {
            }
            gifts
        });
        for gift in gifts {
            let counter = gift.reply.counter;
            assert!(gift.tokens > 0);
            let account = self.accounts.entry(counter).or_default();
            *account.given.entry((to.node, to.boot)).or_default() += gift.tokens;
            assert_eq!(account.given[&(to.node, to.boot)], gift.reply.given);
            self.balanced(&counter, "drained");
            // All of it, and by the limit of now.
            assert_eq!(self.balance(&counter), 0, "gave what it did not hold: {gift:?}");
            self.gifts.push((to, gift));
        }
    }
}

type Find<'a> = &'a dyn Fn(&KeyId) -> Option<KeyLimits>;
