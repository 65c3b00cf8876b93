//! Findings of an adversarial review of the counters: each test states what must hold.

use std::collections::BTreeMap;
use std::sync::Arc;

use fluxgate_engine::lease::FirstLease;
use fluxgate_engine::quota::{
    Context, CounterGossip, CounterId, CounterReport, Entitlement, Incarnation, Incarnations, Peer,
    Sender, Shard, Sources, Step, SubjectLimits, TransferRequest, Verdict, WaitPolicy, WaiterId,
    with_context,
};
use fluxgate_engine::share_map::ShareMap;
use fluxgate_engine::state::record::LimitSpec;
use fluxgate_engine::state::{NodeRecord, View};
use fluxgate_types::{
    BootId, BootNs, ClusterMs, Cost, DirId, KeyId, Limit, LogIndex, NodeId, Subject,
};

const T0: u64 = 600_000_000;

fn incarnation(me: u64, others: &[(u64, u64)]) -> Incarnation {
    let mut incarnations = Incarnations::default();
    incarnations.note(NodeId(me), BootId(1));
    for (node, boot) in others {
        incarnations.note(NodeId(*node), BootId(*boot));
    }
    Incarnation {
        me: NodeId(me),
        entitlement: Some(Entitlement::All),
        first_lease: Some(FirstLease { at: ClusterMs(0), index: LogIndex(0) }),
        carryover: None,
        reached: ClusterMs(0),
        incarnations_tag: incarnations.tag(),
        incarnations,
        peers: others.iter().map(|(n, _)| Peer::new(NodeId(*n))).collect(),
        clock_error_ms_max: 1_000,
    }
}

fn view(maps: &[(u64, &[u64])], nodes: &[u64]) -> View {
    let record = |n: &u64| (NodeId(*n), NodeRecord { dir_id: DirId(*n), removed: false });
    let map = |(from, nodes): &(u64, &[u64])| ShareMap {
        from: ClusterMs(*from),
        nodes: nodes.iter().map(|n| (NodeId(*n), 1)).collect(),
    };
    View {
        defaults: Arc::new([]),
        share_maps: maps.iter().map(map).collect(),
        nodes: nodes.iter().map(record).collect(),
        ..View::default()
    }
}

fn limit(name: &str, tokens: u64, period_ms: u64) -> LimitSpec {
    LimitSpec::new(Limit::new(name, tokens, period_ms))
}

fn limits(specs: &[LimitSpec]) -> SubjectLimits {
    SubjectLimits { created: LogIndex(1), specs: specs.to_vec().into() }
}

fn context<'a>(now: u64, view: &'a View, incarnation: &'a Incarnation) -> Context<'a> {
    Context {
        boot: BootNs(now * 1_000_000),
        now: ClusterMs(now),
        leased: true,
        horizon: ClusterMs(u64::MAX),
        view,
        incarnation,
    }
}

fn key(n: u64) -> Subject {
    let text = format!("{n:012}");
    Subject::from(KeyId::new(text.as_bytes().try_into().expect("twelve digits")).expect("an id"))
}

fn admitted(
    shard: &mut Shard,
    context: &Context<'_>,
    key: &Subject,
    limits: &SubjectLimits,
) -> bool {
    let step = shard.handle_request(context, key, limits, Cost::ONE, WaiterId(0), &mut Vec::new());
    matches!(step, Step::Decided(d) if d.verdict == Verdict::Admitted)
}

/// A thread reads the clock, is delayed, and comes to the shard after the sweep has removed the
/// window that was current when the thread read the clock.
#[test]
fn a_delayed_thread_does_not_open_a_removed_window_again() {
    let (incarnation, view) =
        (incarnation(1, &[(2, 1), (3, 1)]), view(&[(0, &[1, 2, 3])], &[1, 2, 3]));
    let limits = limits(&[limit("l0", 300, 1_000)]);
    let (mut shard, key) = (Shard::new(WaitPolicy::default()), key(1));
    let early = context(T0 + 500, &view, &incarnation);
    let first = (0..100).filter(|_| admitted(&mut shard, &early, &key, &limits)).count();
    assert_eq!(first, 100, "its share");
    // Three seconds later another thread sweeps: `run_sweeps`, every second, with or without a lease.
    shard.sweep(&context(T0 + 3_500, &view, &incarnation), 3_600_000);
    // The thread that was delayed since `early` continues.
    for _ in 0..100 {
        admitted(&mut shard, &early, &key, &limits);
    }
    let window = limits.specs[0].limit.window_at(early.now).number;
    let usage = shard.usage(NodeId(1), &key);
    let spent: u64 = usage[0].series.iter().filter(|w| w.window == window).map(|w| w.spent).sum();
    assert_eq!(spent, 100, "the same share of the same window is spent a second time");
}

