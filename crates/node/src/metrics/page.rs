//! The test of `docs/metrics.md` and of the golden names: both are generated from the table.
//!
//! The alerts that read a metric are found in the rules of Prometheus, so a new rule changes the
//! page too.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use prometheus::proto::MetricType;

use super::Metrics;
use super::catalog::documented;
use super::table::{Entry, Values};

const INTRODUCTION: &str = "\
# Metrics

Each node serves these metrics as Prometheus text at `/metrics` of its admin listener. This page is generated from the table in `crates/node/src/metrics/catalog.rs` and the rules in `config/prometheus`. Do not edit it: after a change of either run `UPDATE_GOLDEN=1 cargo test -p fluxgate-node metrics`.

- Counters start at 0 with the process, with one exception that says so. Query their rate or increase.
- Units are seconds and bytes. A histogram has the series `_bucket`, `_sum` and `_count`.
- No label holds a key, an owner or an address. If all values of a label are listed, every series exists from the start with 0, so a rate includes the first event; exceptions say so.
- *Alerts* lists the alerts whose rule reads the metric, directly or through a recorded series, with links to their steps. Some alerts read only `up`, which Prometheus itself records.
";

/// An entry of the table, with its texts for the page.
pub(super) struct Documented {
    pub(super) section: &'static str,
    pub(super) kind: &'static str,
    pub(super) entry: Entry,
    pub(super) means: &'static str,
    pub(super) advice: &'static str,
}

/// The metrics of the `prometheus` crate's process collector: name, meaning and advice. Type and
/// help come from the collector.
const PROCESS: &[(&str, &str, &str)] = &[
    (
        "process_cpu_seconds_total",
        "All threads together, in whole seconds.",
        "Its rate is the number of cores in use. Near the number of the machine's cores, requests \
         queue: spread them over more nodes, or add cores.",
    ),
    (
        "process_max_fds",
        "The soft limit of the process.",
        "Raise `LimitNOFILE`; each connection needs one.",
    ),
    (
        "process_open_fds",
        "Mostly connections.",
        "Near `process_max_fds` the node accepts no connection: raise the limit, or find the caller \
         that keeps so many connections open.",
    ),
    (
        "process_resident_memory_bytes",
        "Grows with `fluxgate_keys` and `fluxgate_counters`.",
        "If it grows without them, keep the node's log and report it.",
    ),
    (
        "process_start_time_seconds",
        "It changes with a restart.",
        "Compare `fluxgate_unplanned_stops_total` to see whether it was planned.",
    ),
    (
        "process_threads",
        "The number depends on the cores of the machine.",
        "If it rises steadily, threads wait for a disk: see `fluxgate_storage_fsync_seconds`.",
    ),
    (
        "process_virtual_memory_bytes",
        "Address space, which costs nothing by itself.",
        "No action. Watch `process_resident_memory_bytes`.",
    ),
];

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").join(name)
}

fn read(name: &str) -> String {
    std::fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The rules of a file, in its order: the name, and the lines up to the next rule.
fn rules<'a>(text: &'a str, key: &str) -> Vec<(&'a str, &'a str)> {
    let parts = text.split(key).skip(1);
    parts.filter_map(|part| part.split_once('\n')).collect()
}

/// The value of a key that has one line.
fn value<'a>(rule: &'a str, key: &str) -> &'a str {
    let line = rule.lines().find_map(|line| line.trim_start().strip_prefix(key));
    line.unwrap_or_else(|| panic!("a rule has {key}"))
}

/// The words of a rule's expression, without its comments.
fn words(rule: &str) -> BTreeSet<&str> {
    let (_, expression) = rule.split_once("expr:").expect("a rule has an expression");
    let end =
        ["\n        for:", "\n  - name:"].iter().filter_map(|next| expression.find(next)).min();
    let lines = expression[..end.unwrap_or(expression.len())].lines();
    let code = lines.filter(|line| !line.trim_start().starts_with('#'));
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    code.flat_map(|line| line.split(move |c| !is_part(c))).filter(|word| !word.is_empty()).collect()
}

