//! Versions side by side: this version serves the disks of the first version, and nodes of two
//! versions form one cluster.
//!
//! `fixtures/v1` has the data directories of three nodes as version 0.1.0 left them: a snapshot
//! with a log after it, two orderly stops and one power cut. Beside them is what clients of that
//! cluster knew. `proof/fuzz/targets` has the bytes of every message and record.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::cluster::{Cluster, operator};
use crate::support::command::run;
use crate::support::exact::windows;
use crate::support::keys::limit;
use crate::support::load::Stream;
use crate::support::settings::Settings;
use crate::support::wait::roomy_period_s;
use crate::support::{Key, Request, wait_until};
use crate::transfer::{records, sha256};

/// Small, so that a snapshot is taken and entries follow it.
const SNAPSHOT_EVERY: u64 = 100;
/// Number of keys of the fixture, without those that have a name here.
const PLAIN_KEYS: u64 = 130;
/// Tokens of the limit that is counted over an upgrade.
const TOKENS: u64 = 900;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/v1")
}

/// The replicated state contains these addresses; other programs are unlikely to use them.
fn peer(id: u64) -> Option<SocketAddr> {
    let last = u8::try_from(id).ok()?;
    (id <= 3).then(|| SocketAddr::from(([127, 77, 7, last], 7_301)))
}

fn settings(settings: &mut Settings) {
    settings.set("raft", "snapshot_every", SNAPSHOT_EVERY);
}

fn audit(cluster: &Cluster, node: u64) -> Vec<Value> {
    let mut entries = Vec::new();
    let mut path = "/v1/audit?limit=200".to_owned();
    loop {
        let page = cluster.admin(node, Request::get(&path)).expect(200).json();
        entries.extend(page["entries"].as_array().unwrap().iter().cloned());
        match page["next_cursor"].as_str() {
            Some(cursor) => path = format!("/v1/audit?limit=200&cursor={cursor}"),
            None => return entries,
        }
    }
}

fn tar(words: &[&str]) {
    let status = Command::new("tar").args(words).status().unwrap();
    assert!(status.success(), "tar {words:?}: {status}");
}

fn patch(cluster: &Cluster, node: u64, key: &Key, body: &Value) {
    cluster.admin(node, Request::new("PATCH", &key.path()).json(body)).expect(200);
}

/// Makes every kind of change that a client can request. Returns secrets with their expected
/// status.
fn live(cluster: &Cluster) -> BTreeMap<String, u16> {
    let mut secrets = BTreeMap::new();
    let whole = json!({"name": "Production Sync", "scope": "write", "owner": "user_42",
        "limits": limit(30, 600), "expires_at": "2999-01-01T00:00:00Z", "metadata": {"team": "Müller"}});
    let key = cluster.create(1, &whole);
    patch(cluster, 2, &key, &json!({"owner": null, "expires_at": null, "name": "Renamed"}));
    secrets.insert(key.secret.clone(), 200);
    let key = cluster.create(2, &json!({"name": "off", "scope": "read"}));
    patch(cluster, 3, &key, &json!({"enabled": false}));
    secrets.insert(key.secret.clone(), 401);
    let key = cluster.create(3, &json!({"name": "gone", "scope": "admin"}));
    cluster.admin(1, Request::new("DELETE", &key.path())).expect(200);
    secrets.insert(key.secret.clone(), 401);
    let key = cluster.create(1, &json!({"name": "turned", "scope": "write"}));
    let turned = cluster.admin(2, Request::post(&format!("{}/rotate", key.path())));
    secrets.insert(key.secret.clone(), 401);
    secrets.insert(turned.expect(200).json()["key"].as_str().unwrap().to_owned(), 200);
    let line = json!({"sha256": sha256("of-another-system"), "name": "moved", "scope": "read"});
    let file = cluster.dir().join("old.jsonl");
    fs::write(&file, line.to_string()).unwrap();
    run(&mut cluster.cli(3, &["keys", "import", &file.display().to_string()]), 0);
    secrets.insert("of-another-system".to_owned(), 200);
    for at in 0..PLAIN_KEYS {
        let body = json!({"name": format!("plain {at}"), "scope": "read"});
        let key = cluster.create(1 + at % 3, &body);
        if at % 20 == 0 {
            secrets.insert(key.secret, 200);
        }
    }
    secrets
}

/// Writes the fixture of a version, once, before its release; later runs never write it again.
fn write_fixture(kept: &Path) {
    let mut cluster = Cluster::plan_at(3, peer, settings);
    cluster.ids().into_iter().for_each(|id| cluster.node_mut(id).spawn());
    cluster.wait_ready();
    let secrets = live(&cluster);
    for secret in secrets.keys() {
        cluster.ask(1, &Request::post("/v1/validate").bearer(secret));
    }
    let known = json!({"secrets": secrets, "records": records(&cluster, 1),
        "audit": audit(&cluster, 1)});
    cluster.node_mut(3).kill();
    cluster.node_mut(2).stop();
    cluster.node_mut(1).stop();
    fs::create_dir_all(kept).unwrap();
    let text = serde_json::to_string_pretty(&known).unwrap();
    fs::write(kept.join("known.json"), text + "\n").unwrap();
    let (archive, dir) = (kept.join("nodes.tar.gz"), cluster.dir().display().to_string());
    let archive = archive.display().to_string();
    tar(&["--owner=0", "--group=0", "-czf", &archive, "-C", &dir, "node1", "node2", "node3"]);
}

