//! What a history comes to: tables for people, and the exit code.
//!
//! A run that saw too little proves nothing: it is void, whatever its checks say.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;

use comfy_table::Table;

use crate::checks::{Tally, judge};
use crate::history::{SECOND, read};
use crate::knowledge::{Knowledge, Outcome, outcome};

/// Runs at least this long must have seen every kind of thing; shorter ones only something.
const WHOLE_S: u64 = 240;
/// Seconds for which one fault at least is wanted.
const FAULT_EVERY_S: u64 = 14;
/// Kinds of faults that a whole run must have seen.
const KINDS_MIN: usize = 18;
/// Validates answered per second.
const RATE_MIN: u64 = 60;
/// Of each verdict, in a whole run.
const VERDICTS_MIN: usize = 20;
/// Part of the time that must have been calm, percent.
const CALM_MIN_PERCENT: u64 = 8;
/// Writes that were answered, in a whole run.
const WRITES_MIN: usize = 50;

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Passed,
    Violated,
    Void,
}

/// Prints a line.
pub(crate) fn say(line: &str) {
    // Nobody is there to be told when this fails.
    writeln!(std::io::stdout(), "{line}").ok();
}

/// Judges a history and prints what it comes to. `lines` adds a line of `N passed, N failed`.
pub(crate) fn report(path: &Path, lines: bool) -> anyhow::Result<Ended> {
    let known = Knowledge::new(read(path)?);
    let tallies = judge(&known);
    let gaps = gaps(&known, &tallies);
    tables(&known, &tallies);
    for tally in tallies.iter().filter(|tally| tally.violated > 0) {
        say(&format!("\n{}: {} violations", tally.name, tally.violated));
        tally.words.iter().for_each(|words| say(&format!("  {words}")));
    }
    gaps.iter().for_each(|gap| say(&format!("void: {gap}")));
    let failed = tallies.iter().filter(|tally| tally.violated > 0).count();
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
        // Coverage is one more check.
        let void = usize::from(!gaps.is_empty());
        let passed = tallies.len() + 1 - failed - void;
        say(&format!("{passed} passed, {} failed", failed + void));
    }
    Ok(ended)
}

/// Which verdict a status is.
const VERDICTS: &[(u16, &str)] = &[
    (200, "admitted"),
    (401, "unauthenticated"),
    (403, "out of scope"),
    (429, "limited"),
    (503, "unavailable"),
    (400, "invalid"),
    (0, "no answer"),
];

fn tables(known: &Knowledge, tallies: &[Tally]) {
    let mut table = Table::new();
    table.set_header(["validates", "count"]);
    for (status, name) in VERDICTS {
        let count = known.validates.iter().filter(|validate| validate.s == *status).count();
        table.add_row([format!("{status} {name}"), count.to_string()]);
    }
    table.add_row(["all".to_owned(), known.validates.len().to_string()]);
    let writes = |wanted| known.writes.iter().filter(|write| outcome(write) == wanted).count();
    table.add_row(["writes answered".to_owned(), writes(Outcome::Done).to_string()]);
    table.add_row(["writes refused".to_owned(), writes(Outcome::NotDone).to_string()]);
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
    for tally in tallies {
        let (judged, violated) = (tally.judged.to_string(), tally.violated.to_string());
        table.add_row([tally.name, &judged, &violated, &tally.note]);
    }
    say(&table.to_string());
    say(&crate::coverage::table(known).to_string());
}

/// What the run did not see enough of.
fn gaps(known: &Knowledge, tallies: &[Tally]) -> Vec<String> {
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
    want(scanned, format!("only nodes {:?} were looked at in the end", end.scanned));
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
            let few = format!("{} {}, and at least {} are wanted", one.count, one.what, one.least);
            want(one.count >= one.least, few);
        }
        for tally in tallies {
            want(
                tally.judged > 0 || tally.not_promised,
                format!("{} had nothing to judge", tally.name),
            );
        }
    }
    gaps
}
