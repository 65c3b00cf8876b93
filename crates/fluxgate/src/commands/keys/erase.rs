//! `fluxgate keys erase`: erases the record of a revoked or expired key.

use fluxgate_api::keys::ErasedKey;
use fluxgate_types::KeyId;

use crate::connect::{AdminArgs, block_on};
use crate::exit::Exit;
use crate::output::{self, OutputArgs};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "For a revoked or expired key; needs the operator token. Every node deletes the name, owner, metadata and digest, \
        also from snapshots. Earlier backups still contain them, and so does the log until a newer snapshot replaces it.\n\
        The audit trail keeps the id and the entries about it. An import of the same digest creates the key again.\n\
        To erase by age, set keys.purge_after.\n\n\
        Example:\n  fluxgate keys erase key_Qm2xK9dA3f01"
)]
pub(super) struct Args {
    /// Id of the key
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
