//! An operator's mistakes, old disks and wrong clocks: nothing is lost, nothing is admitted twice,
//! and the process or the answer names the problem and the remedy.

mod members;
mod old_disks;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use fluxgate_types::ClusterMs;
use serde_json::{Value, json};

use crate::support::cluster::Cluster;
use crate::support::command::run;
use crate::support::disk::SmallDisk;
use crate::support::wait::roomy_period_s;
use crate::support::{Key, Request, wait_until};

const SOON: Duration = Duration::from_secs(20);
/// Tokens of the limit that must not be spent twice.
const TOKENS: u64 = 30;

fn copy_dir(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").args([from, to]).status().unwrap();
    assert!(status.success(), "cp -a {} {}", from.display(), to.display());
}

fn saved(cluster: &Cluster, id: u64) -> PathBuf {
    cluster.dir().join(format!("saved{id}"))
}

/// Copies a node's directory.
fn save(cluster: &Cluster, id: u64) {
    copy_dir(&cluster.node(id).data_dir, &saved(cluster, id));
}

/// Restores the copy, like an operator who restores a disk snapshot.
fn restore_copy(cluster: &Cluster, id: u64) {
    std::fs::remove_dir_all(&cluster.node(id).data_dir).unwrap();
    copy_dir(&saved(cluster, id), &cluster.node(id).data_dir);
}

/// How many of `count` requests at a node are admitted.
fn admitted(cluster: &Cluster, id: u64, key: &Key, count: u64) -> u64 {
    (0..count).filter(|_| cluster.ask(id, &key.validate()).status == 200).count() as u64
}

/// Fails unless the node exits with code 1 and logs these words at every start, because a
/// supervisor restarts it.
#[track_caller]
fn assert_rejected(cluster: &mut Cluster, id: u64, words: &str) {
    for start in 1..=4 {
        let status = cluster.node_mut(id).wait_exit();
        let tail = cluster.node(id).log_tail();
        assert_eq!(status.code(), Some(1), "start {start} of node {id}: {status}\n{tail}");
        let message = cluster.node(id).log_text().matches(words).count();
        assert!(message >= start, "start {start}: no line contains {words:?}:\n{tail}");
        if start < 4 {
            cluster.node_mut(id).spawn();
        }
    }
}

const OLDER: &str = "the data directory is older than what the cluster knows";

/// After a rejection: the node is removed, emptied and added again under the same id.
fn replace(cluster: &mut Cluster, id: u64, by: u64) {
    let number = id.to_string();
    run(&mut cluster.cli(by, &["cluster", "remove-node", &number]), 0);
    std::fs::remove_dir_all(&cluster.node(id).data_dir).unwrap();
    cluster.node_mut(id).spawn();
    let peer = cluster.node(id).at.peer.to_string();
    run(&mut cluster.cli(by, &["cluster", "add-node", &number, "--peer", &peer]), 0);
    cluster.wait_ready();
}

#[test]
fn nodes_whose_states_differ_stop_serving() {
    // Node 3 loses entries that only nodes 2 and 3 had; node 1 does not know of its last start.
    let mut cluster = Cluster::start(3);
    cluster.node_mut(1).stop();
    cluster.leader_among(&[2, 3]);
    cluster.node_mut(3).stop();
    save(&cluster, 3);
    cluster.restart(3);
    cluster.leader_among(&[2, 3]);
    let lost = cluster.create(2, &json!({"name": "lost", "scope": "read"}));
    cluster.node_mut(3).stop();
    cluster.node_mut(2).stop();
    restore_copy(&cluster, 3);
    cluster.node_mut(1).spawn();
    cluster.node_mut(3).spawn();
    cluster.wait_ready();
    // No running node can know better; from here on the two nodes write another history.
    let made = cluster.create(1, &json!({"name": "other", "scope": "read"}));
    assert_eq!(cluster.ask(1, &lost.validate()).status, 401);
    cluster.node_mut(2).spawn();
    let differs = |cluster: &Cluster, id: u64| {
        let text = cluster.node(id).ready().map(|answer| answer.text()).unwrap_or_default();
        text.contains("differs") || cluster.node(id).log_text().contains("differs")
    };
    wait_until("a node whose state differs reports it", SOON, || {
        let ended = cluster.node_mut(3).has_ended();
        ended || [1, 2, 3].iter().any(|id| differs(&cluster, *id))
    });
    // All nodes that still answer must answer by one history.
    wait_until("the nodes that answer agree", SOON, || {
        let answers = |key: &Key| -> Vec<u16> {
            let started = [1, 2, 3].into_iter().filter(|id| cluster.is_up(*id));
            let statuses = started.map(|id| cluster.ask(id, &key.validate()).status);
            let mut statuses: Vec<u16> = statuses.filter(|status| *status != 503).collect();
            statuses.sort_unstable();
            statuses.dedup();
            statuses
        };
        answers(&lost).len() <= 1 && answers(&made).len() <= 1
    });
}

