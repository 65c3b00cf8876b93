//! Nodes join and leave and leadership moves, by the commands that an operator types.

use std::time::Duration;

use serde_json::Value;

use crate::support::cluster::Cluster;
use crate::support::command::run;
use crate::support::exact::{assert_exact, assert_never_above, windows};
use crate::support::load::{Burst, Stream};
use crate::support::wait::roomy_period_s;
use crate::support::{Key, Request, wait_until};

const SOON: Duration = Duration::from_secs(30);

fn share_nodes(view: &Value, map: &str) -> Vec<u64> {
    let nodes = view[map]["nodes"].as_array();
    let nodes = nodes.into_iter().flatten();
    nodes.map(|node| node["node"].as_u64().unwrap()).collect()
}

/// Whether the current share map has these nodes, on every started node.
fn counts(cluster: &Cluster, expected: &[u64]) -> bool {
    cluster.started().into_iter().all(|id| {
        cluster.view(id).is_some_and(|view| {
            view["pending_share_map"].is_null() && share_nodes(&view, "share_map") == expected
        })
    })
}

/// Sends twice the limit to these nodes at once.
fn flood(
    cluster: &Cluster,
    key: &Key,
    ids: &[u64],
    demand: usize,
) -> crate::support::exact::Windows {
    let requests: Vec<_> =
        (0..demand).map(|at| (cluster.gateway(ids[at % ids.len()]), key.validate())).collect();
    let answers = Burst::default().send(&requests);
    windows(answers.iter().map(|answer| (answer, 1)))
}

#[test]
fn a_fourth_node_joins_answers_and_leaves() {
    let mut cluster = Cluster::start(3);
    let old = cluster.write_key();
    let id = cluster.plan_extra();
    cluster.node_mut(id).spawn();
    let peer = cluster.node(id).at.peer.to_string();
    let (added, _) = run(&mut cluster.cli(2, &["cluster", "add-node", "4", "--peer", &peer]), 0);
    assert!(added.starts_with("nodes 1, 2, 3, 4; leader: node "), "{added}");
    cluster.wait_ready();
    cluster.ask(4, &old.validate()).expect(200);
    let new = cluster.create(4, &serde_json::json!({"name": "by four", "scope": "read"}));
    for id in 1..=4 {
        cluster.ask(id, &new.validate()).expect(200);
    }
    wait_until("all four have a share", SOON, || counts(&cluster, &[1, 2, 3, 4]));
    let key = cluster.limited_key(100, roomy_period_s(60));
    assert_exact(&flood(&cluster, &key, &[1, 2, 3, 4], 300));
    cluster.assert_none_degraded();

    let (removed, _) = run(&mut cluster.cli(1, &["cluster", "remove-node", "4"]), 0);
    assert!(removed.starts_with("nodes 1, 2, 3; leader: node "), "{removed}");
    wait_until("the removed node answers nothing", SOON, || {
        cluster.node(4).ready().map_or(true, |answer| answer.status == 503)
    });
    let key = cluster.limited_key(100, roomy_period_s(60));
    assert_never_above(&flood(&cluster, &key, &[1, 2, 3], 300));
    cluster.node_mut(4).terminate();
    cluster.node_mut(4).wait_exit();
    wait_until("three nodes have shares again", SOON, || counts(&cluster, &[1, 2, 3]));
    let (output, log) = run(&mut cluster.cli(1, &["cluster", "remove-node", "4"]), 1);
    assert!(output.is_empty() && log.contains("not_found"), "{log}");
}

#[test]
fn the_leader_can_be_removed_and_replaced() {
    let mut cluster = Cluster::start(3);
    let key = cluster.write_key();
    let leader = cluster.leader();
    let rest = cluster.others(leader);
    run(&mut cluster.cli(rest[0], &["cluster", "remove-node", &leader.to_string()]), 0);
    let next = cluster.leader_among(&rest);
    assert_ne!(next, leader);
    cluster.node_mut(leader).terminate();
    cluster.node_mut(leader).wait_exit();
    cluster.wait_write(rest[1], SOON);
    for &id in &rest {
        cluster.ask(id, &key.validate()).expect(200);
    }
}

