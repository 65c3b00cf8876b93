//! `fluxgate cluster`: the tree below it, and the changes of membership and leadership.

mod backup;
mod restore;
mod status;

use clap::Subcommand;
use fluxgate_api::cluster::{AddNode, ClusterChange, HandOver, RemoveNode, SetTime};
use fluxgate_api::text::Time;

use crate::connect::{AdminArgs, block_on};
use crate::exit::Exit;
use crate::output::OutputArgs;

/// What `cluster` takes.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "All of these need the operator token.\n\nExample:\n  fluxgate cluster status"
)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print the nodes, as the node that answers sees them
    Status(status::Args),
    /// Add a node to the cluster, or give a member its new address
    AddNode(AddNodeArgs),
    /// Remove a node from the cluster
    RemoveNode(RemoveNodeArgs),
    /// Hand leadership to another node
    HandOver(HandOverArgs),
    /// Set cluster time forward, where it is behind
    SetTime(SetTimeArgs),
    /// Write every key and the audit trail to a file, while the cluster works
    Backup(backup::Args),
    /// Fill a new cluster from a backup
    Restore(restore::Args),
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "The id of a member with a new address moves that member, if it answers there itself;\nelse nothing is changed.\n\nExample:\n  fluxgate cluster add-node 4 --peer 10.0.0.14:7301"
)]
struct AddNodeArgs {
    /// The node's id, as in its configuration
    #[arg(value_name = "ID", value_parser = clap::value_parser!(u64).range(1..))]
    id: u64,
    /// Where its peers reach it
    #[arg(long, value_name = "HOST:PORT")]
    peer: String,
    #[command(flatten)]
    admin: AdminArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Refused where the remaining nodes that are up would be no majority. The id may be used\nagain, with an empty data directory.\n\nExample:\n  fluxgate cluster remove-node 4"
)]
struct RemoveNodeArgs {
    /// The node's id
    #[arg(value_name = "ID", value_parser = clap::value_parser!(u64).range(1..))]
    id: u64,
    /// Also where the cluster stops by it, until enough of the remaining nodes are up again
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
    /// To which node; without it to the one that is least behind
    #[arg(long, value_name = "ID", value_parser = clap::value_parser!(u64).range(1..))]
    to: Option<u64>,
    #[command(flatten)]
    admin: AdminArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Cluster time never goes back. Keys whose end lies between are expired from then on.\n\nExample:\n  fluxgate cluster set-time"
)]
struct SetTimeArgs {
    /// To this moment; without it to what the wall clocks of the nodes say
    #[arg(long, value_name = "TIME")]
    to: Option<Time>,
    #[command(flatten)]
    admin: AdminArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Runs the command that was named.
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
