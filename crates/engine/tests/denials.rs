//! Which limit a denial names, where a key has several: the one whose window ends last of all that
//! are used up, since nothing passes before it does.

use std::collections::BTreeMap;
use std::sync::Arc;

use fluxgate_engine::lease::FirstLease;
use fluxgate_engine::quota::{
    Context, Decision, Entitlement, Incarnation, Incarnations, Shard, Step, SubjectLimits, Verdict,
    WaitPolicy, WaiterId,
};
use fluxgate_engine::share_map::ShareMap;
use fluxgate_engine::state::View;
use fluxgate_engine::state::record::LimitSpec;
use fluxgate_types::{BootId, BootNs, ClusterMs, Cost, KeyId, Limit, LogIndex, NodeId, Subject};

/// Begins a window of every period below.
const BEGIN_MS: u64 = 600_000;

/// A cluster of one, with limits of so many tokens per so many milliseconds.
struct Stage {
    shard: Shard,
    view: View,
    incarnation: Incarnation,
    limits: SubjectLimits,
    key: Subject,
}

impl Stage {
    fn new(limits: &[(u64, u64)]) -> Self {
        let me = NodeId(1);
        let mut incarnations = Incarnations::default();
        incarnations.note(me, BootId(1));
        let incarnation = Incarnation {
            me,
            entitlement: Some(Entitlement::All),
            first_lease: Some(FirstLease { at: ClusterMs(0), index: LogIndex(0) }),
            carryover: None,
            reached: ClusterMs(0),
            incarnations_tag: incarnations.tag(),
            incarnations,
            peers: Vec::new(),
            clock_error_ms_max: 1_000,
        };
        let specs = limits.iter().enumerate().map(|(at, (tokens, period_ms))| {
            let name = format!("l{at}");
            LimitSpec::new(Limit::new(name.as_str(), *tokens, *period_ms))
        });
        Self {
            shard: Shard::new(WaitPolicy::default()),
            view: View {
                defaults: Arc::new([]),
                share_maps: vec![ShareMap { from: ClusterMs(0), nodes: vec![(me, 1)] }],
                nodes: BTreeMap::new(),
                ..View::default()
            },
            incarnation,
            limits: SubjectLimits { created: LogIndex(1), specs: specs.collect() },
            key: Subject::from(KeyId::new(*b"denialsdenia").expect("letters and digits")),
        }
    }

    fn ask(&mut self, at_ms: u64, cost: u64) -> Decision {
        let context = Context {
            boot: BootNs(at_ms * 1_000_000),
            now: ClusterMs(BEGIN_MS + at_ms),
            leased: true,
            horizon: ClusterMs(u64::MAX),
            view: &self.view,
            incarnation: &self.incarnation,
        };
        let (key, limits) = (&self.key, &self.limits);
        match self.shard.handle_request(
            &context,
            key,
            limits,
            Cost(cost),
            WaiterId(1),
            &mut Vec::new(),
        ) {
            Step::Decided(decision) => decision,
            Step::Waiting => panic!("a cluster of one knows all"),
        }
    }
}

#[test]
fn a_denial_names_the_used_up_limit_that_lasts_longest() {
    for limits in [
        [(5, 1_000), (5, 60_000), (9, 600_000)],
        [(5, 60_000), (9, 600_000), (5, 1_000)],
        [(9, 600_000), (5, 1_000), (5, 60_000)],
    ] {
        let mut stage = Stage::new(&limits);
        for _ in 0..5 {
            assert_eq!(stage.ask(300, 1).verdict, Verdict::Admitted);
        }
        // A look that spends nothing says the same.
        for cost in [1, 0] {
            let denied = stage.ask(300, cost);
            assert_eq!(denied.verdict, Verdict::Limited, "{limits:?}");
            assert_eq!(denied.reset, ClusterMs(BEGIN_MS + 60_000), "{limits:?}");
            assert_eq!((denied.tokens, denied.remaining), (5, 0), "{limits:?}");
        }
        // What a larger cost lacks counts for it alone.
        assert_eq!(stage.ask(300, 5).reset, ClusterMs(BEGIN_MS + 600_000), "{limits:?}");
    }
}

#[test]
fn a_limit_that_is_not_used_up_is_not_named() {
    let mut stage = Stage::new(&[(2, 1_000), (3, 60_000)]);
    (0..2).for_each(|_| assert_eq!(stage.ask(0, 1).verdict, Verdict::Admitted));
    assert_eq!(stage.ask(0, 1).reset, ClusterMs(BEGIN_MS + 1_000));
    assert_eq!(stage.ask(1_000, 1).verdict, Verdict::Admitted);
    assert_eq!(stage.ask(1_000, 1).reset, ClusterMs(BEGIN_MS + 60_000), "now the minute is");
}