/// Cluster time as a node shows it, seconds since the Unix epoch.
fn cluster_time_s(cluster: &Cluster, id: u64) -> u64 {
    let view = cluster.view(id).unwrap();
    let text = view["cluster_time"].as_str().unwrap();
    let time: ClusterMs = text.parse().unwrap();
    time.0 / 1_000
}

#[test]
fn an_operator_sets_cluster_time_forward_and_never_back() {
    let mut cluster = Cluster::start(3);
    let key = cluster.write_key();
    let start = cluster_time_s(&cluster, 1);
    let to = ClusterMs((start + 7_200) * 1_000);
    run(&mut cluster.cli(2, &["cluster", "set-time", "--to", &to.to_string()]), 0);
    wait_until("all nodes are two hours later", SOON, || {
        [1, 2, 3].iter().all(|id| cluster_time_s(&cluster, *id) >= start + 7_200)
    });
    cluster.wait_ready();
    for id in [1, 2, 3] {
        cluster.ask(id, &key.validate()).expect(200);
    }
    // The wall clocks are behind, so a new time must be given, and it must never go back.
    for words in
        [&["cluster", "set-time"][..], &["cluster", "set-time", "--to", "2020-01-01T00:00:00Z"]]
    {
        let (_, message) = run(&mut cluster.cli(1, words), 1);
        assert!(message.contains("never goes back"), "{message}");
    }
    // The bound of one day counts from the wall clocks, not from the last step.
    for _ in 0..2 {
        let next = ClusterMs((cluster_time_s(&cluster, 1) + 20 * 3_600) * 1_000).to_string();
        let made = cluster.cli(2, &["cluster", "set-time", "--to", &next]).output().unwrap();
        let message = String::from_utf8_lossy(&made.stderr).into_owned();
        assert!(made.status.success() || message.contains("more than a day ahead"), "{message}");
    }
    assert!(cluster_time_s(&cluster, 1) < start + 24 * 3_600);
    let audit = cluster.admin(1, Request::get("/v1/audit")).expect(200).text();
    assert!(audit.contains("time.set") && audit.contains("set forward from"), "{audit}");
    wait_until("the warning names cluster time and not each clock", SOON, || {
        let warnings = cluster.view(1).unwrap()["warnings"].to_string();
        warnings.contains("ahead of the wall clocks of most nodes")
    });
    // It survives a stop of all nodes.
    for id in [1, 2, 3] {
        cluster.node_mut(id).stop();
    }
    for id in [1, 2, 3] {
        cluster.node_mut(id).spawn();
    }
    cluster.wait_ready();
    assert!(cluster_time_s(&cluster, 1) >= start + 7_200);
}

#[test]
fn a_renamed_limit_keeps_its_spend_and_a_changed_period_warns_that_it_does_not() {
    let cluster = Cluster::start(3);
    let period = roomy_period_s(60);
    let key = cluster.limited_key(5, period);
    assert_eq!(admitted(&cluster, 1, &key, 7), 5);
    let patch = |name: &str, tokens: u64, period_s: u64| {
        let limits = json!([{"name": name, "tokens": tokens, "period": format!("{period_s}s")}]);
        let patch = Request::new("PATCH", &key.path()).json(&json!({"limits": limits}));
        cluster.admin(2, patch).expect(200).json()
    };
    let renamed = patch("other", 5, period);
    assert!(renamed.get("notes").is_none(), "{renamed}");
    assert_eq!([1, 2, 3].map(|id| admitted(&cluster, id, &key, 2)), [0, 0, 0]);
    patch("third", 6, period);
    let more: u64 = [1, 2, 3].iter().map(|id| admitted(&cluster, *id, &key, 2)).sum();
    assert_eq!(more, 1, "one token more");
    // A period that is still within the longest allowed.
    let changed = patch("third", 6, period - 1);
    assert!(changed["notes"][0].as_str().unwrap().contains("count from nothing"), "{changed}");
}

#[test]
fn an_admin_key_cannot_raise_its_own_rights() {
    let cluster = Cluster::start(1);
    let body = json!({"name": "boss", "scope": "admin", "owner": "a"});
    let boss = cluster.create(1, &body);
    let ask = |body: &Value| {
        let patch = Request::new("PATCH", &boss.path()).bearer(&boss.secret).json(body);
        patch.send(cluster.node(1).at.admin)
    };
    for body in [
        json!({"limits": [{"name": "requests", "tokens": 1_000_000, "period": "1s"}]}),
        json!({"scope": "read"}),
        json!({"owner": null}),
        json!({"expires_at": "2999-01-01T00:00:00Z"}),
    ] {
        let answer = ask(&body);
        assert_eq!(answer.status, 403, "{body}: {}", answer.text());
    }
    ask(&json!({"name": "still boss", "scope": "admin"})).expect(200);
}