#[test]
fn data_of_the_first_version_is_served_and_stays_writable() {
    if !fixtures().exists() && std::env::var_os("FREEZE_FORMATS").is_some() {
        write_fixture(&fixtures());
    }
    let known = fs::read_to_string(fixtures().join("known.json")).unwrap();
    let known: Value = serde_json::from_str(&known).unwrap();
    let mut cluster = Cluster::plan_at(3, peer, settings);
    let (archive, dir) = (fixtures().join("nodes.tar.gz"), cluster.dir().display().to_string());
    tar(&["-xzf", &archive.display().to_string(), "-C", &dir]);
    cluster.ids().into_iter().for_each(|id| cluster.node_mut(id).spawn());
    cluster.wait_ready();
    let extra = cluster.plan_extra();
    cluster.node_mut(extra).spawn();
    let address = cluster.node(extra).at.peer.to_string();
    cluster
        .admin(1, Request::post("/v1/cluster/nodes").json(&json!({"id": extra, "peer": address})))
        .expect(200);
    cluster.wait_ready();

    // The fourth node gets all of it from a snapshot and a log that the first version wrote.
    for node in cluster.ids() {
        let found = serde_json::to_value(records(&cluster, node)).unwrap();
        assert_eq!(found, known["records"], "node {node}");
        let found = audit(&cluster, node);
        let before = known["audit"].as_array().unwrap();
        assert!(found.len() >= before.len(), "node {node}: {} entries", found.len());
        assert_eq!(&found[found.len() - before.len()..], before, "node {node}");
        for (secret, status) in known["secrets"].as_object().unwrap() {
            let answer = cluster.ask(node, &Request::post("/v1/validate").bearer(secret));
            assert_eq!(u64::from(answer.status), status.as_u64().unwrap(), "node {node}");
        }
    }
    let key = cluster.create(extra, &json!({"name": "new", "scope": "read"}));
    for node in cluster.ids() {
        cluster.ask(node, &key.validate()).expect(200);
    }
}

/// Stops a node, starts it with another program, and waits until it is well.
fn change(cluster: &mut Cluster, id: u64, program: &Path) {
    cluster.node_mut(id).stop();
    program.clone_into(&mut cluster.node_mut(id).program);
    cluster.restart(id);
}

/// Uses the program in `FLUXGATE_OLDER`, which `scripts/side-by-side.sh` builds from an older
/// revision. Without it both programs are this one, and the test is a rolling restart with a new
/// leader at each step.
#[test]
fn nodes_of_two_versions_form_one_cluster() {
    let mut cluster = Cluster::plan(3, settings);
    let newer = cluster.node(1).program.clone();
    let older = std::env::var_os("FLUXGATE_OLDER").map_or_else(|| newer.clone(), PathBuf::from);
    eprintln!("older: {}", older.display());
    for id in cluster.ids() {
        older.clone_into(&mut cluster.node_mut(id).program);
        cluster.node_mut(id).spawn();
    }
    cluster.wait_ready();
    let secrets = live(&cluster);
    let ample = cluster.limited_key(1_000_000, roomy_period_s(240));
    let counted = cluster.limited_key(TOKENS, roomy_period_s(240));
    let requests = [ample.validate(), ample.validate(), ample.validate(), counted.validate()];
    let stream = Stream::start(&cluster.addresses(), &requests, 20);

    // Upgrade node by node, downgrade one, and upgrade it again; writes succeed under every leader.
    let mut made = Vec::new();
    let steps = [(1, &newer), (2, &newer), (1, &older), (1, &newer), (3, &newer)];
    for (id, program) in steps {
        change(&mut cluster, id, program);
        for at in cluster.ids() {
            let to = cluster.others(cluster.leader())[0];
            cluster
                .admin(at, Request::post("/v1/cluster/leader").json(&json!({"to": to})))
                .expect(200);
            let body = json!({"name": format!("step {id}"), "scope": "read"});
            wait_until("a key is created", Duration::from_secs(20), || {
                let answer = cluster.admin(at, Request::post("/v1/keys").json(&body));
                let done = answer.status == 201;
                if done {
                    made.push(Key::of(&answer));
                }
                done
            });
        }
        for (node, key) in cluster.ids().into_iter().flat_map(|n| made.iter().map(move |k| (n, k)))
        {
            cluster.ask(node, &key.validate()).expect(200);
        }
        let first = records(&cluster, 1);
        assert!(cluster.ids().into_iter().all(|node| records(&cluster, node) == first));
    }
    let samples = stream.finish();
    for (secret, status) in &secrets {
        let answer = cluster.ask(2, &Request::post("/v1/validate").bearer(secret));
        assert_eq!(answer.status, *status);
    }
    // The window is exact over all of it: every stop was orderly.
    let mut last = Vec::new();
    wait_until("every node denies", Duration::from_secs(30), || {
        let asked = cluster.ids().into_iter().map(|id| cluster.ask(id, &counted.validate()));
        let round: Vec<_> = asked.collect();
        let denied = round.iter().all(|answer| answer.status == 429);
        last.extend(round);
        denied
    });
    let own = samples.iter().filter(|sample| sample.request == 3);
    let seen = own.filter_map(|sample| sample.outcome.as_ref().ok()).chain(&last);
    let seen = windows(seen.filter(|answer| answer.status != 503).map(|answer| (answer, 1)));
    let admitted: Vec<u64> = seen.values().map(|window| window.admitted).collect();
    assert_eq!(admitted, [TOKENS], "{seen:?}");
    let view = operator(Request::get("/v1/cluster")).send(cluster.node(1).at.admin).expect(200);
    eprintln!("{}", view.text());
}
