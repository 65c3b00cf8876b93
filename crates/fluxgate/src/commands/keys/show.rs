//! `fluxgate keys show`: prints one record.

use fluxgate_api::keys::{Included, ReadKey};
use fluxgate_types::KeyId;

use crate::connect::{AdminArgs, block_on};
use crate::exit::Exit;
use crate::output::OutputArgs;

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  fluxgate keys show key_Qm2xK9dA3f01 --effective")]
pub(super) struct Args {
    /// Id of the key
    #[arg(value_name = "ID")]
    id: KeyId,
    /// Show where each limit in force comes from
    #[arg(long)]
    effective: bool,
    #[command(flatten)]
    admin: AdminArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Prints the record.
pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    let client = args.admin.client()?;
    let record = block_on(async {
        let include = args.effective.then_some(Included::Effective);
        Ok(client.read_key_with(args.id, &ReadKey { include }).await?)
    })?;
    args.output.print(&record, super::record_text)?;
    Ok(Exit::Done)
}
