//! `fluxgate keys rotate`: a new secret under the same id.

use fluxgate_api::Period;
use fluxgate_api::keys::RotateKey;
use fluxgate_types::KeyId;

use super::secret::SecretArgs;
use crate::connect::{AdminArgs, block_on};
use crate::exit::Exit;

/// What `keys rotate` takes.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Prints the new key alone on standard output, or writes it into --key-file; it cannot be shown again. The\n\
        record goes to standard error, or with --key-file to standard output.\n\n\
        Example:\n  fluxgate keys rotate key_Qm2xK9dA3f01 --grace 24h --key-file key.txt"
)]
pub(super) struct Args {
    /// The key's id
    #[arg(value_name = "ID")]
    id: KeyId,
    /// How long the old secret stays valid
    #[arg(long, value_name = "DURATION", default_value = "0s")]
    grace: Period,
    /// End an earlier secret now that is still valid by the grace of the rotation before
    #[arg(long)]
    end_previous: bool,
    /// Makes a repeat of this command within a day harmless
    #[arg(long, value_name = "TEXT")]
    idempotency_key: Option<String>,
    #[command(flatten)]
    admin: AdminArgs,
    #[command(flatten)]
    secret: SecretArgs,
}

/// Makes the secret and prints it.
pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    let rotate =
        RotateKey { grace: Some(args.grace), end_previous: args.end_previous.then_some(true) };
    let client = args.admin.client()?;
    let idempotency_key = args.idempotency_key.as_deref();
    args.secret.keep(|| {
        block_on(async { Ok(client.rotate_key(args.id, &rotate, idempotency_key).await?) })
    })?;
    Ok(Exit::Done)
}
