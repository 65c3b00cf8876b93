//! The audit trail: its entries about the cluster, and its order after a restore.

use serde_json::{Value, json};

use super::{SOON, newest, summary, trail, whole};
use crate::support::cluster::Cluster;
use crate::support::command::run;
use crate::support::keys::limit;
use crate::support::{Request, wait_until};

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
