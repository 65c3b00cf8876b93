//! One limit over all nodes, exactly: every key and window admits `min(demand, limit)`.
//!
//! For any limit, period, cost and shape of traffic, on one, three and five nodes, with all nodes
//! up; and no request is denied without proof that its tokens are spent.

use std::net::SocketAddr;

use crate::support::cluster::Cluster;
use crate::support::exact::{Windows, assert_exact, assert_remaining_never_rises, windows};
use crate::support::load::{Burst, Stream};
use crate::support::wait::roomy_period_s;
use crate::support::{Key, Request};

/// How a key's requests are spread over the nodes.
#[derive(Clone, Copy, Debug)]
enum Shape {
    /// Each node in turn.
    Even,
    /// One node.
    Sticky,
    /// One node four times out of five.
    Skew,
}

impl Shape {
    const ALL: [Self; 3] = [Self::Even, Self::Sticky, Self::Skew];

    /// The index in the list of nodes for request number `at` of key number `key`.
    fn node(self, key: usize, at: usize, nodes: usize) -> usize {
        let home = key % nodes;
        match self {
            Self::Even => (home + at) % nodes,
            Self::Sticky => home,
            Self::Skew => (home + if at % 5 == 4 { at / 5 % nodes } else { 0 }) % nodes,
        }
    }
}

fn gateways(cluster: &Cluster) -> Vec<SocketAddr> {
    cluster.addresses().iter().map(|at| at.gateway).collect()
}

/// Sends `demand` requests of this cost at once, and returns the windows that they fell into.
#[track_caller]
fn burst(cluster: &Cluster, key: &Key, shape: Shape, demand: usize, cost: u64) -> Windows {
    let nodes = gateways(cluster);
    let request = key.validate_cost(cost);
    let requests: Vec<(SocketAddr, Request)> =
        (0..demand).map(|at| (nodes[shape.node(0, at, nodes.len())], request.clone())).collect();
    let answers = Burst::default().send(&requests);
    windows(answers.iter().map(|answer| (answer, cost)))
}

/// Fails unless all requests fell into one window and `tokens` of it were admitted.
#[track_caller]
fn assert_admitted(windows: &Windows, tokens: u64) {
    assert_exact(windows);
    assert_eq!(windows.len(), 1, "{windows:?}");
    let admitted: u64 = windows.values().map(|window| window.admitted).sum();
    assert_eq!(admitted, tokens, "{windows:?}");
}

#[test]
fn four_hundred_at_once_over_three_nodes_admit_exactly_one_hundred() {
    let cluster = Cluster::start(3);
    for shape in Shape::ALL {
        let key = cluster.limited_key(100, roomy_period_s(60));
        let windows = burst(&cluster, &key, shape, 400, 1);
        assert_admitted(&windows, 100);
    }
    cluster.assert_none_degraded();
}

#[test]
fn demand_up_to_the_limit_is_admitted_completely() {
    let cluster = Cluster::start(3);
    for shape in Shape::ALL {
        for demand in [50, 100, 101] {
            let key = cluster.limited_key(100, roomy_period_s(60));
            let windows = burst(&cluster, &key, shape, demand, 1);
            assert_admitted(&windows, demand.min(100) as u64);
        }
    }
    cluster.assert_none_degraded();
}

#[test]
fn limits_of_any_size_are_met_to_the_token() {
    let cluster = Cluster::start(3);
    for (tokens, cost, demand) in [
        (1, 1, 30),
        (2, 1, 30),
        (5, 1, 60),
        (1_000, 1, 1_300),
        (1_000, 7, 200),
        (100_000, 1_000, 150),
        (100_000, 333, 330),
        (100_000, 100_000, 9),
    ] {
        for shape in [Shape::Even, Shape::Sticky] {
            let key = cluster.limited_key(tokens, roomy_period_s(60));
            let windows = burst(&cluster, &key, shape, demand, cost);
            assert_admitted(&windows, tokens / cost * cost);
        }
    }
    cluster.assert_none_degraded();
}

#[test]
fn mixed_costs_are_denied_only_if_they_do_not_fit() {
    let cluster = Cluster::start(3);
    let nodes = gateways(&cluster);
    let key = cluster.limited_key(100, roomy_period_s(60));
    let costs: Vec<u64> = (0..120).map(|at| [1, 2, 3, 7, 40][at % 5]).collect();
    let requests: Vec<(SocketAddr, Request)> = costs
        .iter()
        .enumerate()
        .map(|(at, &cost)| (nodes[at % 3], key.validate_cost(cost)))
        .collect();
    let answers = Burst::default().send(&requests);
    let windows = windows(answers.iter().zip(costs));
    assert_admitted(&windows, 100);
    cluster.assert_none_degraded();
}

