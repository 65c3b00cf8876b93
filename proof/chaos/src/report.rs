//! Turns a history into tables and an exit code.
//!
//! A run that saw too little proves nothing: it is void, even when every check passes.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;

use comfy_table::Table;

use fluxgate_record::history::{SECOND, read};
use fluxgate_record::{CheckResult, judge};
use fluxgate_record::{Knowledge, Outcome, outcome};

/// A run of at least this length must have seen every kind of thing; a shorter one only something.
const WHOLE_S: u64 = 240;
/// A run needs one fault per this many seconds.
const FAULT_EVERY_S: u64 = 14;
/// Kinds of faults that a whole run must have seen.
const KINDS_MIN: usize = 18;
/// Answered validates per second.
const RATE_MIN: u64 = 60;
/// Answers of each verdict in a whole run.
const VERDICTS_MIN: usize = 20;
/// Part of the time that must be calm, percent.
const CALM_MIN_PERCENT: u64 = 8;
/// Answered writes in a whole run.
const WRITES_MIN: usize = 50;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Passed,
    Violated,
    Void,
}

pub(crate) fn say(line: &str) {
    // There is nowhere to report a failure of this.
    writeln!(std::io::stdout(), "{line}").ok();
}

/// Judges a history and prints the result. `lines` adds a line `N passed, N failed`.
pub(crate) fn report(path: &Path, lines: bool) -> anyhow::Result<Ended> {
    let known = Knowledge::new(read(path)?);
    let results = judge(&known);
    let gaps = gaps(&known, &results);
    tables(&known, &results);
    for result in results.iter().filter(|result| result.violated > 0) {
        say(&format!("\n{}: {} violations", result.name, result.violated));
        result.examples.iter().for_each(|example| say(&format!("  {example}")));
    }
    gaps.iter().for_each(|gap| say(&format!("void: {gap}")));
    let failed = results.iter().filter(|result| result.violated > 0).count();
    let ended = match (failed, gaps.is_empty()) {
        (0, true) => Ended::Passed,
        (0, false) => Ended::Void,
        (_, _) => Ended::Violated,
    };
    if let Some(run) = &known.run {
        let (seed, nodes, seconds) = (run.seed, run.nodes, run.seconds);
        let terms = if run.terms.is_empty() { "" } else { &format!(" --terms {}", run.terms) };
        say(&format!(
            "\n{ended:?}. Again: scripts/chaos.sh --seed {seed} --nodes {nodes} --seconds {seconds}{terms}"
        ));
        say(&format!("Judge again: scripts/chaos.sh --judge {}", path.display()));
    }
    if lines {
        // Coverage counts as one more check.
        let void = usize::from(!gaps.is_empty());
        let passed = results.len() + 1 - failed - void;
        say(&format!("{passed} passed, {} failed", failed + void));
    }
    Ok(ended)
}

/// Names of the statuses of a verdict.
const VERDICTS: &[(u16, &str)] = &[
    (200, "admitted"),
    (401, "unauthenticated"),
    (403, "out of scope"),
    (429, "limited"),
    (503, "unavailable"),
    (400, "invalid"),
    (0, "no answer"),
];

fn tables(known: &Knowledge, results: &[CheckResult]) {
    let mut table = Table::new();
    table.set_header(["validates", "count"]);
    for (status, name) in VERDICTS {
        let count = known.validates.iter().filter(|validate| validate.s == *status).count();
        table.add_row([format!("{status} {name}"), count.to_string()]);
    }
    table.add_row(["all".to_owned(), known.validates.len().to_string()]);
    let writes = |wanted| known.writes.iter().filter(|write| outcome(write) == wanted).count();
    table.add_row(["writes answered".to_owned(), writes(Outcome::Done).to_string()]);
    table.add_row(["writes rejected".to_owned(), writes(Outcome::NotDone).to_string()]);
    table.add_row(["writes unknown".to_owned(), writes(Outcome::Unknown).to_string()]);
    let stalled = known.stalls.iter().map(|(a, b)| b - a).sum::<u64>();
    table.add_row(["calm, seconds".to_owned(), (known.calm_us() / SECOND).to_string()]);
    table.add_row(["near a stall, seconds".to_owned(), (stalled / SECOND).to_string()]);
    say(&format!("\n{table}"));

    let mut kinds: BTreeMap<&str, u64> = BTreeMap::new();
    for fault in &known.faults {
        *kinds.entry(&fault.kind).or_default() += 1;
    }
    let all: Vec<String> = kinds.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
    say(&format!("{} faults of {} kinds: {}", known.faults.len(), kinds.len(), all.join(", ")));

    let mut table = Table::new();
    table.set_header(["check", "judged", "violations", ""]);
    for result in results {
        let (judged, violated) = (result.judged.to_string(), result.violated.to_string());
        table.add_row([result.name, &judged, &violated, &result.note]);
    }
    say(&table.to_string());
    say(&crate::coverage::table(known).to_string());
}

/// The coverage that the run lacks.
fn gaps(known: &Knowledge, results: &[CheckResult]) -> Vec<String> {
    let mut gaps = Vec::new();
    let Some(run) = &known.run else { return vec!["the history has no beginning".to_owned()] };
    let Some(end) = &known.end else { return vec!["the history has no end".to_owned()] };
    let mut want = |enough: bool, what: String| {
        if !enough {
            gaps.push(what);
        }
    };
    let whole = run.seconds >= WHOLE_S;
    want(!end.cut_off, "the history was cut off".to_owned());
    let scanned = end.scanned.len() as u64 == run.nodes;
    want(scanned, format!("only nodes {:?} were scanned at the end", end.scanned));
    let faults = known.faults.len() as u64;
    want(faults >= run.seconds / FAULT_EVERY_S, format!("{faults} faults"));
    let answered = known.validates.iter().filter(|validate| validate.s != 0).count() as u64;
    want(answered >= run.seconds * RATE_MIN, format!("{answered} validates were answered"));
    let calm = known.calm_us() / SECOND;
    want(calm * 100 >= run.seconds * CALM_MIN_PERCENT, format!("{calm} seconds were calm"));
    if whole {
        let mut kinds: Vec<&str> = known.faults.iter().map(|fault| fault.kind.as_str()).collect();
        kinds.sort_unstable();
        kinds.dedup();
        want(kinds.len() >= KINDS_MIN, format!("{} kinds of faults", kinds.len()));
        for (status, name) in VERDICTS.iter().take(5) {
            let seen = known.validates.iter().filter(|validate| validate.s == *status).count();
            want(seen >= VERDICTS_MIN, format!("{seen} times {name}"));
        }
        let done = known.writes.iter().filter(|write| outcome(write) == Outcome::Done).count();
        want(done >= WRITES_MIN, format!("{done} writes were answered"));
        for one in crate::coverage::seen(known) {
            let few = format!("{} {}, at least {} needed", one.count, one.what, one.least);
            want(one.count >= one.least, few);
        }
        for result in results {
            want(
                result.judged > 0 || result.not_promised,
                format!("{} had nothing to judge", result.name),
            );
        }
    }
    gaps
}
