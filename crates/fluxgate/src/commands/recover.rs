//! `fluxgate recover`: what is done to the data directory of a stopped node.

use std::path::PathBuf;

use clap::Subcommand;

use super::serve::{configuration, misuse};
use crate::exit::Exit;
use crate::output;

/// What `recover` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  fluxgate recover addresses --config /etc/fluxgate/node1.toml")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Have members call each other at the addresses of the file, after all of them changed
    Addresses(AddressesArgs),
}

/// What `recover addresses` takes.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "For a cluster whose members changed their addresses while all were stopped: put the new ones into `members` of\n\
        every file, run this once for each node, and start them. Keys, counters and ids stay. Where one node moved and\n\
        the others run, use `fluxgate cluster add-node ID --peer HOST:PORT` instead.\n\n\
        Example:\n  fluxgate recover addresses --config /etc/fluxgate/node1.toml"
)]
struct AddressesArgs {
    /// The stopped node's configuration, with the new addresses in `members`
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

/// Runs the command that was named.
pub(crate) fn run(args: &Args) -> anyhow::Result<Exit> {
    let Command::Addresses(args) = &args.command;
    let config = configuration(&args.config).map_err(|problems| misuse(&args.config, &problems))?;
    let noted = fluxgate_server::recover_addresses(&config)?;
    let own = config.members.get(&config.node_id).and_then(|at| at.rsplit_once(':'));
    if own.is_some_and(|(_, port)| port != config.peer_listen.port().to_string()) {
        output::notice(&format!(
            "fluxgate: note that this node listens on {}, and `members` has another port for it",
            config.peer_listen
        ));
    }
    let listed: Vec<String> =
        noted.iter().map(|(node, address)| format!("node {node} at {address}")).collect();
    output::notice(&format!(
        "node {} will look for {}. Run this for every other node too, then start them all",
        config.node_id,
        listed.join(", ")
    ));
    Ok(Exit::Done)
}
