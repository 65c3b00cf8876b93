//! A write applies on every node the moment it is answered.
//!
//! A created key works on every node, a revoked, disabled or rotated-out key on none, and a changed
//! limit or scope decides: without waiting and without a retry.

use serde_json::{Value, json};

use crate::support::cluster::{Cluster, operator};
use crate::support::keys::limit;
use crate::support::wait::roomy_period_s;
use crate::support::{Key, Request};

/// Fails unless every node answers this with this status.
#[track_caller]
fn assert_everywhere(cluster: &Cluster, request: &Request, status: u16) {
    for id in cluster.ids() {
        let answer = cluster.ask(id, request);
        assert_eq!(answer.status, status, "at node {id}: {answer}");
    }
}

#[track_caller]
fn patch(cluster: &Cluster, node: u64, key: &Key, change: &Value) -> Value {
    let request = Request::new("PATCH", &key.path()).json(change);
    cluster.admin(node, request).expect(200).json()
}

#[test]
fn a_created_key_works_on_every_node_at_once() {
    let cluster = Cluster::start(3);
    for round in 0..100 {
        let through = 1 + round % 3;
        let key =
            cluster.create(through, &json!({"name": format!("round {round}"), "scope": "read"}));
        assert_eq!(key.created["applied_on"], json!([1, 2, 3]), "{}", key.created);
        for other in cluster.others(through) {
            cluster.ask(other, &key.validate()).expect(200);
        }
    }
}

#[test]
fn a_revoked_key_works_on_no_node_at_once() {
    let cluster = Cluster::start(3);
    for round in 0..30 {
        let key = cluster.write_key();
        assert_everywhere(&cluster, &key.validate(), 200);
        let revoke = Request::new("DELETE", &key.path());
        let revoked = cluster.admin(1 + round % 3, revoke).expect(200).json();
        assert_eq!(revoked["status"], "revoked", "{revoked}");
        assert_everywhere(&cluster, &key.validate(), 401);
    }
}

#[test]
fn a_key_can_be_disabled_and_enabled_everywhere_at_once() {
    let cluster = Cluster::start(3);
    let key = cluster.write_key();
    for round in 0..10 {
        let node = 1 + round % 3;
        let off = patch(&cluster, node, &key, &json!({"enabled": false}));
        assert_eq!(off["status"], "disabled", "{off}");
        assert_everywhere(&cluster, &key.validate(), 401);
        patch(&cluster, node, &key, &json!({"enabled": true}));
        assert_everywhere(&cluster, &key.validate(), 200);
    }
}

#[test]
fn a_rotated_out_secret_works_on_no_node_and_the_new_one_on_all() {
    let cluster = Cluster::start(3);
    let mut key = cluster.write_key();
    for round in 0..10 {
        let rotate = Request::post(&format!("{}/rotate", key.path()));
        let new = Key::of(&cluster.admin(1 + round % 3, rotate).expect(200));
        assert_eq!(new.id, key.id);
        assert_ne!(new.secret, key.secret);
        assert_everywhere(&cluster, &key.validate(), 401);
        assert_everywhere(&cluster, &new.validate(), 200);
        key = new;
    }
}

#[test]
fn a_changed_scope_decides_everywhere_at_once() {
    let cluster = Cluster::start(3);
    let key = cluster.write_key();
    for round in 0..5 {
        patch(&cluster, 1 + round % 3, &key, &json!({"scope": "read"}));
        assert_everywhere(&cluster, &key.validate_scope("write"), 403);
        patch(&cluster, 1 + round % 3, &key, &json!({"scope": "write"}));
        assert_everywhere(&cluster, &key.validate_scope("write"), 200);
    }
}

#[test]
fn a_changed_limit_applies_at_once_and_keeps_the_spend() {
    let cluster = Cluster::start(3);
    let period_s = roomy_period_s(60);
    let key = cluster.limited_key(9, period_s);
    let spend = |times: usize| {
        (0..times)
            .map(|at| cluster.ask(1 + at as u64 % 3, &key.validate()).status)
            .filter(|&status| status == 200)
            .count()
    };
    assert_eq!(spend(12), 9);
    patch(&cluster, 2, &key, &json!({"limits": limit(15, period_s)}));
    assert_eq!(spend(12), 6, "raised from 9 to 15");
    patch(&cluster, 3, &key, &json!({"limits": limit(5, period_s)}));
    assert_eq!(spend(6), 0, "lowered below what was spent");
    let answer = cluster.ask(1, &key.validate());
    assert_eq!((answer.status, answer.window().0), (429, 5), "{answer}");
    patch(&cluster, 1, &key, &json!({"limits": limit(18, period_s)}));
    assert_eq!(spend(12), 3, "raised again: 15 are spent");
    cluster.assert_none_degraded();
}

#[test]
fn a_deleted_limit_falls_back_to_the_default() {
    let cluster = Cluster::start(3);
    let key = cluster.limited_key(5, 60);
    let changed = patch(&cluster, 2, &key, &json!({"limits": null}));
    assert_eq!(changed["limits"], limit(100, 60), "{changed}");
    for id in cluster.ids() {
        assert_eq!(cluster.ask(id, &key.validate()).expect(200).window().0, 100);
    }
}

#[test]
fn sixty_four_concurrent_creates_all_succeed_and_differ() {
    let cluster = Cluster::start(3);
    let keys: Vec<Key> = std::thread::scope(|scope| {
        let cluster = &cluster;
        let create = move |at: u64| {
            cluster.create(1 + at % 3, &json!({"name": format!("key {at}"), "scope": "read"}))
        };
        let threads: Vec<_> = (0..64).map(|at| scope.spawn(move || create(at))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let mut ids: Vec<&str> = keys.iter().map(|key| key.id.as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 64);
    for key in &keys {
        assert_everywhere(&cluster, &key.validate(), 200);
    }
}

#[test]
fn an_idempotency_key_creates_one_key_through_all_nodes_at_once() {
    let cluster = Cluster::start(3);
    let answers: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = cluster
            .addresses()
            .into_iter()
            .map(|at| {
                let body = json!({"name": "once", "scope": "read"});
                let create =
                    Request::post("/v1/keys").header("idempotency-key", "same").json(&body);
                scope.spawn(move || operator(create).send(at.admin))
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let mut statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 409, 409]);
    let made = Key::of(answers.iter().find(|answer| answer.status == 201).unwrap());
    for rejected in answers.into_iter().filter(|answer| answer.status == 409) {
        let rejected = rejected.expect_code(409, "already_done");
        assert!(rejected.text().contains(&made.id), "{rejected}");
    }
}

#[test]
fn one_of_two_guarded_changes_is_rejected() {
    let cluster = Cluster::start(3);
    let key = cluster.write_key();
    for round in 0..10 {
        let record = cluster.admin(1, Request::get(&key.path())).expect(200);
        let etag = record.must_header("etag").to_owned();
        let statuses: Vec<u16> = std::thread::scope(|scope| {
            let threads: Vec<_> = cluster
                .addresses()
                .into_iter()
                .map(|at| {
                    let change = json!({"name": format!("round {round} by {}", at.id)});
                    let request =
                        Request::new("PATCH", &key.path()).header("if-match", &etag).json(&change);
                    scope.spawn(move || operator(request).send(at.admin).status)
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let done = statuses.iter().filter(|&&status| status == 200).count();
        let stale = statuses.iter().filter(|&&status| status == 412).count();
        assert_eq!((done, stale), (1, 2), "{statuses:?}");
    }
}
