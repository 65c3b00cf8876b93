//! Changes of the members that cannot work are rejected and change nothing.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use super::{SOON, replace};
use crate::support::cluster::Cluster;
use crate::support::{Request, wait_until};

fn peers(cluster: &Cluster, id: u64) -> Value {
    let view = cluster.view(id).unwrap();
    view["nodes"].as_array().unwrap().iter().map(|node| node["peer"].clone()).collect()
}

#[test]
fn adding_a_running_member_at_a_wrong_address_changes_nothing() {
    let mut cluster = Cluster::start(3);
    let before = peers(&cluster, 1);
    let leader = cluster.leader();
    for (id, at) in [(3, 1), (leader, cluster.others(leader)[0]), (leader, leader)] {
        for peer in ["127.0.0.1:9", "127.0.0.1:1"] {
            let add = Request::post("/v1/cluster/nodes").json(&json!({"id": id, "peer": peer}));
            let begun = Instant::now();
            let answer = cluster.admin(at, add);
            assert_eq!(answer.status, 409, "{}", answer.text());
            assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
            let text = answer.text();
            assert!(text.contains(&format!("node {id} is a member at")), "{text}");
        }
    }
    // The address of another member, and an address of this node's other listener.
    let gateway = cluster.gateway(2).to_string();
    let add = Request::post("/v1/cluster/nodes").json(&json!({"id": 3, "peer": gateway}));
    cluster.admin(1, add).expect(409);
    assert_eq!(peers(&cluster, 1), before);
    cluster.wait_ready();
    cluster.write_key();
    // The same address again changes nothing; another spelling of it works.
    let peer = cluster.node(3).at.peer;
    let same = json!({"id": 3, "peer": peer.to_string()});
    cluster.admin(1, Request::post("/v1/cluster/nodes").json(&same)).expect(200);
    let spelt = json!({"id": 3, "peer": format!("localhost:{}", peer.port())});
    cluster.admin(2, Request::post("/v1/cluster/nodes").json(&spelt)).expect(200);
    cluster.wait_ready();
    cluster.write_key();
}

#[test]
fn a_member_moves_to_a_new_address_by_one_command() {
    let mut cluster = Cluster::start(3);
    let key = cluster.write_key();
    cluster.node_mut(2).stop();
    let spare = cluster.plan_extra();
    let peer = cluster.node(spare).at.peer.to_string();
    cluster.node_mut(2).settings.text("peer", "listen", &peer);
    cluster.node_mut(2).spawn();
    wait_until("node 2 answers at its new address", SOON, || {
        let mut add = cluster.cli(1, &["cluster", "add-node", "2", "--peer", &peer]);
        add.output().unwrap().status.success()
    });
    cluster.wait_ready();
    wait_until("every node knows the new address", SOON, || {
        [1, 2, 3].iter().all(|id| peers(&cluster, *id)[1] == peer)
    });
    cluster.ask(2, &key.validate()).expect(200);
    cluster.write_key();
}

#[test]
fn removing_a_healthy_node_while_another_is_down_is_rejected() {
    let mut cluster = Cluster::start(3);
    let leader = cluster.leader();
    let [down, healthy] = cluster.others(leader)[..] else { panic!("three nodes") };
    let remove = |id: u64| Request::new("DELETE", &format!("/v1/cluster/nodes/{id}"));
    let before = peers(&cluster, leader);
    // At once: a message from a moment ago proves nothing about now.
    cluster.node(down).signal(Signal::STOP);
    cluster.admin(leader, remove(healthy)).expect(409);
    cluster.node(down).signal(Signal::CONT);
    cluster.node_mut(down).kill();
    cluster.admin(leader, remove(healthy)).expect(409);
    wait_until("the leader sees that the node is down", SOON, || {
        cluster.view(leader).is_some_and(|view| {
            let nodes = view["nodes"].as_array().unwrap();
            nodes.iter().any(|node| node["id"] == down && node["reachable"] == false)
        })
    });
    for at in [leader, healthy] {
        let answer = cluster.admin(at, remove(healthy));
        assert_eq!(answer.status, 409, "{}", answer.text());
        let text = answer.text();
        assert!(text.contains(&format!("node {down} does not answer")), "{text}");
        assert!(text.contains("1 of 2 voters"), "{text}");
    }
    assert_eq!(peers(&cluster, leader), before);
    cluster.write_key();
    // The node that is down may be removed, and rejoins with an empty directory under its id.
    replace(&mut cluster, down, leader);
    cluster.write_key();
}

