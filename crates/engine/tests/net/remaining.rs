//! What is left is right on every node within one gossip, also where the counter is not open yet.

use fluxgate_engine::quota::CounterId;
use fluxgate_types::{ClusterMs, NodeId, Subject, caps};

use super::Net;

fn counter(net: &Net) -> CounterId {
    let spec = &net.limits.specs[0];
    let window = spec.limit.window_at(ClusterMs(net.now_ms())).number;
    CounterId { subject: net.key, limit: spec.tag, window }
}

/// So many requests at node 1, within its share, and a second later one at the last node.
fn shown(nodes: u64, requests: u64, between: impl FnOnce(&mut Net)) -> u64 {
    let mut net = Net::new(7 + requests, nodes, &[(100, 600_000)]);
    for _ in 0..requests {
        net.request(NodeId(1), 1);
    }
    net.run_until_us(300_000);
    between(&mut net);
    net.run_until_us(1_000_000);
    net.request(NodeId(nodes), 1);
    assert_eq!(net.tally.admitted, requests + 1);
    net.last.expect("decided").remaining
}

#[test]
fn a_node_that_sees_a_key_for_the_first_time_knows_what_others_spent() {
    for (nodes, requests) in [(3, 30), (3, 1), (3, 33), (5, 20), (5, 7)] {
        assert_eq!(shown(nodes, requests, |_| {}), 99 - requests, "{nodes} nodes, {requests}");
    }
}

#[test]
fn a_node_that_restarted_knows_what_others_spent() {
    for (nodes, requests) in [(3, 30), (5, 20)] {
        let restart = |net: &mut Net| {
            let left = net.stop(NodeId(nodes));
            net.restart(NodeId(nodes), left);
        };
        assert_eq!(shown(nodes, requests, restart), 99 - requests, "{nodes} nodes, {requests}");
    }
}

/// What the ended incarnation spent itself is no secret either: what is burned says it, once all
/// nodes have said their part, those too that have not opened the counter.
#[test]
fn a_node_that_restarted_knows_what_it_spent_before() {
    let spent_before = |net: &mut Net| {
        for _ in 0..10 {
            net.request(NodeId(3), 1);
        }
        net.run_until_us(500_000);
        let left = net.stop(NodeId(3));
        net.restart(NodeId(3), left);
    };
    let mut net = Net::new(9, 3, &[(100, 600_000)]);
    (0..20).for_each(|_| net.request(NodeId(1), 1));
    spent_before(&mut net);
    net.run_until_us(1_000_000);
    net.request(NodeId(3), 1);
    // It waits: what it held it gave away.
    net.run_until_us(1_300_000);
    assert_eq!(net.last.expect("decided").remaining, 69);
    // And so do the others.
    net.request(NodeId(2), 1);
    assert_eq!(net.last.expect("decided").remaining, 68);
}

#[test]
fn a_node_that_could_not_be_reached_knows_what_it_missed() {
    let mut net = Net::new(3, 3, &[(100, 600_000)]);
    net.cut = Some(NodeId(3));
    (0..30).for_each(|_| net.request(NodeId(1), 1));
    net.run_until_us(1_000_000);
    net.cut = None;
    net.run_until_us(1_300_000);
    net.request(NodeId(3), 1);
    assert_eq!(net.last.expect("decided").remaining, 69);
}

#[test]
fn figures_that_were_heard_go_with_their_window() {
    let mut net = Net::new(5, 3, &[(100, 10_000)]);
    (0..30).for_each(|_| net.request(NodeId(1), 1));
    net.run_until_us(300_000);
    assert_eq!(net.nodes[&NodeId(2)].shard.reports_heard(), 1);
    net.request(NodeId(2), 1);
    assert_eq!(net.nodes[&NodeId(2)].shard.reports_heard(), 0, "taken in");
    assert_eq!(net.nodes[&NodeId(3)].shard.reports_heard(), 1);
    net.run_until_us(14_000_000);
    for node in net.nodes.values() {
        assert_eq!((node.shard.reports_heard(), node.shard.counters()), (0, 0));
    }
}

/// A figure is kept only of a counter that there can be, and only so many of them.
#[test]
fn figures_are_kept_within_bounds() {
    let mut net = Net::new(5, 3, &[(100, 60_000)]);
    let now = counter(&net);
    for (counter, kept) in [
        (CounterId { limit: now.limit ^ 1, ..now }, 0),
        (CounterId { window: now.window - 1, ..now }, 0),
        (CounterId { window: now.window + 1, ..now }, 0),
        (CounterId { window: u64::MAX, ..now }, 0),
        (now, 1),
    ] {
        net.hear_report(NodeId(2), NodeId(1), counter, 5);
        assert_eq!(net.nodes[&NodeId(2)].shard.reports_heard(), kept, "{counter:?}");
    }
    for n in 0..2 * caps::FIGURES_HEARD_PER_SHARD_MAX {
        let text = format!("{n:012}");
        let key = Subject::from(
            fluxgate_types::KeyId::new(text.as_bytes().try_into().expect("12")).expect("an id"),
        );
        net.hear_report(NodeId(2), NodeId(1), CounterId { subject: key, ..now }, 5);
    }
    let heard = net.nodes[&NodeId(2)].shard.reports_heard();
    assert_eq!(heard, caps::FIGURES_HEARD_PER_SHARD_MAX);
}