#[test]
fn leadership_moves_to_the_named_node() {
    let cluster = Cluster::start(3);
    for _ in 0..3 {
        let leader = cluster.leader();
        let next = cluster.others(leader)[0];
        let words = ["cluster", "hand-over", "--to", &next.to_string()];
        let (moved, _) = run(&mut cluster.cli(leader, &words), 0);
        assert_eq!(moved, format!("nodes 1, 2, 3; leader: node {next}\n"));
        assert_eq!(cluster.leader(), next);
        cluster.create(leader, &serde_json::json!({"name": "after", "scope": "read"}));
    }
    let leader = cluster.leader();
    run(&mut cluster.cli(leader, &["cluster", "hand-over"]), 0);
    wait_until("another node leads", SOON, || cluster.leader() != leader);
    run(&mut cluster.cli(1, &["cluster", "hand-over", "--to", "9"]), 1);
}

#[test]
fn a_dead_node_loses_and_regains_its_share_and_no_window_exceeds_its_limit() {
    let mut cluster = Cluster::start(3);
    let leader = cluster.leader();
    let dead = cluster.others(leader)[0];
    let rest = cluster.others(dead);
    let (streamed, key) = (cluster.limited_key(40, 1), cluster.limited_key(100, 1));
    let stream = Stream::start(&cluster.addresses(), &[streamed.validate()], 60);
    cluster.node_mut(dead).kill();
    wait_until("the share map is without it", SOON, || counts(&cluster, &rest));
    next_window(&cluster, &key, rest[0]);
    assert_exact(&flood(&cluster, &key, &rest, 300));
    cluster.restart(dead);
    wait_until("the share map has it again", SOON, || counts(&cluster, &[1, 2, 3]));
    next_window(&cluster, &key, rest[0]);
    assert_exact(&flood(&cluster, &key, &[1, 2, 3], 300));
    let samples = stream.finish();
    let answers = samples.iter().filter_map(|sample| sample.outcome.as_ref().ok());
    let answers = answers.filter(|answer| matches!(answer.status, 200 | 429));
    assert_never_above(&windows(answers.map(|answer| (answer, 1))));
}

/// Waits for a window that begins after this call.
fn next_window(cluster: &Cluster, key: &Key, node: u64) {
    let reset = || cluster.ask(node, &key.validate_cost(0)).window().2;
    let now = reset();
    wait_until("another window begins", SOON, || reset() > now);
}

#[test]
fn a_node_that_lost_its_disk_is_rejected_and_the_others_continue() {
    let mut cluster = Cluster::start(3);
    let key = cluster.write_key();
    // First with all other nodes up, then the other follower while that one is down.
    let lost = cluster.others(cluster.leader())[0];
    cluster.node_mut(lost).kill();
    std::fs::remove_dir_all(&cluster.node(lost).data_dir).unwrap();
    cluster.node_mut(lost).spawn();
    let status = cluster.node_mut(lost).wait_exit();
    assert_eq!(status.code(), Some(1), "{status}");
    let log = cluster.node(lost).log_text();
    assert!(log.contains("known to the cluster with another data directory"), "{log}");
    let rest = cluster.others(lost);
    cluster.wait_write(rest[0], SOON);
    for &id in &rest {
        cluster.ask(id, &key.validate()).expect(200);
    }
}

#[test]
fn a_founder_that_lost_its_disk_forms_no_second_cluster() {
    let mut cluster = Cluster::start(1);
    let key = cluster.write_key();
    for id in [2, 3] {
        assert_eq!(cluster.plan_extra(), id);
        cluster.node_mut(id).spawn();
        let peer = cluster.node(id).at.peer.to_string();
        let words = ["cluster", "add-node", &id.to_string(), "--peer", &peer];
        run(&mut cluster.cli(1, &words), 0);
    }
    cluster.wait_ready();
    cluster.node_mut(1).kill();
    std::fs::remove_dir_all(&cluster.node(1).data_dir).unwrap();
    // Its own list of members names only itself.
    cluster.node_mut(1).spawn();
    let status = cluster.node_mut(1).wait_exit();
    assert_eq!(status.code(), Some(1), "{status}");
    let log = cluster.node(1).log_text();
    assert_eq!(log.matches("formed the cluster").count(), 1, "{log}");
    assert!(log.contains("known to the cluster with another data directory"), "{log}");
    cluster.wait_write(2, SOON);
    for id in [2, 3] {
        cluster.admin(id, Request::get(&key.path())).expect(200);
    }
}

