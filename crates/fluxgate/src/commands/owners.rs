//! `fluxgate owners`: the records of owners.

use clap::Subcommand;
use fluxgate_api::ErrorCode;
use fluxgate_api::keys::LimitSpec;
use fluxgate_api::records::{ChangeOwner, OwnerAnswer, OwnerList, OwnerRecord, SetOwner};
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
    after_help = "An owner's limits apply to all of its keys together, beside the limits of each key. Needs the operator token.\n\n\
        Example:\n  fluxgate owners set acme --limit pool=300/60s"
)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the owners that have a record
    #[command(after_help = "Example:\n  fluxgate owners list --output json")]
    List(ListArgs),
    /// Print the record of an owner
    #[command(after_help = "Example:\n  fluxgate owners show acme")]
    Show(ShowArgs),
    /// Create or change the record of an owner
    Set(SetArgs),
    /// Delete the record of an owner; its keys stay
    #[command(after_help = "Example:\n  fluxgate owners delete acme")]
    Delete(DeleteArgs),
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Creates the record if there is none. Fields that are not given are left unchanged.\n\n\
        Example:\n  fluxgate owners set acme --limit pool=300/60s --metadata contract=2026-17"
)]
struct SetArgs {
    /// The owner
    #[arg(value_name = "OWNER")]
    owner: String,
    /// New limits of all keys together, which replace all existing ones; repeatable
    #[arg(long, value_name = "[NAME=]TOKENS/PERIOD", value_parser = values::limit)]
    limit: Vec<LimitSpec>,
    /// Remove all limits of the owner; those of its keys stay
    #[arg(long, conflicts_with_all = ["limit", "without"])]
    no_limits: bool,
    /// A limit of the plan that does not apply to the owner; repeatable
    #[arg(long, value_name = "LIMIT")]
    without: Vec<String>,
    /// The plan whose limits all keys of the owner have together
    #[arg(long, value_name = "PLAN")]
    plan: Option<String>,
    /// Leave the plan
    #[arg(long, conflicts_with = "plan")]
    no_plan: bool,
    /// Accept the keys of the owner
    #[arg(long)]
    enable: bool,
    /// Reject the keys of the owner
    #[arg(long, conflicts_with = "enable")]
    disable: bool,
    /// New metadata that replaces all existing entries; repeatable
    #[arg(long, value_name = "NAME=VALUE", value_parser = values::metadata_entry)]
    metadata: Vec<(String, String)>,
    /// Remove all metadata
    #[arg(long, conflicts_with = "metadata")]
    no_metadata: bool,
    /// Change the record only if it is still at this revision
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
    let list = block_on(async { Ok(client.list_owners(&args.query()).await?) })?;
    args.output.print(&list, list_text)?;
    args.note_more("owners", list.next_cursor.as_ref());
    Ok(Exit::Done)
}

fn show(args: &ShowArgs) -> anyhow::Result<Exit> {
    let client = args.admin.client()?;
    let record = block_on(async { Ok(client.read_owner(&args.name).await?) })?;
    args.output.print(&record, record_text)?;
    Ok(Exit::Done)
}

fn set(args: &SetArgs) -> anyhow::Result<Exit> {
    let client = args.admin.client()?;
    let written = block_on(async {
        Ok(create_or_change(&client, &args.owner, change(args), args.if_revision).await?)
    })?;
    args.output.print(&written, written_text)?;
    Ok(Exit::Done)
}

fn delete(args: &DeleteArgs) -> anyhow::Result<Exit> {
    let client = args.admin.client()?;
    let deleted = block_on(async { Ok(client.delete_owner(&args.name, args.if_revision).await?) })?;
    args.output.print(&deleted, deleted_text)?;
    Ok(Exit::Done)
}

/// The fields that are given.
fn change(args: &SetArgs) -> ChangeOwner {
    let entries = values::entries(&args.limit, &args.without);
    ChangeOwner {
        limits: given(!entries.is_empty() || args.no_limits, || entries),
        plan: given(args.plan.is_some() || args.no_plan, || args.plan.clone()),
        enabled: given(args.enable || args.disable, || args.enable),
        metadata: given(!args.metadata.is_empty() || args.no_metadata, || {
            args.metadata.iter().cloned().collect()
        }),
    }
}

async fn create_or_change(
    client: &Client,
    owner: &str,
    change: ChangeOwner,
    if_revision: Option<u64>,
) -> Result<OwnerAnswer, Error> {
    match client.change_owner(owner, &change, if_revision).await {
        Err(Error::Refused { code: ErrorCode::NotFound, .. }) if if_revision.is_none() => {
            let record = SetOwner {
                limits: change.limits.unwrap_or_default(),
                plan: change.plan.flatten(),
                enabled: change.enabled.unwrap_or(true),
                metadata: change.metadata.unwrap_or_default(),
            };
            client.set_owner(owner, &record).await
        }
        changed => changed,
    }
}

fn state(record: &OwnerRecord) -> String {
    if record.enabled { "enabled".to_owned() } else { "disabled: its keys are rejected".to_owned() }
}

fn list_text(list: &OwnerList) -> String {
    let mut table = output::table(&["OWNER", "LIMITS", "PLAN", "ENABLED", "CHANGED"]);
    for record in &list.owners {
        table.add_row([
            record.owner.clone(),
            limits_cell(&record.limits),
            record.plan.clone().unwrap_or_else(|| "-".to_owned()),
            if record.enabled { "yes" } else { "no" }.to_owned(),
            record.changed_at.to_string(),
        ]);
    }
    output::table_text(&table)
}

fn record_text(record: &OwnerRecord) -> String {
    let mut fields = vec![("owner", record.owner.clone()), ("state", state(record))];
    fields.extend(record.plan.iter().map(|plan| ("plan", plan.clone())));
    fields.extend(limit_fields(&record.limits));
    let OwnerRecord { created_at, changed_at, revision, metadata, .. } = record;
    fields.extend(end_fields(*created_at, *changed_at, *revision, metadata));
    output::fields(&fields)
}

fn written_text(written: &OwnerAnswer) -> String {
    record_text(&written.record)
        + &output::fields(&[applied(&written.applied_on, written.waited_ms)])
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: SetArgs,
    }

    fn parse(words: &[&str]) -> Result<String, clap::Error> {
        let line = ["set", "acme"].iter().chain(words);
        let change = Line::try_parse_from(line).map(|line| change(&line.args))?;
        Ok(serde_json::to_string(&change).unwrap())
    }

    #[test]
    fn only_given_fields_change() {
        let text = parse(&["--limit", "pool=5/60s", "--disable"]).unwrap();
        let expected = r#"{"limits":[{"name":"pool","tokens":5,"period":"60s"}],"enabled":false}"#;
        assert_eq!(text, expected);
        assert_eq!(parse(&["--no-limits", "--enable"]).unwrap(), r#"{"limits":[],"enabled":true}"#);
        assert_eq!(parse(&["--no-metadata"]).unwrap(), r#"{"metadata":{}}"#);
        assert_eq!(parse(&[]).unwrap(), "{}");
        assert!(parse(&["--enable", "--disable"]).is_err());
        assert!(parse(&["--limit", "5/60s", "--no-limits"]).is_err());
    }
}
