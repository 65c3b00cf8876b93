//! Windows and keys are forgotten in the order in which they are due, a bounded number at a time.

use std::collections::BTreeMap;
use std::sync::Arc;

use fluxgate_engine::quota::{
    Context, CounterGossip, CounterId, CounterReport, Entitlement, Incarnation, Incarnations,
    Sender, Shard, Step, SubjectLimits, TransferReply, TransferRequest, Verdict, WaitPolicy,
    WaiterId,
};
use fluxgate_engine::share_map::ShareMap;
use fluxgate_engine::state::View;
use fluxgate_engine::state::record::LimitSpec;
use fluxgate_types::id::mix64;
use fluxgate_types::{
    BootId, BootNs, ClusterMs, Cost, KeyId, Limit, LogIndex, NodeId, Subject, caps,
};

const T0: u64 = 600_000_000;
const IDLE_MS: u64 = 3_600_000;

struct Stage {
    view: View,
    incarnation: Incarnation,
    shard: Shard,
}

fn key(n: usize) -> Subject {
    let text = format!("{n:012}");
    Subject::from(KeyId::new(text.as_bytes().try_into().expect("twelve digits")).expect("an id"))
}

fn limits(period_ms: u64) -> SubjectLimits {
    let limit = Limit::new("l0", 30, period_ms);
    SubjectLimits { created: LogIndex(1), specs: [LimitSpec::new(limit)].into() }
}

impl Stage {
    fn new() -> Self {
        let mut incarnations = Incarnations::default();
        incarnations.note(NodeId(1), BootId(1));
        let map = ShareMap { from: ClusterMs(0), nodes: vec![(NodeId(1), 1)] };
        Self {
            view: View {
                defaults: Arc::new([]),
                share_maps: vec![map],
                nodes: BTreeMap::new(),
                ..View::default()
            },
            incarnation: Incarnation {
                me: NodeId(1),
                entitlement: Some(Entitlement::All),
                first_lease: None,
                carryover: None,
                reached: ClusterMs(0),
                incarnations_tag: incarnations.tag(),
                incarnations,
                peers: Vec::new(),
                clock_error_ms_max: 1_000,
            },
            shard: Shard::new(WaitPolicy::default()),
        }
    }

