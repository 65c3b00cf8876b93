//! Keys in and out: imports from other systems, exports, backups and restores.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::support::cluster::Cluster;
use crate::support::command::{run, run_with_input};
use crate::support::keys::limit;
use crate::support::node::Addresses;
use crate::support::wait::roomy_period_s;
use crate::support::{Key, Request};

pub(crate) fn sha256(text: &str) -> String {
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn validate(secret: &str) -> Request {
    Request::post("/v1/validate").bearer(secret)
}

fn path_text(path: &std::path::Path) -> String {
    path.display().to_string()
}

/// Every record of a node, by id, as exported.
fn exported(cluster: &Cluster, node: u64) -> BTreeMap<String, Value> {
    let (lines, _) = run(&mut cluster.cli(node, &["keys", "export"]), 0);
    let record = |line: &str| serde_json::from_str::<Value>(line).unwrap();
    lines.lines().map(|l| (record(l)["id"].as_str().unwrap().to_owned(), record(l))).collect()
}

/// The same without the fields that differ from node to node.
pub(crate) fn records(cluster: &Cluster, node: u64) -> BTreeMap<String, Value> {
    let mut records = exported(cluster, node);
    for record in records.values_mut() {
        record.as_object_mut().unwrap().remove("last_used_at").unwrap();
    }
    records
}

#[test]
fn keys_of_another_system_are_imported_by_their_digests() {
    let cluster = Cluster::start(3);
    let period = roomy_period_s(120);
    let longest = format!("{:k<4096}", "another.system/KEY==");
    let old = ["sk-old-0123456789abcdef", &longest, "fx_live_short"];
    let limits = limit(30, period);
    let good = |secret: &str| {
        json!({"sha256": sha256(secret), "name": "moved", "scope": "write", "owner": "user_42",
               "limits": limits, "metadata": {"from": "old"}})
    };
    let lines = [
        good(old[0]).to_string(),
        "not JSON".to_owned(),
        json!({"sha256": "12", "name": "n", "scope": "read"}).to_string(),
        String::new(),
        json!({"sha256": sha256("x"), "name": "n", "scope": "all"}).to_string(),
        json!({"sha256": sha256("x"), "name": "", "scope": "read"}).to_string(),
        json!({"sha256": sha256("x"), "name": "n", "scope": "read", "secret": "hush"}).to_string(),
        json!({"sha256": sha256("x"), "name": "n", "scope": "read", "expires_at": "2001-01-01T00:00:00Z"}).to_string(),
        good(old[1]).to_string(),
        good(old[0]).to_string(),
        good(old[2]).to_string(),
    ];
    let file = cluster.dir().join("old.jsonl");
    fs::write(&file, lines.join("\n")).unwrap();
    let words = ["keys", "import", &path_text(&file)];
    let (total, message) = run(&mut cluster.cli(2, &words), 1);
    assert_eq!(total, "3 imported, 1 already present, 6 rejected\n");
    let rejected: Vec<&str> = message.lines().map(|line| line.split(':').next().unwrap()).collect();
    assert_eq!(rejected, ["line 2", "line 3", "line 5", "line 6", "line 7", "line 8"], "{message}");
    assert!(!message.contains("hush") && message.contains("64 hexadecimal"), "{message}");

    // Usable on every node at once, with one limit over all of them.
    for secret in old {
        let admitted =
            (0..45).filter(|at| cluster.ask(at % 3 + 1, &validate(secret)).status == 200);
        assert_eq!(admitted.count(), 30, "{secret}");
    }
    cluster.ask(1, &validate("sk-old-0123456789abcdeg")).expect(401);
    let found = records(&cluster, 3);
    assert_eq!(found.len(), 3);
    let id = found.values().next().unwrap()["id"].as_str().unwrap().to_owned();
    assert!(
        found.values().all(|r| r["created_by"] == "operator" && r["metadata"]["from"] == "old")
    );

    // Again, through another node and from a pipe: nothing changes.
    let (total, _) =
        run_with_input(&mut cluster.cli(3, &["keys", "import", "-"]), &lines.join("\n"), 1);
    assert_eq!(total, "0 imported, 4 already present, 6 rejected\n");
    assert_eq!(records(&cluster, 1), found);

    // It can be rotated to a secret of ours; the old one stays valid for its grace period and no
    // longer.
    let spent =
        old.iter().find(|s| cluster.ask(1, &validate(s)).header("x-auth-key-id").unwrap() == id);
    let (fresh, _) = run(&mut cluster.cli(1, &["keys", "rotate", &id, "--grace", "1h"]), 0);
    for secret in [spent.unwrap(), fresh.trim()] {
        assert_eq!(cluster.ask(2, &validate(secret)).must_header("x-auth-key-id"), id);
    }
    run(&mut cluster.cli(1, &["keys", "rotate", &id, "--end-previous"]), 0);
    cluster.ask(2, &validate(spent.unwrap())).expect(401);

    // Only the operator may import, and only JSON lines.
    let admin = cluster.create(1, &json!({"name": "a", "scope": "admin", "owner": "user_42"}));
    let at = cluster.node(1).at.admin;
    for path in ["/v1/keys/import", "/v1/cluster/restore"] {
        Request::post(path).bearer(&admin.secret).send(at).expect_code(403, "insufficient_scope");
        Request::post(path).send(at).expect_code(401, "authentication_failed");
        let typed = Request::post(path).header("content-type", "text/csv").body("a,b");
        cluster.admin(1, typed).expect_code(415, "unsupported_media_type");
    }
    let audit = cluster.admin(1, Request::get("/v1/audit?limit=200")).expect(200).json();
    let entries = audit["entries"].as_array().unwrap();
    let imports = entries.iter().filter(|entry| entry["action"] == "keys.import");
    assert_eq!(imports.count(), 1, "one line for an entry of the log: {audit}");
}

#[test]
fn a_long_import_resumes_and_adds_little_to_the_audit_trail() {
    let mut cluster = Cluster::start(3);
    let count = 12_000;
    let mut lines = String::new();
    for n in 0..count {
        let digest = sha256(&format!("secret-{n}"));
        writeln!(lines, r#"{{"sha256":"{digest}","name":"k{n}","scope":"read"}}"#).unwrap();
    }
    let file = cluster.dir().join("many.jsonl");
    fs::write(&file, &lines).unwrap();
    // The part that an interrupted import had sent.
    let part = cluster.dir().join("part.jsonl");
    let sent: Vec<&str> = lines.lines().take(5_000).collect();
    fs::write(&part, sent.join("\n")).unwrap();
    run(&mut cluster.cli(1, &["keys", "import", &path_text(&part)]), 0);
    // A leader that dies during the import costs only time.
    let leader = cluster.leader();
    let asked = cluster.others(leader)[0];
    cluster.node_mut(leader).kill();
    let (total, _) = run(&mut cluster.cli(asked, &["keys", "import", &path_text(&file)]), 0);
    assert_eq!(total, "7000 imported, 5000 already present, 0 rejected\n");
    cluster.restart(leader);
    for n in [0, 4_999, 5_000, count - 1] {
        let answer = cluster.ask(leader, &validate(&format!("secret-{n}"))).expect(200);
        assert_eq!(answer.json()["name"], format!("k{n}"));
    }
    assert_eq!(records(&cluster, leader).len(), count);
    let audit = cluster.admin(asked, Request::get("/v1/audit?limit=200")).expect(200).json();
    assert!(audit["entries"].as_array().unwrap().len() < 160 && audit["next_cursor"].is_null());
}

/// A cluster with keys in every state, and their secrets.
struct Old {
    cluster: Cluster,
    open: Vec<String>,
    shut: Vec<String>,
}

fn old() -> Old {
    let cluster = Cluster::start_with(3, |settings| {
        settings.text("cluster", "name", "old");
    });
    let limits = limit(50, roomy_period_s(120));
    let make = |body: Value| cluster.create(1, &body);
    let plain = make(json!({"name": "plain", "scope": "read"}));
    let full = make(json!({"name": "Café \"1\"", "scope": "admin", "owner": "user_42",
        "limits": limits, "expires_at": "2999-01-01T00:00:00Z", "metadata": {"a": "ä\\b"}}));
    let rotated = make(json!({"name": "rotated", "scope": "write"}));
    let rotate = Request::post(&format!("{}/rotate", rotated.path()));
    let again = Key::of(&cluster.admin(2, rotate.json(&json!({"grace": "24h"}))).expect(200));
    let dead = make(json!({"name": "revoked", "scope": "write"}));
    cluster.admin(1, Request::new("DELETE", &dead.path())).expect(200);
    let off = make(json!({"name": "off", "scope": "write"}));
    let disable = Request::new("PATCH", &off.path()).json(&json!({"enabled": false}));
    cluster.admin(3, disable).expect(200);
    cluster.ask(1, &full.validate()).expect(200);
    let open = vec![plain.secret, full.secret, rotated.secret, again.secret];
    Old { cluster, open, shut: vec![dead.secret, off.secret] }
}

fn restore(cluster: &Cluster, backup: &str, more: &[&str], code: i32) -> (String, String) {
    let words = [&["cluster", "restore", "--from", backup][..], more].concat();
    run(&mut cluster.cli(2, &words), code)
}

/// A thread for each node that creates keys until it must stop: the keys, and when each was
/// acknowledged.
fn writers(cluster: &Cluster, stop: &Arc<AtomicBool>) -> Vec<JoinHandle<Vec<(Key, Instant)>>> {
    let write = |at: Addresses| {
        let stop = Arc::clone(stop);
        std::thread::spawn(move || {
            let mut made = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let body = json!({"name": "load", "scope": "read"});
                let create = Request::post("/v1/keys").json(&body);
                let create = crate::support::cluster::operator(create);
                made.push((Key::of(&create.send(at.admin).expect(201)), Instant::now()));
            }
            made
        })
    };
    cluster.addresses().into_iter().map(write).collect()
}

#[test]
fn a_backup_under_load_restores_every_key_acknowledged_before_it() {
    let Old { cluster, mut open, shut } = old();
    // Writers at every node, until the backup exists.
    let stop: Arc<AtomicBool> = Arc::default();
    let writers = writers(&cluster, &stop);
    crate::support::wait_until("some keys are created", std::time::Duration::from_secs(20), || {
        records(&cluster, 1).len() > 60
    });
    let backup = cluster.dir().join("backup");
    let begun = Instant::now();
    run(&mut cluster.cli(1, &["cluster", "backup", "--to", &path_text(&backup)]), 0);
    stop.store(true, Ordering::Relaxed);
    let made: Vec<_> = writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect();
    let before: Vec<String> =
        made.iter().filter(|(_, at)| *at < begun).map(|(key, _)| key.secret.clone()).collect();
    assert!(before.len() > 50 && made.len() > before.len(), "{} of {}", before.len(), made.len());
    open.extend(before);
    let text = fs::read_to_string(&backup).unwrap();
    assert!(
        open.iter().chain(&shut).all(|secret| !text.contains(secret)),
        "the backup contains a secret"
    );
    // The file exists and is not overwritten.
    run(&mut cluster.cli(1, &["cluster", "backup", "--to", &path_text(&backup)]), 1);
    assert_eq!(fs::read_to_string(&backup).unwrap(), text);
    assert!(!PathBuf::from(format!("{}.partial", backup.display())).exists());

    let new = Cluster::start_with(3, |settings| {
        settings.text("cluster", "name", "new");
    });
    let (total, _) = restore(&new, &path_text(&backup), &[], 0);
    let lines = text.lines().count() - 2;
    let whole = format!(" audit entries: {lines} restored, 0 already present, 0 rejected\n");
    assert!(total.ends_with(&whole), "{total}");
    for secret in &open {
        for node in new.ids() {
            new.ask(node, &validate(secret)).expect(200);
        }
    }
    for secret in &shut {
        new.ask(1, &validate(secret)).expect(401);
    }
    let (ours, theirs) = (records(&cluster, 1), records(&new, 3));
    assert!(theirs.len() > 60);
    for (id, record) in &theirs {
        assert_eq!(record, &ours[id]);
    }
    let seen = exported(&new, 3);
    let full = seen.values().find(|record| record["owner"] == "user_42").unwrap();
    assert!(full["last_used_at"].is_string(), "{full}");
    let audit = new.admin(1, Request::get("/v1/audit?limit=200")).expect(200).text();
    assert!(audit.contains("key.revoke") && audit.contains("keys.restore"), "{audit}");

    // A second restore changes nothing. Without `--resume` the cluster must be new.
    let (_, rejected) = restore(&new, &path_text(&backup), &[], 1);
    assert!(rejected.contains("--resume"), "{rejected}");
    let (total, _) = restore(&new, &path_text(&backup), &["--resume"], 0);
    let known = format!(": 0 restored, {lines} already present, 0 rejected\n");
    assert!(total.ends_with(&known), "{total}");
    assert_eq!(records(&new, 2).len(), theirs.len());
    // A restored key is a normal key: it can be revoked.
    let id = full["id"].as_str().unwrap();
    run(&mut new.cli(1, &["keys", "revoke", id]), 0);
    new.ask(2, &validate(&open[1])).expect(401);
}

#[test]
fn an_incomplete_backup_is_rejected_before_anything_is_sent() {
    let Old { cluster, .. } = old();
    let backup = cluster.dir().join("backup");
    run(&mut cluster.cli(1, &["cluster", "backup", "--to", &path_text(&backup)]), 0);
    let text = fs::read_to_string(&backup).unwrap();
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let new = Cluster::start(1);
    let restore = |text: &str, code| {
        let file = new.dir().join("damaged");
        fs::write(&file, text).unwrap();
        run(&mut new.cli(1, &["cluster", "restore", "--from", &path_text(&file)]), code).1
    };
    let without_end = lines[..lines.len() - 1].concat();
    let without_key = [&lines[..2], &lines[3..]].concat().concat();
    for (damaged, complaint) in [
        (String::new(), "the file is empty"),
        ("{}\n".to_owned(), "not a Fluxgate backup"),
        (lines[1..].concat(), "the first line is missing"),
        (without_end, "the last line is missing"),
        (text[..text.len() / 2].to_owned(), "incomplete: the last line"),
        (without_key, "checksum mismatch"),
        (text.replace("\"plain\"", "\"pla1n\""), "checksum mismatch"),
        (format!("{text}{}", lines[1]), "data after the last line"),
        (text.replacen("\"format\":2", "\"format\":4", 1), "this version reads up to 3"),
    ] {
        let message = restore(&damaged, 1);
        assert!(message.contains(complaint), "{complaint}: {message}");
    }
    assert!(records(&new, 1).is_empty());
    restore(&text, 0);
    assert_eq!(records(&new, 1).len(), 5);
}
