//! `fluxgate cluster`: its subcommands, and the changes of membership, leadership and time.

mod backup;
mod restore;
mod status;

use clap::Subcommand;
use fluxgate_api::cluster::{AddNode, ClusterChange, HandOver, RemoveNode, SetTime};
use fluxgate_api::text::Time;

use crate::connect::{AdminArgs, block_on};
use crate::exit::Exit;
use crate::output::OutputArgs;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "All of these commands need the operator token.\n\nExample:\n  fluxgate cluster status"
)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print the nodes, as the answering node sees them
    Status(status::Args),
    /// Add a node to the cluster, or move a member to a new address
    AddNode(AddNodeArgs),
    /// Remove a node from the cluster
    RemoveNode(RemoveNodeArgs),
    /// Hand leadership to another node
    HandOver(HandOverArgs),
    /// Move cluster time forward if it lags
    SetTime(SetTimeArgs),
    /// Write every key, every owner and the audit trail to a file, while the cluster runs
    Backup(backup::Args),
    /// Restore a backup into a new cluster
    Restore(restore::Args),
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "The id of a member with a new address moves that member, if it answers at that address;\notherwise nothing is changed.\n\nExample:\n  fluxgate cluster add-node 4 --peer 10.0.0.14:7301"
)]
struct AddNodeArgs {
    /// Id of the node, as in its configuration
    #[arg(value_name = "ID", value_parser = clap::value_parser!(u64).range(1..))]
    id: u64,
    /// Address at which other nodes reach it
    #[arg(long, value_name = "HOST:PORT")]
    peer: String,
    #[command(flatten)]
    admin: AdminArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Rejected if the remaining nodes that are up would not be a majority. The id can be used\nagain with an empty data directory.\n\nExample:\n  fluxgate cluster remove-node 4"
)]
struct RemoveNodeArgs {
    /// Id of the node
    #[arg(value_name = "ID", value_parser = clap::value_parser!(u64).range(1..))]
    id: u64,
    /// Remove it even if the cluster then stops until enough of the remaining nodes are up
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    admin: AdminArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  fluxgate cluster hand-over --to 2")]
struct HandOverArgs {
    /// The new leader; by default the node that lags least
    #[arg(long, value_name = "ID", value_parser = clap::value_parser!(u64).range(1..))]
    to: Option<u64>,
    #[command(flatten)]
    admin: AdminArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Cluster time never moves back. Keys that expire in between are expired from then on.\n\nExample:\n  fluxgate cluster set-time"
)]
struct SetTimeArgs {
    /// The new time; by default the time of the nodes' wall clocks
    #[arg(long, value_name = "TIME")]
    to: Option<Time>,
    #[command(flatten)]
    admin: AdminArgs,
    #[command(flatten)]
    output: OutputArgs,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<Exit> {
    let (change, output) = match &args.command {
        Command::Status(args) => return status::run(args),
        Command::Backup(args) => return backup::run(args),
        Command::Restore(args) => return restore::run(args),
        Command::AddNode(args) => {
            let client = args.admin.client()?;
            let node = AddNode { id: args.id, peer: args.peer.clone() };
            let change = block_on(async { Ok(client.add_node(&node).await?) })?;
            (change, args.output)
        }
        Command::RemoveNode(args) => {
            let client = args.admin.client()?;
            let how = RemoveNode { force: args.force };
            let change = block_on(async { Ok(client.remove_node(args.id, how).await?) })?;
            (change, args.output)
        }
        Command::HandOver(args) => {
            let client = args.admin.client()?;
            let to = HandOver { to: args.to };
            let change = block_on(async { Ok(client.hand_over(to).await?) })?;
            (change, args.output)
        }
        Command::SetTime(args) => {
            let client = args.admin.client()?;
            let to = SetTime { to: args.to };
            let change = block_on(async { Ok(client.set_time(to).await?) })?;
            (change, args.output)
        }
    };
    output.print(&change, text)?;
    Ok(Exit::Done)
}

fn text(change: &ClusterChange) -> String {
    let nodes: Vec<String> = change.nodes.iter().map(u64::to_string).collect();
    let leader = match change.leader {
        Some(leader) => format!("node {leader}"),
        None => "none yet".to_owned(),
    };
    format!("nodes {}; leader: {leader}", nodes.join(", "))
}
