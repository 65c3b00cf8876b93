//! A cluster whose addresses all changed is recovered offline.

use std::net::SocketAddr;

use super::{SOON, newest, summary};
use crate::support::cluster::Cluster;
use crate::support::command::{fluxgate, run};
use crate::support::ports::Port;
use crate::support::wait::roomy_period_s;
use crate::support::wait_until;

/// Gives all nodes other peer addresses, in every file.
fn move_all(cluster: &mut Cluster) -> (Vec<Port>, Vec<SocketAddr>) {
    let ports: Vec<Port> = cluster.ids().iter().map(|_| Port::claim()).collect();
    let addresses: Vec<SocketAddr> = ports.iter().map(Port::addr).collect();
    let members = cluster.ids();
    let members = members.iter().zip(&addresses);
    let members: Vec<String> =
        members.map(|(id, peer)| format!("{{ id = {id}, peer = \"{peer}\" }}")).collect();
    let members = format!("[{}]", members.join(", "));
    for (id, peer) in cluster.ids().into_iter().zip(&addresses) {
        let settings = &mut cluster.node_mut(id).settings;
        settings.text("peer", "listen", peer).set("cluster", "members", &members);
    }
    (ports, addresses)
}

fn recover(cluster: &Cluster, node: u64, code: i32) -> String {
    // Building a node's command writes its file.
    drop(cluster.node(node).command());
    let config = cluster.node(node).config.display().to_string();
    run(&mut fluxgate(&["recover", "addresses", "--config", &config]), code).1
}

#[test]
fn a_cluster_with_only_changed_addresses_is_recovered_offline() {
    let mut cluster = Cluster::start(3);
    let key = cluster.limited_key(50, roomy_period_s(120));
    cluster.ask(1, &key.validate()).expect(200);
    let message = recover(&cluster, 1, 1);
    assert!(message.contains("in use"), "a running node keeps its directory: {message}");
    (1..=3).for_each(|node| cluster.node_mut(node).stop());
    let (_ports, addresses) = move_all(&mut cluster);
    // First without recovery: no node finds another, and the log names the differing addresses and
    // the remedy.
    cluster.node_mut(1).spawn();
    wait_until("the log names what differs", SOON, || {
        let log = cluster.node(1).log_text();
        log.contains("in the file and at") && log.contains("fluxgate recover addresses")
    });
    cluster.node_mut(1).kill();
    for node in 1..=3 {
        let message = recover(&cluster, node, 0);
        assert!(
            addresses.iter().all(|address| message.contains(&address.to_string())),
            "{message}"
        );
        // A second run does no harm.
        recover(&cluster, node, 0);
    }
    (1..=3).for_each(|node| cluster.node_mut(node).spawn());
    cluster.wait_ready();
    // Counters and keys are unchanged, and writes are accepted.
    cluster.ask(3, &key.validate()).expect(200);
    cluster.wait_write(2, SOON);
    for node in 1..=3_u64 {
        wait_until("the log has the addresses", SOON, || {
            let view = cluster.view(node).unwrap();
            let nodes = view["nodes"].as_array().unwrap().clone();
            let peers = nodes.iter().map(|one| one["peer"].as_str().unwrap().to_owned());
            peers.eq(addresses.iter().map(SocketAddr::to_string))
        });
        let note = cluster.node(node).data_dir.join("ADDRESSES");
        wait_until("the note is deleted", SOON, || !note.exists());
    }
    let moved = newest(&cluster, 1, "members.change").unwrap();
    assert!(summary(&moved).contains(" recovered: "), "{moved}");
    // From here on it is a cluster like any other.
    (1..=3).for_each(|node| cluster.node_mut(node).stop());
    (1..=3).for_each(|node| cluster.node_mut(node).spawn());
    cluster.wait_ready();
    cluster.wait_write(1, SOON);
}

#[test]
fn recover_fails_without_a_data_directory() {
    let cluster = Cluster::plan(3, |_| {});
    let message = recover(&cluster, 1, 1);
    assert!(message.contains("nothing to recover"), "{message}");
    assert!(!cluster.node(1).data_dir.exists());
}