/// Links to the alerts that read a metric, by its name.
fn alerts(names: &BTreeSet<String>) -> BTreeMap<String, Vec<String>> {
    let metric = |word: &str| {
        let bare = ["_bucket", "_sum", "_count"].iter().find_map(|end| word.strip_suffix(end));
        let candidates = [Some(word), bare].into_iter().flatten();
        candidates.map(str::to_owned).find(|name| names.contains(name))
    };
    let mut recorded: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    let read_by = |rule: &str, recorded: &BTreeMap<&str, BTreeSet<String>>| {
        let words = words(rule);
        let through = words.iter().filter_map(|word| recorded.get(word)).flatten().cloned();
        through.chain(words.iter().filter_map(|word| metric(word))).collect::<BTreeSet<_>>()
    };
    let recording = read("config/prometheus/recording.yml");
    for (name, rule) in rules(&recording, "- record: ") {
        let metrics = read_by(rule, &recorded);
        recorded.insert(name, metrics);
    }
    let mut alerts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, rule) in rules(&read("config/prometheus/alerts.yml"), "- alert: ") {
        let runbook = value(rule, "runbook: ").trim_start_matches("docs/");
        for metric in read_by(rule, &recorded) {
            alerts.entry(metric).or_default().push(format!("[{name}]({runbook})"));
        }
    }
    alerts
}

fn labels(page: &mut String, entry: &Entry) {
    let list = |values: &[&str]| {
        let quoted: Vec<String> = values.iter().map(|value| format!("`{value}`")).collect();
        quoted.join(", ")
    };
    for label in &entry.labels {
        let values = match &label.values {
            Values::Closed(values) => list(values),
            Values::Later(values) => {
                format!("{}; a series exists once it was set or counted", list(values))
            }
            Values::Open(what) => (*what).to_owned(),
        };
        writeln!(page, "- `{}`: {values}", label.name).unwrap();
    }
    if !entry.labels.is_empty() {
        page.push('\n');
    }
}

/// The page, and the names that it documents.
fn render() -> (String, BTreeSet<String>) {
    let process = gathered("process_");
    let ours = documented();
    let all = ours.iter().map(|one| one.entry.name.to_owned()).chain(process.keys().cloned());
    let names: BTreeSet<String> = all.collect();
    let alerts = alerts(&names);
    let mut page = INTRODUCTION.to_owned();
    let ending = |page: &mut String, name: &str, means: &str, advice: &str| {
        writeln!(page, "{means}\n\nWhat to do: {advice}").unwrap();
        if let Some(alerts) = alerts.get(name) {
            writeln!(page, "\nAlerts: {}.", alerts.join(", ")).unwrap();
        }
    };
    let mut section = "";
    for Documented { section: of, kind, entry, means, advice } in &ours {
        if *of != section {
            writeln!(page, "\n## {of}").unwrap();
            section = of;
        }
        writeln!(page, "\n### `{}`\n\n{kind}. {}", entry.name, entry.help).unwrap();
        if let [first, .., last] = entry.buckets {
            let (first, last) = (Duration::from_secs_f64(*first), Duration::from_secs_f64(*last));
            writeln!(page, "Buckets from {first:?} to {last:?}.").unwrap();
        }
        page.push('\n');
        labels(&mut page, entry);
        ending(&mut page, entry.name, means, advice);
    }
    page += "\n## Process\n\nFrom the process collector of the `prometheus` crate, on Linux.\n";
    for (name, means, advice) in PROCESS {
        let (kind, help) = process.get(*name).unwrap_or_else(|| panic!("{name} is not given"));
        writeln!(page, "\n### `{name}`\n\n{kind}. {help}\n").unwrap();
        ending(&mut page, name, means, advice);
    }
    (page, names)
}