/// A world that changes between two reads: a map is applied, and then a lease is taken that promises
/// windows behind it.
struct Changing<'a> {
    before: (&'a View, &'a Incarnation),
    after: (&'a View, &'a Incarnation),
    // The read before which it changes, and reads so far.
    at: usize,
    reads: std::cell::Cell<usize>,
}

impl Changing<'_> {
    fn is_changed(&self) -> bool {
        self.reads.set(self.reads.get() + 1);
        self.reads.get() > self.at
    }
}

impl Sources for Changing<'_> {
    fn lease_until(&self) -> BootNs {
        BootNs(if self.is_changed() { u64::MAX } else { 0 })
    }

    fn horizon(&self) -> ClusterMs {
        ClusterMs(if self.is_changed() { u64::MAX } else { 0 })
    }

    fn boot(&self) -> BootNs {
        self.is_changed();
        BootNs(1)
    }

    fn cluster_at(&self, _boot: BootNs) -> ClusterMs {
        self.is_changed();
        ClusterMs(T0 + 100)
    }

    fn view(&self) -> impl std::ops::Deref<Target = Arc<View>> {
        Box::new(Arc::new(if self.is_changed() { self.after.0 } else { self.before.0 }.clone()))
    }

    fn incarnation(&self) -> impl std::ops::Deref<Target = Arc<Incarnation>> {
        Box::new(Arc::new(if self.is_changed() { self.after.1 } else { self.before.1 }.clone()))
    }
}

/// Between two reads of a context a map may be applied and a lease taken that promises windows behind
/// it. Wherever that falls, the window is opened under the new map or not at all.
#[test]
fn a_view_from_before_a_horizon_opens_no_window_under_the_old_map() {
    let (start, tokens) = (T0, 300);
    let old = view(&[(0, &[1, 2, 3])], &[1, 2, 3]);
    let new = view(&[(0, &[1, 2, 3]), (start, &[1, 2])], &[1, 2, 3]);
    let limits = limits(&[limit("l0", tokens, 60_000)]);
    for at in 0..=6 {
        let mut all = 0;
        for node in 1..=3 {
            let others: Vec<(u64, u64)> = (1..=3).filter(|n| *n != node).map(|n| (n, 1)).collect();
            let incarnation = incarnation(node, &others);
            let mut shard = Shard::new(WaitPolicy::default());
            // Node 3 was away for long enough to leave the map.
            let at = if node == 3 { at } else { 0 };
            let world = Changing {
                before: (&old, &incarnation),
                after: (&new, &incarnation),
                at,
                reads: std::cell::Cell::new(0),
            };
            with_context(&world, |here| {
                all += (0..tokens).filter(|_| admitted(&mut shard, here, &key(1), &limits)).count();
            });
        }
        assert!(all as u64 <= tokens, "{all} admitted of {tokens}, changed before read {at}");
    }
}

/// Gossip carries at most 4096 reports every 100 ms (`take_gossip`). If more counters than that
/// change each second, the list of unsent reports must not grow without a bound.
#[test]
fn unsent_reports_of_windows_that_are_over_are_dropped() {
    let (incarnation, view) =
        (incarnation(1, &[(2, 1), (3, 1)]), view(&[(0, &[1, 2, 3])], &[1, 2, 3]));
    // Scaled down a hundred times: 41 reports each 100 ms, 1000 keys used each second.
    let limits = limits(&[limit("l0", 30, 1_000)]);
    let mut shard = Shard::new(WaitPolicy::default());
    let mut lengths = Vec::new();
    for second in 0..60u64 {
        let now = T0 + second * 1_000;
        for k in 0..1_000 {
            admitted(&mut shard, &context(now + 1, &view, &incarnation), &key(k), &limits);
        }
        for part in 0..10 {
            shard.take_gossip(&context(now + part * 100, &view, &incarnation), 41);
        }
        while shard.sweep(&context(now + 999, &view, &incarnation), 3_600_000) {}
        lengths.push((shard.counters(), format!("{shard:?}").matches("CounterId").count()));
    }
    let (cells, dirty) = *lengths.last().unwrap();
    assert!(dirty <= 2 * cells, "{dirty} unsent reports for {cells} windows in memory");
}

