//! Tasks of an operator over the years: erase ended keys, search the audit trail, move a cluster.

mod addresses;
mod audit_trail;

use std::time::Duration;

use fluxgate_types::ClusterMs;
use serde_json::{Value, json};

use crate::support::cluster::{Cluster, operator};
use crate::support::command::run;
use crate::support::wait::roomy_period_s;
use crate::support::{Key, Request, wait_for, wait_until};

/// Longest wait for something that happens on its own within seconds.
const SOON: Duration = Duration::from_secs(30);

fn trail(cluster: &Cluster, node: u64) -> Vec<Value> {
    let page = cluster.admin(node, Request::get("/v1/audit?limit=200")).expect(200).json();
    page["entries"].as_array().unwrap().clone()
}

/// The newest entry of an action.
fn newest(cluster: &Cluster, node: u64, action: &str) -> Option<Value> {
    trail(cluster, node).into_iter().find(|entry| entry["action"] == action)
}

fn summary(entry: &Value) -> &str {
    entry["details"]["summary"].as_str().unwrap()
}

fn whole(name: &str) -> Value {
    json!({"name": name, "scope": "read", "owner": "Ada Lovelace", "metadata": {"phone": "555-0100"}})
}

/// Everything that a node returns to an operator who may read all of it.
fn all_texts(cluster: &Cluster, node: u64) -> String {
    let backup = cluster.admin(node, Request::get("/v1/cluster/backup")).expect(200).text();
    let keys = cluster.admin(node, Request::get("/v1/keys?limit=200")).expect(200).text();
    let trail = cluster.admin(node, Request::get("/v1/audit?limit=200")).expect(200).text();
    [backup, keys, trail].concat()
}

#[test]
fn an_erased_key_leaves_only_its_id_in_the_audit_trail() {
    let mut cluster = Cluster::start_with(3, |settings| {
        settings.set("raft", "snapshot_every", 100);
    });
    let key = cluster.create(1, &whole("Ada's key"));
    let other = cluster.create(1, &whole("another"));
    let erase = format!("{}?erase=true", key.path());
    let rejected = cluster.admin(2, Request::new("DELETE", &erase)).expect_code(409, "conflict");
    assert!(rejected.text().contains("revoke it first"), "{}", rejected.text());
    cluster.admin(2, Request::new("DELETE", &key.path())).expect(200);
    // An admin key of its owner may revoke it, but not erase it.
    let admin = json!({"name": "admin", "scope": "admin", "owner": "Ada Lovelace"});
    let admin = cluster.create(1, &admin);
    let answer = Request::new("DELETE", &erase).bearer(&admin.secret);
    answer.send(cluster.node(3).at.admin).expect_code(403, "insufficient_scope");
    let stale = Request::new("DELETE", &erase).header("If-Match", "\"1\"");
    cluster.admin(3, stale).expect_code(412, "precondition_failed");
    let answer = cluster.admin(3, Request::new("DELETE", &erase)).expect(200).json();
    assert_eq!(answer["erased"], key.id);
    assert_eq!(answer["applied_on"], json!([1, 2, 3]));
    for node in 1..=3 {
        cluster.admin(node, Request::get(&key.path())).expect(404);
        let texts = all_texts(&cluster, node);
        assert!(!texts.contains("Ada's key"), "node {node}: {texts}");
        assert!(texts.contains("another"), "node {node}");
        let entry = newest(&cluster, node, "key.erase").unwrap();
        assert_eq!((&entry["key_id"], &entry["actor"]), (&json!(key.id), &json!("operator")));
    }
    cluster.admin(1, Request::new("DELETE", &erase)).expect(404);
    cluster.admin(1, Request::new("DELETE", "/v1/keys/key_000000000000?erase=maybe")).expect(400);
    // After a snapshot and a restart of all nodes, list positions continue.
    for n in 0..110 {
        cluster.create(1, &json!({"name": format!("k{n}"), "scope": "read"}));
    }
    let page = cluster.admin(1, Request::get("/v1/keys?limit=60")).expect(200).json();
    let cursor = page["next_cursor"].as_str().unwrap().to_owned();
    let rest = format!("/v1/keys?limit=200&cursor={cursor}");
    let before = cluster.admin(1, Request::get(&rest)).expect(200).json();
    (1..=3).for_each(|node| cluster.node_mut(node).stop());
    (1..=3).for_each(|node| cluster.node_mut(node).spawn());
    cluster.wait_ready();
    for node in 1..=3 {
        let after = cluster.admin(node, Request::get(&rest)).expect(200).json();
        let ids = |page: &Value| {
            let keys = page["keys"].as_array().unwrap().iter();
            keys.map(|key| key["id"].clone()).collect::<Vec<_>>()
        };
        assert_eq!(ids(&after), ids(&before), "node {node}");
        assert!(!all_texts(&cluster, node).contains("Ada's key"), "node {node}");
    }
    // By the command line.
    run(&mut cluster.cli(1, &["keys", "revoke", &other.id]), 0);
    let (message, _) = run(&mut cluster.cli(2, &["keys", "erase", &other.id]), 0);
    assert!(message.contains(&other.id) && message.contains("nodes 1, 2, 3"), "{message}");
    let (_, message) = run(&mut cluster.cli(2, &["keys", "erase", &other.id]), 1);
    assert!(message.contains("no such key"), "{message}");
}

