//! An orderly stop costs no token, and no survivor a request.
//!
//! A rolling restart under load, a whole cluster stopped and started together, and a cluster of
//! one: the window around the restart admits exactly the full limit.

use std::time::{Duration, Instant};

use crate::support::cluster::Cluster;
use crate::support::exact::{Windows, assert_exact, assert_never_above, windows};
use crate::support::load::{Sample, Stream};
use crate::support::wait::roomy_period_s;
use crate::support::{Answer, Key, wait_until};

/// Tokens in the window of the restarts.
const TOKENS: u64 = 900;
/// Longest wait for a condition.
const SOON: Duration = Duration::from_secs(10);
/// Long enough that a test does not reach the end of the window.
const PERIOD_MIN_S: u64 = 120;

/// Spends until every node denies.
fn spend_all(cluster: &Cluster, key: &Key) -> Vec<Answer> {
    let mut answers = Vec::new();
    wait_until("every node denies", Duration::from_secs(30), || {
        let round: Vec<Answer> =
            cluster.ids().iter().map(|&id| cluster.ask(id, &key.validate())).collect();
        let denied = round.iter().all(|answer| answer.status == 429);
        answers.extend(round);
        denied
    });
    answers
}

fn verdicts(samples: &[Sample], request: usize) -> Windows {
    let own = samples.iter().filter(|sample| sample.request == request);
    let answers = own.filter_map(|sample| sample.outcome.as_ref().ok());
    windows(answers.filter(|answer| answer.status != 503).map(|answer| (answer, 1)))
}

/// Fails unless the answers before and after together admitted the whole limit, in one window.
#[track_caller]
fn assert_whole(before: &Windows, after: &[Answer]) {
    let after = windows(after.iter().map(|answer| (answer, 1)));
    let admitted = |windows: &Windows| windows.values().map(|window| window.admitted).sum::<u64>();
    let resets: Vec<u64> = before.keys().chain(after.keys()).copied().collect();
    assert!(resets.windows(2).all(|pair| pair[0] == pair[1]), "the window ended: {resets:?}");
    let (before, after) = (admitted(before), admitted(&after));
    assert_eq!(before + after, TOKENS, "{before} before and {after} after");
}

#[test]
fn a_rolling_restart_under_load_rejects_nothing_and_keeps_every_token() {
    let mut cluster = Cluster::start(3);
    let ample = cluster.limited_key(1_000_000, roomy_period_s(PERIOD_MIN_S));
    let counted = cluster.limited_key(TOKENS, roomy_period_s(PERIOD_MIN_S));
    let stream = Stream::start(
        &cluster.addresses(),
        &[ample.validate(), ample.validate(), ample.validate(), counted.validate()],
        60,
    );
    let mut down = Vec::new();
    for id in cluster.ids() {
        let from = std::time::Instant::now();
        cluster.node_mut(id).stop();
        cluster.restart(id);
        down.push((id, from, std::time::Instant::now()));
    }
    let samples = stream.finish();
    let last = spend_all(&cluster, &counted);
    for sample in samples.iter().filter(|sample| sample.request < 3) {
        let itself = |(id, from, until): &(u64, _, _)| {
            *id == sample.node && sample.answered >= *from && sample.asked <= *until
        };
        if down.iter().any(itself) {
            continue;
        }
        assert_eq!(sample.status(), 200, "node {}: {:?}", sample.node, sample.outcome);
    }
    assert_whole(&verdicts(&samples, 3), &last);
}

#[test]
fn a_cluster_stopped_and_started_together_keeps_its_counts() {
    let mut cluster = Cluster::start(3);
    let key = cluster.limited_key(TOKENS, roomy_period_s(PERIOD_MIN_S));
    let spent: Vec<Answer> = (0..300).map(|at| cluster.ask(1 + at % 3, &key.validate())).collect();
    for id in cluster.ids() {
        cluster.node(id).terminate();
    }
    for id in cluster.ids() {
        let status = cluster.node_mut(id).wait_exit();
        assert_eq!(status.code(), Some(0), "node {id}: {status}");
    }
    for id in cluster.ids() {
        cluster.node_mut(id).spawn();
    }
    cluster.wait_ready();
    let before = windows(spent.iter().map(|answer| (answer, 1)));
    assert_exact(&before);
    assert_whole(&before, &spend_all(&cluster, &key));
}

#[test]
fn a_cluster_of_one_keeps_its_counts_over_a_restart() {
    let mut cluster = Cluster::start(1);
    let key = cluster.limited_key(TOKENS, roomy_period_s(PERIOD_MIN_S));
    let spent: Vec<Answer> = (0..300).map(|_| cluster.ask(1, &key.validate())).collect();
    for _ in 0..2 {
        cluster.node_mut(1).stop();
        cluster.restart(1);
    }
    let before = windows(spent.iter().map(|answer| (answer, 1)));
    assert_whole(&before, &spend_all(&cluster, &key));
}

#[test]
fn a_carryover_is_used_once_and_not_again_after_a_crash() {
    let mut cluster = Cluster::start(1);
    let key = cluster.limited_key(TOKENS, roomy_period_s(PERIOD_MIN_S));
    let mut answers: Vec<Answer> = (0..100).map(|_| cluster.ask(1, &key.validate())).collect();
    cluster.node_mut(1).stop();
    cluster.restart(1);
    answers.extend((0..100).map(|_| cluster.ask(1, &key.validate())));
    cluster.node_mut(1).kill();
    cluster.restart(1);
    answers.extend(spend_all(&cluster, &key));
    assert_never_above(&windows(answers.iter().map(|answer| (answer, 1))));
}

