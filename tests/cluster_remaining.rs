//! `X-RateLimit-Remaining` is right on every node within one gossip, even on a node that sees the
//! key for the first time in a window.
//!
//! A sentinel key shows that a gossip has arrived: the test spends from it after all other keys,
//! and peeks at it (which spends nothing) on the other node until that node shows the spend.

use std::net::SocketAddr;
use std::time::Duration;

use rustix::process::Signal;

use crate::support::cluster::Cluster;
use crate::support::load::Burst;
use crate::support::wait::roomy_period_s;
use crate::support::{Key, Request, wait_until};

/// Far longer than a gossip interval: a busy machine must not fail this test.
const SOON: Duration = Duration::from_secs(10);

fn remaining(cluster: &Cluster, node: u64, request: &Request) -> u64 {
    cluster.ask(node, request).number("x-ratelimit-remaining")
}

/// Waits until node `to` knows everything that node `from` has spent so far.
fn wait_for_gossip(cluster: &Cluster, from: u64, to: u64) {
    let sentinel = cluster.limited_key(1_000, roomy_period_s(30));
    let left = remaining(cluster, from, &sentinel.validate());
    let look = sentinel.validate_cost(0);
    // A node that was stopped may lack a lease for another moment.
    wait_until("the sentinel's report has arrived", SOON, || {
        let answer = cluster.ask(to, &look);
        answer.status == 200 && answer.number("x-ratelimit-remaining") == left
    });
}

/// Whether node `asked` currently hears from `node`.
fn is_reachable(cluster: &Cluster, asked: u64, node: u64) -> bool {
    let view = cluster.view(asked).expect("it answers");
    let nodes = view["nodes"].as_array().expect("a list");
    nodes.iter().any(|one| one["id"] == node && one["reachable"] == true)
}

/// Spends from each key at one node, within its share.
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
fn the_first_request_at_a_node_shows_remaining_of_a_hundred_keys() {
    for nodes in [3, 5] {
        let cluster = Cluster::start(nodes);
        let period_s = roomy_period_s(60);
        // A share is at least 20 of 100 with five nodes.
        let keys: Vec<(Key, u64)> =
            (0..100).map(|n| (cluster.limited_key(100, period_s), 1 + n * 7 % 20)).collect();
        spend(&cluster, 1, &keys);
        for (place, node) in (2..=nodes).enumerate() {
            wait_for_gossip(&cluster, node - 1, node);
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
fn a_restarted_node_shows_remaining() {
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
        wait_for_gossip(&cluster, node, 2);
    }
    for (key, spent) in &all_at_one {
        assert_eq!(remaining(&cluster, 2, &key.validate()), 99 - spent, "{spent} at node 1");
    }
    for (key, spent) in &own {
        let left = remaining(&cluster, 2, &key.validate());
        assert_eq!(left, 99 - 2 * spent, "{spent} at nodes 1 and 2 each");
        // Usage agrees, though node 2 itself has forgotten what it spent.
        wait_until("usage agrees", SOON, || {
            let usage = cluster.admin(3, Request::get(&format!("{}/usage", key.path())));
            let limit = &usage.expect(200).json()["limits"][0];
            limit["remaining"] == left && limit["spent"] == 100 - left
        });
    }
    cluster.assert_none_degraded();
}

#[test]
fn a_node_that_was_unreachable_shows_remaining() {
    let cluster = Cluster::start(3);
    let period_s = roomy_period_s(120);
    let keys: Vec<(Key, u64)> = [30, 1, 17].map(|n| (cluster.limited_key(100, period_s), n)).into();
    let stopped = cluster.others(cluster.leader())[0];
    let other = cluster.others(stopped)[0];
    cluster.node(stopped).signal(Signal::STOP);
    spend(&cluster, other, &keys);
    // The other nodes got the reports, and gossip to this one failed.
    let third = *cluster.others(stopped).iter().find(|node| **node != other).expect("one of three");
    let look = keys[0].0.validate_cost(0);
    let left = remaining(&cluster, other, &look);
    wait_until("the third node has the report", SOON, || remaining(&cluster, third, &look) == left);
    wait_until("the stopped node counts as unreachable", SOON, || {
        !is_reachable(&cluster, other, stopped)
    });
    cluster.node(stopped).signal(Signal::CONT);
    wait_until("it is ready again", SOON, || {
        cluster.node(stopped).ready().is_ok_and(|answer| answer.status == 200)
    });
    wait_for_gossip(&cluster, other, stopped);
    for (key, spent) in &keys {
        assert_eq!(
            remaining(&cluster, stopped, &key.validate()),
            99 - spent,
            "{spent} were missed"
        );
    }
}