#[test]
fn a_request_spends_from_all_its_limits_or_from_none() {
    let cluster = Cluster::start(3);
    let (small_s, large_s) = (roomy_period_s(60), roomy_period_s(30));
    let limits = serde_json::json!([
        {"name": "small", "tokens": 20, "period": format!("{small_s}s")},
        {"name": "large", "tokens": 50, "period": format!("{large_s}s")},
    ]);
    let body = serde_json::json!({"name": "two", "scope": "read", "limits": limits});
    let key = cluster.create(2, &body);
    let nodes = gateways(&cluster);
    let requests: Vec<_> = (0..90).map(|at| (nodes[at % 3], key.validate())).collect();
    let answers = Burst::default().send(&requests);
    let admitted = answers.iter().filter(|answer| answer.status == 200).count();
    assert_eq!(admitted, 20);
    // A request that the small limit denied must not have spent from the large one.
    let usage = cluster.admin(1, Request::get(&format!("{}/usage", key.path())));
    let usage = usage.expect(200).json();
    let spent: Vec<u64> = usage["limits"]
        .as_array()
        .unwrap()
        .iter()
        .map(|limit| limit["spent"].as_u64().unwrap())
        .collect();
    assert_eq!(spent, [20, 20], "{usage}");
    cluster.assert_none_degraded();
}

#[test]
fn two_hundred_keys_at_once_are_each_exact() {
    let cluster = Cluster::start(3);
    let nodes = gateways(&cluster);
    let period_s = roomy_period_s(60);
    let keys: Vec<Key> = (0..200).map(|_| cluster.limited_key(20, period_s)).collect();
    // One queue over all keys, so that every key is in use at every moment.
    let requests: Vec<(usize, (SocketAddr, Request))> = (0..30)
        .flat_map(|at| keys.iter().enumerate().map(move |(index, key)| (at, index, key)))
        .map(|(at, index, key)| {
            let shape = Shape::ALL[index % 3];
            (index, (nodes[shape.node(index, at, 3)], key.validate()))
        })
        .collect();
    let (owners, requests): (Vec<usize>, Vec<_>) = requests.into_iter().unzip();
    let answers = Burst::default().send(&requests);
    for index in 0..keys.len() {
        let own = owners.iter().zip(&answers).filter(|(owner, _)| **owner == index);
        let windows = windows(own.map(|(_, answer)| (answer, 1)));
        assert_admitted(&windows, 20);
    }
    cluster.assert_none_degraded();
}

#[test]
fn short_windows_are_exact_one_after_another() {
    let cluster = Cluster::start(3);
    let keys: Vec<Key> = [1, 2, 3].map(|period_s| cluster.limited_key(40, period_s)).into();
    let requests: Vec<Request> = keys.iter().map(Key::validate).collect();
    let stream = Stream::start(&cluster.addresses(), &requests, 150);
    // Until the slowest of them has seen several windows.
    let first = cluster.ask(1, &keys[2].validate_cost(0)).window().2;
    crate::support::wait_until(
        "three windows have passed",
        std::time::Duration::from_secs(20),
        || cluster.ask(1, &keys[2].validate_cost(0)).window().2 >= first + 9,
    );
    let samples = stream.finish();
    for (index, _) in keys.iter().enumerate() {
        let own: Vec<_> = samples.iter().filter(|sample| sample.request == index).collect();
        let answers = own.iter().map(|sample| sample.outcome.as_ref().unwrap());
        let windows = windows(answers.map(|answer| (answer, 1)));
        assert_exact(&windows);
        let full = windows.values().filter(|window| window.admitted == 40).count();
        assert!(full >= 2, "too few windows were full: {windows:?}");
        for node in cluster.ids() {
            let of_node = own.iter().filter(|sample| sample.node == node);
            assert_remaining_never_rises(of_node.map(|sample| sample.outcome.as_ref().unwrap()));
        }
    }
    cluster.assert_none_degraded();
}

#[test]
fn one_node_and_five_nodes_are_as_exact_as_three() {
    for count in [1, 5] {
        let cluster = Cluster::start(count);
        for shape in Shape::ALL {
            for (tokens, cost, demand) in [(1, 1, 25), (100, 1, 400), (1_000, 30, 60)] {
                let key = cluster.limited_key(tokens, roomy_period_s(60));
                let windows = burst(&cluster, &key, shape, demand, cost);
                let possible = (demand as u64).min(tokens / cost) * cost;
                assert_admitted(&windows, possible);
            }
        }
        cluster.assert_none_degraded();
    }
}

#[test]
fn remaining_never_rises_on_a_node_while_all_spend() {
    let cluster = Cluster::start(3);
    let key = cluster.limited_key(300, roomy_period_s(60));
    let stream = Stream::start(&cluster.addresses(), &[key.validate()], 200);
    crate::support::wait_until("a request is denied", std::time::Duration::from_secs(20), || {
        cluster.ask(2, &key.validate_cost(0)).window().1 == 0
    });
    let samples = stream.finish();
    for node in cluster.ids() {
        let of_node = samples.iter().filter(|sample| sample.node == node);
        assert_remaining_never_rises(of_node.map(|sample| sample.outcome.as_ref().unwrap()));
    }
    let denied = samples.iter().filter(|sample| sample.status() == 429);
    for sample in denied {
        assert_eq!(sample.outcome.as_ref().unwrap().window().1, 0);
    }
    let answers = samples.iter().map(|sample| sample.outcome.as_ref().unwrap());
    assert_exact(&windows(answers.map(|answer| (answer, 1))));
    cluster.assert_none_degraded();
}
