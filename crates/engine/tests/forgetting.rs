//! Windows and keys are forgotten in the order in which they are due, a bounded number at a time.

use std::collections::BTreeMap;
use std::sync::Arc;

use fluxgate_engine::quota::{
    Context, Entitlement, Incarnation, Incarnations, KeyLimits, Shard, Step, Verdict, WaitPolicy,
    WaiterId,
};
use fluxgate_engine::share_map::ShareMap;
use fluxgate_engine::state::View;
use fluxgate_engine::state::record::LimitSpec;
use fluxgate_types::{BootId, BootNs, ClusterMs, Cost, KeyId, Limit, LogIndex, NodeId, caps};

const T0: u64 = 600_000_000;
const IDLE_MS: u64 = 3_600_000;

struct Stage {
    view: View,
    incarnation: Incarnation,
    shard: Shard,
}

fn key(n: usize) -> KeyId {
    let text = format!("{n:012}");
    KeyId::new(text.as_bytes().try_into().expect("twelve digits")).expect("an id")
}

fn limits(period_ms: u64) -> KeyLimits {
    let limit = Limit::new("l0", 30, period_ms);
    KeyLimits { created: LogIndex(1), specs: [LimitSpec::new(limit)].into() }
}

impl Stage {
    fn new() -> Self {
        let mut incarnations = Incarnations::default();
        incarnations.note(NodeId(1), BootId(1));
        let map = ShareMap { from: ClusterMs(0), nodes: vec![(NodeId(1), 1)] };
        Self {
            view: View { defaults: Arc::new([]), share_maps: vec![map], nodes: BTreeMap::new() },
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

    fn spend(&mut self, at_ms: u64, key: &KeyId, limits: &KeyLimits) {
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
