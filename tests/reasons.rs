//! Why a node does not answer: the test creates the state of each reason in the closed list, and
//! `/readyz`, `/v1/cluster`, `cluster status` and the log must agree.

use std::time::Duration;

use serde_json::Value;

use crate::console::operators_page;
use crate::support::certs::Certs;
use crate::support::cluster::Cluster;
use crate::support::command::run;
use crate::support::wait_until;

const SOON: Duration = Duration::from_secs(20);

/// The reason in `/readyz` of a node that is not ready.
fn why(cluster: &Cluster, id: u64) -> Option<String> {
    let answer = cluster.node(id).ready().ok().filter(|answer| answer.status == 503)?;
    answer.json()["message"].as_str().map(str::to_owned)
}

/// The reason that a node reports for another node, or for itself.
fn trouble(cluster: &Cluster, by: u64, of: u64) -> Option<String> {
    let view = cluster.view(by)?;
    let node = view["nodes"].as_array()?.iter().find(|node| node["id"] == of)?.clone();
    node["trouble"].as_str().map(str::to_owned)
}

/// The result of a monitor's `cluster status --check`.
fn is_well(cluster: &Cluster, id: u64) -> bool {
    let mut check = cluster.cli(id, &["cluster", "status", "--check"]);
    check.output().unwrap().status.success()
}

/// Fails unless all views of a node give this reason.
#[track_caller]
fn all_say(cluster: &Cluster, id: u64, reason: &str) {
    wait_until(&format!("node {id} says {reason:?}"), SOON, || {
        why(cluster, id).is_some_and(|why| why == reason)
    });
    wait_until("its log says so", SOON, || {
        let log = cluster.node(id).log_text();
        log.contains(&format!("reason={reason}")) || log.contains(&format!("reason=\"{reason}\""))
    });
    // A node that is not in a cluster yet has no row.
    wait_until("/v1/cluster says so", SOON, || {
        let warned = cluster.view(id).is_some_and(|view| {
            view["warnings"].as_array().unwrap().iter().any(|warning| warning == reason)
        });
        warned || trouble(cluster, id, id).is_some_and(|trouble| trouble == reason)
    });
    let (status, _) = run(&mut cluster.cli(id, &["cluster", "status", "--check"]), 1);
    let lower_case = status.to_lowercase();
    assert!(lower_case.contains(&reason.to_lowercase()), "{status}");
    let page = operators_page(cluster, id, "/console/cluster").replace("&#39;", "'");
    assert!(page.to_lowercase().contains(&reason.to_lowercase()), "{page}");
}

#[test]
fn a_stopping_node_reports_it_while_it_still_answers() {
    let mut cluster = Cluster::start_with(3, |settings| {
        settings.text("node", "drain", "60s");
    });
    cluster.node_mut(2).terminate();
    wait_until("/readyz says so", SOON, || {
        why(&cluster, 2).is_some_and(|why| why == "stopping: this node is stopping")
    });
    assert_eq!(trouble(&cluster, 2, 2).as_deref(), Some("stopping: this node is stopping"));
    assert!(cluster.node(2).log_text().contains("stopping: this node is stopping"));
    let (status, _) = run(&mut cluster.cli(2, &["cluster", "status", "--check"]), 1);
    let page = operators_page(&cluster, 2, "/console/cluster");
    assert!(
        status.contains("Node 2 is stopping") && page.contains("Node 2 is stopping"),
        "{status}"
    );
    // A second signal skips the drain.
    cluster.node_mut(2).terminate();
    assert_eq!(cluster.node_mut(2).wait_exit().code(), Some(0));
}

#[test]
fn a_cluster_that_is_not_formed_names_the_missing_nodes() {
    let mut cluster = Cluster::plan(3, |_| {});
    cluster.node_mut(1).spawn();
    let reason = "not formed: there is no cluster yet, and nodes 2 and 3 did not answer";
    all_say(&cluster, 1, reason);
    cluster.node_mut(2).spawn();
    cluster.node_mut(3).spawn();
    cluster.wait_ready();
    wait_until("all is well", SOON, || is_well(&cluster, 1));
    let (status, _) = run(&mut cluster.cli(1, &["cluster", "status"]), 0);
    assert!(status.contains("plain"), "no TLS between these: {status}");
}

