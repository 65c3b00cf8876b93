//! Requests that wait are looked after until each of them is decided, whatever happens meanwhile.

use std::collections::BTreeMap;
use std::sync::Arc;

use fluxgate_engine::counters::{
    Context, Effect, KeyLimits, Life, Lives, Shard, Step, Untouched, Verdict, WaitPolicy,
};
use fluxgate_engine::lease::FirstLease;
use fluxgate_engine::registry::View;
use fluxgate_engine::registry::record::LimitSpec;
use fluxgate_engine::share::ShareMap;
use fluxgate_types::{BootId, BootNs, ClusterMs, KeyId, Limit, LogIndex, NodeId};

fn life() -> Life {
    let mut lives = Lives::default();
    lives.note(NodeId(1), BootId(1));
    Life {
        me: NodeId(1),
        untouched: Some(Untouched::All),
        first_lease: Some(FirstLease { at: ClusterMs(0), index: LogIndex(0) }),
        left_over: None,
        reached: ClusterMs(0),
        lives_tag: lives.tag(),
        lives,
        peers: vec![(NodeId(2), true)],
        clock_error_ms_max: 1_000,
    }
}

fn verdicts(effects: &[Effect]) -> Vec<Verdict> {
    let of = |effect: &Effect| match effect {
        Effect::Settled { decision, .. } => Some(decision.verdict),
        Effect::Ask { .. } => None,
    };
    effects.iter().filter_map(of).collect()
}

/// Found by whole clusters, seed 1166: a lease ended while requests waited, and those that waited
/// under the next lease were never looked at again.
#[test]
fn a_request_that_waits_after_a_lost_lease_ends_in_time() {
    let limit = Limit { name: "l0".into(), tokens: 1, period_ms: 60_000 };
    let limits = KeyLimits { created: LogIndex(1), limits: [LimitSpec::new(limit)].into() };
    // All tokens are node 2's, which never answers.
    let nodes = vec![(NodeId(2), 1)];
    let view = View {
        defaults: Arc::new([]),
        share_maps: vec![ShareMap { from: ClusterMs(0), nodes }],
        nodes: BTreeMap::new(),
    };
    let (key, life) = (KeyId::new(*b"waitwaitwait").unwrap(), life());
    let context = |at_ms: u64, leased: bool| Context {
        boot: BootNs(at_ms * 1_000_000),
        now: ClusterMs(600_000 + at_ms),
        leased,
        horizon: ClusterMs(u64::MAX),
        view: &view,
        life: &life,
    };
    let policy = WaitPolicy::default();
    let (mut shard, find) = (Shard::new(policy), |_: &KeyId| Some(limits.clone()));
    let mut effects = Vec::new();
    let came = shard.handle_request(&context(0, true), &key, &limits, 1, 1, &mut effects);
    assert_eq!(came, Step::Waiting);
    shard.handle_timeout(&context(1, false), &find, &mut effects);
    assert_eq!(verdicts(&effects), [Verdict::Unavailable]);

    effects.clear();
    let came = shard.handle_request(&context(2, true), &key, &limits, 1, 2, &mut effects);
    assert_eq!(came, Step::Waiting);
    assert!(shard.has_waiting());
    for at_ms in 3..=2 + policy.patience_ms() {
        shard.handle_timeout(&context(at_ms, true), &find, &mut effects);
    }
    assert_eq!(verdicts(&effects), [Verdict::Degraded]);
    assert!(!shard.has_waiting());
}
