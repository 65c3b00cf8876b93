//! Tasks of an operator over the years: erase ended keys, search the audit trail, move a cluster.

use std::net::SocketAddr;
use std::time::Duration;

use fluxgate_types::ClusterMs;
use serde_json::{Value, json};

use crate::support::cluster::{Cluster, operator};
use crate::support::command::{fluxgate, run};
use crate::support::keys::limit;
use crate::support::ports::Port;
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
fn the_trail_has_exports_backups_and_changes_of_the_cluster() {
    let mut cluster = Cluster::start(3);
    let key = cluster.create(1, &whole("a"));
    let patch = json!({"name": "b", "limits": limit(7, 60)});
    cluster.admin(2, Request::new("PATCH", &key.path()).json(&patch)).expect(200);
    let changed = newest(&cluster, 3, "key.update").unwrap();
    assert_eq!(summary(&changed), r#"name: "a" → "b"; limits: defaults → requests 7/60s"#);
    let file = cluster.dir().join("x.backup").display().to_string();
    run(&mut cluster.cli(2, &["cluster", "backup", "--to", &file]), 0);
    run(&mut cluster.cli(2, &["keys", "export"]), 0);
    let leader = cluster.leader();
    let to = cluster.others(leader)[0];
    run(&mut cluster.cli(to, &["cluster", "hand-over", "--to", &to.to_string()]), 0);
    wait_until("it leads", SOON, || cluster.leader() == to);
    let id = cluster.plan_extra();
    cluster.node_mut(id).spawn();
    let peer = cluster.node(id).at.peer.to_string();
    run(&mut cluster.cli(1, &["cluster", "add-node", &id.to_string(), "--peer", &peer]), 0);
    run(&mut cluster.cli(1, &["cluster", "remove-node", &id.to_string()]), 0);
    // Removed, and still on its old directory: it must neither vote nor answer.
    let (_, rejected) =
        run(&mut cluster.cli(1, &["cluster", "add-node", &id.to_string(), "--peer", &peer]), 1);
    assert!(rejected.contains("empty the directory"), "{rejected}");
    let entries = trail(&cluster, 2);
    let entries_of = |action: &str| -> Vec<&Value> {
        entries.iter().filter(|entry| entry["action"] == action).collect()
    };
    assert_eq!(entries_of("cluster.backup").len(), 1);
    assert_eq!(entries_of("export").len(), 1);
    assert_eq!(summary(entries_of("leader.hand_over")[0]), format!("node {leader} → node {to}"));
    let members: Vec<&str> = entries_of("members.change").into_iter().map(summary).collect();
    assert_eq!(
        members,
        [format!("node {id} removed, which was at {peer}"), format!("node {id} added at {peer}")]
    );
    let unknown = cluster.admin(1, Request::get("/v1/audit?action=keys.expotr"));
    assert!(unknown.expect_code(400, "invalid_request").text().contains("`key.erase`"));
    for action in ["cluster.backup", "export", "leader.hand_over", "members.change"] {
        for entry in entries_of(action) {
            assert_eq!(
                (&entry["actor"], &entry["from"]),
                (&json!("operator"), &json!("127.0.0.1"))
            );
        }
    }
}

#[test]
fn the_trail_has_sign_ins_and_failed_ones_and_survives_a_flood() {
    let cluster = Cluster::start(1);
    let sign_in = |token: &str| {
        let request = Request::post("/console/sign-in")
            .header("Content-Type", "application/x-www-form-urlencoded")
            .header("Sec-Fetch-Site", "same-origin")
            .body(format!("token={token}"));
        request.send(cluster.node(1).at.admin)
    };
    assert_eq!(sign_in(crate::support::cluster::OPERATOR).status, 303);
    let entry = newest(&cluster, 1, "console.sign_in").unwrap();
    assert_eq!((&entry["actor"], &entry["from"]), (&json!("operator"), &json!("127.0.0.1")));
    for _ in 0..30 {
        assert!(matches!(sign_in("wrong").status, 401 | 429));
    }
    let failed = || {
        let entries = trail(&cluster, 1).into_iter();
        entries.filter(|entry| entry["action"] == "console.sign_in_failed").count()
    };
    wait_until("the failed sign-ins are there", SOON, || failed() > 0);
    assert!(failed() <= 10, "{}", failed());
}

#[test]
fn a_restored_trail_keeps_its_order_and_its_numbers() {
    let cluster = Cluster::start(3);
    for n in 0..5 {
        cluster.create(1, &whole(&format!("k{n}")));
    }
    let file = cluster.dir().join("x.backup").display().to_string();
    run(&mut cluster.cli(1, &["cluster", "backup", "--to", &file]), 0);
    let old = trail(&cluster, 1);
    let new = Cluster::start(3);
    for again in [false, true] {
        let mut words = vec!["cluster", "restore", "--from", &file];
        if again {
            words.push("--resume");
        }
        run(&mut new.cli(2, &words), 0);
        let now = trail(&new, 1);
        // Newest first: entries of the new cluster come before those of the backup.
        let numbers: Vec<u64> = now.iter().map(|entry| entry["seq"].as_u64().unwrap()).collect();
        assert!(numbers.windows(2).all(|pair| pair[0] > pair[1]), "{numbers:?}");
        assert_eq!(now[now.len() - old.len()..], old, "unchanged");
        let own = &now[..now.len() - old.len()];
        assert!(own.iter().any(|entry| entry["action"] == "keys.restore"), "{own:?}");
    }
}

#[test]
fn a_restored_trail_has_no_control_characters_and_no_invalid_address() {
    let cluster = Cluster::start(1);
    let line = |details: &str, from: &str| {
        json!({"audit": {"seq": 1, "at": "2024-01-20T11:20:00Z", "action": "key.create",
               "key_id": null, "actor": "operator", "from": from, "details": details}})
    };
    let lines = [
        line("good", "10.0.0.4"),
        line("\u{1b}[31mred", "10.0.0.4"),
        line("a\nforged line", "10.0.0.4"),
        line(&"x".repeat(60_000), "10.0.0.4"),
        line("x", "unknown"),
    ];
    let body: Vec<String> = lines.iter().map(Value::to_string).collect();
    let restore = Request::post("/v1/cluster/restore")
        .header("Content-Type", "application/x-ndjson")
        .body(body.join("\n"));
    let answer = cluster.admin(1, restore).expect(200).json();
    assert_eq!((&answer["created"], &answer["refused"]), (&json!(1), &json!(4)), "{answer}");
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
