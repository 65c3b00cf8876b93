//! `fluxgate keys rotate`: replaces a key's secret, under the same id.

use fluxgate_api::Period;
use fluxgate_api::keys::RotateKey;
use fluxgate_types::KeyId;

use super::secret::SecretArgs;
use crate::connect::{AdminArgs, block_on};
use crate::exit::Exit;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Prints only the new key to standard output, or writes it to --key-file; it cannot be shown again. The \
        record goes to standard error, or with --key-file to standard output.\n\n\
        Example:\n  fluxgate keys rotate key_Qm2xK9dA3f01 --grace 24h --key-file key.txt"
)]
pub(super) struct Args {
    /// Id of the key
    #[arg(value_name = "ID")]
    id: KeyId,
    /// How long the old secret stays valid
    #[arg(long, value_name = "DURATION", default_value = "0s")]
    grace: Period,
    /// End an earlier secret immediately that the previous rotation's grace period keeps valid
    #[arg(long)]
    end_previous: bool,
    /// Makes it safe to repeat this command within a day
    #[arg(long, value_name = "TEXT")]
    idempotency_key: Option<String>,
    #[command(flatten)]
    admin: AdminArgs,
    #[command(flatten)]
    secret: SecretArgs,
}

/// Rotates the key and delivers the new secret.
pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    let rotate =
        RotateKey { grace: Some(args.grace), end_previous: args.end_previous.then_some(true) };
    let client = args.admin.client()?;
    let idempotency_key = args.idempotency_key.as_deref();
    args.secret.deliver(|| {
        block_on(async { Ok(client.rotate_key(args.id, &rotate, idempotency_key).await?) })
    })?;
    Ok(Exit::Done)
}
