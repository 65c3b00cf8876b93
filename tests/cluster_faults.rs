//! The cost of a crash, a pause and isolation, and the losses that they must not cause.
//!
//! A killed node makes no survivor answer 503; no acknowledged write is lost; no limit is exceeded.
//! A node that was away for longer than its lease answers only after it has caught up. An isolated
//! node reports that it is isolated.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use crate::support::cluster::{Cluster, LEASE, operator};
use crate::support::exact::{assert_never_above, windows};
use crate::support::load::{Sample, Stream};
use crate::support::wait::roomy_period_s;
use crate::support::{Key, Request, wait_for, wait_until};

/// How soon a dead leader is replaced and writes succeed.
const WRITES_RESUME: Duration = Duration::from_secs(3);
/// A write waits at most for a silent node's lease, plus this for the rest.
const BEYOND_LEASE: Duration = Duration::from_secs(1);
/// Longest wait for a condition without a promise of its own.
const SOON: Duration = Duration::from_secs(20);

/// A key with a limit that no test reaches.
fn ample_key(cluster: &Cluster) -> Key {
    cluster.limited_key(1_000_000, roomy_period_s(60))
}

/// Waits until a stream has run for a while, before or after a fault: this many answered probes.
fn let_it_run(cluster: &Cluster, node: u64, key: &Key, probes: usize) {
    for _ in 0..probes {
        cluster.ask(node, &key.validate_cost(0)).expect(200);
    }
}

/// Fails unless every request of the stream to these nodes was admitted.
#[track_caller]
fn assert_all_admitted(samples: &[Sample], request: usize, nodes: &[u64]) {
    let own =
        samples.iter().filter(|sample| sample.request == request && nodes.contains(&sample.node));
    let mut count = 0;
    for sample in own {
        count += 1;
        match &sample.outcome {
            Ok(answer) => assert_eq!(answer.status, 200, "node {}: {answer}", sample.node),
            Err(error) => panic!("node {} did not answer: {error}", sample.node),
        }
    }
    assert!(count > 100, "only {count} requests at nodes {nodes:?}: the test saw nothing");
}

/// Kills a node under load and judges the survivors.
fn kill_under_load(victim_leads: bool) {
    let mut cluster = Cluster::start(3);
    let leader = cluster.leader();
    let victim = if victim_leads { leader } else { cluster.others(leader)[0] };
    let survivors = cluster.others(victim);
    let (ample, tight) = (ample_key(&cluster), cluster.limited_key(60, 2));
    let requests = [ample.validate(), tight.validate()];
    let acknowledged: Vec<Key> = (0..20).map(|_| cluster.write_key()).collect();

    let stream = Stream::start(&cluster.addresses(), &requests, 150);
    let_it_run(&cluster, survivors[0], &ample, 100);
    cluster.node_mut(victim).kill();
    let killed = Instant::now();
    let record = cluster.wait_write(survivors[0], SOON);
    let resumed = killed.elapsed();
    assert!(
        resumed < WRITES_RESUME + LEASE,
        "a write was answered only after {resumed:?}: {record}"
    );
    let_it_run(&cluster, survivors[1], &ample, 300);
    cluster.restart(victim);
    let returned = killed.elapsed();
    let_it_run(&cluster, victim, &ample, 100);
    let samples = stream.finish();
    eprintln!("writes resumed after {resumed:?}, node {victim} was back after {returned:?}");

    assert_all_admitted(&samples, 0, &survivors);
    let answers = samples.iter().filter(|sample| sample.request == 1);
    let answers = answers.filter_map(|sample| sample.outcome.as_ref().ok());
    let answers = answers.filter(|answer| matches!(answer.status, 200 | 429));
    assert_never_above(&windows(answers.map(|answer| (answer, 1))));
    for key in &acknowledged {
        for id in cluster.ids() {
            cluster.ask(id, &key.validate()).expect(200);
        }
    }
}

#[test]
fn killing_the_leader_makes_no_survivor_reject_and_loses_nothing() {
    kill_under_load(true);
}

#[test]
fn killing_a_follower_makes_no_survivor_reject_and_loses_nothing() {
    kill_under_load(false);
}

#[test]
fn writes_acknowledged_while_the_leader_died_are_kept() {
    let mut cluster = Cluster::start(3);
    let leader = cluster.leader();
    let dead = AtomicBool::new(false);
    let acknowledged: Vec<Key> = std::thread::scope(|scope| {
        let dead = &dead;
        let writers: Vec<_> = cluster
            .addresses()
            .into_iter()
            .map(|at| scope.spawn(move || write_until(at.admin, dead)))
            .collect();
        wait_until("keys are created", SOON, || {
            let list = cluster.admin(1, Request::get("/v1/keys?limit=200"));
            list.expect(200).json()["keys"].as_array().unwrap().len() >= 30
        });
        cluster.node_mut(leader).kill();
        cluster.wait_write(cluster.others(leader)[0], SOON);
        dead.store(true, Ordering::Relaxed);
        writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect()
    });
    cluster.restart(leader);
    eprintln!("{} keys were acknowledged", acknowledged.len());
    assert!(acknowledged.len() >= 30);
    for key in &acknowledged {
        for id in cluster.ids() {
            cluster.ask(id, &key.validate_cost(0)).expect(200);
        }
    }
}

