//! `fluxgate serve`: runs one node.
//!
//! SIGTERM and SIGINT stop the node in an orderly way; SIGHUP makes it reload its certificates. If
//! consensus stops by itself, the process exits with a code of its own, so that its supervisor
//! restarts it.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use fluxgate_server::{Config, Layers, Node, Problems};
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};

use crate::exit::{Exit, Misuse};

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  fluxgate serve --config /etc/fluxgate/node1.toml")]
pub(crate) struct Args {
    /// Configuration file of the node, TOML; the environment (FLUXGATE__NODE__ID=1) overrides it
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
}

/// Reads a node's configuration: defaults, file, environment.
pub(crate) fn configuration(file: &std::path::Path) -> Result<Config, Problems> {
    Layers::default().with_file(file).with_environment(std::env::vars_os()).finish()
}

/// Reports the errors of a configuration as wrong usage.
pub(crate) fn misuse(file: &std::path::Path, problems: &Problems) -> Misuse {
    let count = problems.0.len();
    let errors = if count == 1 { "1 error" } else { &format!("{count} errors") };
    Misuse(
        format!("{errors} in the configuration {}:\n{problems}", file.display())
            .trim_end()
            .to_owned(),
    )
}

/// Waits for the signal that ends a long-running command.
pub(crate) async fn stop_signal() -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// Reports the state of the node to systemd; does nothing without systemd.
fn notify_supervisor(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "cannot notify the supervisor");
    }
}

/// Ticks twice per watchdog period of systemd; once a day without a watchdog.
fn watchdog() -> tokio::time::Interval {
    const NO_WATCHDOG: Duration = Duration::from_secs(24 * 3_600);
    let period = sd_notify::watchdog_enabled().map_or(NO_WATCHDOG, |period| period / 2);
    let mut ticks = tokio::time::interval(period.max(Duration::from_millis(10)));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    ticks
}

/// Makes a panic of consensus end the process: the rest of the node would wait for it indefinitely.
fn end_with_consensus() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        print(panic);
        if std::thread::current().name() == Some(fluxgate_server::CONSENSUS_THREAD) {
            std::process::exit(i32::from(Exit::RESTART_CODE));
        }
    }));
}

/// Runs the node until a stop signal.
pub(crate) fn run(args: &Args) -> anyhow::Result<Exit> {
    let config = configuration(&args.config).map_err(|problems| misuse(&args.config, &problems))?;
    let telemetry = fluxgate_server::telemetry::init(&config)?;
    end_with_consensus();
    let runtime = tokio::runtime::Runtime::new().context("cannot start threads")?;
    let exit = runtime.block_on(async {
        // Listen BEFORE the node starts: a signal during the start must not kill it.
        let stop = stop_signal();
        tokio::pin!(stop);
        let mut reload = signal(SignalKind::hangup()).context("cannot listen for SIGHUP")?;
        let mut node = tokio::select! {
            node = Node::start(config) => match node {
                Ok(node) => node,
                Err(error) if error.is_passing() => {
                    let why = if error.is_no_room() {
                        "the disk is full: free some space, then start the node again"
                    } else {
                        "consensus did not start"
                    };
                    tracing::error!(%error, "this node cannot start: {why}");
                    return Ok(Exit::Restart);
                }
                Err(error) => return Err(error.into()),
            },
            stopped = &mut stop => return stopped.map(|()| Exit::Done),
        };
        notify_supervisor(&[NotifyState::Ready, NotifyState::Status("serving")]);
        let mut alive = watchdog();
        loop {
            tokio::select! {
                stopped = &mut stop => break stopped?,
                _ = reload.recv() => node.look_at_files(),
                // From the loop that would notice that the node cannot continue.
                _ = alive.tick() => notify_supervisor(&[NotifyState::Watchdog]),
                error = node.failed() => {
                    tracing::error!(%error, "this node cannot continue");
                    let again = error.is_passing();
                    return if again { Ok(Exit::Restart) } else { Err(error.into()) };
                }
            }
        }
        notify_supervisor(&[NotifyState::Stopping, NotifyState::Status("handing over")]);
        let hurry = node.hurry();
        // A second signal means that the operator does not want to wait for the drain.
        let again = tokio::spawn(async move {
            if stop_signal().await.is_ok() {
                tracing::info!("second stop signal: ending the drain");
                hurry();
            }
        });
        node.stop().await;
        again.abort();
        Ok(Exit::Done)
    });
    runtime.shutdown_background();
    telemetry.shutdown();
    exit
}
