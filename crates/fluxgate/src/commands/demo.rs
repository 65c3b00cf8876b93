//! `fluxgate demo`: a whole cluster on loopback, in one process.

use std::path::PathBuf;

use crate::exit::Exit;

/// What `demo` takes.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Node i listens for gateways on port PORT + i - 1, for administrators 100 above, for its peers 200 above.\n\n\
        Example:\n  fluxgate demo --nodes 3 --port 7101"
)]
pub(crate) struct Args {
    /// How many nodes
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=9))]
    pub(crate) nodes: u8,
    /// The gateway port of the first node
    #[arg(long, value_name = "PORT", default_value_t = 7101)]
    pub(crate) port: u16,
    /// Where the nodes keep their data; without it in a temporary directory that is removed
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Print one line of JSON when ready, and nothing else
    #[arg(long)]
    pub(crate) json: bool,
}

/// Runs the cluster until Ctrl-C.
pub(crate) fn run(args: &Args) -> anyhow::Result<Exit> {
    let place = args
        .data_dir
        .as_deref()
        .map(|dir| dir.display().to_string());
    anyhow::bail!(
        "not linked yet: cannot run {} nodes from port {} (data: {}, json: {})",
        args.nodes,
        args.port,
        place.as_deref().unwrap_or("temporary"),
        args.json
    )
}
