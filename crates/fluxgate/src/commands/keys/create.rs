//! `fluxgate keys create`: creates a key and shows it once.

use fluxgate_api::Time;
use fluxgate_api::keys::{CreateKey, LimitSpec};
use fluxgate_types::Scope;

use super::secret::SecretArgs;
use crate::connect::{AdminArgs, block_on};
use crate::exit::Exit;
use crate::values;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Prints only the key to standard output, or writes it to --key-file; it cannot be shown again. The record \
        goes to standard error, or with --key-file to standard output.\n\n\
        Example:\n  fluxgate keys create --name \"Production Sync\" --scope write --limit 100/60s --key-file key.txt"
)]
pub(super) struct Args {
    /// What the key is for, 1 to 100 characters
    #[arg(long, value_name = "TEXT")]
    name: String,
    /// What the key may do: read, write or admin
    #[arg(long, value_name = "SCOPE", value_parser = values::scope)]
    scope: Scope,
    /// Owner of the key
    #[arg(long, value_name = "TEXT")]
    owner: Option<String>,
    /// A limit such as 100/60s, writes=5/60s@write+admin or try=5/60s:shadow; repeatable [default: those of
    /// the plan]
    #[arg(long, value_name = "[NAME=]TOKENS/PERIOD", value_parser = values::limit)]
    limit: Vec<LimitSpec>,
    /// A limit of the plan that does not apply to the key; repeatable
    #[arg(long, value_name = "LIMIT")]
    without: Vec<String>,
    /// The key's plan [default: default]
    #[arg(long, value_name = "PLAN")]
    plan: Option<String>,
    /// A pool that its requests are charged to as well; repeatable [default: those of the plan]
    #[arg(long, value_name = "POOL")]
    pool: Vec<String>,
    /// When the key expires, such as 2027-01-31T12:00:00Z
    #[arg(long, value_name = "TIME")]
    expires_at: Option<Time>,
    /// A metadata entry; repeatable
    #[arg(long, value_name = "NAME=VALUE", value_parser = values::metadata_entry)]
    metadata: Vec<(String, String)>,
    /// Makes it safe to repeat this command within a day
    #[arg(long, value_name = "TEXT")]
    idempotency_key: Option<String>,
    #[command(flatten)]
    admin: AdminArgs,
    #[command(flatten)]
    secret: SecretArgs,
}

/// Creates the key and delivers it.
pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    let key = CreateKey {
        name: args.name.clone(),
        scope: args.scope,
        owner: args.owner.clone(),
        limits: Some(values::entries(&args.limit, &args.without)).filter(|all| !all.is_empty()),
        plan: args.plan.clone(),
        pools: Some(args.pool.clone()).filter(|pools| !pools.is_empty()),
        expires_at: args.expires_at,
        metadata: (!args.metadata.is_empty()).then(|| args.metadata.iter().cloned().collect()),
    };
    let client = args.admin.client()?;
    let idempotency_key = args.idempotency_key.as_deref();
    args.secret
        .deliver(|| block_on(async { Ok(client.create_key(&key, idempotency_key).await?) }))?;
    Ok(Exit::Done)
}
