//! One run, from an empty directory to a history: start, traffic, faults, healing, final scan.

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use crate::admin::{KeyPolicy, manage_key};
use crate::arena::NetworkTestbed;
use crate::cluster::Cluster;
use crate::plan::{Plan, Round};
use crate::process::{Files, OPERATOR, SECRET};
use crate::report::say;
use crate::scenario::Scenario;
use crate::terms::Terms;
use crate::traffic::{Shape, Stream, World, probe_revoked_keys, send};
use fluxgate_record::history::{End, Event, Log, Record, Run, SECOND, Shares, Stall, Writer};

/// How often the harness checks that it is scheduled itself.
const PULSE: Duration = Duration::from_millis(10);
/// Lateness that is recorded.
const LATE: Duration = Duration::from_millis(50);
/// How long the end of a run takes: the last healing and the final scan.
const ENDING: Duration = Duration::from_secs(6);
/// Attempts for one page of the final scan.
const TRIES: usize = 20;
/// How a panic shows in a log.
const PANIC: &str = "panicked at";

#[derive(Clone, Copy, Debug)]
pub(crate) struct RunOptions {
    pub(crate) seed: u64,
    pub(crate) nodes: u64,
    pub(crate) seconds: u64,
    pub(crate) terms: Terms,
    pub(crate) only: Option<Scenario>,
}

/// Runs, and leaves the history in `files.out`.
pub(crate) async fn run(
    wanted: RunOptions,
    files: &Files,
    arena: NetworkTestbed,
) -> anyhow::Result<()> {
    let path = files.out.join("history.jsonl");
    let history = Arc::new(Writer::create(&path)?);
    let RunOptions { seed, nodes, seconds, terms, .. } = wanted;
    let lease_us = terms.longest_ms() * (SECOND / 1_000);
    let wall = std::time::UNIX_EPOCH.elapsed().context("read the clock")?;
    let wall_us = u64::try_from(wall.as_micros()).unwrap_or(0).saturating_sub(history.now());
    let (default_tokens, default_period_s) = (100, 60);
    let terms_name = terms.as_str().to_owned();
    history.write(&Event::Run(Run {
        seed,
        nodes,
        seconds,
        lease_us,
        default_tokens,
        default_period_s,
        wall_us,
        terms: terms_name,
    }));
    let mut cluster = Cluster::plan(arena, files, (nodes, terms), Arc::clone(&history))?;
    cluster.start_first(seed).await?;
    ensure!(cluster.heal().await?, "the cluster did not start; see {}", files.out.display());
    say(&format!("{:7.1} s  {nodes} nodes are well", seconds_of(history.now())));

    let world = Arc::new(World::new(Arc::clone(&history), cluster.ids(), seed));
    let tasks = begin_traffic(&world);
    let pulse = tokio::spawn(pulse(Arc::clone(&history)));
    let until = Instant::now() + Duration::from_secs(seconds).saturating_sub(ENDING);
    let faults = make_faults(&mut cluster, wanted, until).await;
    world.over.store(true, Ordering::Relaxed);
    for task in tasks {
        // A task that waits for the answer to a write records it before it ends.
        task.await.ok();
    }
    let faults = faults?;
    let faults_until = history.now();
    let well = cluster.heal().await?;
    let scanned = final_scan(&cluster).await;
    pulse.abort();
    let t = history.now();
    let cut_off = history.is_cut_off();
    history.write(&Event::End(End { t, faults_until, faults, scanned, cut_off }));
    for node in &mut cluster.nodes {
        node.signal_end(rustix::process::Signal::TERM)?;
    }
    for node in &mut cluster.nodes {
        node.wait_end().await?;
    }
    search_logs(&cluster, &world)?;
    history.finish()?;
    say(&format!("{:7.1} s  done, {}", seconds_of(t), if well { "well" } else { "NOT well" }));
    Ok(())
}

fn seconds_of(us: u64) -> f64 {
    Duration::from_micros(us).as_secs_f64()
}

/// Starts about 250 requests a second over streams of all shapes, and the administrators of their
/// keys.
fn begin_traffic(world: &Arc<World>) -> Vec<tokio::task::JoinHandle<()>> {
    let stream = |shape, every_ms, at_once, cost_max, out_of_scope| Stream {
        shape,
        every: Duration::from_millis(every_ms),
        at_once,
        cost_max,
        out_of_scope,
    };
    let care = |tokens, period_s, every_ms: Option<u64>, keeps| KeyPolicy {
        tokens,
        period_s,
        every: every_ms.map(Duration::from_millis),
        keeps,
    };
    let streams = [
        // Nothing is changed: every window must be exact to the token.
        (stream(Shape::Even, 60, 1, 1, 2), care(Some(24), 2, None, true)),
        (stream(Shape::Sticky, 60, 1, 1, 2), care(Some(24), 2, None, true)),
        (stream(Shape::Skewed, 60, 1, 1, 2), care(Some(24), 2, None, true)),
        (stream(Shape::Burst, 2_500, 40, 1, 0), care(Some(24), 2, None, true)),
        (stream(Shape::Even, 70, 1, 7, 2), care(Some(60), 2, None, true)),
        (stream(Shape::Even, 350, 1, 1, 2), care(None, 60, None, true)),
        // Nothing is denied for quota, so a node that stops answering shows.
        (stream(Shape::Even, 14, 1, 1, 3), care(Some(1_000_000), 60, None, true)),
        // Changed all the time.
        (stream(Shape::Even, 60, 1, 1, 5), care(Some(40), 5, Some(700), true)),
        (stream(Shape::Skewed, 60, 1, 3, 5), care(Some(40), 5, Some(500), false)),
        (stream(Shape::Even, 60, 1, 1, 5), care(Some(40), 2, Some(400), false)),
        (stream(Shape::Burst, 1_000, 20, 1, 5), care(Some(100), 60, Some(500), false)),
    ];
    let mut tasks =
        vec![tokio::spawn(probe_revoked_keys(Arc::clone(world), Duration::from_millis(40)))];
    for (number, (stream, care)) in (0u64..).zip(streams) {
        let (publish, key) = watch::channel(None);
        tasks.push(tokio::spawn(manage_key(Arc::clone(world), care, number, publish)));
        tasks.push(tokio::spawn(send(Arc::clone(world), stream, number, key)));
    }
    tasks
}

