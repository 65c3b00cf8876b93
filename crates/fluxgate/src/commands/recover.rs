//! `fluxgate recover`: repairs the data directory of a stopped node.

use std::path::PathBuf;

use clap::Subcommand;

use super::serve::{configuration, misuse};
use crate::exit::Exit;
use crate::output;

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  fluxgate recover addresses --config /etc/fluxgate/node1.toml")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Set the members' addresses from the configuration, after all of them changed
    Addresses(AddressesArgs),
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "For a cluster whose members changed their addresses while all were stopped: enter the new addresses in `members` \
        of every configuration, run this once for each node, then start them. Keys, counters and ids stay. If one node \
        moved and the others run, use `fluxgate cluster add-node ID --peer HOST:PORT` instead.\n\n\
        Example:\n  fluxgate recover addresses --config /etc/fluxgate/node1.toml"
)]
struct AddressesArgs {
    /// Configuration file of the stopped node, with the new addresses in `members`
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<Exit> {
    let Command::Addresses(args) = &args.command;
    let config = configuration(&args.config).map_err(|problems| misuse(&args.config, &problems))?;
    let written = fluxgate_server::recover_addresses(&config)?;
    let own = config.members.get(&config.node_id).and_then(|at| at.rsplit_once(':'));
    if own.is_some_and(|(_, port)| port != config.peer_listen.port().to_string()) {
        output::notice(&format!(
            "fluxgate: note: this node listens on {}, but `members` has another port for it",
            config.peer_listen
        ));
    }
    let listed: Vec<String> =
        written.iter().map(|(node, address)| format!("node {node} at {address}")).collect();
    output::notice(&format!(
        "node {} will use: {}. Run this for every other node too, then start them all",
        config.node_id,
        listed.join(", ")
    ));
    Ok(Exit::Done)
}