/// A limit lowered below what was spent: one node with one counter would admit nothing more.
#[test]
fn a_limit_lowered_below_what_is_known_to_be_spent_admits_nothing_more() {
    let view = view(&[(0, &[1, 2, 3])], &[1, 2, 3]);
    let (high, low) = (limits(&[limit("l0", 30, 60_000)]), limits(&[limit("l0", 6, 60_000)]));
    let (one, two) = (incarnation(1, &[(2, 1), (3, 1)]), incarnation(2, &[(1, 1), (3, 1)]));
    let (mut a, mut b) = (Shard::new(WaitPolicy::default()), Shard::new(WaitPolicy::default()));
    let at = |incarnation| context(T0 + 1_000, &view, incarnation);
    let spent = (0..30).filter(|_| admitted(&mut a, &at(&one), &key(1), &high)).count();
    assert_eq!(spent, 10);
    assert!(admitted(&mut b, &at(&two), &key(1), &high));
    // Node 2 receives the report that node 1 has spent 10; then both apply the cut to 6.
    let find = |_: &Subject| Some(high.clone());
    for gossip in a.take_gossip(&at(&one), 8) {
        let sender = Sender { node: NodeId(1), boot: BootId(1) };
        b.handle_gossip(&at(&two), &find, &sender, &gossip, &mut Vec::new());
    }
    let after = (0..6).filter(|_| admitted(&mut b, &at(&two), &key(1), &low)).count();
    assert_eq!(after, 0, "11 of 6 were known to be spent at node 2");
}

/// A delayed thread brings a message of an ended incarnation to a counter that was opened under the
/// next one: the counter must not be tied to the ended incarnation.
#[test]
fn a_late_message_of_an_ended_incarnation_does_not_tie_the_counter_to_it() {
    let view = view(&[(0, &[1, 2])], &[1, 2]);
    let limits = limits(&[limit("l0", 20, 60_000)]);
    let counter = CounterId {
        subject: key(1),
        limit: limits.specs[0].tag,
        window: limits.specs[0].limit.window_at(ClusterMs(T0)).number,
    };
    let (older, newer) = (incarnation(1, &[(2, 1)]), incarnation(1, &[(2, 2)]));
    let find = |_: &Subject| Some(limits.clone());
    let mut shard = Shard::new(WaitPolicy::default());
    // Opened under the newer incarnation of node 2.
    assert!(admitted(&mut shard, &context(T0 + 1, &view, &newer), &key(1), &limits));
    // The driver accepted this message before node 2 restarted; then its thread was delayed.
    let mine = CounterReport {
        incarnations: older.incarnations_tag,
        limit: 20,
        spent: 1,
        ..CounterReport::default()
    };
    let gossip = CounterGossip { counter, mine, given: vec![(NodeId(1), BootId(1), 5)] };
    let sender = Sender { node: NodeId(2), boot: BootId(1) };
    shard.handle_gossip(&context(T0 + 2, &view, &older), &find, &sender, &gossip, &mut Vec::new());
    // The running incarnation requests tokens: this node has enough.
    let mine = CounterReport {
        incarnations: newer.incarnations_tag,
        limit: 20,
        ..CounterReport::default()
    };
    let ask = TransferRequest { counter, need: 3, want: 3, got: 0, mine };
    let sender = Sender { node: NodeId(2), boot: BootId(2) };
    let now = context(T0 + 3, &view, &newer);
    let reply = shard.handle_transfer_request(&now, &find, &sender, &ask, &mut Vec::new());
    assert_eq!(reply.given, 3, "the running incarnation of node 2 gets tokens in the same window");
}

