//! Exact in health, safe in sickness: the counters of several nodes against what one node with
//! one counter would do.

mod net;

use fluxgate_engine::quota::CounterId;
use fluxgate_types::{BootId, NodeId};
use net::Net;
use proptest::prelude::*;

const MINUTE_US: u64 = 60_000_000;

#[derive(Clone, Copy, Debug)]
enum Shape {
    Even,
    Sticky,
    Skewed,
    Burst,
}

/// One window of `demand` tokens in requests of `cost`.
fn window(net: &mut Net, nodes: u64, demand: u64, cost: u64, shape: Shape, begin_us: u64) {
    let requests = demand / cost;
    let span = match shape {
        Shape::Burst => 20_000,
        Shape::Even | Shape::Sticky | Shape::Skewed => 50_000_000,
    };
    let mut times: Vec<u64> = (0..requests).map(|_| begin_us + 1_000 + net.random(span)).collect();
    times.sort_unstable();
    for at in times {
        net.run_until_us(at);
        let at_node = match shape {
            Shape::Sticky => 1,
            Shape::Skewed if net.random(100) < 80 => 1,
            Shape::Even | Shape::Skewed | Shape::Burst => 1 + net.random(nodes),
        };
        net.request(NodeId(at_node), cost);
    }
}

fn shape() -> impl Strategy<Value = Shape> {
    prop_oneof![Just(Shape::Even), Just(Shape::Sticky), Just(Shape::Skewed), Just(Shape::Burst)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn healthy_is_exact(
        seed: u64,
        nodes in prop_oneof![Just(1u64), Just(3), Just(5)],
        limit in prop_oneof![Just(1u64), Just(2), Just(5), Just(100), 1u64..400],
        demand_percent in prop_oneof![Just(50u64), Just(100), Just(300)],
        shape in shape(),
    ) {
        let mut net = Net::new(seed, nodes, &[(limit, 60_000)]);
        let demand = limit * demand_percent / 100;
        window(&mut net, nodes, demand, 1, shape, 0);
        net.run_until_us(MINUTE_US - 1_000);
        prop_assert_eq!(net.tally.admitted, demand.min(limit));
        prop_assert_eq!(net.tally.degraded, 0);
        prop_assert_eq!(net.tally.unproven_denials, 0);
    }

    #[test]
    fn costs_above_one_neither_starve_nor_overspend(
        seed: u64, nodes in prop_oneof![Just(1u64), Just(3), Just(5)],
        limit in 20u64..300, cost_percent in 5u64..100, shape in shape(),
    ) {
        let cost = (limit * cost_percent / 100).max(1);
        let mut net = Net::new(seed, nodes, &[(limit, 60_000)]);
        window(&mut net, nodes, limit * 3, cost, shape, 0);
        net.run_until_us(MINUTE_US - 1_000);
        prop_assert_eq!(net.tally.admitted, limit / cost * cost);
        prop_assert_eq!(net.tally.degraded, 0);
        prop_assert_eq!(net.tally.unproven_denials, 0);
    }

    #[test]
    fn several_limits_take_from_all_or_from_none(seed: u64, shape in shape()) {
        let mut net = Net::new(seed, 3, &[(7, 1_000), (100, 60_000)]);
        window(&mut net, 3, 600, 1, shape, 0);
        net.run_until_us(MINUTE_US - 1_000);
        prop_assert!(net.tally.admitted <= 100);
        prop_assert_eq!(net.tally.degraded, 0);
        prop_assert_eq!(net.tally.unproven_denials, 0);
        let minute = net.limits.specs[1].tag;
        let per_second: u64 = net.spent.iter().filter(|((tag, _), _)| *tag != minute).map(|(_, s)| *s).sum();
        prop_assert_eq!(per_second, net.tally.admitted);
        let at_most = net.spent.iter().filter(|((tag, _), _)| *tag != minute).all(|(_, s)| *s <= 7);
        prop_assert!(at_most);
    }

    #[test]
    fn loss_and_repetition_lose_no_token_for_good(seed: u64, limit in 1u64..200) {
        let mut net = Net::new(seed, 3, &[(limit, 60_000)]);
        (net.loss_percent, net.duplicate_percent) = (10, 20);
        window(&mut net, 3, limit * 2, 1, Shape::Even, 0);
        prop_assert!(net.tally.admitted <= limit);
        net.loss_percent = 0;
        // Calm again: what is left can still be had.
        for _ in 0..limit {
            net.request(NodeId(2), 1);
            let until = net.now_ms() - net::START_MS + 20;
            net.run_until_us(until * 1_000);
        }
        prop_assert!(net.tally.admitted <= limit);
        prop_assert_eq!(net.tally.unproven_denials, 0);
    }

    #[test]
    fn crashes_never_let_more_through_and_denials_stay_true(
        seed: u64, limit in 3u64..300, crashes in 1u64..5, orderly: bool, lossy: bool,
    ) {
        let mut net = Net::new(seed, 3, &[(limit, 60_000)]);
        if lossy { (net.loss_percent, net.duplicate_percent) = (5, 10); }
        for round in 0..crashes {
            let begin = round * 8_000_000;
            for n in 0..limit {
                net.run_until_us(begin + n * 5_000_000 / limit);
                let node = NodeId(1 + net.random(3));
                net.request(node, 1);
            }
            net.run_until_us(begin + 6_000_000);
            let victim = NodeId(1 + net.random(3));
            if orderly {
                let left = net.stop(victim);
                net.restart(victim, left);
            } else {
                net.kill(victim);
                net.restart(victim, None);
            }
        }
        for (key, spent) in &net.spent {
            prop_assert!(*spent <= limit, "{key:?}: {spent} of {limit}");
        }
        prop_assert_eq!(net.tally.unproven_denials, 0);
        if orderly && !lossy {
            // An orderly stop loses nothing: requests can spend the whole limit.
            net.run_until_us(crashes * 8_000_000 + 1_000_000);
            for _ in 0..2 * limit {
                let node = NodeId(1 + net.random(3));
                net.request(node, 1);
                let until = net.now_ms() - net::START_MS + 3;
                net.run_until_us(until * 1_000);
            }
            let window = net.now_ms() / 60_000;
            if window == net::START_MS / 60_000 {
                prop_assert_eq!(net.tally.admitted, limit);
                prop_assert_eq!(net.tally.degraded, 0);
            }
        }
    }
}

#[test]
fn a_crash_costs_at_most_the_share_and_denials_become_proven_again() {
    let mut net = Net::new(7, 3, &[(100, 60_000)]);
    net.run_until_us(1_000);
    net.request(NodeId(1), 1);
    net.kill(NodeId(3));
    net.restart(NodeId(3), None);
    for n in 0..300 {
        net.request(NodeId(1 + n % 3), 1);
        let until = 2_000 + n * 2_000;
        net.run_until_us(until);
    }
    net.run_until_us(5_000_000);
    assert!(net.tally.admitted >= 66, "{}", net.tally.admitted);
    assert!(net.tally.admitted < 100);
    assert_eq!(net.tally.degraded, 0, "the burned share counts as spent in the proof");
    assert_eq!(net.tally.unproven_denials, 0);
}

#[test]
fn a_cluster_of_one_keeps_its_count_over_an_orderly_restart() {
    let mut net = Net::new(3, 1, &[(100, 60_000)]);
    net.run_until_us(1_000);
    (0..40).for_each(|_| net.request(NodeId(1), 1));
    let left = net.stop(NodeId(1));
    let counter = CounterId {
        subject: net.key,
        limit: net.limits.specs[0].tag,
        window: net.now_ms() / 60_000,
    };
    assert_eq!(left.as_ref().unwrap().counters[&counter].tokens, 60);
    net.restart(NodeId(1), left);
    assert_eq!(net.nodes[&NodeId(1)].incarnation.incarnations.of(NodeId(1)), Some(BootId(2)));
    (0..100).for_each(|_| net.request(NodeId(1), 1));
    assert_eq!((net.tally.admitted, net.tally.limited, net.tally.degraded), (100, 40, 0));
}

/// Without the last report of a node that is away, no other could prove a denial.
#[test]
fn a_node_that_stops_tells_what_it_spent_last() {
    let mut net = Net::new(3, 3, &[(30, 60_000)]);
    net.run_until_us(1_000);
    for id in [1, 2, 3] {
        (0..9).for_each(|_| net.request(NodeId(id), 1));
    }
    net.run_until_us(1_000_000);
    (1..=3).for_each(|id| net.request(NodeId(id), 1));
    net.stop(NodeId(3));
    for id in [1, 2] {
        (0..5).for_each(|_| net.request(NodeId(id), 1));
    }
    net.run_until_us(3_000_000);
    assert_eq!((net.tally.admitted, net.tally.limited, net.tally.degraded), (30, 10, 0));
}

#[test]
fn what_an_orderly_stop_left_follows_the_limit() {
    // The limits that count after 30 of 100 were spent at one node, each followed by an orderly
    // restart of all, and what may be had in the end. A cut takes each node's share of it: one
    // that has spent more than is left of its own makes the others no poorer.
    for (limits, left) in [
        (&[200][..], 170..=170),
        (&[50], 33..=34),
        (&[10], 6..=7),
        (&[10, 100], 70..=70),
        (&[200, 200, 100], 70..=70),
        (&[100, 100, 100], 70..=70),
    ] {
        let mut net = Net::new(5, 3, &[(100, 60_000)]);
        net.run_until_us(1_000);
        (0..30).for_each(|_| net.request(NodeId(1), 1));
        // All nodes stop together, so that no node receives a handoff.
        for limit in limits {
            let files = [1, 2, 3].map(|node| (NodeId(node), net.stop_alone(NodeId(node))));
            net.set_limit(0, *limit);
            files.into_iter().for_each(|(node, left)| net.restart(node, left));
        }
        let before = net.tally.admitted;
        (0..300).for_each(|n| net.request(NodeId(1 + n % 3), 1));
        net.run_until_us(3_000_000);
        let had = net.tally.admitted - before;
        assert!(left.contains(&had), "{limits:?}: {had}");
        assert_eq!(net.tally.degraded, 0, "{limits:?}");
    }
}

#[test]
fn a_stopping_node_gives_by_the_current_limit() {
    // Lowered after each node has opened the counter, and before the one that stops looks again.
    let mut net = Net::new(5, 3, &[(100, 60_000)]);
    net.run_until_us(1_000);
    (1..=3).for_each(|node| net.request(NodeId(node), 1));
    net.set_limit(0, 40);
    net.stop(NodeId(3));
    (0..200).for_each(|n| net.request(NodeId(1 + n % 2), 1));
    net.run_until_us(3_000_000);
    assert_eq!(net.tally.admitted, 40);
    assert_eq!(net.tally.unproven_denials, 0);
}

#[test]
fn a_share_out_of_use_follows_no_limit() {
    // After a crash the share of the open window is out of use. A cut takes nothing from it, so a
    // raise must give nothing back, also in the incarnation after an orderly stop.
    let mut net = Net::new(5, 1, &[(48, 60_000)]);
    net.run_until_us(1_000);
    (0..47).for_each(|_| net.request(NodeId(1), 1));
    net.kill(NodeId(1));
    net.restart(NodeId(1), None);
    net.request(NodeId(1), 1);
    net.set_limit(0, 4);
    net.request(NodeId(1), 1);
    let left = net.stop(NodeId(1));
    net.restart(NodeId(1), left);
    net.request(NodeId(1), 1);
    net.set_limit(0, 50);
    (0..60).for_each(|_| net.request(NodeId(1), 1));
    net.run_until_us(3_000_000);
    assert_eq!(net.tally.admitted, 47);
}

#[test]
fn burned_tokens_are_counted_by_the_current_limit() {
    // Node 2 crashed: its third is out of use. Node 1 knows that and spends more than its own share.
    let mut net = Net::new(5, 3, &[(300, 60_000)]);
    net.run_until_us(1_000);
    net.request(NodeId(2), 1);
    net.kill(NodeId(2));
    net.restart(NodeId(2), None);
    [1, 3].into_iter().for_each(|node| net.introduce(NodeId(2), NodeId(node)));
    (0..50).for_each(|_| net.request(NodeId(3), 1));
    (0..110).for_each(|_| net.request(NodeId(1), 1));
    net.run_until_us(1_000_000);
    assert_eq!(net.tally.admitted, 161);
    // Of 240 a third is out of use, and 160 are spent beside that one: of 300 it was 100.
    net.set_limit(0, 240);
    (0..50).for_each(|_| net.request(NodeId(1), 1));
    net.run_until_us(3_000_000);
    assert!(net.tally.admitted > 161);
    assert_eq!(net.tally.unproven_denials, 0);
}

/// Orders of stops (s), kills (k) and spending of 30 (u); what may be had afterwards, of 100.
#[test]
fn no_order_of_stops_and_crashes_gives_a_token_twice() {
    for (order, left) in
        [("us", 70), ("uss", 70), ("usuuss", 10), ("uk", 0), ("uks", 0), ("usks", 0), ("sks", 0)]
    {
        let mut net = Net::new(5, 1, &[(100, 60_000)]);
        net.run_until_us(1_000);
        let one = NodeId(1);
        for step in order.chars() {
            match step {
                'u' => (0..30).for_each(|_| net.request(one, 1)),
                's' => {
                    let left = net.stop(one);
                    net.restart(one, left);
                }
                _ => {
                    net.kill(one);
                    net.restart(one, None);
                }
            }
        }
        let before = net.tally.admitted;
        (0..130).for_each(|_| net.request(one, 1));
        net.run_until_us(2_000_000);
        assert_eq!(net.tally.admitted - before, left, "{order}");
        assert_eq!(net.tally.unproven_denials, 0, "{order}");
    }
}

#[test]
fn two_limits_that_run_out_together_do_not_hold_each_other_up() {
    for seed in 0..60 {
        let mut net = Net::new(seed, 3, &[(40, 60_000), (40, 120_000)]);
        net.run_until_us(1_000);
        for n in 0..120u64 {
            net.run_until_us(2_000 + n * 150);
            net.request(NodeId(1 + mix(seed, n) % 3), 1);
        }
        net.run_until_us(2_000_000);
        assert_eq!((net.tally.admitted, net.tally.degraded), (40, 0), "seed {seed}");
    }
}

fn mix(seed: u64, n: u64) -> u64 {
    fluxgate_types::id::mix64(seed.rotate_left(32) ^ n)
}

#[test]
fn half_the_limit_spread_evenly_needs_no_message() {
    let mut net = Net::new(11, 3, &[(100, 60_000)]);
    for n in 0..50 {
        net.run_until_us(n * 1_000_000);
        net.request(NodeId(1 + n % 3), 1);
    }
    assert_eq!((net.tally.admitted, net.tally.waited, net.tally.asks), (50, 0, 0));
}

#[test]
fn all_at_one_node_costs_a_few_messages() {
    let mut net = Net::new(12, 3, &[(100, 60_000)]);
    for n in 0..100 {
        net.run_until_us(1_000 + n * 500_000);
        net.request(NodeId(1), 1);
    }
    net.run_until_us(MINUTE_US - 1_000);
    assert_eq!(net.tally.admitted, 100);
    assert!(net.tally.asks <= 6, "{} asks", net.tally.asks);
}
