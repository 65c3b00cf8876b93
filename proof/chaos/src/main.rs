//! Runs real nodes, each in its own network namespace with its own clocks and syncs, injects faults
//! by seed, lets clients write down what they saw, and judges that history.
//!
//! Answers for: removing everything that it starts and creates. The judge must know no more than a
//! client does. Exit codes: 0 all promises kept, 1 a promise broken, 2 the run saw too little to
//! judge (or the command line is wrong), 3 the harness itself failed.

mod admin;
mod arena;
mod cluster;
mod coverage;
mod directories;
mod disks;
mod first_start;
mod http;
mod inject;
mod inject_scenario;
mod mistakes;
mod plan;
mod process;
mod report;
mod run;
mod scenario;
mod shim;
mod terms;
mod traffic;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser;

use crate::arena::NetworkTestbed;
use crate::process::Files;
use crate::report::{Ended, report, say};
use crate::run::{RunOptions, run};
use crate::scenario::Scenario;
use crate::terms::Terms;

/// Runs a cluster of real nodes under faults and judges what its clients saw
#[derive(Debug, Parser)]
#[command(name = "fluxgate-chaos")]
struct Cli {
    /// How long to inject faults
    #[arg(long, default_value_t = 300)]
    seconds: u64,
    /// Nodes of the cluster
    #[arg(long, default_value_t = 3, value_parser = nodes)]
    nodes: u64,
    /// Decides faults and traffic; drawn at random when not given
    #[arg(long)]
    seed: Option<u64>,
    /// Leases in the nodes' files; the seed decides when not given
    #[arg(long, value_parser = terms)]
    terms: Option<Terms>,
    /// Injects only faults of this kind, such as `restored`; the run is void
    #[arg(long, value_parser = only)]
    only: Option<Scenario>,
    /// Where to leave the history and the logs
    #[arg(long, default_value = "target/chaos")]
    out: PathBuf,
    /// The server's program
    #[arg(long, default_value = "target/release/fluxgate")]
    binary: PathBuf,
    /// Judges a history and runs nothing
    #[arg(long, value_name = "HISTORY")]
    judge: Option<PathBuf>,
    /// Ends with a line `N passed, N failed`
    #[arg(long)]
    lines: bool,
}

const NODES: &[u64] = &[3, 5];

fn nodes(text: &str) -> Result<u64, String> {
    let count = text.parse().ok().filter(|count| NODES.contains(count));
    count.ok_or_else(|| format!("one of {NODES:?}"))
}

fn terms(text: &str) -> Result<Terms, String> {
    Terms::from_name(text).ok_or_else(|| "one of plain, short, mixed".to_owned())
}

fn only(text: &str) -> Result<Scenario, String> {
    Scenario::from_name(text).ok_or_else(|| "no kind of scenario".to_owned())
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run_cli(&cli) {
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

fn run_cli(cli: &Cli) -> anyhow::Result<Ended> {
    if let Some(history) = &cli.judge {
        return report(history, cli.lines);
    }
    let since = std::time::UNIX_EPOCH.elapsed().context("read the clock")?;
    let seed = cli.seed.unwrap_or(since.as_secs() % 1_000_000);
    let binary = cli.binary.canonicalize().with_context(|| cli.binary.display().to_string())?;
    // One more than nodes: a copied node gets its own namespace.
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
    let wanted = RunOptions { seed, nodes: cli.nodes, seconds: cli.seconds, terms, only: cli.only };
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
    // Waits for nothing: all tasks have ended, or their nodes have.
    runtime.shutdown_background();
    report(&out.join("history.jsonl"), cli.lines)
}

/// Waits for SIGINT or SIGTERM. Dropping the future of the run removes what the run created.
async fn stopped() -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut interrupt, mut terminate) =
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        _ = interrupt.recv() => anyhow::bail!("interrupted"),
        _ = terminate.recv() => anyhow::bail!("terminated"),
    }
}