#[test]
fn a_new_directory_waits_until_enough_nodes_could_know_an_older_one() {
    let mut cluster = Cluster::start(3);
    let key = cluster.write_key();
    (1..=3).for_each(|id| cluster.node_mut(id).kill());
    std::fs::remove_dir_all(&cluster.node(3).data_dir).unwrap();
    cluster.node_mut(3).spawn();
    wait_until("the log names what it waits for", SOON, || {
        cluster.node_mut(3).assert_alive();
        cluster.node(3).log_text().contains("waiting to hear from these nodes")
    });
    cluster.node_mut(1).spawn();
    let status = cluster.node_mut(3).wait_exit();
    assert_eq!(status.code(), Some(1), "{status}");
    assert_eq!(cluster.node(1).ready().unwrap().status, 503);
    cluster.node_mut(2).spawn();
    cluster.wait_ready();
    for id in [1, 2] {
        cluster.admin(id, Request::get(&key.path())).expect(200);
    }
}

#[test]
fn a_cluster_forms_before_its_first_node_starts() {
    let mut cluster = Cluster::plan(3, |_| {});
    cluster.node_mut(2).spawn();
    cluster.node_mut(3).spawn();
    cluster.wait_ready();
    let key = cluster.create(3, &serde_json::json!({"name": "before one", "scope": "read"}));
    cluster.restart(1);
    for id in 1..=3 {
        cluster.ask(id, &key.validate()).expect(200);
    }
    wait_until("all three have a share", SOON, || counts(&cluster, &[1, 2, 3]));
    let key = cluster.limited_key(100, roomy_period_s(60));
    assert_exact(&flood(&cluster, &key, &[1, 2, 3], 300));
}

#[test]
fn any_majority_forms_the_cluster() {
    // Which node hears the other first is chance, so each pair starts at once, and more than once.
    for pair in [[1, 2], [2, 1], [1, 2], [1, 3]] {
        let mut cluster = Cluster::plan(3, |_| {});
        pair.iter().for_each(|&id| cluster.node_mut(id).spawn());
        cluster.wait_ready();
    }
}

#[test]
fn one_node_of_three_alone_forms_nothing() {
    let mut cluster = Cluster::plan(3, |_| {});
    cluster.node_mut(1).spawn();
    wait_until("the log names what it waits for", SOON, || {
        cluster.node_mut(1).assert_alive();
        cluster.node(1).log_text().contains("waiting to hear from these nodes")
    });
    assert_eq!(cluster.node(1).ready().unwrap().status, 503);
    cluster.node_mut(2).spawn();
    cluster.wait_ready();
}

/// A first node without `members` forms a cluster of one at its advertised address, and others join
/// it there.
#[test]
fn a_first_node_is_known_by_its_advertised_address() {
    let mut cluster = Cluster::plan(1, |_| {});
    let advertised = format!("localhost:{}", cluster.node(1).at.peer.port());
    cluster.node_mut(1).settings.unset("cluster", "members").text("peer", "advertise", &advertised);
    cluster.node_mut(1).spawn();
    cluster.wait_ready();
    assert_eq!(cluster.view(1).unwrap()["nodes"][0]["peer"], *advertised);
    let id = cluster.plan_extra();
    let peer = cluster.node(id).at.peer.to_string();
    cluster.node_mut(id).spawn();
    run(&mut cluster.cli(1, &["cluster", "add-node", &id.to_string(), "--peer", &peer]), 0);
    cluster.wait_ready();
    cluster.write_key();
}