/// A forced removal while another node is down begins and cannot end. The leader may die before it
/// can: then its successor completes the second step.
#[track_caller]
fn removal_that_cannot_end(leader_dies: bool) {
    let mut cluster = Cluster::start(3);
    let leader = cluster.leader();
    let [down, healthy] = cluster.others(leader)[..] else { panic!("three nodes") };
    cluster.node_mut(down).kill();
    let path = format!("/v1/cluster/nodes/{healthy}?force=true");
    let answer = cluster.admin(leader, Request::new("DELETE", &path));
    assert_eq!(answer.status, 409, "{}", answer.text());
    assert!(answer.text().contains("was begun and has not ended"), "{}", answer.text());
    let changing = |cluster: &Cluster, id: u64| {
        let view = cluster.view(id).unwrap();
        view["warnings"].to_string().contains("the members are being changed")
    };
    assert!(changing(&cluster, leader));
    if leader_dies {
        cluster.node_mut(leader).kill();
        cluster.node_mut(leader).spawn();
    }
    cluster.node_mut(down).spawn();
    wait_until("the change has ended", 2 * SOON, || {
        [leader, down].iter().all(|id| {
            let count = cluster.view(*id).map_or(0, |view| view["nodes"].as_array().unwrap().len());
            count == 2 && !changing(&cluster, *id)
        })
    });
    cluster.wait_write(leader, SOON);
}

#[test]
fn a_removal_that_cannot_end_reports_it_and_ends_once_it_can() {
    removal_that_cannot_end(false);
}

#[test]
fn the_next_leader_completes_a_removal() {
    removal_that_cannot_end(true);
}

#[test]
fn commands_for_nodes_that_do_not_answer_are_rejected() {
    let mut cluster = Cluster::start(3);
    let leader = cluster.leader();
    let [down, other] = cluster.others(leader)[..] else { panic!("three nodes") };
    let before = peers(&cluster, leader);
    let add = |id: u64, peer: &str| {
        Request::post("/v1/cluster/nodes").json(&json!({"id": id, "peer": peer}))
    };
    // A new node at an address without a listener, at another node's, and at a gateway listener.
    let at = |id: u64| cluster.node(id).at.peer;
    let port = at(other).port();
    let places = [
        "127.0.0.1:9".to_owned(),
        cluster.gateway(other).to_string(),
        format!("localhost:{port}"),
        format!("0.0.0.0:{port}"),
    ];
    for peer in &places {
        let answer = cluster.admin(leader, add(4, peer));
        assert_eq!(answer.status, 409, "{peer}: {}", answer.text());
        assert!(answer.text().contains(peer.as_str()), "{peer}: {}", answer.text());
    }
    // A member at a wildcard address.
    cluster.admin(leader, add(other, &format!("0.0.0.0:{port}"))).expect(409);
    cluster.node_mut(down).kill();
    let hand_over = Request::post("/v1/cluster/leader").json(&json!({"to": down}));
    let answer = cluster.admin(leader, hand_over);
    assert_eq!(answer.status, 409, "{}", answer.text());
    assert!(answer.text().contains("does not answer"), "{}", answer.text());
    assert_eq!(cluster.leader(), leader);
    assert_eq!(peers(&cluster, leader), before);
}
