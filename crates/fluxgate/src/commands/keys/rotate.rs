//! `fluxgate keys rotate`: a new secret under the same id.

use fluxgate_api::Period;
use fluxgate_api::keys::RotateKey;
use fluxgate_types::KeyId;

use crate::connect::{AdminArgs, block_on};
use crate::exit::Exit;
use crate::output::OutputArgs;

/// What `keys rotate` takes.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Prints the new key alone on standard output; it cannot be shown again. The record goes to standard error.\n\n\
        Example:\n  fluxgate keys rotate key_Qm2xK9dA3f01 --grace 24h > key.txt"
)]
pub(super) struct Args {
    /// The key's id
    #[arg(value_name = "ID")]
    id: KeyId,
    /// How long the old secret stays valid
    #[arg(long, value_name = "DURATION", default_value = "0s")]
    grace: Period,
    /// Makes a repeat of this command within a day harmless
    #[arg(long, value_name = "TEXT")]
    idempotency_key: Option<String>,
    #[command(flatten)]
    admin: AdminArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Makes the secret and prints it.
pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    let rotate = RotateKey { grace: Some(args.grace) };
    let client = args.admin.client()?;
    let created = block_on(async {
        let call = client.rotate_key(args.id, &rotate, args.idempotency_key.as_deref());
        Ok(call.await?)
    })?;
    super::print_created(&created, args.output)?;
    Ok(Exit::Done)
}
