//! `fluxgate pools`: what all requests of several keys may use together.

use clap::Subcommand;
use fluxgate_api::ErrorCode;
use fluxgate_api::keys::{LimitEntry, LimitSpec};
use fluxgate_api::records::{ChangePool, PoolAnswer, PoolList, PoolRecord, SetPool};
use fluxgate_client::{Client, Error};

use super::records::{
    DeleteArgs, ListArgs, ShowArgs, applied, deleted_text, end_fields, given, limit_fields,
    limits_cell,
};
use crate::connect::{AdminArgs, block_on};
use crate::exit::Exit;
use crate::output::{self, OutputArgs};
use crate::values;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "A pool is a ceiling for all requests that are charged to it: those of the keys and plans that name it.\n\
        A key has up to two. Needs the operator token.\n\n\
        Example:\n  fluxgate pools set search --limit 1000/1s"
)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the pools
    #[command(after_help = "Example:\n  fluxgate pools list --output json")]
    List(ListArgs),
    /// Print a pool
    #[command(after_help = "Example:\n  fluxgate pools show search")]
    Show(ShowArgs),
    /// Create or change a pool
    Set(SetArgs),
    /// Delete a pool that no key and no plan names
    #[command(after_help = "Example:\n  fluxgate pools delete search")]
    Delete(DeleteArgs),
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Creates the pool if there is none. Fields that are not given are left unchanged.\n\n\
        Example:\n  fluxgate pools set search --limit 1000/1s"
)]
struct SetArgs {
    /// The pool
    #[arg(value_name = "POOL")]
    pool: String,
    /// New limits, which replace all existing ones; repeatable
    #[arg(long, value_name = "[NAME=]TOKENS/PERIOD", value_parser = values::limit)]
    limit: Vec<LimitSpec>,
    /// New metadata that replaces all existing entries; repeatable
    #[arg(long, value_name = "NAME=VALUE", value_parser = values::metadata_entry)]
    metadata: Vec<(String, String)>,
    /// Remove all metadata
    #[arg(long, conflicts_with = "metadata")]
    no_metadata: bool,
    /// Change the pool only if it is still at this revision
    #[arg(long, value_name = "N")]
    if_revision: Option<u64>,
    #[command(flatten)]
    admin: AdminArgs,
    #[command(flatten)]
    output: OutputArgs,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<Exit> {
    match &args.command {
        Command::List(args) => list(args),
        Command::Show(args) => show(args),
        Command::Set(args) => set(args),
        Command::Delete(args) => delete(args),
    }
}

fn list(args: &ListArgs) -> anyhow::Result<Exit> {
    let client = args.admin.client()?;
    let list = block_on(async { Ok(client.list_pools(&args.query()).await?) })?;
    args.output.print(&list, list_text)?;
    args.note_more("pools", list.next_cursor.as_ref());
    Ok(Exit::Done)
}

fn show(args: &ShowArgs) -> anyhow::Result<Exit> {
    let client = args.admin.client()?;
    let record = block_on(async { Ok(client.read_pool(&args.name).await?) })?;
    args.output.print(&record, record_text)?;
    Ok(Exit::Done)
}

fn set(args: &SetArgs) -> anyhow::Result<Exit> {
    let client = args.admin.client()?;
    let written = block_on(async {
        Ok(create_or_change(&client, &args.pool, change(args), args.if_revision).await?)
    })?;
    args.output.print(&written, written_text)?;
    Ok(Exit::Done)
}

fn delete(args: &DeleteArgs) -> anyhow::Result<Exit> {
    let client = args.admin.client()?;
    let deleted = block_on(async { Ok(client.delete_pool(&args.name, args.if_revision).await?) })?;
    args.output.print(&deleted, deleted_text)?;
    Ok(Exit::Done)
}

/// The fields that are given.
fn change(args: &SetArgs) -> ChangePool {
    ChangePool {
        limits: given(!args.limit.is_empty(), || args.limit.clone()),
        metadata: given(!args.metadata.is_empty() || args.no_metadata, || {
            args.metadata.iter().cloned().collect()
        }),
    }
}

async fn create_or_change(
    client: &Client,
    pool: &str,
    change: ChangePool,
    if_revision: Option<u64>,
) -> Result<PoolAnswer, Error> {
    match client.change_pool(pool, &change, if_revision).await {
        Err(Error::Refused { code: ErrorCode::NotFound, .. }) if if_revision.is_none() => {
            let record = SetPool {
                limits: change.limits.unwrap_or_default(),
                metadata: change.metadata.unwrap_or_default(),
            };
            client.set_pool(pool, &record).await
        }
        changed => changed,
    }
}

fn limits(record: &PoolRecord) -> Vec<LimitEntry> {
    record.limits.iter().cloned().map(LimitEntry::from).collect()
}

fn list_text(list: &PoolList) -> String {
    let mut table = output::table(&["POOL", "LIMITS", "KEYS", "PLANS", "CHANGED"]);
    for record in &list.pools {
        table.add_row([
            record.pool.clone(),
            limits_cell(&limits(record)),
            record.keys.to_string(),
            record.plans.to_string(),
            record.changed_at.to_string(),
        ]);
    }
    output::table_text(&table)
}

fn record_text(record: &PoolRecord) -> String {
    let mut fields = vec![("pool", record.pool.clone())];
    fields.extend(limit_fields(&limits(record)));
    fields.push(("used by", format!("{} keys, {} plans", record.keys, record.plans)));
    let PoolRecord { created_at, changed_at, revision, metadata, .. } = record;
    fields.extend(end_fields(*created_at, *changed_at, *revision, metadata));
    output::fields(&fields)
}

fn written_text(written: &PoolAnswer) -> String {
    record_text(&written.record)
        + &output::fields(&[applied(&written.applied_on, written.waited_ms)])
}
