//! `fluxgate audit`: prints the audit trail.

use fluxgate_api::Text;
use fluxgate_api::usage::{AuditEntry, AuditList, AuditQuery};
use fluxgate_types::KeyId;

use crate::connect::{AdminArgs, block_on};
use crate::exit::Exit;
use crate::output::{self, Format, OutputArgs};

/// Entries requested with one call.
const PAGE: usize = 200;

#[derive(Debug, clap::Args)]
#[command(after_help = "Newest first. An admin key sees the entries about keys of its owner.\n\n\
        Example:\n  fluxgate audit --key key_Qm2xK9dA3f01 --limit 20")]
pub(crate) struct Args {
    /// Only entries about this key
    #[arg(long, value_name = "ID")]
    key: Option<KeyId>,
    /// Only entries with this action, such as key.create
    #[arg(long, value_name = "ACTION")]
    action: Option<String>,
    /// Only entries of this actor: operator, system, or the id of an admin key
    #[arg(long, value_name = "WHO")]
    actor: Option<String>,
    /// Largest number of entries
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    limit: u16,
    /// Cursor that the previous page ended with
    #[arg(long, value_name = "CURSOR")]
    cursor: Option<String>,
    #[command(flatten)]
    admin: AdminArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Prints the entries, page by page until there are enough.
pub(crate) fn run(args: &Args) -> anyhow::Result<Exit> {
    let client = args.admin.client()?;
    let most = usize::from(args.limit);
    let mut query = AuditQuery {
        key_id: args.key.map(Text),
        action: args.action.clone(),
        actor: args.actor.clone(),
        limit: None,
        cursor: args.cursor.clone(),
    };
    let list = block_on(async {
        let mut list = AuditList::default();
        loop {
            query.limit = Some(PAGE.min(most - list.entries.len()));
            let page = client.list_audit(&query).await?;
            list.entries.extend(page.entries);
            list.next_cursor = page.next_cursor;
            match &list.next_cursor {
                Some(cursor) if list.entries.len() < most => query.cursor = Some(cursor.clone()),
                Some(_) | None => break Ok(list),
            }
        }
    })?;
    args.output.print(&list, text)?;
    if let (Some(cursor), Format::Text) = (&list.next_cursor, args.output.output) {
        output::notice(&format!("more entries: --cursor {cursor}"));
    }
    Ok(Exit::Done)
}

fn text(list: &AuditList) -> String {
    let mut table = output::table(&["SEQ", "WHEN", "WHO", "FROM", "ACTION", "KEY", "DETAILS"]);
    for entry in &list.entries {
        let absent = || "-".to_owned();
        table.add_row([
            entry.seq.to_string(),
            entry.at.to_string(),
            entry.actor.clone(),
            entry.from.clone().unwrap_or_else(absent),
            entry.action.clone(),
            entry.key_id.map_or_else(absent, |id| id.to_string()),
            details(entry),
        ]);
    }
    output::table_text(&table)
}

/// The changes of an entry, on one line.
fn details(entry: &AuditEntry) -> String {
    let field = |(name, value): (&String, &String)| format!("{name}: {value}");
    let fields: Vec<String> = entry.details.iter().map(field).collect();
    fields.join("; ")
}