/// The metrics of a new node whose names have this prefix, with type and help.
fn gathered(prefix: &str) -> BTreeMap<String, (&'static str, String)> {
    let families = Metrics::new().registry.gather();
    let ours = families.iter().filter(|family| family.name().starts_with(prefix));
    let of = |family: &prometheus::proto::MetricFamily| {
        let kind = match family.get_field_type() {
            MetricType::COUNTER => "Counter",
            MetricType::GAUGE => "Gauge",
            MetricType::HISTOGRAM => "Histogram",
            MetricType::SUMMARY | MetricType::UNTYPED => panic!("{} has a type", family.name()),
        };
        (family.name().to_owned(), (kind, family.help().to_owned()))
    };
    ours.map(of).collect()
}

#[track_caller]
fn assert_kept(name: &str, text: &str) {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(path(name), text).unwrap();
    }
    let kept = std::fs::read_to_string(path(name)).unwrap_or_default();
    assert!(
        kept == text,
        "{name} is out of date; after reading what changed, run\n    \
         UPDATE_GOLDEN=1 cargo test -p fluxgate-node metrics"
    );
}

#[test]
fn the_page_is_generated_from_the_table() {
    assert_kept("docs/metrics.md", &render().0);
}

#[test]
fn metrics_keep_the_names_that_dashboards_use() {
    let names = documented().into_iter().map(|one| one.entry.name);
    let lines: BTreeSet<String> = names.map(|name| format!("{name}\n")).collect();
    assert_eq!(lines.len(), documented().len(), "a name occurs twice");
    assert_kept("tests/golden/metrics.txt", &lines.into_iter().collect::<String>());
}

#[test]
fn the_page_has_every_metric_of_a_node() {
    let (_, names) = render();
    let given = gathered("");
    let undocumented: Vec<&String> = given.keys().filter(|name| !names.contains(*name)).collect();
    assert!(undocumented.is_empty(), "{undocumented:?}");
    let process: BTreeSet<&str> = PROCESS.iter().map(|(name, ..)| *name).collect();
    assert!(gathered("process_").keys().all(|name| process.contains(name.as_str())));
    for one in documented() {
        let given = given.get(one.entry.name);
        assert!(given.is_none_or(|(kind, _)| *kind == one.kind), "{}", one.entry.name);
    }
}

#[test]
fn every_series_of_closed_labels_exists_from_the_start() {
    let families = Metrics::new().registry.gather();
    for one in documented() {
        let family = families.iter().find(|family| family.name() == one.entry.name);
        let metrics = family.map(|family| family.get_metric()).unwrap_or_default();
        // A new node sets this one itself.
        let is_build = one.entry.name == "fluxgate_build_info";
        let expected = if is_build { 1 } else { one.entry.series().len() };
        assert_eq!(metrics.len(), expected, "{}", one.entry.name);
        for metric in metrics {
            let has: BTreeSet<&str> = metric.get_label().iter().map(|pair| pair.name()).collect();
            let wants: BTreeSet<&str> = one.entry.labels.iter().map(|label| label.name).collect();
            assert_eq!(has, wants, "{}", one.entry.name);
        }
    }
}

#[test]
fn alerts_find_the_metrics_that_they_read() {
    let names: BTreeSet<String> =
        documented().iter().map(|one| one.entry.name.to_owned()).collect();
    let found = alerts(&names);
    let watched = |name: &str, alert: &str| {
        found.get(name).is_some_and(|alerts| alerts.iter().any(|link| link.contains(alert)))
    };
    assert!(watched("fluxgate_raft_has_leader", "[FluxgateNoLeader]"));
    assert!(watched("fluxgate_raft_voters", "[FluxgateQuorumLost]"), "through two recorded series");
    assert!(watched("fluxgate_write_barrier_seconds", "(operations.md#fluxgatewritebarrierslow)"));
    assert!(!watched("fluxgate_raft_term", "Fluxgate"));
}
