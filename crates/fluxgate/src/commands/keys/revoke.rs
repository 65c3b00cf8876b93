//! `fluxgate keys revoke`: revokes a key permanently.

use fluxgate_types::KeyId;

use crate::connect::{AdminArgs, block_on};
use crate::exit::Exit;
use crate::output::OutputArgs;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "When this returns, no node accepts the key any more. This cannot be undone; `keys update --disable` can.\n\n\
        Example:\n  fluxgate keys revoke key_Qm2xK9dA3f01"
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

/// Revokes the key and prints its record.
pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    let client = args.admin.client()?;
    let written = block_on(async { Ok(client.revoke_key(args.id).await?) })?;
    args.output.print(&written, super::written_text)?;
    Ok(Exit::Done)
}