    fn step<R>(&mut self, at_ms: u64, step: impl FnOnce(&mut Shard, &Context<'_>) -> R) -> R {
        let context = Context {
            boot: BootNs(at_ms * 1_000_000),
            now: ClusterMs(at_ms),
            leased: true,
            horizon: ClusterMs(u64::MAX),
            view: &self.view,
            incarnation: &self.incarnation,
        };
        step(&mut self.shard, &context)
    }

    fn spend(&mut self, at_ms: u64, key: &Subject, limits: &SubjectLimits) {
        let step = self.step(at_ms, |shard, context| {
            shard.handle_request(context, key, limits, Cost::ONE, WaiterId(0), &mut Vec::new())
        });
        assert!(matches!(step, Step::Decided(d) if d.verdict == Verdict::Admitted));
    }

    fn sweep(&mut self, at_ms: u64) -> bool {
        self.step(at_ms, |shard, context| shard.sweep(context, IDLE_MS))
    }
}

#[test]
fn a_sweep_removes_a_bounded_number_of_windows_under_one_lock() {
    let (mut stage, short, long) = (Stage::new(), limits(1_000), limits(600_000));
    let count = 3 * caps::SWEPT_PER_HOLD_MAX + 10;
    for n in 0..count {
        stage.spend(T0, &key(n), &short);
        stage.spend(T0, &key(count + n), &long);
    }
    assert_eq!(stage.shard.counters(), 2 * count);
    assert!(!stage.sweep(T0 + 2_999), "nothing is over for long enough");
    let (mut holds, mut left) = (1, 2 * count);
    while stage.sweep(T0 + 3_001) {
        holds += 1;
        assert!(left - stage.shard.counters() <= caps::SWEPT_PER_HOLD_MAX);
        left = stage.shard.counters();
    }
    assert_eq!((holds, stage.shard.counters()), (4, count), "the long windows stay");
    let history = stage.shard.usage(NodeId(1), &key(0));
    assert_eq!(history[0].series.len(), 1, "what was spent is remembered");
}

#[test]
fn keys_leave_an_hour_after_their_last_use() {
    let (mut stage, limits) = (Stage::new(), limits(1_000));
    for n in 0..1_000 {
        stage.spend(T0, &key(n), &limits);
    }
    stage.spend(T0 + 1_800_000, &key(7), &limits);
    while stage.sweep(T0 + IDLE_MS + 2_000) {}
    let known = |stage: &Stage, n| !stage.shard.usage(NodeId(1), &key(n)).is_empty();
    assert!(!known(&stage, 6), "not used for an hour");
    assert!(known(&stage, 7), "used half an hour ago");
    while stage.sweep(T0 + 1_800_000 + IDLE_MS + 2_000) {}
    assert!(!known(&stage, 7));
    assert_eq!(stage.shard.counters(), 0);
}

#[test]
fn a_key_without_any_limit_leaves_too() {
    let mut stage = Stage::new();
    let limits = SubjectLimits { created: LogIndex(1), specs: [].into() };
    stage.step(T0, |shard, context| {
        shard.handle_request(context, &key(1), &limits, Cost::ONE, WaiterId(0), &mut Vec::new())
    });
    assert_eq!(stage.shard.subjects(), 1);
    while stage.sweep(T0 + IDLE_MS + 2_000) {}
    assert_eq!(stage.shard.subjects(), 0);
}

#[test]
fn an_erased_key_leaves_with_its_last_window() {
    let (mut stage, short, long) = (Stage::new(), limits(1_000), limits(600_000));
    stage.spend(T0, &key(1), &short);
    stage.spend(T0, &key(2), &long);
    stage.shard.forget(&key(1));
    stage.shard.forget(&key(2));
    stage.shard.forget(&key(3));
    assert_eq!(stage.shard.counters(), 2, "peers may still ask for an open window");
    while stage.sweep(T0 + 3_001) {}
    assert_eq!((stage.shard.subjects(), stage.shard.counters()), (1, 1), "the short one is over");
    while stage.sweep(T0 + 602_001) {}
    assert_eq!(stage.shard.subjects(), 0, "no history is kept");

    // Without an open window at once, and not once it is used again, as after a restore.
    let at = T0 + 1_000_000;
    stage.spend(at, &key(4), &short);
    stage.spend(at, &key(5), &short);
    stage.shard.forget(&key(5));
    stage.spend(at, &key(5), &short);
    while stage.sweep(at + 3_001) {}
    assert_eq!(stage.shard.subjects(), 2);
    stage.shard.forget(&key(4));
    assert_eq!(stage.shard.subjects(), 1);
    while stage.sweep(at + IDLE_MS + 5_000) {}
    assert_eq!(stage.shard.subjects(), 0);
}

/// Requests that are decided, that wait, and that find no lease, no share map or a limit that has
/// changed, and messages of another node: no mix of them leaves a key in memory for good.
#[test]
fn every_key_leaves_whatever_happened_to_it() {
    let other = Sender { node: NodeId(2), boot: BootId(1) };
    for seed in 0..200_u64 {
        let mut stage = Stage::new();
        stage.incarnation.incarnations.note(NodeId(2), BootId(1));
        stage.incarnation.incarnations_tag = stage.incarnation.incarnations.tag();
        let mut draws = 0;
        let mut draw = |most: u64| {
            draws += 1;
            mix64(mix64(seed) ^ draws) % most
        };
        let mut at = T0;
        for _ in 0..200 {
            at += [0, 10, 700, 1_100, 30_000][usize::try_from(draw(5)).expect("small")];
            // Some come often, and some once.
            let most = [6, 200][usize::try_from(draw(2)).expect("small")];
            let key = key(usize::try_from(draw(most)).expect("small"));
            let limits = limits([1_000, 60_000][usize::try_from(draw(2)).expect("small")]);
            let spec = &limits.specs[0];
            let (window, cost) = (spec.limit.window_at(ClusterMs(at)).number, Cost(draw(40)));
            let counter = CounterId { subject: key, limit: spec.tag, window: window - draw(2) };
            let (what, leased, early) = (draw(8), draw(4) > 0, draw(4) == 0);
            stage.step(at, |shard, context| {
                let horizon = if early { ClusterMs(at - 120_000) } else { context.horizon };
                let context = &Context { leased, horizon, ..*context };
                let (mine, find) = (CounterReport::default(), |_: &Subject| Some(limits.clone()));
                let out = &mut Vec::new();
                match what {
                    0 => {
                        let request = TransferRequest { counter, need: 1, want: 9, got: 0, mine };
                        shard.handle_transfer_request(context, &find, &other, &request, out);
                    }
                    1 => {
                        let known = Vec::new();
                        let reply = TransferReply { counter, given: 3, mine: Some(mine), known };
                        shard.handle_transfer_reply(context, &find, &other, &reply, out);
                    }
                    2 => {
                        let gossip = CounterGossip { counter, mine, given: Vec::new() };
                        shard.handle_gossip(context, &find, &other, &gossip, out);
                    }
                    3 => shard.handle_timeout(context, &find, out),
                    4 => while shard.sweep(context, IDLE_MS) {},
                    _ => {
                        shard.handle_request(context, &key, &limits, cost, WaiterId(draw(9)), out);
                    }
                }
            });
        }
        // What waits is given up, windows end, and an hour passes.
        for step in 0..80 {
            at += 60_000;
            stage.step(at, |shard, context| {
                let find = |_: &Subject| Some(limits(60_000));
                shard.handle_timeout(context, &find, &mut Vec::new());
                while shard.sweep(context, IDLE_MS) {}
            });
            let (keys, windows) = (stage.shard.subjects(), stage.shard.counters());
            assert!(windows <= keys || step < 3, "seed {seed}: {windows} windows, {keys} keys");
        }
        let left = (stage.shard.subjects(), stage.shard.counters(), stage.shard.has_waiting());
        assert_eq!(left, (0, 0, false), "seed {seed}");
    }
}

#[test]
fn reports_that_were_not_sent_are_dropped_with_their_window() {
    let (mut stage, short, long) = (Stage::new(), limits(1_000), limits(600_000));
    for n in 0..100 {
        stage.spend(T0, &key(n), &short);
        stage.spend(T0, &key(100 + n), &long);
    }
    let gossip = stage.step(T0 + 1, |shard, context| shard.take_gossip(context, 50));
    let of_short = |gossip: &[fluxgate_engine::quota::CounterGossip]| {
        gossip.iter().filter(|one| one.counter.limit == short.specs[0].tag).count()
    };
    assert_eq!((gossip.len(), of_short(&gossip)), (50, 25), "each window has its part");
    let gossip = stage.step(T0 + 2_500, |shard, context| shard.take_gossip(context, 1_000));
    assert_eq!(
        (gossip.len(), of_short(&gossip)),
        (75, 0),
        "reports of a window that is over are not sent"
    );
    assert!(stage.shard.has_gossip());
    while stage.sweep(T0 + 3_500) {}
    assert!(!stage.shard.has_gossip());
}