/// A load balancer that probes `/readyz` drops the node while the node still answers, also on new
/// connections.
#[test]
fn a_draining_node_reports_it_at_once_and_keeps_answering() {
    const DRAIN: Duration = Duration::from_secs(3);
    let mut cluster = Cluster::start_with(3, |settings| {
        settings.text("node", "drain", "3s");
    });
    let key = cluster.limited_key(1_000_000, 600);
    let signalled = Instant::now();
    cluster.node(2).terminate();
    wait_until("it reports that it stops", DRAIN / 2, || {
        cluster.node(2).ready().is_ok_and(|answer| answer.status == 503)
    });
    while signalled.elapsed() < DRAIN * 2 / 3 {
        cluster.ask(2, &key.validate()).expect(200);
        let readiness = cluster.node(2).ready().unwrap();
        assert!(readiness.status == 503 && readiness.text().contains("stopping: "), "{readiness}");
    }
    assert_eq!(cluster.node_mut(2).wait_exit().code(), Some(0));
    assert!(signalled.elapsed() >= DRAIN, "{:?}", signalled.elapsed());
    cluster.ask(1, &key.validate()).expect(200);

    // A second signal skips the wait.
    cluster.node_mut(2).settings.text("node", "drain", "2m");
    cluster.node_mut(2).spawn();
    cluster.wait_ready();
    cluster.node(2).terminate();
    wait_until("it reports that it stops", SOON, || {
        cluster.node(2).ready().is_ok_and(|answer| answer.status == 503)
    });
    cluster.node(2).terminate();
    assert_eq!(cluster.node_mut(2).wait_exit().code(), Some(0));
}

#[test]
fn a_stop_ends_with_code_zero_while_clients_hold_connections() {
    let mut cluster = Cluster::start(1);
    let key = cluster.write_key();
    let mut idle = crate::support::Conn::open(cluster.gateway(1)).unwrap();
    idle.call(&key.validate()).unwrap().expect(200);
    let mut half = crate::support::Conn::open(cluster.gateway(1)).unwrap();
    half.write(b"POST /v1/validate HTTP/1.1\r\nhost: x\r\n").unwrap();
    cluster.node_mut(1).stop();
    cluster.restart(1);
    cluster.node(1).signal(rustix::process::Signal::INT);
    let status = cluster.node_mut(1).wait_exit();
    assert_eq!(status.code(), Some(0), "{status}");
}

/// An event for the nodes of a cluster, in turn or together.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// One after another is stopped in order and started.
    Roll,
    /// All are stopped in order, then started.
    StopAll,
    /// The last node is killed and started.
    Crash,
    /// A few tokens are spent at each node.
    Spend,
}

fn run_event(cluster: &mut Cluster, key: &Key, event: Event) -> Vec<Answer> {
    let ids = cluster.ids();
    match event {
        Event::Roll => {
            for id in ids {
                cluster.node_mut(id).stop();
                cluster.restart(id);
            }
        }
        Event::StopAll => {
            for &id in &ids {
                cluster.node(id).terminate();
            }
            for &id in &ids {
                cluster.node_mut(id).wait_exit();
            }
            for &id in &ids {
                cluster.node_mut(id).spawn();
            }
            cluster.wait_ready();
        }
        Event::Crash => {
            let last = ids[ids.len() - 1];
            cluster.node_mut(last).kill();
            cluster.restart(last);
        }
        Event::Spend => {
            return (0..30).map(|at| cluster.ask(ids[at % ids.len()], &key.validate())).collect();
        }
    }
    Vec::new()
}

/// Runs these events and spends all remaining tokens. Returns a message if the window admitted more
/// than the limit or, without a crash, less.
fn violation_of(nodes: u64, events: &[Event]) -> Option<String> {
    let tokens = TOKENS / 5;
    let mut cluster = Cluster::start(nodes);
    let key = cluster.limited_key(tokens, roomy_period_s(PERIOD_MIN_S));
    let mut answers = Vec::new();
    for &event in events {
        answers.extend(run_event(&mut cluster, &key, event));
    }
    answers.extend(spend_all(&cluster, &key));
    let windows = windows(answers.iter().map(|answer| (answer, 1)));
    assert_eq!(windows.len(), 1, "the window ended: {windows:?}");
    let admitted: u64 = windows.values().map(|window| window.admitted).sum();
    let crashed = events.iter().any(|event| matches!(event, Event::Crash));
    let right = admitted == tokens || (crashed && admitted < tokens);
    (!right).then(|| format!("{events:?}: {admitted} of {tokens} admitted"))
}

#[test]
fn no_order_of_stops_and_crashes_gives_a_token_twice_on_one_node() {
    use Event::{Crash, Spend, StopAll};
    let orders = [
        &[Spend, StopAll, StopAll][..],
        &[Spend, StopAll, Spend, StopAll, StopAll],
        &[Spend, Crash, StopAll],
        &[Spend, StopAll, Crash, StopAll],
        &[StopAll, Spend, StopAll, Crash],
    ];
    let faults: Vec<String> = orders.iter().filter_map(|events| violation_of(1, events)).collect();
    assert_eq!(faults, Vec::<String>::new());
}

#[test]
fn no_order_of_stops_and_crashes_gives_a_token_twice_on_three_nodes() {
    use Event::{Crash, Roll, Spend, StopAll};
    let orders = [
        &[Spend, StopAll, StopAll][..],
        &[Spend, Crash, StopAll],
        &[Spend, Roll, StopAll],
        &[Spend, Roll, Roll],
        &[Spend, Crash, Roll, Spend, Crash, StopAll],
    ];
    let faults: Vec<String> = orders.iter().filter_map(|events| violation_of(3, events)).collect();
    assert_eq!(faults, Vec::<String>::new());
}
