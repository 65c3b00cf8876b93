//! The report of a bench, as text and as JSON.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::plan::Plan;
use super::tally::{Latencies, Tally, Windows};
use crate::output;

/// The result of a bench.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    shape: &'static str,
    nodes: usize,
    keys: usize,
    elapsed_ms: u64,
    requests: u64,
    per_second: u64,
    latency_us: Latencies,
    verdicts: BTreeMap<&'static str, u64>,
    pub(super) windows: Windows,
}

impl Report {
    pub(super) fn new(plan: &Plan, tally: &Tally, elapsed: Duration) -> Self {
        let elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        let requests = tally.requests();
        Self {
            shape: plan.shape.as_str(),
            nodes: plan.nodes,
            keys: plan.keys,
            elapsed_ms,
            requests,
            per_second: requests.saturating_mul(1_000) / elapsed_ms.max(1),
            latency_us: tally.latencies(),
            verdicts: tally.verdicts(),
            windows: tally.windows(),
        }
    }
}

/// The report as text.
pub(super) fn text(report: &Report) -> String {
    let load = format!("{} keys at {} nodes, {}", report.keys, report.nodes, report.shape);
    let requests = format!(
        "{} in {}.{:03} s, {} per second",
        report.requests,
        report.elapsed_ms / 1_000,
        report.elapsed_ms % 1_000,
        report.per_second
    );
    let latency = &report.latency_us;
    let latency = format!(
        "p50 {}  p90 {}  p99 {}  p99.9 {}  max {}",
        ms(latency.p50),
        ms(latency.p90),
        ms(latency.p99),
        ms(latency.p99_9),
        ms(latency.max)
    );
    let verdicts: Vec<String> = report
        .verdicts
        .iter()
        .filter(|(_, count)| **count > 0)
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    let windows = &report.windows;
    let windows = format!(
        "checked {} / over limit {} / short of min(demand, limit) {}",
        windows.checked, windows.over_limit, windows.short
    );
    output::fields(&[
        ("load", load),
        ("requests", requests),
        ("latency", latency),
        ("verdicts", verdicts.join(", ")),
        ("windows", windows),
    ])
}

/// Microseconds as milliseconds with two decimals.
fn ms(us: u64) -> String {
    format!("{}.{:02} ms", us / 1_000, us % 1_000 / 10)
}