/// Creates keys one after another until `stop` is set, and returns those that were answered.
fn write_until(to: SocketAddr, stop: &AtomicBool) -> Vec<Key> {
    let mut made = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let create = Request::post("/v1/keys").json(&json!({"name": "kept", "scope": "read"}));
        match operator(create).try_send(to) {
            Ok(answer) if answer.status == 201 => made.push(Key::of(&answer)),
            Ok(answer) => assert!(matches!(answer.status, 408 | 503), "{answer}"),
            // The node is dead, or its death cut the answer off.
            Err(_) => std::thread::yield_now(),
        }
    }
    made
}

#[test]
fn after_the_leader_is_killed_writes_are_committed_within_three_seconds() {
    let mut cluster = Cluster::start(3);
    let leader = cluster.leader();
    let survivors = cluster.others(leader);
    cluster.node_mut(leader).kill();
    let killed = Instant::now();
    // The answer of a write waits for the dead node's lease; a survivor shows the commit sooner.
    let create = Request::post("/v1/keys").json(&json!({"name": "after", "scope": "read"}));
    let to = cluster.node(survivors[0]).at.admin;
    let writer = std::thread::spawn(move || {
        wait_for("a write is answered", SOON, || {
            operator(create.clone()).try_send(to).ok().filter(|answer| answer.status == 201)
        })
    });
    wait_until("the write shows on a survivor", WRITES_RESUME, || {
        let list = cluster.admin(survivors[1], Request::get("/v1/keys?search=after"));
        list.status == 200 && list.text().contains("\"after\"")
    });
    eprintln!("the write was committed after {:?}", killed.elapsed());
    let waited_ms = writer.join().unwrap().json()["waited_ms"].as_u64().unwrap();
    assert!(u128::from(waited_ms) <= (LEASE + BEYOND_LEASE).as_millis(), "{waited_ms} ms");
}

#[test]
fn a_crash_costs_at_most_the_dead_nodes_share_of_one_window() {
    let mut cluster = Cluster::start(3);
    let leader = cluster.leader();
    let victim = cluster.others(leader)[0];
    let key = cluster.limited_key(90, roomy_period_s(60));
    let spent: usize = (0..30)
        .map(|at| cluster.ask(1 + at % 3, &key.validate()).status)
        .filter(|&status| status == 200)
        .count();
    assert_eq!(spent, 30);
    cluster.node_mut(victim).kill();
    cluster.restart(victim);
    let more: usize = (0..150)
        .map(|at| cluster.ask(1 + at % 3, &key.validate()).status)
        .filter(|&status| status == 200)
        .count();
    let admitted = spent + more;
    // The victim's share was 30, minus what it had spent.
    assert!((60..=90).contains(&admitted), "{admitted} admitted");

    let fresh = cluster.limited_key(90, roomy_period_s(60));
    let admitted = (0..150)
        .map(|at| cluster.ask(1 + at % 3, &fresh.validate()).status)
        .filter(|&status| status == 200)
        .count();
    assert_eq!(admitted, 90, "a key created after the restart");
}

/// Pauses a node, revokes a key in the meantime, and checks the node's answers after it resumes.
fn pause_past_the_lease(leads: bool) {
    let cluster = Cluster::start(3);
    let leader = cluster.leader();
    let paused = if leads { leader } else { cluster.others(leader)[0] };
    let awake = cluster.others(paused);
    let key = cluster.write_key();
    for id in cluster.ids() {
        cluster.ask(id, &key.validate()).expect(200);
    }
    cluster.node(paused).signal(Signal::STOP);
    let stopped = Instant::now();
    let revoked = wait_for("the key is revoked", SOON, || {
        let revoke = Request::new("DELETE", &key.path());
        let answer = operator(revoke).try_send(cluster.node(awake[0]).at.admin).ok()?;
        (answer.status == 200).then(|| answer.json())
    });
    let took = stopped.elapsed();
    eprintln!("the revocation took {took:?}: {}", revoked["waited_ms"]);
    assert!(took <= LEASE + BEYOND_LEASE, "the revocation took {took:?}: {revoked}");
    assert_eq!(revoked["applied_on"], json!(awake), "{revoked}");
    for id in awake {
        cluster.ask(id, &key.validate()).expect(401);
    }

    cluster.node(paused).signal(Signal::CONT);
    let mut silent = 0;
    wait_until("the paused node has caught up", SOON, || {
        let answer = cluster.ask(paused, &key.validate());
        match answer.status {
            503 => {
                silent += 1;
                answer.number("retry-after");
                answer.expect_code(503, "unavailable");
                false
            }
            401 => true,
            _ => {
                panic!("the paused node admitted a revoked key after {silent} rejections: {answer}")
            }
        }
    });
    wait_until("the paused node is ready", SOON, || {
        cluster.node(paused).ready().is_ok_and(|answer| answer.status == 200)
    });
    cluster.ask(paused, &key.validate()).expect(401);
}

