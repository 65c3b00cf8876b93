//! `fluxgate serve`: one node.
//!
//! SIGTERM and SIGINT stop it in good order; SIGHUP makes it look at its certificates. When consensus stops by itself the process ends with
//! a code of its own, so that its supervisor starts it again.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use fluxgate_server::{Config, Layers, Node, Problems};
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};

use crate::exit::{Exit, Misuse};

/// What `serve` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  fluxgate serve --config /etc/fluxgate/node1.toml")]
pub(crate) struct Args {
    /// The node's configuration, TOML; the environment (FLUXGATE__NODE__ID=1) wins over it
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
}

/// Reads a node's configuration: defaults, file, environment.
pub(crate) fn configuration(file: &std::path::Path) -> Result<Config, Problems> {
    Layers::default().with_file(file).with_environment(std::env::vars_os()).finish()
}

/// Turns the mistakes of a configuration into wrong usage.
pub(crate) fn misuse(file: &std::path::Path, problems: &Problems) -> Misuse {
    let count = problems.0.len();
    let mistakes = if count == 1 { "1 mistake" } else { &format!("{count} mistakes") };
    Misuse(
        format!("{mistakes} in the configuration {}:\n{problems}", file.display())
            .trim_end()
            .to_owned(),
    )
}

/// Waits for the signal that ends a command which runs until it is told.
pub(crate) async fn told_to_stop() -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// Tells systemd how the node fares; elsewhere nobody.
fn tell_supervisor(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "the supervisor was not told");
    }
}

/// Ticks twice within the time that systemd gives; hardly ever where it does not watch.
fn watchdog() -> tokio::time::Interval {
    const NOBODY_WATCHES: Duration = Duration::from_secs(24 * 3_600);
    let period = sd_notify::watchdog_enabled().map_or(NOBODY_WATCHES, |period| period / 2);
    let mut ticks = tokio::time::interval(period.max(Duration::from_millis(10)));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    ticks
}

/// A panic of consensus ends the process: the rest of the node would wait for it.
fn end_with_consensus() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        print(panic);
        if std::thread::current().name() == Some(fluxgate_server::CONSENSUS_THREAD) {
            std::process::exit(i32::from(Exit::RESTART_CODE));
        }
    }));
}

/// Runs the node until it is told to stop.
pub(crate) fn run(args: &Args) -> anyhow::Result<Exit> {
    let config = configuration(&args.config).map_err(|problems| misuse(&args.config, &problems))?;
    let telemetry = fluxgate_server::telemetry::init(&config)?;
    end_with_consensus();
    let runtime = tokio::runtime::Runtime::new().context("cannot start threads")?;
    let exit = runtime.block_on(async {
        // Listening BEFORE the node starts: a signal during the start must not kill it.
        let stop = told_to_stop();
        tokio::pin!(stop);
        let mut look = signal(SignalKind::hangup()).context("cannot listen for SIGHUP")?;
        let mut node = tokio::select! {
            node = Node::start(config) => match node {
                Ok(node) => node,
                Err(error) if error.is_passing() => {
                    let why = if error.is_no_room() {
                        "the disk is full; make some room, and start it again"
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
        tell_supervisor(&[NotifyState::Ready, NotifyState::Status("serving")]);
        let mut alive = watchdog();
        loop {
            tokio::select! {
                stopped = &mut stop => break stopped?,
                _ = look.recv() => node.look_at_files(),
                // From the loop that would notice that the node cannot go on.
                _ = alive.tick() => tell_supervisor(&[NotifyState::Watchdog]),
                error = node.failed() => {
                    tracing::error!(%error, "this node cannot go on");
                    let again = error.is_passing();
                    return if again { Ok(Exit::Restart) } else { Err(error.into()) };
                }
            }
        }
        tell_supervisor(&[NotifyState::Stopping, NotifyState::Status("handing over")]);
        let hurry = node.hurry();
        // Somebody who says it twice does not want to wait for the drain.
        let again = tokio::spawn(async move {
            if told_to_stop().await.is_ok() {
                tracing::info!("told to stop again: the drain ends");
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
