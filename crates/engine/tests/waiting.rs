//! Requests that wait are looked after until each of them is decided, whatever happens meanwhile.

use std::collections::BTreeMap;
use std::sync::Arc;

use fluxgate_engine::lease::FirstLease;
use fluxgate_engine::quota::{
    Context, Effect, Entitlement, Incarnation, Incarnations, Peer, Shard, Step, SubjectLimits,
    Verdict, WaitPolicy, WaiterId,
};
use fluxgate_engine::share_map::ShareMap;
use fluxgate_engine::state::View;
use fluxgate_engine::state::record::LimitSpec;
use fluxgate_types::{BootId, BootNs, ClusterMs, Cost, KeyId, Limit, LogIndex, NodeId, Subject};

fn incarnation() -> Incarnation {
    let mut incarnations = Incarnations::default();
    incarnations.note(NodeId(1), BootId(1));
    Incarnation {
        me: NodeId(1),
        entitlement: Some(Entitlement::All),
        first_lease: Some(FirstLease { at: ClusterMs(0), index: LogIndex(0) }),
        carryover: None,
        reached: ClusterMs(0),
        incarnations_tag: incarnations.tag(),
        incarnations,
        peers: vec![Peer::new(NodeId(2))],
        clock_error_ms_max: 1_000,
    }
}

fn verdicts(effects: &[Effect]) -> Vec<Verdict> {
    let of = |effect: &Effect| match effect {
        Effect::Decided { decision, .. } => Some(decision.verdict),
        Effect::TransferRequest { .. } | Effect::Again { .. } => None,
    };
    effects.iter().filter_map(of).collect()
}

/// Found by whole clusters, seed 1166: a lease ended while requests waited, and those that waited
/// under the next lease were never looked at again.
#[test]
fn a_request_that_waits_after_a_lost_lease_ends_in_time() {
    let limit = Limit::new("l0", 1, 60_000);
    let limits = SubjectLimits { created: LogIndex(1), specs: [LimitSpec::new(limit)].into() };
    // All tokens are node 2's, which never answers.
    let nodes = vec![(NodeId(2), 1)];
    let view = View {
        defaults: Arc::new([]),
        share_maps: vec![ShareMap { from: ClusterMs(0), nodes }],
        nodes: BTreeMap::new(),
        ..View::default()
    };
    let (key, incarnation) = (Subject::from(KeyId::new(*b"waitwaitwait").unwrap()), incarnation());
    let context = |at_ms: u64, leased: bool| Context {
        boot: BootNs(at_ms * 1_000_000),
        now: ClusterMs(600_000 + at_ms),
        leased,
        horizon: ClusterMs(u64::MAX),
        view: &view,
        incarnation: &incarnation,
    };
    let policy = WaitPolicy::default();
    let (mut shard, find) = (Shard::new(policy), |_: &Subject| Some(limits.clone()));
    let mut effects = Vec::new();
    let came = shard.handle_request(
        &context(0, true),
        &key,
        &limits,
        Cost::ONE,
        WaiterId(1),
        &mut effects,
    );
    assert_eq!(came, Step::Waiting);
    shard.handle_timeout(&context(1, false), &find, &mut effects);
    assert_eq!(verdicts(&effects), [Verdict::Unavailable]);

    effects.clear();
    let came = shard.handle_request(
        &context(2, true),
        &key,
        &limits,
        Cost::ONE,
        WaiterId(2),
        &mut effects,
    );
    assert_eq!(came, Step::Waiting);
    assert!(shard.has_waiting());
    for at_ms in 3..=2 + policy.patience_ms() {
        shard.handle_timeout(&context(at_ms, true), &find, &mut effects);
    }
    assert_eq!(verdicts(&effects), [Verdict::Degraded]);
    assert!(!shard.has_waiting());
}
