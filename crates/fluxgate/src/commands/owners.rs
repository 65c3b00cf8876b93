//! `fluxgate owners`: the records of owners.

use clap::Subcommand;
use fluxgate_api::ErrorCode;
use fluxgate_api::keys::LimitSpec;
use fluxgate_api::owners::{
    ChangeOwner, DeletedOwner, OwnerAnswer, OwnerList, OwnerRecord, OwnersQuery, SetOwner,
};
use fluxgate_client::{Client, Error};

use crate::connect::{AdminArgs, block_on};
use crate::exit::Exit;
use crate::output::{self, Format, OutputArgs};
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
    List(ListArgs),
    /// Print the record of an owner
    Show(ShowArgs),
    /// Create or change the record of an owner
    Set(SetArgs),
    /// Delete the record of an owner; its keys stay
    Delete(DeleteArgs),
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  fluxgate owners list --output json")]
struct ListArgs {
    /// Largest number of owners
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=200))]
    limit: u16,
    /// Cursor that the previous page ended with
    #[arg(long, value_name = "CURSOR")]
    cursor: Option<String>,
    #[command(flatten)]
    admin: AdminArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  fluxgate owners show acme")]
struct ShowArgs {
    /// The owner
    #[arg(value_name = "OWNER")]
    owner: String,
    #[command(flatten)]
    admin: AdminArgs,
    #[command(flatten)]
    output: OutputArgs,
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
    #[arg(long, conflicts_with = "limit")]
    no_limits: bool,
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

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  fluxgate owners delete acme")]
struct DeleteArgs {
    /// The owner
    #[arg(value_name = "OWNER")]
    owner: String,
    /// Delete the record only if it is still at this revision
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
    let query = OwnersQuery { limit: Some(usize::from(args.limit)), cursor: args.cursor.clone() };
    let client = args.admin.client()?;
    let list = block_on(async { Ok(client.list_owners(&query).await?) })?;
    args.output.print(&list, list_text)?;
    if let (Some(cursor), Format::Text) = (&list.next_cursor, args.output.output) {
        output::notice(&format!("more owners: --cursor {cursor}"));
    }
    Ok(Exit::Done)
}

fn show(args: &ShowArgs) -> anyhow::Result<Exit> {
    let client = args.admin.client()?;
    let record = block_on(async { Ok(client.read_owner(&args.owner).await?) })?;
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
    let deleted =
        block_on(async { Ok(client.delete_owner(&args.owner, args.if_revision).await?) })?;
    args.output.print(&deleted, deleted_text)?;
    Ok(Exit::Done)
}

/// The fields that are given.
fn change(args: &SetArgs) -> ChangeOwner {
    let given = |is_given: bool| is_given.then_some(());
    let limits = given(!args.limit.is_empty() || args.no_limits);
    let metadata = given(!args.metadata.is_empty() || args.no_metadata);
    ChangeOwner {
        limits: limits.map(|()| args.limit.clone()),
        enabled: given(args.enable || args.disable).map(|()| args.enable),
        metadata: metadata.map(|()| args.metadata.iter().cloned().collect()),
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
    let mut table = output::table(&["OWNER", "LIMITS", "ENABLED", "CHANGED"]);
    for record in &list.owners {
        let limits: Vec<String> = record.limits.iter().map(values::limit_text).collect();
        table.add_row([
            record.owner.clone(),
            if limits.is_empty() { "-".to_owned() } else { limits.join(", ") },
            if record.enabled { "yes" } else { "no" }.to_owned(),
            record.changed_at.to_string(),
        ]);
    }
    output::table_text(&table)
}

fn record_text(record: &OwnerRecord) -> String {
    let mut fields = vec![("owner", record.owner.clone()), ("state", state(record))];
    for limit in &record.limits {
        fields.push(("limit", values::limit_text(limit)));
    }
    if record.limits.is_empty() {
        fields.push(("limit", "none of its own".to_owned()));
    }
    fields.extend([
        ("created", record.created_at.to_string()),
        ("changed", record.changed_at.to_string()),
        ("revision", record.revision.to_string()),
    ]);
    for (name, value) in &record.metadata {
        fields.push(("metadata", format!("{name}={value}")));
    }
    output::fields(&fields)
}

fn applied(nodes: &[u64], waited_ms: u64) -> (&'static str, String) {
    let nodes: Vec<String> = nodes.iter().map(u64::to_string).collect();
    ("applied on", format!("nodes {} after {waited_ms} ms", nodes.join(", ")))
}

fn written_text(written: &OwnerAnswer) -> String {
    record_text(&written.record)
        + &output::fields(&[applied(&written.applied_on, written.waited_ms)])
}

fn deleted_text(deleted: &DeletedOwner) -> String {
    output::fields(&[
        ("deleted", deleted.deleted.clone()),
        applied(&deleted.applied_on, deleted.waited_ms),
    ])
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
