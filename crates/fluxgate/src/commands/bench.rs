//! `fluxgate bench`: load on validate, and a check that the limits held.
//!
//! Answers for: one report on speed and exactness. Fails if a window admitted more than its limit.
//! Keys that the bench creates are revoked at its end.

mod keys;
mod load;
mod plan;
mod report;
mod tally;

use std::fs::File;
use std::io::BufWriter;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use fluxgate_api::keys::LimitSpec;
use fluxgate_client::{Client, Options};

use crate::connect::{GatewayArgs, admin_client, block_on_all_cores};
use crate::exit::Exit;
use crate::output::{self, OutputArgs};
use crate::values;
use load::Load;
use plan::{Plan, Shape};
use report::Report;
use tally::Tally;

/// Longest time for an answer; after it a request counts as failed.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Concurrent requests without a rate.
const CONCURRENCY: u16 = 64;
/// Concurrent requests with a rate, at most.
const CONCURRENCY_AT_RATE: u16 = 512;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "\"short\" counts windows that admitted less than min(demand, limit): with all nodes up and no other \
        user of the keys, it is 0. Exits with 1 when a window is over its limit.\n\n\
        Example:\n  fluxgate bench --keys 10 --limit 100/10s --rate 500 --shape sticky --duration 30s"
)]
pub(crate) struct Args {
    #[command(flatten)]
    gateway: GatewayArgs,
    /// URL of an admin listener, to create the keys; repeat it for more [env: FLUXGATE_URL, comma
    /// separated]
    #[arg(
        long,
        value_name = "URL",
        env = "FLUXGATE_URL",
        hide_env = true,
        value_delimiter = ',',
        default_value = "http://127.0.0.1:7201"
    )]
    admin_url: Vec<String>,
    /// File with the operator token; by default the token is read from FLUXGATE_TOKEN
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Number of keys to create, and to revoke at the end
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    keys: u32,
    /// Use the keys in this file instead, one per line
    #[arg(long, value_name = "FILE", conflicts_with = "keys")]
    keys_file: Option<PathBuf>,
    /// Limit of the created keys, such as 100/60s [default: the cluster's]
    #[arg(long, value_name = "TOKENS/PERIOD", value_parser = values::limit, conflicts_with = "keys_file")]
    limit: Option<LimitSpec>,
    /// Requests per second; by default as fast as answers arrive
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    /// Most concurrent requests [default: 64, or 512 with --rate]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    concurrency: Option<u16>,
    /// Distribution of the requests
    #[arg(long, value_enum, value_name = "SHAPE", default_value = "even")]
    shape: Shape,
    /// Duration of the load
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = values::duration)]
    duration: Duration,
    /// Cost of each request, tokens
    #[arg(long, value_name = "TOKENS", default_value_t = 1)]
    cost: u64,
    /// Write every answer to this file as JSON lines, for audit-limits
    #[arg(long, value_name = "FILE")]
    history: Option<PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
}

/// Generates the load and prints the report.
pub(crate) fn run(args: &Args) -> anyhow::Result<Exit> {
    let options = Options {
        deadline: ANSWER_TIMEOUT,
        attempt_timeout: ANSWER_TIMEOUT,
        // A bench measures single answers of a node, not the retries of a client.
        retry: false,
    };
    let clients = args.gateway.client_per_node(options)?;
    let admin = match args.keys_file {
        Some(_) => None,
        None => Some(Arc::new(admin_client(
            &args.admin_url,
            args.token_file.as_deref(),
            &args.gateway.trust,
        )?)),
    };
    let (report, unanswered) = block_on_all_cores(bench(args, clients, admin))?;
    args.output.print(&report, report::text)?;
    Ok(if unanswered {
        Exit::Unreachable
    } else if report.windows.over_limit > 0 {
        Exit::Failed
    } else {
        Exit::Done
    })
}

async fn bench(
    args: &Args,
    clients: Vec<Client>,
    admin: Option<Arc<Client>>,
) -> anyhow::Result<(Report, bool)> {
    let history = args.history.as_ref().map(|path| {
        File::create(path).with_context(|| format!("cannot write `{}`", path.display()))
    });
    let history = history.transpose()?;
    let keys = match (&args.keys_file, &admin) {
        (Some(file), _) => keys::read(file)?,
        (None, Some(admin)) => {
            let count = usize::try_from(args.keys)?;
            keys::create_all(admin, count, args.limit.as_ref()).await?
        }
        (None, None) => Vec::new(),
    };
    let load = Arc::new(Load {
        plan: Plan { shape: args.shape, keys: keys.len(), nodes: clients.len(), rate: args.rate },
        clients,
        keys,
        cost: args.cost,
        duration: args.duration,
        tally: Mutex::new(Tally::new(args.cost)?),
        history: history.map(BufWriter::new).map(Mutex::new),
        next: AtomicUsize::new(0),
        stopped: AtomicBool::new(false),
    });
    let ran = run_load(args, &load).await;
    // Whatever happened, the keys must not remain.
    if let Some(admin) = &admin {
        keys::revoke(admin, &load.keys).await;
    }
    let tally = load.tally.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(failure) = tally.first_failure() {
        output::notice(&format!("fluxgate: first failure: {failure}"));
    }
    Ok((Report::new(&load.plan, &tally, ran?), tally.is_unanswered()))
}

/// Runs the load with a progress bar, until it ends or Ctrl-C stops it early.
async fn run_load(args: &Args, load: &Arc<Load>) -> anyhow::Result<Duration> {
    let workers = match (args.concurrency, args.rate) {
        (Some(concurrency), _) => concurrency,
        (None, Some(_)) => CONCURRENCY_AT_RATE,
        (None, None) => CONCURRENCY,
    };
    let bar = progress(args.duration);
    let run = load.run(usize::from(workers));
    tokio::pin!(run);
    let mut tick = tokio::time::interval(Duration::from_millis(200));
    let mut signals = true;
    loop {
        tokio::select! {
            ran = &mut run => {
                bar.finish_and_clear();
                return ran;
            }
            _ = tick.tick() => {
                bar.set_position(u64::try_from(bar.elapsed().as_millis())?);
                bar.set_message(format!("{} requests", load.next.load(Ordering::Relaxed)));
            }
            signal = tokio::signal::ctrl_c(), if signals => {
                // Without a signal handler there is nothing to wait for any more.
                signals = signal.is_ok();
                load.stopped.store(signal.is_ok(), Ordering::Relaxed);
            }
        }
    }
}

fn progress(duration: Duration) -> indicatif::ProgressBar {
    let total = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    output::bar_like(total, "{elapsed} {wide_bar} {msg}")
}