#[test]
fn a_paused_follower_never_admits_a_key_revoked_meanwhile() {
    pause_past_the_lease(false);
}

#[test]
fn a_paused_leader_never_admits_a_key_revoked_meanwhile() {
    pause_past_the_lease(true);
}

#[test]
fn a_short_pause_costs_nothing() {
    let cluster = Cluster::start(3);
    let leader = cluster.leader();
    let paused = cluster.others(leader)[0];
    let awake = cluster.others(paused);
    let key = cluster.limited_key(90, roomy_period_s(60));
    cluster.node(paused).signal(Signal::STOP);
    let admitted =
        (0..40).filter(|at| cluster.ask(awake[at % 2], &key.validate()).status == 200).count();
    cluster.node(paused).signal(Signal::CONT);
    wait_until("the paused node answers", SOON, || {
        cluster.ask(paused, &key.validate_cost(0)).status == 200
    });
    // Denials while another node was paused were unproven; the tokens are still there.
    let mut rest = 0;
    wait_until("the whole limit is admitted", SOON, || {
        rest += (1..=3).filter(|&id| cluster.ask(id, &key.validate()).status == 200).count();
        admitted + rest >= 90
    });
    let over = (0..30).filter(|at| cluster.ask(1 + at % 3, &key.validate()).status == 200).count();
    assert_eq!((admitted + rest, over), (90, 0));
}

#[test]
fn an_isolated_node_answers_503_and_is_not_ready() {
    let mut cluster = Cluster::start(3);
    let key = cluster.write_key();
    cluster.node_mut(2).kill();
    cluster.node_mut(3).kill();
    let alone = Instant::now();
    wait_until("the isolated node stops answering", LEASE + BEYOND_LEASE, || {
        cluster.ask(1, &key.validate_cost(0)).status == 503
    });
    eprintln!("the isolated node fell silent after {:?}", alone.elapsed());
    for _ in 0..20 {
        let answer = cluster.ask(1, &key.validate()).expect_code(503, "unavailable");
        assert!(answer.number("retry-after") >= 1, "{answer}");
        assert_eq!(answer.header("x-ratelimit-limit"), None, "{answer}");
    }
    let authorize = Request::get("/v1/authorize/any").bearer(&key.secret);
    cluster.ask(1, &authorize).expect_code(503, "unavailable");
    let nginx = Request::get("/v1/authorize/nginx/any").bearer(&key.secret);
    let nginx = cluster.ask(1, &nginx).expect(403);
    assert_eq!(nginx.header("x-auth-status"), Some("503"), "{nginx}");
    let retry = Request::get("/v1/authorize/nginx/retry/any").bearer(&key.secret);
    let retry = cluster.ask(1, &retry).expect(503);
    assert_eq!((retry.header("x-auth-status"), retry.text()), (Some("503"), String::new()));
    cluster.node(1).ready().unwrap().expect_code(503, "unavailable");
    cluster.ask(1, &Request::get("/livez")).expect(200);
    let create = Request::post("/v1/keys").json(&json!({"name": "lost", "scope": "read"}));
    let rejected = cluster.admin(1, create).expect(503);
    assert!(rejected.number("retry-after") >= 1, "{rejected}");
    rejected.assert_two_fields();

    cluster.restart(2);
    cluster.ask(1, &key.validate()).expect(200);
    cluster.restart(3);
    cluster.wait_write(1, SOON);
}

#[test]
fn a_killed_cluster_keeps_every_acknowledged_key() {
    let mut cluster = Cluster::start(3);
    let keys: Vec<Key> = (0..30)
        .map(|at| cluster.create(1 + at % 3, &json!({"name": "kept", "scope": "read"})))
        .collect();
    let revoke = Request::new("DELETE", &keys[0].path());
    cluster.admin(2, revoke).expect(200);
    for id in cluster.ids() {
        cluster.node_mut(id).kill();
    }
    for id in cluster.ids() {
        cluster.node_mut(id).spawn();
    }
    cluster.wait_ready();
    for id in cluster.ids() {
        cluster.ask(id, &keys[0].validate()).expect(401);
        for key in &keys[1..] {
            // A crash may have cost the tokens of this window; the key must be known nevertheless.
            let status = cluster.ask(id, &key.validate_cost(0)).status;
            assert!(matches!(status, 200 | 429), "{status}");
        }
    }
}
