//! Data directories that are older copies, or run twice, are rejected.

use rustix::process::Signal;
use serde_json::json;

use super::{
    OLDER, SOON, TOKENS, admitted, assert_rejected, copy_dir, replace, restore_copy, save,
};
use crate::support::cluster::Cluster;
use crate::support::command::run;
use crate::support::wait::roomy_period_s;
use crate::support::{Key, Request, wait_until};

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

/// An older directory that is started by mistake must not leave its number behind: the others would
/// take the messages of the right one for late ones.
#[test]
fn a_node_is_heard_again_after_an_older_disk_of_it_was_started() {
    let mut cluster = Cluster::start(3);
    cluster.node_mut(3).stop();
    save(&cluster, 3);
    cluster.restart(3);
    cluster.wait_ready();
    cluster.node_mut(3).kill();
    let right = cluster.dir().join("right3");
    copy_dir(&cluster.node(3).data_dir, &right);
    restore_copy(&cluster, 3);
    // A node that does not answer gives the older directory time to hear gossip and answer it.
    cluster.node(2).signal(Signal::STOP);
    for _ in 0..4 {
        cluster.node_mut(3).spawn();
        assert_eq!(cluster.node_mut(3).wait_exit().code(), Some(1));
    }
    cluster.node(2).signal(Signal::CONT);
    assert!(cluster.node(3).log_text().contains(OLDER));
    std::fs::remove_dir_all(&cluster.node(3).data_dir).unwrap();
    copy_dir(&right, &cluster.node(3).data_dir);
    cluster.node_mut(3).spawn();
    cluster.wait_ready();
    let key = cluster.limited_key(TOKENS, roomy_period_s(60));
    assert_eq!(admitted(&cluster, 1, &key, TOKENS + 5), TOKENS, "node 3 gives its tokens away");
}
