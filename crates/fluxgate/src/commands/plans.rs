//! `fluxgate plans`: limits that many keys and owners have.

use clap::Subcommand;
use fluxgate_api::ErrorCode;
use fluxgate_api::keys::LimitSpec;
use fluxgate_api::records::{ChangePlan, PlanAnswer, PlanList, PlanRecord, SetPlan};
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
    after_help = "Each key of a plan has the plan's limits, by name: its own, otherwise the plan's, otherwise\n\
        those of the plan `default`. A change is in force for all keys of the plan when the command ends. Needs the operator token.\n\n\
        Example:\n  fluxgate plans set gold --limit 600/60s"
)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the plans
    #[command(after_help = "Example:\n  fluxgate plans list --output json")]
    List(ListArgs),
    /// Print a plan
    #[command(after_help = "Example:\n  fluxgate plans show gold")]
    Show(ShowArgs),
    /// Create or change a plan
    Set(SetArgs),
    /// Delete a plan that no key and no owner names
    #[command(after_help = "Example:\n  fluxgate plans delete gold")]
    Delete(DeleteArgs),
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Creates the plan if there is none. Fields that are not given are left unchanged.\n\n\
        Example:\n  fluxgate plans set gold --limit 600/60s --limit writes=60/60s@write+admin"
)]
struct SetArgs {
    /// The plan
    #[arg(value_name = "PLAN")]
    plan: String,
    /// New limits, which replace all existing ones; repeatable
    #[arg(long, value_name = "[NAME=]TOKENS/PERIOD", value_parser = values::limit)]
    limit: Vec<LimitSpec>,
    /// A limit of the plan `default` that does not apply; repeatable
    #[arg(long, value_name = "LIMIT")]
    without: Vec<String>,
    /// Remove all limits of the plan
    #[arg(long, conflicts_with_all = ["limit", "without"])]
    no_limits: bool,
    /// A pool that requests of its keys are charged to as well; repeatable
    #[arg(long, value_name = "POOL")]
    pool: Vec<String>,
    /// Remove all pools
    #[arg(long, conflicts_with = "pool")]
    no_pools: bool,
    /// A name of a key's metadata that applications may read; repeatable
    #[arg(long, value_name = "NAME")]
    expose: Vec<String>,
    /// Expose no metadata
    #[arg(long, conflicts_with = "expose")]
    no_expose: bool,
    /// New metadata that replaces all existing entries; repeatable
    #[arg(long, value_name = "NAME=VALUE", value_parser = values::metadata_entry)]
    metadata: Vec<(String, String)>,
    /// Remove all metadata
    #[arg(long, conflicts_with = "metadata")]
    no_metadata: bool,
    /// Change the plan only if it is still at this revision
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
    let list = block_on(async { Ok(client.list_plans(&args.query()).await?) })?;
    args.output.print(&list, list_text)?;
    args.note_more("plans", list.next_cursor.as_ref());
    Ok(Exit::Done)
}

fn show(args: &ShowArgs) -> anyhow::Result<Exit> {
    let client = args.admin.client()?;
    let record = block_on(async { Ok(client.read_plan(&args.name).await?) })?;
    args.output.print(&record, record_text)?;
    Ok(Exit::Done)
}

fn set(args: &SetArgs) -> anyhow::Result<Exit> {
    let client = args.admin.client()?;
    let written = block_on(async {
        Ok(create_or_change(&client, &args.plan, change(args), args.if_revision).await?)
    })?;
    args.output.print(&written, written_text)?;
    Ok(Exit::Done)
}

fn delete(args: &DeleteArgs) -> anyhow::Result<Exit> {
    let client = args.admin.client()?;
    let deleted = block_on(async { Ok(client.delete_plan(&args.name, args.if_revision).await?) })?;
    args.output.print(&deleted, deleted_text)?;
    Ok(Exit::Done)
}

/// The fields that are given.
fn change(args: &SetArgs) -> ChangePlan {
    let entries = values::entries(&args.limit, &args.without);
    ChangePlan {
        limits: given(!entries.is_empty() || args.no_limits, || entries),
        pools: given(!args.pool.is_empty() || args.no_pools, || {
            given(!args.no_pools, || args.pool.clone())
        }),
        exposes: given(!args.expose.is_empty() || args.no_expose, || args.expose.clone()),
        metadata: given(!args.metadata.is_empty() || args.no_metadata, || {
            args.metadata.iter().cloned().collect()
        }),
    }
}

async fn create_or_change(
    client: &Client,
    plan: &str,
    change: ChangePlan,
    if_revision: Option<u64>,
) -> Result<PlanAnswer, Error> {
    match client.change_plan(plan, &change, if_revision).await {
        Err(Error::Refused { code: ErrorCode::NotFound, .. }) if if_revision.is_none() => {
            let record = SetPlan {
                limits: change.limits.unwrap_or_default(),
                pools: change.pools.flatten(),
                exposes: change.exposes.unwrap_or_default(),
                metadata: change.metadata.unwrap_or_default(),
            };
            client.set_plan(plan, &record).await
        }
        changed => changed,
    }
}

fn pools(record: &PlanRecord) -> String {
    record.pools.as_ref().map_or_else(|| "-".to_owned(), |pools| pools.join(", "))
}

fn list_text(list: &PlanList) -> String {
    let mut table = output::table(&["PLAN", "LIMITS", "POOLS", "KEYS", "OWNERS", "CHANGED"]);
    for record in &list.plans {
        table.add_row([
            record.plan.clone(),
            limits_cell(&record.limits),
            pools(record),
            record.keys.to_string(),
            record.owners.to_string(),
            record.changed_at.to_string(),
        ]);
    }
    output::table_text(&table)
}

fn record_text(record: &PlanRecord) -> String {
    let mut fields = vec![("plan", record.plan.clone())];
    fields.extend(limit_fields(&record.limits));
    fields.push(("pools", pools(record)));
    if !record.exposes.is_empty() {
        fields.push(("exposes", record.exposes.join(", ")));
    }
    fields.push(("used by", format!("{} keys, {} owners", record.keys, record.owners)));
    let PlanRecord { created_at, changed_at, revision, metadata, .. } = record;
    fields.extend(end_fields(*created_at, *changed_at, *revision, metadata));
    output::fields(&fields)
}

fn written_text(written: &PlanAnswer) -> String {
    record_text(&written.record)
        + &output::fields(&[applied(&written.applied_on, written.waited_ms)])
}