#[test]
fn records_are_purged_by_age_if_configured() {
    let cluster = Cluster::start_with(3, |settings| {
        settings.text("keys", "purge_after", "1h");
    });
    let old = cluster.create(1, &whole("old"));
    let kept = cluster.create(1, &whole("kept"));
    cluster.admin(1, Request::new("DELETE", &old.path())).expect(200);
    // An hour and a half later.
    let ahead = json!({"to": time_in(&cluster, 5_400)});
    cluster.admin(1, Request::post("/v1/cluster/time").json(&ahead)).expect(200);
    let young = cluster.create(1, &whole("young"));
    cluster.admin(1, Request::new("DELETE", &young.path())).expect(200);
    wait_until("the old record is purged", Duration::from_secs(60), || {
        (1..=3).all(|node| cluster.admin(node, Request::get(&old.path())).status == 404)
    });
    for key in [&kept, &young] {
        cluster.admin(2, Request::get(&key.path())).expect(200);
    }
    let entry = newest(&cluster, 1, "key.erase").unwrap();
    assert_eq!(entry["actor"], "system");
    assert!(summary(&entry).contains(&old.id), "{entry}");
    // The audit trail still shows when the key was purged.
    let path = format!("/v1/audit?key_id={}", old.id);
    let of_key = cluster.admin(1, Request::get(&path)).expect(200).json();
    assert_eq!(of_key["entries"][0]["action"], "key.erase", "{of_key}");
}

/// `seconds` after the cluster's current time.
fn time_in(cluster: &Cluster, seconds: u64) -> String {
    let now = cluster.view(1).unwrap()["cluster_time"].as_str().unwrap().to_owned();
    let now: ClusterMs = now.parse().unwrap();
    (now + seconds * 1_000).to_string()
}

#[test]
fn a_repeat_with_different_content_is_rejected() {
    let cluster = Cluster::start(3);
    let create = |node: u64, body: &Value, key: &str| {
        let request = Request::post("/v1/keys").json(body).header("Idempotency-Key", key);
        cluster.admin(node, request)
    };
    let made = Key::of(&create(1, &whole("a"), "x1").expect(201));
    let again = create(2, &whole("a"), "x1").expect_code(409, "already_done");
    assert!(again.text().contains(&made.id), "{}", again.text());
    for other in [whole("b"), json!({"name": "a", "scope": "read"})] {
        let rejected = create(3, &other, "x1").expect_code(409, "idempotency_key_reused");
        assert!(rejected.text().contains(&made.id), "{}", rejected.text());
    }
    let rotate = |node: u64, body: &Value| {
        let path = format!("{}/rotate", made.path());
        cluster.admin(node, Request::post(&path).json(body).header("Idempotency-Key", "r1"))
    };
    rotate(1, &json!({"grace": "0s"})).expect(200);
    rotate(2, &json!({"grace": "0s"})).expect_code(409, "already_done");
    rotate(3, &json!({"grace": "1h"})).expect_code(409, "idempotency_key_reused");
    // With a grace period the repeat names the earlier rotation, and not a running grace period.
    let graced = json!({"grace": "1h"});
    let again = |node: u64| {
        let path = format!("{}/rotate", made.path());
        cluster.admin(node, Request::post(&path).json(&graced).header("Idempotency-Key", "r2"))
    };
    again(1).expect(200);
    again(2).expect_code(409, "already_done");
    rotate(1, &graced).expect_code(409, "idempotency_key_reused");
    // The same idempotency key is separate for another kind of request.
    create(1, &whole("c"), "r1").expect(201);
    let words = ["keys", "create", "--name", "z", "--scope", "read", "--idempotency-key", "x1"];
    let (printed, message) = run(&mut cluster.cli(1, &words), 1);
    assert!(
        printed.is_empty() && message.contains("use a new idempotency key"),
        "{printed}{message}"
    );
}

