//! `fluxgate-sim`: ranges of seeds, one seed again, and the broken variants.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use clap::Parser;
use fluxgate_sim::book::Counts;
use fluxgate_sim::world::Broken;
use fluxgate_sim::{Outcome, run};

/// In so many seeds every invariant must notice some variant before all others do.
#[cfg(feature = "mutations")]
const SEEDS_FOR_ALL: u64 = 400;

/// Simulates clusters by seed and judges them by invariants.
#[derive(Debug, Parser)]
#[command(name = "fluxgate-sim")]
struct Cli {
    /// A range of seeds, FROM..TO
    #[arg(long, value_name = "FROM..TO", default_value = "0..100")]
    seeds: String,
    /// One seed, with its last lines
    #[arg(long, conflicts_with = "seeds")]
    replay: Option<u64>,
    /// Lines of the trace that a replay shows
    #[arg(long, default_value_t = 400, requires = "replay")]
    lines: usize,
    /// Threads; all cores when not given
    #[arg(long)]
    threads: Option<usize>,
    /// Break every rule in turn, and say how many seeds it took to notice
    #[cfg(feature = "mutations")]
    #[arg(long)]
    mutations: bool,
    /// Break this one rule
    #[cfg(feature = "mutations")]
    #[arg(long)]
    mutation: Option<String>,
}

fn main() -> anyhow::Result<std::process::ExitCode> {
    let cli = Cli::parse();
    #[cfg(feature = "mutations")]
    if cli.mutations || cli.mutation.is_some() {
        return mutations(&cli);
    }
    if let Some(seed) = cli.replay {
        let outcome = run(seed, Broken::default(), cli.lines);
        say_lines(&outcome.log);
        return Ok(verdict(&outcome));
    }
    let (from, to) = range(&cli.seeds)?;
    Ok(sweep(from, to, cli.threads))
}

fn range(text: &str) -> anyhow::Result<(u64, u64)> {
    let parts = text.split_once("..").and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
    let range = parts.filter(|(from, to): &(u64, u64)| from < to);
    range.ok_or_else(|| anyhow::anyhow!("--seeds {text}: a range looks like 0..1000"))
}

#[expect(clippy::print_stdout, reason = "a command's result")]
fn say(text: &str) {
    println!("{text}");
}

fn say_lines(lines: &[String]) {
    lines.iter().for_each(|line| say(line));
}

fn verdict(outcome: &Outcome) -> std::process::ExitCode {
    match &outcome.violation {
        None => {
            say(&format!("seed {}: no violation, trace {:016x}", outcome.seed, outcome.trace));
            std::process::ExitCode::SUCCESS
        }
        Some(violation) => {
            say(&format!(
                "seed {}: {} violated at {} us: {}\nreplay: cargo run --release -p fluxgate-sim -- --replay {}",
                outcome.seed, violation.invariant, violation.at, violation.what, outcome.seed
            ));
            std::process::ExitCode::FAILURE
        }
    }
}

fn threads(wanted: Option<usize>) -> usize {
    let cores = || std::thread::available_parallelism().ok().map(std::num::NonZero::get);
    wanted.or_else(cores).unwrap_or(1).max(1)
}

fn sweep(from: u64, to: u64, threads: Option<usize>) -> std::process::ExitCode {
    let begun = Instant::now();
    let bar = indicatif::ProgressBar::new(to - from);
    let next = AtomicU64::new(from);
    let failed = AtomicBool::new(false);
    let total = Mutex::new((Counts::default(), 0u64, 0u64));
    std::thread::scope(|scope| {
        for _ in 0..crate::threads(threads) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= to {
                        break;
                    }
                    let outcome = run(seed, Broken::default(), 0);
                    bar.inc(1);
                    let mut total = total.lock().unwrap_or_else(PoisonError::into_inner);
                    total.0.add(&outcome.counts);
                    total.1 += outcome.span;
                    total.2 ^= fluxgate_types::id::mix64(outcome.trace ^ seed);
                    if outcome.violation.is_some() {
                        failed.store(true, Ordering::Relaxed);
                        bar.suspend(|| {
                            verdict(&outcome);
                        });
                    }
                }
            });
        }
    });
    bar.finish_and_clear();
    let (counts, span, trace) = total.into_inner().unwrap_or_else(PoisonError::into_inner);
    summary(&counts, from, to, span, trace, begun.elapsed().as_secs_f64());
    if failed.into_inner() {
        std::process::ExitCode::FAILURE
    } else {
        std::process::ExitCode::SUCCESS
    }
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn summary(counts: &Counts, from: u64, to: u64, span: u64, trace: u64, took: f64) {
    let hours = span as f64 / 3_600e6;
    let faults: u64 = counts.faults.values().sum();
    say(&format!(
        "seeds {from}..{to}: {hours:.1} simulated hours in {took:.1} s, {} events, trace {trace:016x}",
        counts.events
    ));
    say(&format!(
        "decisions: {} admitted, {} limited, {} degraded, {} unavailable, {} rejected, {} unheard",
        counts.admitted,
        counts.limited,
        counts.degraded,
        counts.unavailable,
        counts.rejected,
        counts.unheard
    ));
    say(&format!(
        "windows: {} closed, {} of them calm, {} of these exhausted; writes: {} answered, {} not",
        counts.windows.0, counts.windows.1, counts.exhausted, counts.writes.0, counts.writes.1
    ));
    let kinds: Vec<String> = counts.faults.iter().map(|(k, n)| format!("{k} {n}")).collect();
    say(&format!("faults: {faults} ({})", kinds.join(", ")));
}

