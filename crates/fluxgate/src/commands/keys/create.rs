//! `fluxgate keys create`: a new key, shown once.

use fluxgate_api::Time;
use fluxgate_api::keys::{CreateKey, LimitSpec};
use fluxgate_types::Scope;

use super::secret::SecretArgs;
use crate::connect::{AdminArgs, block_on};
use crate::exit::Exit;
use crate::values;

/// What `keys create` takes.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Prints the key alone on standard output, or writes it into --key-file; it cannot be shown again. The\n\
        record goes to standard error, or with --key-file to standard output.\n\n\
        Example:\n  fluxgate keys create --name \"Production Sync\" --scope write --limit 100/60s --key-file key.txt"
)]
pub(super) struct Args {
    /// What the key is for, 1 to 100 characters
    #[arg(long, value_name = "TEXT")]
    name: String,
    /// What it may do: read, write or admin
    #[arg(long, value_name = "SCOPE", value_parser = values::scope)]
    scope: Scope,
    /// Owner of the key
    #[arg(long, value_name = "TEXT")]
    owner: Option<String>,
    /// A limit such as 100/60s or writes=5/60s; repeat it for more than one [default: the cluster's]
    #[arg(long, value_name = "[NAME=]TOKENS/PERIOD", value_parser = values::limit)]
    limit: Vec<LimitSpec>,
    /// When it stops being accepted, such as 2027-01-31T12:00:00Z
    #[arg(long, value_name = "TIME")]
    expires_at: Option<Time>,
    /// A note of your own; repeat it for more than one
    #[arg(long, value_name = "NAME=VALUE", value_parser = values::note)]
    metadata: Vec<(String, String)>,
    /// Makes a repeat of this command within a day harmless
    #[arg(long, value_name = "TEXT")]
    idempotency_key: Option<String>,
    #[command(flatten)]
    admin: AdminArgs,
    #[command(flatten)]
    secret: SecretArgs,
}

/// Makes the key and prints it.
pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    let key = CreateKey {
        name: args.name.clone(),
        scope: args.scope,
        owner: args.owner.clone(),
        limits: (!args.limit.is_empty()).then(|| args.limit.clone()),
        expires_at: args.expires_at,
        metadata: (!args.metadata.is_empty()).then(|| args.metadata.iter().cloned().collect()),
    };
    let client = args.admin.client()?;
    let idempotency_key = args.idempotency_key.as_deref();
    args.secret.keep(|| block_on(async { Ok(client.create_key(&key, idempotency_key).await?) }))?;
    Ok(Exit::Done)
}
