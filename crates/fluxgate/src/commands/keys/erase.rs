//! `fluxgate keys erase`: forgets the record of a key that has ended.

use fluxgate_api::keys::ErasedKey;
use fluxgate_types::KeyId;

use crate::connect::{AdminArgs, block_on};
use crate::exit::Exit;
use crate::output::{self, OutputArgs};

/// What `keys erase` takes.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "For a key that is revoked or expired, by the operator. Name, owner, metadata and digest are forgotten on every\n\
        node, in snapshots too; backups that were made before still have them, and the log until snapshots have passed it.\n\
        The audit trail keeps the id, and who did what to it when. An import of the same digest creates the key again.\n\
        To erase by age, set keys.purge_after.\n\n\
        Example:\n  fluxgate keys erase key_Qm2xK9dA3f01"
)]
pub(super) struct Args {
    /// The key's id
    #[arg(value_name = "ID")]
    id: KeyId,
    #[command(flatten)]
    admin: AdminArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Erases the record.
pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    let client = args.admin.client()?;
    let erased = block_on(async { Ok(client.erase_key(args.id).await?) })?;
    args.output.print(&erased, text)?;
    Ok(Exit::Done)
}

fn text(erased: &ErasedKey) -> String {
    let nodes: Vec<String> = erased.applied_on.iter().map(u64::to_string).collect();
    let applied = format!("nodes {} after {} ms", nodes.join(", "), erased.waited_ms);
    output::fields(&[("erased", erased.erased.to_string()), ("applied on", applied)])
}