#[cfg(feature = "mutations")]
fn mutations(cli: &Cli) -> anyhow::Result<std::process::ExitCode> {
    use fluxgate_engine::fault::Mutation;
    use fluxgate_sim::invariants::Violation;
    use fluxgate_sim::mutation::{DriverMutation, judge, plan};
    use fluxgate_sim::run_plan;
    let (from, to) = range(&cli.seeds)?;
    let engine = Mutation::ALL.map(|m| (format!("{m:?}"), Some(m), None));
    let driver = DriverMutation::ALL.map(|c| (format!("{c:?}"), None, Some(c)));
    let all: Vec<_> = engine
        .into_iter()
        .chain(driver)
        .filter(|(name, ..)| cli.mutation.as_ref().is_none_or(|only| only == name))
        .collect();
    anyhow::ensure!(!all.is_empty(), "no such rule");
    let (next, missed) = (AtomicU64::new(0), AtomicU64::new(0));
    let noticed: Mutex<std::collections::BTreeSet<&'static str>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..threads(cli.threads) {
            scope.spawn(|| {
                loop {
                    let place = usize::try_from(next.fetch_add(1, Ordering::Relaxed));
                    let Some((name, mutation, driver_mutation)) =
                        place.ok().and_then(|p| all.get(p))
                    else {
                        break;
                    };
                    let broken = Broken {
                        driver_mutation: *driver_mutation,
                        judge: judge(*mutation, *driver_mutation),
                    };
                    let plan = |seed| plan(*mutation, *driver_mutation, seed);
                    // A seed that violates something with the rule in place shows nothing of the rule.
                    let sound = |seed| {
                        Mutation::set(None);
                        let violation = run_plan(plan(seed), Broken::default(), 0).violation;
                        if let Some(Violation { invariant, at, what }) = &violation {
                            say(&format!(
                                "{name}: seed {seed} violates {invariant} with the rule in place too, at {at} us: {what}"
                            ));
                        }
                        violation.is_none()
                    };
                    let found = (from..to).find_map(|seed| {
                        // Broken in this thread only.
                        Mutation::set(*mutation);
                        let violation = run_plan(plan(seed), broken, 0).violation?;
                        sound(seed).then_some((seed, violation))
                    });
                    Mutation::set(None);
                    match found {
                        Some((seed, violation)) => {
                            let by = violation.invariant;
                            noticed.lock().unwrap_or_else(PoisonError::into_inner).insert(by);
                            say(&format!(
                                "{name:24} caught by {by:22} after {:4} seeds: {}",
                                seed - from + 1,
                                violation.what
                            ));
                        }
                        None => {
                            missed.fetch_add(1, Ordering::Relaxed);
                            say(&format!("{name:24} NOT caught in {} seeds", to - from));
                        }
                    }
                }
            });
        }
    });
    let mut missed = missed.into_inner();
    let mut passed = all.len() as u64 - missed;
    // An invariant that was the first to notice no variant has not been seen to fail.
    if cli.mutation.is_none() && to - from >= SEEDS_FOR_ALL {
        let noticed = noticed.into_inner().unwrap_or_else(PoisonError::into_inner);
        let names: Vec<&str> =
            fluxgate_sim::invariants::all().iter().map(|judge| judge.name()).collect();
        let idle: Vec<&&str> = names.iter().filter(|name| !noticed.contains(**name)).collect();
        if idle.is_empty() {
            passed += 1;
        } else {
            missed += 1;
            say(&format!("noticed no variant first: {idle:?}"));
        }
    }
    say(&format!("{passed} passed, {missed} failed"));
    Ok(std::process::ExitCode::from(u8::from(missed > 0)))
}
