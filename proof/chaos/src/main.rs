//! Real nodes, each in a network namespace of its own with clocks and syncs of its own, faults by
//! seed, clients that write down what they saw, and a judge that reads it.
//!
//! Answers for: that everything it starts and makes is gone afterwards. The judge must know no
//! more than a client does. Exit codes: 0 all promises kept, 1 one was broken, 2 the run saw too
//! little to say (or the command is wrong), 3 the harness itself failed.

mod admin;
mod arena;
mod checks;
mod cluster;
mod coverage;
mod deep;
mod directories;
mod disks;
mod first;
mod history;
mod http;
mod inflict;
mod knowledge;
mod mistakes;
mod plan;
mod process;
mod report;
mod rng;
mod run;
mod shim;
mod terms;
mod traffic;
mod undergo;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser;

use crate::arena::NetworkTestbed;
use crate::deep::Deep;
use crate::process::Files;
use crate::report::{Ended, report, say};
use crate::run::{Wanted, run};
use crate::terms::Terms;

/// Runs a cluster of real nodes under faults and judges what its clients saw
#[derive(Debug, Parser)]
#[command(name = "fluxgate-chaos")]
struct Cli {
    /// How long faults are made
    #[arg(long, default_value_t = 300)]
    seconds: u64,
    /// Nodes of the cluster
    #[arg(long, default_value_t = 3, value_parser = nodes)]
    nodes: u64,
    /// What decides about faults and traffic; drawn when not given
    #[arg(long)]
    seed: Option<u64>,
    /// Leases in the nodes' files; the seed decides when not given
    #[arg(long, value_parser = terms)]
    terms: Option<Terms>,
    /// Makes faults of this kind and no other, such as `restored`; the run is void
    #[arg(long, value_parser = only)]
    only: Option<Deep>,
    /// Where history and logs are left
    #[arg(long, default_value = "target/chaos")]
    out: PathBuf,
    /// The server
    #[arg(long, default_value = "target/release/fluxgate")]
    binary: PathBuf,
    /// Judges a history and runs nothing
    #[arg(long, value_name = "HISTORY")]
    judge: Option<PathBuf>,
    /// Ends with a line `N passed, N failed`
    #[arg(long)]
    lines: bool,
}

/// Nodes that a cluster under test may have.
const NODES: &[u64] = &[3, 5];

fn nodes(text: &str) -> Result<u64, String> {
    let count = text.parse().ok().filter(|count| NODES.contains(count));
    count.ok_or_else(|| format!("one of {NODES:?}"))
}

fn terms(text: &str) -> Result<Terms, String> {
    Terms::from_name(text).ok_or_else(|| "one of plain, short, mixed".to_owned())
}

fn only(text: &str) -> Result<Deep, String> {
    Deep::from_name(text).ok_or_else(|| "no kind that has a round for itself".to_owned())
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match whole(&cli) {
        Ok(Ended::Passed) => ExitCode::SUCCESS,
        Ok(Ended::Violated) => ExitCode::from(1),
        Ok(Ended::Void) => ExitCode::from(2),
        Err(error) => {
            say(&format!("the harness failed: {error:#}"));
            if cli.lines {
                say("0 passed, 1 failed");
            }
            ExitCode::from(3)
        }
    }
}

fn whole(cli: &Cli) -> anyhow::Result<Ended> {
    if let Some(history) = &cli.judge {
        return report(history, cli.lines);
    }
    let since = std::time::UNIX_EPOCH.elapsed().context("read the clock")?;
    let seed = cli.seed.unwrap_or(since.as_secs() % 1_000_000);
    let binary = cli.binary.canonicalize().with_context(|| cli.binary.display().to_string())?;
    // One more, for copies of nodes.
    let arena = NetworkTestbed::make(cli.nodes + 1)?;
    let out = cli.out.join(format!("seed-{seed}-nodes-{}", cli.nodes));
    if out.exists() {
        std::fs::remove_dir_all(&out).context("clear what an earlier run left")?;
    }
    std::fs::create_dir_all(&out)?;
    let out = out.canonicalize()?;
    let library = shim::build(&out)?;
    let files = Files { out: out.clone(), binary, library };
    let terms = cli.terms.unwrap_or_else(|| Terms::of_seed(seed));
    let wanted = Wanted { seed, nodes: cli.nodes, seconds: cli.seconds, terms, only: cli.only };
    let (nodes, seconds) = (cli.nodes, cli.seconds);
    let (leases, at) = (terms.as_str(), out.display());
    say(&format!("seed {seed}, {nodes} nodes, {seconds} s, {leases} leases, in {at}"));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        tokio::select! {
            came = run(wanted, &files, arena) => came,
            stopped = stopped() => stopped,
        }
    })?;
    // Waits for nothing: all tasks are over, or their nodes are gone.
    runtime.shutdown_background();
    report(&out.join("history.jsonl"), cli.lines)
}

/// Until somebody wants the run to end. What it made goes with the future that is dropped.
async fn stopped() -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut interrupt, mut terminate) =
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        _ = interrupt.recv() => anyhow::bail!("interrupted"),
        _ = terminate.recv() => anyhow::bail!("terminated"),
    }
}