#[test]
fn a_node_with_differing_lease_settings_reports_it() {
    let mut cluster = Cluster::plan(3, |_| {});
    cluster.node_mut(1).settings.text("lease", "duration", "10s");
    cluster.ids().into_iter().for_each(|id| cluster.node_mut(id).spawn());
    cluster.wait_ready();
    let leader = cluster.leader();
    let expected = if leader == 1 { 10_000 } else { 3_000 };
    wait_until("the leader's lease is the cluster's", SOON, || {
        cluster.view(2).is_some_and(|view| view["lease_ms"] == expected)
    });
    let differs = if leader == 1 { "node 2" } else { "node 1" };
    wait_until("the difference is in the warnings of every node", SOON, || {
        [1, 2, 3].iter().all(|id| {
            let view = cluster.view(*id).unwrap();
            view["warnings"].to_string().contains(&format!("the file of {differs} has a lease"))
        })
    });
    // Over changes of the leader, writes continue and a revocation holds on every node.
    for _ in 0..4 {
        let key = cluster.write_key();
        let to = cluster.others(cluster.leader())[0].to_string();
        run(&mut cluster.cli(1, &["cluster", "hand-over", "--to", &to]), 0);
        cluster.admin(2, Request::new("DELETE", &key.path())).expect(200);
        for id in [1, 2, 3] {
            assert_ne!(cluster.ask(id, &key.validate()).status, 200);
        }
        cluster.wait_ready();
    }
    // The new leader may have another file.
    wait_until("the difference is in the metrics", SOON, || {
        cluster.metric("fluxgate_config_differs", "lease.duration") >= 1.0
    });
}

#[test]
fn a_leader_with_a_full_disk_hands_over_and_every_view_shows_why() {
    let mut cluster = Cluster::plan(3, |_| {});
    let mut disks = Vec::new();
    for id in cluster.ids() {
        let Some(disk) = SmallDisk::mount(cluster.dir().join(format!("disk{id}")), 64 << 20) else {
            return;
        };
        let data_dir = disk.0.join("data");
        cluster.node_mut(id).settings.text("node", "data_dir", data_dir.display());
        cluster.node_mut(id).data_dir = data_dir;
        disks.push(disk);
    }
    cluster.ids().into_iter().for_each(|id| cluster.node_mut(id).spawn());
    cluster.wait_ready();
    let key = cluster.limited_key(1_000_000, 600);
    let full = cluster.leader();
    let other = cluster.others(full)[0];
    let place = usize::try_from(full - 1).unwrap();
    let ballast = disks[place].fill();
    // A write through any node notices the full disk.
    let create = || Request::post("/v1/keys").json(&json!({"name": "x", "scope": "read"}));
    wait_until("another node leads, and takes writes", SOON, || {
        let answer = cluster.admin(full, create());
        answer.status == 201 && cluster.view(other).is_some_and(|view| view["leader"] != full)
    });
    let words = format!("ode {full} cannot write: the disk of its data directory is full");
    let log = cluster.node(full).log_text();
    assert!(log.contains("its disk is full: it hands over"), "{}", cluster.node(full).log_tail());
    for id in cluster.ids() {
        wait_until("the warning is shown", SOON, || {
            cluster.view(id).unwrap()["warnings"].to_string().contains(&words)
        });
        let (status, _) = run(&mut cluster.cli(id, &["cluster", "status"]), 0);
        assert!(status.contains(&words), "{status}");
    }
    // The node lacks the entries of those writes, so its lease is not renewed.
    wait_until("the full node reports why it does not answer", SOON, || {
        let ready = cluster.node(full).ready().unwrap();
        assert!(ready.text().contains("disk") && ready.text().contains("full"), "{ready}");
        ready.status == 503
    });
    wait_until("its log says so too", SOON, || {
        cluster.node(full).log_text().contains("the lease is not renewed reason=disk full: ")
    });
    cluster.ask(other, &key.validate()).expect(200);
    // A start finds no room; the log says that the disk is full, and not that the directory is
    // damaged.
    cluster.node_mut(full).kill();
    cluster.node_mut(full).spawn();
    let status = cluster.node_mut(full).wait_exit();
    assert_eq!(status.code(), Some(4), "{status}");
    assert!(cluster.node(full).log_text().contains("the disk is full: free some space"));
    let well = cluster.node(other).ready().unwrap();
    assert!(!well.text().contains("warnings"), "{well}");
    std::fs::remove_file(ballast).unwrap();
    cluster.node_mut(full).spawn();
    wait_until("it is well again", SOON, || {
        cluster
            .node(full)
            .ready()
            .is_ok_and(|answer| answer.status == 200 && !answer.text().contains("warnings"))
    });
    // Before the disks are unmounted.
    cluster.ids().into_iter().for_each(|id| cluster.node_mut(id).stop());
}
