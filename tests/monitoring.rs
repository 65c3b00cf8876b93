//! A real Prometheus with our configuration, rules and dashboard, before a real cluster.
//!
//! Answers for: every metric in a panel or rule exists on a node; each query of the dashboard
//! returns data; a healthy cluster fires no alert; and the alerts about a lost node fire when a
//! node is killed and end when it is back.

mod dashboard;
mod prometheus;
mod promql;

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use self::dashboard::Dashboard;
use self::prometheus::{Prometheus, SCALE};
use crate::support::cluster::Cluster;
use crate::support::keys::limit;
use crate::support::load::Stream;
use crate::support::{Request, wait_until};

/// Longest wait for what Prometheus notices within a few rounds of one second.
const NOTICE: Duration = Duration::from_secs(30);
/// How many rounds a healthy cluster is watched: for longer than the `for:` of every alert that load or
/// the start could cause, except alerts with a `for:` of an hour.
const HEALTHY_ROUNDS: u32 = 25;
const _: () = assert!(HEALTHY_ROUNDS > 600 / SCALE);

/// Metrics that the test's nodes do not have, with reasons.
const ABSENT: &[(&str, &str)] =
    &[("fluxgate_tls_certificate_expiry_timestamp_seconds", "the nodes speak plain HTTP")];
/// Metrics that Prometheus itself creates.
const OF_PROMETHEUS: &[&str] = &["up", "ALERTS"];
/// Titles of panels that may be empty on a healthy cluster, with reasons.
const MAY_BE_EMPTY: &[(&str, &str)] = &[
    ("Days until a certificate expires", "the nodes speak plain HTTP"),
    ("Another leader", "the leader stays"),
    ("Restart", "no node is started again"),
];
/// Alerts about a busy machine and disk, which other tests also load.
const OF_THE_MACHINE: &[&str] = &[
    "FluxgateDiskAlmostFull",
    "FluxgateDiskFillsSoon",
    "FluxgateFsyncSlow",
    "FluxgateProposalsSlow",
    "FluxgateValidatesSlow",
    "FluxgateWriteBarrierSlow",
];

/// The names that a query may use: a node's, the recorded ones, and a few exceptions.
fn known_names(cluster: &Cluster) -> BTreeSet<String> {
    let text = Request::get("/metrics").send(cluster.node(1).at.admin).expect(200).text();
    let mut known = promql::names_in_exposition(&text);
    for (absent, why) in ABSENT {
        assert!(known.insert((*absent).to_owned()), "{absent} is an exception without need: {why}");
    }
    known.extend(OF_PROMETHEUS.iter().map(|name| (*name).to_owned()));
    let recording = prometheus::read_config("prometheus/recording.yml");
    let records = recording.lines().filter_map(|line| line.trim().strip_prefix("- record: "));
    known.extend(records.map(str::to_owned));
    known
}

#[track_caller]
fn assert_known(known: &BTreeSet<String>, whose: &str, query: &str) {
    let names = promql::metric_names(query);
    let unknown: Vec<_> = names.difference(known).collect();
    assert!(unknown.is_empty(), "{whose} uses {unknown:?}, which no node has: {query}");
}

#[test]
fn the_dashboard_is_well_formed() {
    Dashboard::read().assert_well_formed();
}

#[test]
fn every_metric_of_a_panel_exists_on_a_node() {
    let cluster = Cluster::start(1);
    let known = known_names(&cluster);
    for query in Dashboard::read().queries() {
        assert!(!promql::metric_names(&query.expr).is_empty(), "{query:?} names no metric");
        assert_known(&known, &query.title, &query.expr);
    }
}

/// Some of every kind of client request, at each node.
fn load(cluster: &Cluster) -> Stream {
    let roomy = cluster.limited_key(1_000_000, 60);
    let narrow = cluster.limited_key(50, 10);
    let reader = {
        let limits = limit(1_000_000, 60);
        cluster.create(1, &json!({"name": "reader", "scope": "read", "limits": limits}))
    };
    let batch = json!({ "requests": [{ "key": roomy.secret }, { "key": reader.secret }] });
    let mut requests = vec![
        Request::post("/v1/validate/batch").json(&batch),
        Request::get("/v1/authorize/read").bearer(&reader.secret),
        Request::post("/v1/validate").bearer("fx_live_AAAAAAAAAAAA_nonsense"),
        reader.validate_scope("write"),
        narrow.validate(),
        narrow.validate(),
    ];
    // Fewer denials than the alerts about surges allow.
    requests.extend(std::iter::repeat_n(roomy.validate(), 12));
    Stream::start(&cluster.addresses(), &requests, 20)
}