/// Records when this process was not scheduled in time: the nodes may not have been, either.
async fn pulse(history: Arc<Writer>) {
    let mut every = interval(PULSE);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let before = Instant::now();
        every.tick().await;
        let late = before.elapsed().saturating_sub(PULSE);
        if late >= LATE {
            let late_us = u64::try_from(late.as_micros()).unwrap_or(u64::MAX);
            history.write(&Event::Stall(Stall { t: history.now(), late_us }));
        }
    }
}

/// Injects round after round until the time is over. Returns the number of faults.
async fn make_faults(
    cluster: &mut Cluster,
    wanted: RunOptions,
    until: Instant,
) -> anyhow::Result<u64> {
    let mut plan = Plan::new(wanted.seed, wanted.nodes, wanted.terms, wanted.only);
    let mut faults = 0;
    // The first windows run without any fault.
    sleep(Duration::from_secs(5).min(until.saturating_duration_since(Instant::now()))).await;
    while Instant::now() < until {
        let round: Round = plan.next_round();
        let began = cluster.history.now();
        let kinds = match &round.scenario {
            Some(scenario) => cluster.inject_scenario(scenario).await?,
            None => cluster.inject(&round).await?,
        };
        faults += kinds.len() as u64;
        let held = cluster.history.now();
        let well = cluster.heal().await?;
        let took = seconds_of(cluster.history.now() - held);
        let what = kinds.join(" + ");
        let end = if well { "well again" } else { "NOT WELL" };
        say(&format!(
            "{:7.1} s  {what:<36} held {:4.1} s, {end} after {took:4.1} s",
            seconds_of(began),
            seconds_of(held - began)
        ));
        sleep(round.calm.min(until.saturating_duration_since(Instant::now()))).await;
    }
    Ok(faults)
}

/// Records every key as every node shows it. Returns the nodes that showed all keys.
async fn final_scan(cluster: &Cluster) -> Vec<u64> {
    let mut scanned = Vec::new();
    for node in cluster.ids() {
        if scan(cluster, node).await {
            scanned.push(node);
        }
    }
    let path = "/v1/audit?action=shares.set&limit=200";
    if let Ok(answer) = cluster.admin(1, "GET", path, None).await {
        let trail: Value = serde_json::from_str(&answer.body).unwrap_or_default();
        let changes = trail["entries"].as_array().map_or(0, |lines| lines.len() as u64);
        cluster.history.write(&Event::Shares(Shares { changes }));
    }
    scanned
}

async fn scan(cluster: &Cluster, node: u64) -> bool {
    let mut cursor = String::new();
    loop {
        let path = format!("/v1/keys?limit=200{cursor}");
        let mut page = Value::Null;
        for _ in 0..TRIES {
            let answer = cluster.admin(node, "GET", &path, None).await.ok();
            let answer = answer.filter(|answer| answer.status == 200);
            page = answer.and_then(|a| serde_json::from_str(&a.body).ok()).unwrap_or_default();
            if page.is_object() {
                break;
            }
            sleep(Duration::from_millis(100)).await;
        }
        let Some(keys) = page["keys"].as_array() else { return false };
        for key in keys {
            let text = |field: &str| key[field].as_str().unwrap_or_default().to_owned();
            cluster.history.write(&Event::Record(Record {
                n: node,
                id: text("id"),
                name: text("name"),
                status: text("status"),
                scope: text("scope"),
                tokens: key["limits"][0]["tokens"].as_u64().unwrap_or(0),
                revision: key["revision"].as_u64().unwrap_or(0),
            }));
        }
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return true,
        }
    }
}

/// Searches everything that the nodes printed for panics and secrets.
fn search_logs(cluster: &Cluster, world: &World) -> anyhow::Result<()> {
    let mut secrets: BTreeMap<String, ()> = BTreeMap::new();
    for secret in [OPERATOR, SECRET] {
        secrets.insert(secret.to_owned(), ());
    }
    let shown = world.shown.lock().unwrap_or_else(PoisonError::into_inner);
    // The id inside a key is public; its last part is secret.
    let last = |key: &String| key.rsplit('_').next().map(|part| (part.to_owned(), ()));
    secrets.extend(shown.iter().filter_map(last));
    for (n, path) in cluster.logs() {
        let text = fs::read(path).with_context(|| format!("read {}", path.display()))?;
        let text = String::from_utf8_lossy(&text);
        let panics = text.lines().filter(|line| line.contains(PANIC));
        let panics = panics.take(10).map(ToOwned::to_owned).collect();
        let leaks = text.lines().filter(|line| {
            let words = line.split(|c: char| !c.is_ascii_alphanumeric() && c != '-');
            words.flat_map(|word| [word, word.trim_matches('-')]).any(|w| secrets.contains_key(w))
        });
        let secrets_found = leaks.count() as u64;
        cluster.history.write(&Event::Log(Log {
            n,
            bytes: text.len() as u64,
            secrets_looked_for: secrets.len() as u64,
            panics,
            secrets: secrets_found,
        }));
    }
    Ok(())
}