#[test]
fn without_a_majority_the_missing_nodes_are_named() {
    let mut cluster = Cluster::start(3);
    wait_until("all is well", SOON, || is_well(&cluster, 2));
    cluster.node_mut(1).kill();
    cluster.node_mut(3).kill();
    let missing = "nodes 1 and 3 do not answer this node, and the others are no majority";
    all_say(&cluster, 2, &format!("no majority: {missing}"));
    cluster.node_mut(3).spawn();
    wait_until("two are a majority", SOON, || why(&cluster, 2).is_none());
    // A node that is down fails the check, too.
    run(&mut cluster.cli(2, &["cluster", "status", "--check"]), 1);
    run(&mut cluster.cli(2, &["cluster", "status"]), 0);
}

#[test]
fn another_cluster_secret_is_named_on_both_sides() {
    let mut cluster = Cluster::plan(3, |_| {});
    let secret = cluster.dir().join("another");
    std::fs::write(&secret, "another-secret-of-enough-characters").unwrap();
    cluster.node_mut(3).settings.text("cluster", "secret_file", secret.display());
    (1..=3).for_each(|id| cluster.node_mut(id).spawn());
    let others = "nodes 1 and 2 have another cluster secret than this node: compare the files";
    all_say(&cluster, 3, &format!("wrong cluster secret: {others}"));
    for id in [1, 2] {
        wait_until("the others are well", SOON, || why(&cluster, id).is_none());
        wait_until("and name the node", SOON, || {
            cluster.node(id).log_text().contains("wrong cluster secret")
                && trouble(&cluster, id, 3)
                    .is_some_and(|why| why == "it has another cluster secret")
        });
        let (status, _) = run(&mut cluster.cli(id, &["cluster", "status", "--check"]), 1);
        assert!(status.contains("it has another cluster secret"), "{status}");
    }
    for id in [1, 2, 3] {
        let log = cluster.node(id).log_text();
        assert!(!log.contains("another-secret"), "a secret in the log of node {id}");
    }
}

#[test]
fn another_cluster_is_named() {
    let mut cluster = Cluster::plan(3, |_| {});
    cluster.node_mut(3).settings.text("cluster", "name", "another");
    (1..=3).for_each(|id| cluster.node_mut(id).spawn());
    let others = "nodes 1 and 2 belong to another cluster: compare cluster.name and the addresses";
    all_say(&cluster, 3, &format!("other cluster: {others}"));
    wait_until("the others report it", SOON, || {
        trouble(&cluster, 1, 3).is_some_and(|why| why == "it belongs to another cluster")
    });
}

#[test]
fn a_certificate_of_another_ca_is_named() {
    let mut cluster = Cluster::plan(3, |_| {});
    let dir = cluster.dir().to_owned();
    let (ours, theirs) = (Certs::make(&dir, "ours", &[]), Certs::make(&dir, "theirs", &[]));
    [1, 2].into_iter().for_each(|id| ours.give_peer(&mut cluster, id, false));
    theirs.give_peer(&mut cluster, 3, false);
    (1..=3).for_each(|id| cluster.node_mut(id).spawn());
    wait_until("node 3 says which TLS fails", SOON, || {
        why(&cluster, 3).is_some_and(|why| {
            why.starts_with("certificate: TLS between this node and nodes 1 and 2 fails: ")
        })
    });
    wait_until("the others report it", SOON, || {
        trouble(&cluster, 1, 3).is_some_and(|why| why.starts_with("TLS fails: "))
    });
    wait_until("the others are well", SOON, || why(&cluster, 1).is_none());
    let view = cluster.view(1).unwrap();
    let tls: Vec<&Value> =
        view["nodes"].as_array().unwrap().iter().map(|n| &n["peer_tls"]).collect();
    assert_eq!(tls, [&Value::Null, &Value::Bool(true), &Value::Bool(true)]);
}

#[test]
fn a_removed_node_reports_it() {
    let cluster = Cluster::start(3);
    let leader = cluster.leader();
    let removed = cluster.others(leader)[0];
    run(&mut cluster.cli(leader, &["cluster", "remove-node", &removed.to_string()]), 0);
    wait_until("it reports that it was removed", SOON, || {
        why(&cluster, removed).is_some_and(|why| why.starts_with("removed: "))
    });
    wait_until("its log says so", SOON, || {
        cluster.node(removed).log_text().contains("removed: this node was removed from the cluster")
    });
}