/// Creates keys until every query of the dashboard returns data.
#[track_caller]
fn wait_for_data(prometheus: &Prometheus, cluster: &Cluster) {
    let excused = |title: &str| MAY_BE_EMPTY.iter().any(|(excused, _)| *excused == title);
    let mut wanted = Dashboard::read().queries();
    let mut empty = Vec::new();
    wait_until("every panel has data", NOTICE, || {
        cluster.create(1, &json!({"name": "created under load", "scope": "read"}));
        wanted.retain(|query| {
            let has_data = !prometheus.query(&query.concrete()).is_empty();
            !has_data && !excused(&query.title)
        });
        let still: Vec<String> = wanted.iter().map(|query| query.title.clone()).collect();
        if still != empty {
            eprintln!("without data yet: {still:?}");
            empty = still;
        }
        wanted.is_empty()
    });
}

/// Waits until Prometheus has scraped every node this many times and evaluated every rule.
#[track_caller]
fn wait_watched(prometheus: &Prometheus, rounds: u32) {
    wait_until("Prometheus has watched for a while", NOTICE, || {
        let seen = prometheus.query("min(count_over_time(up[5m]))");
        seen.first().is_some_and(|(_, seen)| *seen >= f64::from(rounds))
    });
}

#[test]
fn alerts_fire_when_a_node_is_killed_and_end_when_it_is_back() {
    let mut cluster = Cluster::start(3);
    let prometheus = Prometheus::start(&cluster);
    let load = load(&cluster);

    wait_until("all three targets are up", NOTICE, || prometheus.targets_up() == 3);
    wait_until("every rule was evaluated", NOTICE, || prometheus.rules_are_well());
    let known = known_names(&cluster);
    let rules = prometheus.rules();
    for (name, query) in &rules {
        assert_known(&known, name, query);
    }
    let alerts = rules.iter().filter(|(name, _)| name.starts_with("Fluxgate")).count();
    assert!(alerts >= 30 && rules.len() >= alerts + 15, "{} rules", rules.len());

    wait_for_data(&prometheus, &cluster);
    wait_watched(&prometheus, HEALTHY_ROUNDS);
    let fired = prometheus.fired_within(HEALTHY_ROUNDS);
    let about_us: Vec<_> =
        fired.iter().filter(|name| !OF_THE_MACHINE.contains(&name.as_str())).collect();
    assert!(about_us.is_empty(), "fired on a healthy cluster: {about_us:?}");
    prometheus.save("healthy");

    let leader = cluster.leader();
    let killed = cluster.node(leader).at.admin.to_string();
    let changes = || {
        let sum = format!("sum(fluxgate_raft_leader_changes_total{{instance!=\"{killed}\"}})");
        prometheus.query(&sum).first().map_or(0.0, |(_, sum)| *sum)
    };
    let changes_before = changes();
    cluster.node_mut(leader).kill();
    wait_until("the alerts about a lost node fire", NOTICE, || {
        let down = prometheus.firing("FluxgateNodeDown");
        let down = down.iter().any(|labels| labels["instance"] == killed.as_str());
        down && !prometheus.firing("FluxgateQuorumAtRisk").is_empty()
    });
    wait_until("another node is seen to lead", NOTICE, || {
        let leads = prometheus.query("fluxgate_raft_is_leader == 1");
        let other = |labels: &Value| labels["instance"] != killed.as_str();
        leads.len() == 1 && other(&leads[0].0) && changes() > changes_before
    });
    prometheus.save("node-killed");

    cluster.restart(leader);
    wait_until("the alerts end", NOTICE, || {
        let ended = |name: &str| prometheus.firing(name).is_empty();
        ended("FluxgateNodeDown") && ended("FluxgateQuorumAtRisk") && prometheus.targets_up() == 3
    });
    prometheus.save("node-back");
    assert!(prometheus.rules_are_well());
    // Two of three nodes were up all the time.
    let fired = prometheus.fired_within(120);
    assert!(fired.contains("FluxgateNodeDown"), "{fired:?}");
    assert!(!fired.contains("FluxgateQuorumLost"), "{fired:?}");
    drop(load.finish());
}
