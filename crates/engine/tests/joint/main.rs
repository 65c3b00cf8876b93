//! Requests that are charged to several subjects: all or none, never above a limit, denied only with
//! proof, and decided in time although nodes wait for each other.

mod net;

use std::collections::BTreeSet;

use fluxgate_engine::quota::{Verdict, WaitPolicy};
use fluxgate_types::{NodeId, Subject};
use net::{Net, subject};

/// No request waits longer than this, milliseconds: `WaitPolicy::patience_ms`, and a message.
const WAITED_MS: u64 = 1_500;

/// What each node counted is what was admitted: nothing was charged for a request that was denied.
fn assert_all_or_none(net: &Net, subjects: &[Subject]) {
    for one in subjects {
        assert_eq!(net.spent(one), net.admitted.get(one).copied().unwrap_or(0), "{one}");
    }
}

/// Three hundred requests over ten keys of a pool, whose limits together are more than the pool's.
#[test]
fn a_pool_over_several_keys_is_exact() {
    for random in 0..40 {
        let pool = subject("pool");
        let keys: Vec<Subject> = (0..10).map(|n| subject(&format!("key {n}"))).collect();
        let nodes = 1 + random % 3 * 2;
        let mut limits: Vec<(Subject, u64)> = keys.iter().map(|key| (*key, 10)).collect();
        limits.push((pool, 31));
        let mut net = Net::new(random, nodes, &limits);
        for n in 0..300 {
            let node = NodeId(1 + net.any(nodes));
            let key = net.pick(&keys);
            // In any order, and some at the same moment.
            let asked = if n % 2 == 0 { [(key, 1), (pool, 1)] } else { [(pool, 1), (key, 1)] };
            net.request(node, &asked);
            if n % 7 == 0 {
                net.run_ms(1);
            }
        }
        net.run_ms(WAITED_MS);
        assert!(!net.has_waiting(), "seed {random}");
        assert_eq!(net.admitted[&pool], 31, "seed {random}");
        let left = net.count(Verdict::Degraded) + net.count(Verdict::Unavailable);
        assert_eq!((left, net.false_denials), (0, 0), "seed {random}");
        assert_all_or_none(&net, &[&keys[..], &[pool]].concat());
    }
}

/// Random requests over up to four subjects, with costs, and messages that are lost.
fn random_traffic(random: u64, loss_percent: u64) -> (Net, Vec<Subject>) {
    let subjects: Vec<Subject> = (0..8).map(|n| subject(&format!("subject {n}"))).collect();
    let limits: Vec<(Subject, u64)> =
        subjects.iter().enumerate().map(|(n, one)| (*one, [1, 2, 5, 30][n % 4])).collect();
    let mut net = Net::new(random, 3, &limits);
    net.loss_percent = loss_percent;
    for _ in 0..200 {
        let mut chosen = BTreeSet::new();
        for _ in 0..=net.any(4) {
            chosen.insert(net.pick(&subjects));
        }
        let asked: Vec<(Subject, u64)> =
            chosen.iter().map(|one| (*one, net.any(4).min(net.tokens(one)))).collect();
        let node = NodeId(1 + net.any(3));
        net.request(node, &asked);
        let pause = net.any(4);
        net.run_ms(pause);
    }
    net.run_ms(WAITED_MS);
    (net, subjects)
}

#[test]
fn any_requests_take_all_or_nothing() {
    for random in 100..160 {
        let (net, subjects) = random_traffic(random, 0);
        assert!(!net.has_waiting(), "seed {random}");
        assert_eq!(net.verdicts.len(), 200, "seed {random}: each is answered once");
        let left = net.count(Verdict::Degraded) + net.count(Verdict::Unavailable);
        assert_eq!((left, net.false_denials), (0, 0), "seed {random}");
        assert_all_or_none(&net, &subjects);
    }
}

#[test]
fn lost_messages_cost_no_exactness() {
    for random in 200..240 {
        let (net, subjects) = random_traffic(random, 20);
        assert!(!net.has_waiting(), "seed {random}");
        assert_eq!(net.false_denials, 0, "seed {random}");
        assert_all_or_none(&net, &subjects);
    }
}

/// Two nodes, two subjects with one token each, and requests for both at both nodes at once. Where
/// each node has one of the tokens, each waits for the other's.
fn two_wait_for_each_other(random: u64) -> Net {
    let (one, two) = (subject(&format!("one {random}")), subject(&format!("two {random}")));
    let mut net = Net::new(random, 2, &[(one, 1), (two, 1)]);
    // Where all messages take the same time, the two nodes do the same at the same moment.
    net.jitter_us = random % 2 * 200;
    net.request(NodeId(1), &[(one, 1), (two, 1)]);
    net.request(NodeId(2), &[(one, 1), (two, 1)]);
    net.run_ms(WAITED_MS);
    assert_all_or_none(&net, &[one, two]);
    net
}

/// Of the seeds, those in which not exactly one request was admitted, or the other was denied without proof.
fn undecided(seeds: std::ops::Range<u64>) -> usize {
    let nets = seeds.map(two_wait_for_each_other);
    let bad = |net: &Net| net.count(Verdict::Admitted) != 1 || net.count(Verdict::Limited) != 1;
    nets.filter(bad).count()
}

