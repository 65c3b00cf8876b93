//! `fluxgate serve`: one node.

use std::path::PathBuf;

use crate::exit::Exit;

/// What `serve` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  fluxgate serve --config /etc/fluxgate/node1.toml")]
pub(crate) struct Args {
    /// The node's configuration, TOML; the environment (FLUXGATE__NODE__ID=1) wins over it
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
}

/// Runs the node until it is told to stop.
pub(crate) fn run(args: &Args) -> anyhow::Result<Exit> {
    anyhow::bail!("not linked yet: cannot serve `{}`", args.config.display())
}