/// The same, for tokens in that message: all other nodes count the tokens of the ended incarnation
/// as burned.
#[test]
fn late_tokens_of_an_ended_incarnation_give_no_false_proof() {
    let view = view(&[(0, &[1, 2, 3])], &[1, 2, 3]);
    let limits = limits(&[limit("l0", 30, 60_000)]);
    let counter = CounterId {
        subject: key(1),
        limit: limits.specs[0].tag,
        window: limits.specs[0].limit.window_at(ClusterMs(T0)).number,
    };
    let find = |_: &Subject| Some(limits.clone());
    let (one_old, one) = (incarnation(1, &[(2, 1), (3, 1)]), incarnation(1, &[(2, 2), (3, 1)]));
    let three = incarnation(3, &[(1, 1), (2, 2)]);
    let (mut a, mut c) = (Shard::new(WaitPolicy::default()), Shard::new(WaitPolicy::default()));
    // Node 1 opens the window under node 2's new incarnation and spends its share of 10.
    let spent =
        (0..10).filter(|_| admitted(&mut a, &context(T0 + 1, &view, &one), &key(1), &limits));
    assert_eq!(spent.count(), 10);
    // Delayed: node 2's first incarnation, which had spent 3, had given 5 to node 1.
    let mine = CounterReport {
        incarnations: one_old.incarnations_tag,
        limit: 30,
        spent: 3,
        ..CounterReport::default()
    };
    let gossip = CounterGossip { counter, mine, given: vec![(NodeId(1), BootId(1), 5)] };
    let sender = Sender { node: NodeId(2), boot: BootId(1) };
    a.handle_gossip(&context(T0 + 2, &view, &one_old), &find, &sender, &gossip, &mut Vec::new());
    // Node 3 spends its share, and receives the reports of node 1 and of node 2's second
    // incarnation, whose share is burned.
    let here = context(T0 + 3, &view, &three);
    assert_eq!((0..10).filter(|_| admitted(&mut c, &here, &key(1), &limits)).count(), 10);
    for gossip in a.take_gossip(&context(T0 + 3, &view, &one), 8) {
        let sender = Sender { node: NodeId(1), boot: BootId(1) };
        c.handle_gossip(&here, &find, &sender, &gossip, &mut Vec::new());
    }
    let burned = CounterReport {
        incarnations: three.incarnations_tag,
        limit: 30,
        burned: 10,
        ..CounterReport::default()
    };
    let gossip = CounterGossip { counter, mine: burned, given: vec![] };
    let sender = Sender { node: NodeId(2), boot: BootId(2) };
    c.handle_gossip(&here, &find, &sender, &gossip, &mut Vec::new());
    let step = c.handle_request(&here, &key(1), &limits, Cost::ONE, WaiterId(7), &mut Vec::new());
    let denied = matches!(step, Step::Decided(d) if d.verdict == Verdict::Limited);
    let left_at_a = a.held(&counter).unwrap();
    assert!(!(denied && left_at_a > 0), "denied as proven while node 1 holds {left_at_a}");
}

/// Two successive limits of a key have the same 32-bit tag and different periods. An admin can find
/// such names within a second.
#[test]
fn limits_with_the_same_tag_and_other_periods_have_their_own_counters() {
    let mut seconds = BTreeMap::new();
    for n in 0..300_000u32 {
        seconds.insert(limit(&format!("a{n}"), 30, 1_000).tag, n);
    }
    let (short, long) = (0..u32::MAX)
        .find_map(|n| {
            let name = format!("b{n}");
            let tag = limit(&name, 30, 600_000).tag;
            seconds.get(&tag).map(|a| (format!("a{a}"), name))
        })
        .unwrap();
    let (short, long) = (limit(&short, 30, 1_000), limit(&long, 30, 600_000));
    assert_eq!(short.tag, long.tag);
    let (incarnation, view) = (incarnation(1, &[]), view(&[(0, &[1])], &[1]));
    let mut shard = Shard::new(WaitPolicy::default());
    assert!(admitted(
        &mut shard,
        &context(T0 + 1, &view, &incarnation),
        &key(1),
        &limits(&[short])
    ));
    let long = limits(&[long]);
    let mut all = 0;
    for second in 1..60u64 {
        let now = context(T0 + second * 1_000, &view, &incarnation);
        shard.sweep(&now, 3_600_000);
        all += (0..30).filter(|_| admitted(&mut shard, &now, &key(1), &long)).count();
    }
    assert!(all <= 30, "{all} admitted of 30 in one window of ten minutes");
}

