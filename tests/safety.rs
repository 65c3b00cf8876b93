//! An operator's mistakes, old disks and wrong clocks: nothing is lost, nothing is admitted twice,
//! and the process or the answer names the problem and the remedy.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use fluxgate_types::ClusterMs;
use rustix::process::Signal;
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
fn a_restored_disk_spends_nothing_twice_and_loses_no_key() {
    let mut cluster = Cluster::start(3);
    let key = cluster.limited_key(TOKENS, roomy_period_s(120));
    let revoked = cluster.write_key();
    cluster.node_mut(3).stop();
    save(&cluster, 3);
    cluster.restart(3);
    let mut all = admitted(&cluster, 3, &key, TOKENS);
    assert_eq!(all, TOKENS);
    let made: Vec<Key> = (0..5)
        .map(|n| cluster.create(1, &json!({"name": format!("x{n}"), "scope": "read"})))
        .collect();
    cluster.admin(2, Request::new("DELETE", &revoked.path())).expect(200);
    // Four times in a row, killed or stopped before.
    cluster.node_mut(3).kill();
    for _ in 0..4 {
        restore_copy(&cluster, 3);
        cluster.node_mut(3).spawn();
        assert_rejected(&mut cluster, 3, OLDER);
        all += admitted(&cluster, 1, &key, 5) + admitted(&cluster, 2, &key, 5);
    }
    assert_eq!(all, TOKENS, "admitted of {TOKENS}");
    replace(&mut cluster, 3, 1);
    for id in [1, 2, 3] {
        assert_eq!(cluster.ask(id, &revoked.validate()).status, 401);
        assert!(made.iter().all(|key| cluster.ask(id, &key.validate()).status == 200));
        assert_eq!(admitted(&cluster, id, &key, 3), 0);
    }
}

#[test]
fn an_old_disk_joins_no_majority_that_lacks_writes_after_a_full_stop() {
    let mut cluster = Cluster::start(3);
    let revoked = cluster.write_key();
    cluster.node_mut(3).stop();
    save(&cluster, 3);
    cluster.restart(3);
    cluster.node_mut(1).stop();
    let survivors = [2, 3];
    cluster.leader_among(&survivors);
    let made: Vec<Key> = (0..5)
        .map(|n| cluster.create(2, &json!({"name": format!("x{n}"), "scope": "read"})))
        .collect();
    cluster.admin(3, Request::new("DELETE", &revoked.path())).expect(200);
    cluster.node_mut(3).stop();
    cluster.node_mut(2).stop();
    restore_copy(&cluster, 3);
    cluster.node_mut(1).spawn();
    cluster.node_mut(3).spawn();
    assert_rejected(&mut cluster, 3, OLDER);
    // Node 1 alone answers nothing, right or wrong.
    assert_eq!(cluster.ask(1, &revoked.validate()).status, 503);
    wait_until("the status says what to do", SOON, || {
        let (status, _) = run(&mut cluster.cli(1, &["cluster", "status"]), 0);
        status.contains("Start the nodes that are down")
    });
    cluster.node_mut(2).spawn();
    cluster.wait_ready();
    for id in [1, 2] {
        assert_eq!(cluster.ask(id, &revoked.validate()).status, 401);
        assert!(made.iter().all(|key| cluster.ask(id, &key.validate()).status == 200));
    }
    replace(&mut cluster, 3, 2);
    assert_eq!(cluster.ask(3, &revoked.validate()).status, 401);
}

#[test]
fn a_node_that_is_behind_rejects_no_other_node() {
    let mut cluster = Cluster::start(3);
    cluster.node_mut(1).stop();
    for _ in 0..2 {
        // Node 1 knows only the first start of node 3.
        cluster.node_mut(3).stop();
        cluster.restart(3);
    }
    let key = cluster.create(2, &json!({"name": "later", "scope": "read"}));
    cluster.node_mut(2).stop();
    cluster.node_mut(3).stop();
    cluster.node_mut(1).spawn();
    cluster.node_mut(3).spawn();
    for id in [1, 3] {
        wait_until("both are ready", SOON, || {
            cluster.node(id).ready().is_ok_and(|answer| answer.status == 200)
        });
        cluster.ask(id, &key.validate()).expect(200);
    }
}

#[test]
fn the_leaders_old_disk_is_rejected_too() {
    let mut cluster = Cluster::start(3);
    let leader = cluster.leader();
    cluster.node_mut(leader).stop();
    save(&cluster, leader);
    cluster.restart(leader);
    let key = cluster.limited_key(TOKENS, roomy_period_s(60));
    let mut all = admitted(&cluster, leader, &key, TOKENS / 3);
    cluster.node_mut(leader).kill();
    restore_copy(&cluster, leader);
    cluster.node_mut(leader).spawn();
    assert_rejected(&mut cluster, leader, OLDER);
    let other = cluster.others(leader)[0];
    all += admitted(&cluster, other, &key, TOKENS);
    assert!(all <= TOKENS, "{all} admitted of {TOKENS}");
}

/// Plans a node with a copy of another node's directory, at addresses of its own.
fn clone_of(cluster: &mut Cluster, id: u64) -> u64 {
    let copy = cluster.plan_extra();
    let data = cluster.node(copy).data_dir.clone();
    copy_dir(&cluster.node(id).data_dir.clone(), &data);
    cluster.node_mut(copy).settings.set("node", "id", id);
    copy
}

#[test]
fn a_clone_beside_its_original_is_rejected() {
    let mut cluster = Cluster::start(3);
    let key = cluster.limited_key(TOKENS, roomy_period_s(60));
    let first = admitted(&cluster, 3, &key, TOKENS / 3);
    let copy = clone_of(&mut cluster, 3);
    cluster.node_mut(copy).spawn();
    assert_rejected(&mut cluster, copy, "another process runs node 3 at");
    // The original is undisturbed and keeps its tokens.
    cluster.wait_ready();
    assert_eq!(first + admitted(&cluster, 3, &key, TOKENS), TOKENS);
}

#[test]
fn only_one_of_two_copies_runs() {
    let mut cluster = Cluster::start(3);
    let key = cluster.limited_key(TOKENS, roomy_period_s(60));
    cluster.node_mut(3).stop();
    let copies = [clone_of(&mut cluster, 3), clone_of(&mut cluster, 3)];
    copies.iter().for_each(|copy| cluster.node_mut(*copy).spawn());
    let mut ended = None;
    wait_until("one of the copies ends", SOON, || {
        ended = copies.iter().copied().find(|copy| cluster.node_mut(*copy).has_ended());
        ended.is_some()
    });
    let ended = ended.unwrap();
    assert_eq!(cluster.node_mut(ended).wait_exit().code(), Some(1));
    let all: u64 = [1, 2].iter().map(|id| admitted(&cluster, *id, &key, TOKENS)).sum();
    assert!(all <= TOKENS, "{all} admitted of {TOKENS}");
}

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
