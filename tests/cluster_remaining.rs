//! `X-RateLimit-Remaining` is right on every node within one gossip, also on one that sees the key
//! for the first time in a window.
//!
//! A sentinel says when a gossip has arrived: a key that is spent from after all others, and looked at
//! (which spends nothing) on the node in question until that shows it.

use std::net::SocketAddr;
use std::time::Duration;

use rustix::process::Signal;

use crate::support::cluster::Cluster;
use crate::support::load::Burst;
use crate::support::wait::roomy_period_s;
use crate::support::{Key, Request, wait_until};

/// Far beyond a gossip period: a machine that is busy with other things must not fail this.
const SOON: Duration = Duration::from_secs(10);

fn remaining(cluster: &Cluster, node: u64, request: &Request) -> u64 {
    cluster.ask(node, request).number("x-ratelimit-remaining")
}

/// Waits until what node `from` spent before now is known at node `to`.
fn wait_told(cluster: &Cluster, from: u64, to: u64) {
    let sentinel = cluster.limited_key(1_000, roomy_period_s(30));
    let left = remaining(cluster, from, &sentinel.validate());
    let look = sentinel.validate_cost(0);
    // A node that was stopped may miss its lease for a moment more.
    wait_until("the sentinel's figure has arrived", SOON, || {
        let answer = cluster.ask(to, &look);
        answer.status == 200 && answer.number("x-ratelimit-remaining") == left
    });
}

/// Whether a node, asked now, hears from another.
fn is_reachable(cluster: &Cluster, asked: u64, node: u64) -> bool {
    let view = cluster.view(asked).expect("it answers");
    let nodes = view["nodes"].as_array().expect("a list");
    nodes.iter().any(|one| one["id"] == node && one["reachable"] == true)
}

/// Spends so much of each key at one node, within its share.
fn spend(cluster: &Cluster, node: u64, keys: &[(Key, u64)]) {
    let at: SocketAddr = cluster.gateway(node);
    let requests: Vec<(SocketAddr, Request)> = keys
        .iter()
        .flat_map(|(key, count)| (0..*count).map(move |_| (at, key.validate())))
        .collect();
    for answer in Burst::default().send(&requests) {
        answer.expect(200);
    }
}

#[test]
fn the_first_request_at_a_node_shows_what_is_left_of_a_hundred_keys() {
    for nodes in [3, 5] {
        let cluster = Cluster::start(nodes);
        let period_s = roomy_period_s(60);
        // A share is at least 20 of 100 with five nodes.
        let keys: Vec<(Key, u64)> =
            (0..100).map(|n| (cluster.limited_key(100, period_s), 1 + n * 7 % 20)).collect();
        spend(&cluster, 1, &keys);
        for (place, node) in (2..=nodes).enumerate() {
            wait_told(&cluster, node - 1, node);
            for (key, spent) in &keys {
                let left = remaining(&cluster, node, &key.validate());
                let want = 100 - spent - 1 - place as u64;
                assert_eq!(left, want, "node {node} of {nodes}: {spent} spent at node 1");
            }
        }
        cluster.assert_none_degraded();
    }
}

#[test]
fn a_node_that_restarted_shows_what_is_left() {
    let mut cluster = Cluster::start(3);
    let period_s = roomy_period_s(120);
    let all_at_one: Vec<(Key, u64)> =
        [30, 1, 17].map(|n| (cluster.limited_key(100, period_s), n)).into();
    let own: Vec<(Key, u64)> = [10, 3].map(|n| (cluster.limited_key(100, period_s), n)).into();
    spend(&cluster, 1, &all_at_one);
    spend(&cluster, 1, &own);
    spend(&cluster, 2, &own);
    cluster.node_mut(2).stop();
    cluster.restart(2);
    cluster.wait_ready();
    for node in [1, 3] {
        wait_told(&cluster, node, 2);
    }
    for (key, spent) in &all_at_one {
        assert_eq!(remaining(&cluster, 2, &key.validate()), 99 - spent, "{spent} at node 1");
    }
    for (key, spent) in &own {
        let left = remaining(&cluster, 2, &key.validate());
        assert_eq!(left, 99 - 2 * spent, "{spent} at nodes 1 and 2 each");
        // The usage says the same, though node 2 itself has forgotten what it spent.
        wait_until("the usage says the same", SOON, || {
            let usage = cluster.admin(3, Request::get(&format!("{}/usage", key.path())));
            let limit = &usage.expect(200).json()["limits"][0];
            limit["remaining"] == left && limit["spent"] == 100 - left
        });
    }
    cluster.assert_none_degraded();
}

#[test]
fn a_node_that_could_not_be_reached_shows_what_is_left() {
    let cluster = Cluster::start(3);
    let period_s = roomy_period_s(120);
    let keys: Vec<(Key, u64)> = [30, 1, 17].map(|n| (cluster.limited_key(100, period_s), n)).into();
    let gone = cluster.others(cluster.leader())[0];
    let other = cluster.others(gone)[0];
    cluster.node(gone).signal(Signal::STOP);
    spend(&cluster, other, &keys);
    // The figures were told to the others, and gossip to this one has failed.
    let third = *cluster.others(gone).iter().find(|node| **node != other).expect("one of three");
    let look = keys[0].0.validate_cost(0);
    let left = remaining(&cluster, other, &look);
    wait_until("the third node is told", SOON, || remaining(&cluster, third, &look) == left);
    wait_until("the stopped node is missed", SOON, || !is_reachable(&cluster, other, gone));
    cluster.node(gone).signal(Signal::CONT);
    wait_until("it is ready again", SOON, || {
        cluster.node(gone).ready().is_ok_and(|answer| answer.status == 200)
    });
    wait_told(&cluster, other, gone);
    for (key, spent) in &keys {
        assert_eq!(remaining(&cluster, gone, &key.validate()), 99 - spent, "{spent} were missed");
    }
}
