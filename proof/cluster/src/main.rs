//! `fluxgate-sim-cluster`: simulates whole clusters, for a range of seeds or one seed again.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use clap::Parser;
use fluxgate_sim_cluster::observations::Counts;
use fluxgate_sim_cluster::{Outcome, run};

/// Simulates whole clusters of real nodes by seed and judges what their clients saw
#[derive(Debug, Parser)]
#[command(name = "fluxgate-sim-cluster")]
struct Cli {
    /// The range of seeds, FROM..TO
    #[arg(long, value_name = "FROM..TO", default_value = "0..20")]
    seeds: String,
    /// Runs one seed and prints its last lines
    #[arg(long, conflicts_with = "seeds")]
    replay: Option<u64>,
    /// Number of threads; all cores when not given
    #[arg(long)]
    threads: Option<usize>,
}

fn main() -> anyhow::Result<std::process::ExitCode> {
    let cli = Cli::parse();
    if let Some(seed) = cli.replay {
        let outcome = run(seed, true)?;
        outcome.log.iter().for_each(|line| say(line));
        return Ok(verdict(&outcome));
    }
    let parts = cli.seeds.split_once("..");
    let parts = parts.and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
    let Some((from, to)) = parts.filter(|(from, to): &(u64, u64)| from < to) else {
        anyhow::bail!("--seeds {}: a range looks like 0..100", cli.seeds);
    };
    let cores = || std::thread::available_parallelism().ok().map(std::num::NonZero::get);
    let threads = cli.threads.or_else(cores).unwrap_or(1).max(1);
    sweep(from, to, threads)
}

#[expect(clippy::print_stdout, reason = "a command's result")]
fn say(text: &str) {
    println!("{text}");
}

fn verdict(outcome: &Outcome) -> std::process::ExitCode {
    let Outcome { seed, trace, .. } = outcome;
    match &outcome.violation {
        None => {
            say(&format!("seed {seed}: no violation, trace {trace:016x}"));
            std::process::ExitCode::SUCCESS
        }
        Some(violation) => {
            say(&format!(
                "seed {seed}: {} violated at {} us: {}\nreplay: scripts/sim.sh --cluster --replay {seed}",
                violation.invariant, violation.at, violation.what
            ));
            std::process::ExitCode::FAILURE
        }
    }
}

/// The result of all seeds.
#[derive(Default)]
struct Total {
    counts: Counts,
    span: u64,
    trace: u64,
}

fn sweep(from: u64, to: u64, threads: usize) -> anyhow::Result<std::process::ExitCode> {
    let begun = Instant::now();
    let bar = indicatif::ProgressBar::new(to - from);
    let (next, failed) = (AtomicU64::new(from), AtomicBool::new(false));
    let total = Mutex::new(Total::default());
    let broken = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= to {
                        break;
                    }
                    let outcome = match run(seed, false) {
                        Ok(outcome) => outcome,
                        Err(error) => {
                            broken.lock().unwrap_or_else(PoisonError::into_inner).replace(error);
                            break;
                        }
                    };
                    bar.inc(1);
                    let mut total = total.lock().unwrap_or_else(PoisonError::into_inner);
                    total.counts.add(&outcome.counts);
                    total.span += outcome.span;
                    total.trace ^= fluxgate_types::id::mix64(outcome.trace ^ seed);
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
    if let Some(error) = broken.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error.context("the host did not provide what a run needs: nothing was proven"));
    }
    let total = total.into_inner().unwrap_or_else(PoisonError::into_inner);
    summary(&total, from, to, begun.elapsed().as_secs_f64());
    Ok(std::process::ExitCode::from(u8::from(failed.into_inner())))
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn summary(total: &Total, from: u64, to: u64, took: f64) {
    let Total { counts, span, trace } = total;
    let hours = *span as f64 / 3_600e6;
    say(&format!(
        "seeds {from}..{to}: {hours:.1} simulated hours in {took:.1} s, {} calls between nodes, {} of them pieces of snapshots, trace {trace:016x}",
        counts.calls, counts.pieces
    ));
    let statuses = counts.statuses.iter().map(|(status, count)| match status {
        0 => format!("no answer {count}"),
        1 => format!("not listening {count}"),
        status => format!("{status} {count}"),
    });
    let statuses: Vec<String> = statuses.collect();
    say(&format!("validates: {}", statuses.join(", ")));
    say(&format!(
        "windows: {} closed, {} of them calm, {} of these exhausted; writes: {} answered, {} unanswered",
        counts.windows.0, counts.windows.1, counts.windows.2, counts.writes.0, counts.writes.1
    ));
    let faults: u64 = counts.faults.values().sum();
    let kinds: Vec<String> = counts.faults.iter().map(|(k, n)| format!("{k} {n}")).collect();
    say(&format!("faults: {faults} ({})", kinds.join(", ")));
    say(&format!(
        "states compared: {}; nodes that stopped on a failed disk: {}",
        counts.compared, counts.fatal
    ));
    let full = |went_on| counts.full.get(&went_on).copied().unwrap_or(0);
    say(&format!(
        "full disks of leaders in calm: writes continued {} times, failed {} times",
        full(true),
        full(false)
    ));
}