/// Counters of limits that a key has no more are forgotten.
#[test]
fn counters_of_limits_that_are_gone_are_forgotten() {
    let (incarnation, view) = (incarnation(1, &[]), view(&[(0, &[1])], &[1]));
    let mut shard = Shard::new(WaitPolicy::default());
    for n in 0..1_000u64 {
        let limits = limits(&[limit(&format!("n{n}"), 30, 1_000)]);
        let now = context(T0 + n * 5_000, &view, &incarnation);
        assert!(admitted(&mut shard, &now, &key(1), &limits));
        shard.sweep(&now, 3_600_000);
    }
    let kept = shard.usage(NodeId(1), &key(1)).len();
    assert!(kept < 10, "{kept} limits of one key are kept");
}

/// A thread that looked its key up before a limit was added comes to the queue after it: who waits there
/// came under both limits and takes from both.
#[test]
fn who_waits_is_settled_by_the_limits_that_it_came_under() {
    let view = view(&[(0, &[1, 2])], &[1, 2]);
    let (wide, narrow) = (limit("wide", 100, 60_000), limit("narrow", 2, 60_000));
    let (before, after) = (limits(std::slice::from_ref(&wide)), limits(&[wide, narrow.clone()]));
    let incarnation = incarnation(1, &[(2, 1)]);
    let mut shard = Shard::new(WaitPolicy::default());
    let at = |ms: u64| context(T0 + ms, &view, &incarnation);
    // The one narrow token of this node is spent, so the next request waits.
    assert!(admitted(&mut shard, &at(1), &key(1), &after));
    let mut out = Vec::new();
    let waits = (1..=20)
        .filter(|n| {
            shard.handle_request(&at(2), &key(1), &after, Cost::ONE, WaiterId(*n), &mut out)
                == Step::Waiting
        })
        .count();
    assert_eq!(waits, 20);
    // Held up since before `narrow` was there.
    shard.handle_request(&at(3), &key(1), &before, Cost::ONE, WaiterId(99), &mut out);
    let settled = out.iter().filter(|effect| {
        use fluxgate_engine::quota::Effect;
        matches!(effect, Effect::Decided { waiter, decision, .. }
            if waiter.0 < 99 && decision.verdict == Verdict::Admitted)
    });
    assert_eq!(settled.count(), 0, "admitted past a limit of 2");
}

/// A node was removed and replaced some minutes ago. Its share map is still kept (for twenty minutes), and
/// a restart in a later window must not make every denial of that window unproven.
#[test]
fn a_node_that_was_removed_is_waited_for_in_no_later_window() {
    let mut view = view(&[(0, &[1, 2, 4]), (T0 - 60_000, &[1, 2, 3])], &[1, 2, 3, 4]);
    view.nodes.get_mut(&NodeId(4)).unwrap().removed = true;
    let limits = limits(&[limit("l0", 30, 60_000)]);
    let counter = CounterId {
        subject: key(1),
        limit: limits.specs[0].tag,
        window: limits.specs[0].limit.window_at(ClusterMs(T0)).number,
    };
    let find = |_: &Subject| Some(limits.clone());
    let one = incarnation(1, &[(2, 2), (3, 1)]);
    let here = context(T0 + 10, &view, &one);
    let mut a = Shard::new(WaitPolicy::default());
    assert_eq!((0..10).filter(|_| admitted(&mut a, &here, &key(1), &limits)).count(), 10);
    // Node 2 was restarted after a crash: its share of 10 is burned. Node 3 has spent its 10.
    for (node, boot, burned, spent) in [(2, 2, 10, 0), (3, 1, 0, 10)] {
        let mine =
            CounterReport { incarnations: one.incarnations_tag, limit: 30, burned, spent, left: 0 };
        let gossip = CounterGossip { counter, mine, given: vec![] };
        let sender = Sender { node: NodeId(node), boot: BootId(boot) };
        a.handle_gossip(&here, &find, &sender, &gossip, &mut Vec::new());
    }
    let step = a.handle_request(&here, &key(1), &limits, Cost::ONE, WaiterId(7), &mut Vec::new());
    let proven = matches!(step, Step::Decided(d) if d.verdict == Verdict::Limited);
    assert!(proven, "all 30 are gone and everybody has said so: {step:?}");
}