#[test]
fn a_node_without_a_lease_exports_stale_records_only_on_request() {
    let mut cluster = Cluster::start(3);
    let key = cluster.create(1, &whole("kept"));
    cluster.node_mut(2).kill();
    cluster.node_mut(3).kill();
    wait_until("its lease has run out", SOON, || {
        cluster.node(1).ready().is_ok_and(|answer| answer.status == 503)
    });
    let file = cluster.dir().join("stale.backup").display().to_string();
    let words = ["cluster", "backup", "--to", &file];
    let (_, rejected) = run(&mut cluster.cli(1, &words), 3);
    assert!(rejected.contains("stale"), "{rejected}");
    run(&mut cluster.cli(1, &[&words[..], &["--stale"]].concat()), 0);
    assert!(std::fs::read_to_string(&file).unwrap().contains(&key.id));
}

#[test]
fn last_use_survives_a_restart_of_every_node() {
    let mut cluster = Cluster::start(3);
    let key = cluster.limited_key(100, roomy_period_s(60));
    let unused = cluster.create(1, &whole("unused"));
    cluster.ask(2, &key.validate()).expect(200);
    let last_used = |cluster: &Cluster, node: u64, key: &Key| {
        cluster.admin(node, Request::get(&key.path())).expect(200).json()["last_used_at"].clone()
    };
    wait_until("all nodes know it", SOON, || {
        (1..=3).all(|node| !last_used(&cluster, node, &key).is_null())
    });
    let before: Vec<Value> = (1..=3).map(|node| last_used(&cluster, node, &key)).collect();
    // One after the other, and then all at once.
    for node in 1..=3 {
        cluster.node_mut(node).stop();
        cluster.restart(node);
    }
    (1..=3).for_each(|node| cluster.node_mut(node).stop());
    (1..=3).for_each(|node| cluster.node_mut(node).spawn());
    cluster.wait_ready();
    for node in 1..=3 {
        wait_until("it knows it again", SOON, || !last_used(&cluster, node, &key).is_null());
        let at = usize::try_from(node).unwrap() - 1;
        // A node that hears of earlier spends again counts the key as used.
        let moment = |text: &Value| text.as_str().unwrap().parse::<ClusterMs>().unwrap();
        let (now, was) = (moment(&last_used(&cluster, node, &key)), moment(&before[at]));
        assert!(was <= now && now - was < 60_000, "node {node}: {was}, {now}");
        assert!(last_used(&cluster, node, &unused).is_null());
    }
}

#[test]
fn planned_stops_and_hand_overs_do_not_count_as_crashes() {
    let mut cluster = Cluster::start(3);
    let crashes = |cluster: &Cluster| cluster.metric("fluxgate_unplanned_stops_total", "");
    let lost =
        |cluster: &Cluster| cluster.metric("fluxgate_raft_elections_total", r#"cause="unplanned""#);
    let first = cluster.leader();
    assert_eq!(lost(&cluster), 1.0, "the first leader takes over from no other");
    // The leader last, so that its counts are not lost with it; and once more.
    let order = [cluster.others(first), vec![first]].concat();
    for node in order {
        cluster.node_mut(node).stop();
        cluster.restart(node);
    }
    let second = cluster.leader();
    assert_ne!(first, second);
    let handed = r#"cause="handed_over""#;
    assert_eq!(cluster.metric("fluxgate_raft_elections_total", handed), 1.0);
    assert_eq!((lost(&cluster), crashes(&cluster)), (0.0, 0.0));
    cluster.node_mut(second).kill();
    cluster.restart(second);
    assert_eq!((lost(&cluster), crashes(&cluster)), (1.0, 1.0));
    // Kept over a planned stop.
    cluster.node_mut(second).stop();
    cluster.restart(second);
    assert_eq!(crashes(&cluster), 1.0);
}

#[test]
fn the_load_tool_leaves_no_keys_behind() {
    let cluster = Cluster::start(1);
    let words = ["bench", "--duration", "1s", "--keys", "3"];
    run(&mut cluster.cli(1, &words), 0);
    let left = wait_for("a list", SOON, || {
        let answer = operator(Request::get("/v1/keys")).try_send(cluster.node(1).at.admin).ok()?;
        Some(answer.expect(200).json())
    });
    assert_eq!(left["keys"], json!([]));
}