#[test]
fn of_two_nodes_that_wait_for_each_other_one_continues() {
    assert_eq!(undecided(0..200), 0);
}

#[cfg(feature = "mutations")]
#[test]
fn two_nodes_starve_each_other_without_one_rank_or_without_claims() {
    use fluxgate_engine::fault::Mutation;
    for mutation in [Mutation::RankPerSubject, Mutation::ClaimsForgotten] {
        Mutation::set(Some(mutation));
        assert_ne!(undecided(0..200), 0, "{mutation:?}");
        Mutation::set(None);
    }
}

/// An expensive request over two subjects is not overtaken by cheap ones of one of them.
#[test]
fn cheap_requests_do_not_starve_an_expensive_one() {
    let (key, pool) = (subject("key"), subject("pool"));
    for random in 0..20 {
        let mut net = Net::new(random, 3, &[(key, 30), (pool, 30)]);
        // More than a share of each: it has to wait.
        net.request(NodeId(1), &[(key, 20), (pool, 25)]);
        for _ in 0..60 {
            net.request(NodeId(1), &[(pool, 1)]);
            net.request(NodeId(1), &[(key, 1), (pool, 1)]);
            let pause = net.any(2);
            net.run_ms(pause);
        }
        net.run_ms(WAITED_MS);
        assert_eq!(net.admitted[&pool], 30, "seed {random}");
        let dear = net.verdicts.iter().find(|(asked, _)| asked[0].1 == 20).expect("decided");
        assert_eq!(dear.1.verdict, Verdict::Admitted, "seed {random}");
    }
}

#[test]
fn a_denial_names_the_charge_whose_window_is_used_up() {
    let (key, pool) = (subject("key"), subject("pool"));
    let mut net = Net::new(1, 1, &[(key, 10), (pool, 3)]);
    for _ in 0..4 {
        net.request(NodeId(1), &[(key, 1), (pool, 1)]);
    }
    let shown: Vec<(Verdict, usize, u64)> = net
        .verdicts
        .iter()
        .map(|(_, decision)| (decision.verdict, decision.charge_at, decision.remaining))
        .collect();
    // What is shown is the limit with the smallest fraction left.
    let admitted = |left| (Verdict::Admitted, 1, left);
    assert_eq!(shown, [admitted(2), admitted(1), admitted(0), (Verdict::Limited, 1, 0)]);
}

/// A cost of 0 takes nothing of its subject, and is denied if nothing is left there.
#[test]
fn a_charge_of_nothing_only_looks() {
    let (key, pool) = (subject("key"), subject("pool"));
    let mut net = Net::new(1, 1, &[(key, 2), (pool, 2)]);
    net.request(NodeId(1), &[(key, 0), (pool, 1)]);
    net.request(NodeId(1), &[(key, 0), (pool, 0)]);
    assert_eq!((net.spent(&key), net.spent(&pool)), (0, 1));
    net.request(NodeId(1), &[(key, 2), (pool, 1)]);
    net.request(NodeId(1), &[(key, 0), (pool, 0)]);
    let verdicts: Vec<Verdict> = net.verdicts.iter().map(|(_, d)| d.verdict).collect();
    use Verdict::{Admitted, Limited};
    assert_eq!(verdicts, [Admitted, Admitted, Admitted, Limited]);
}

/// The limit of one subject is raised, and another subject is erased, while a request waits.
#[test]
fn changes_while_a_request_waits() {
    let (key, pool) = (subject("key"), subject("pool"));
    for erased in [key, pool] {
        let mut net = Net::new(3, 3, &[(key, 3), (pool, 3)]);
        net.request(NodeId(1), &[(key, 3), (pool, 3)]);
        assert!(net.has_waiting());
        net.erase(&erased);
        net.run_ms(WAITED_MS);
        assert_eq!(net.count(Verdict::Unavailable), 1);
        assert!(net.admitted.is_empty());
    }
    let mut net = Net::new(4, 3, &[(key, 30), (pool, 3)]);
    net.request(NodeId(1), &[(key, 30), (pool, 3)]);
    net.set_limit(&pool, 6);
    net.run_ms(WAITED_MS);
    assert_eq!(net.count(Verdict::Admitted), 1);
    assert_eq!((net.spent(&key), net.spent(&pool)), (30, 3));
}

/// No answer ever comes. A request that is ended lets those behind it end in the same step, however many
/// they are: otherwise each would wait for the next look at the time.
#[test]
fn a_queue_of_requests_that_have_waited_too_long_ends_at_once() {
    let (key, pool) = (subject("key"), subject("pool"));
    let mut net = Net::new(1, 3, &[(key, 30), (pool, 60)]);
    net.loss_percent = 100;
    for _ in 0..300 {
        net.request(NodeId(1), &[(key, 1), (pool, 1)]);
    }
    let decided = net.verdicts.len();
    assert!(decided < 30, "most requests wait: {decided}");
    net.run_ms(WaitPolicy::default().patience_ms() + 5);
    assert_eq!(net.verdicts.len(), 300);
    assert_all_or_none(&net, &[key, pool]);
}
