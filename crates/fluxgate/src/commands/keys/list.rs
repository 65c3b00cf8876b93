//! `fluxgate keys list`: prints one page of keys.

use clap::ValueEnum;
use fluxgate_api::keys::{KeyList, KeyStatus, ListQuery};

use crate::connect::{AdminArgs, block_on};
use crate::exit::Exit;
use crate::output::{self, Format, OutputArgs};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  fluxgate keys list --owner user_42 --status active --output json"
)]
pub(super) struct Args {
    /// Only keys of this owner
    #[arg(long, value_name = "TEXT")]
    owner: Option<String>,
    /// Only keys whose name or prefix contains this text
    #[arg(long, value_name = "TEXT")]
    search: Option<String>,
    /// Only keys with this status
    #[arg(long, value_enum, value_name = "STATUS")]
    status: Option<Status>,
    /// Largest number of keys
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

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Status {
    Active,
    Disabled,
    Expired,
    Revoked,
}

impl From<Status> for KeyStatus {
    fn from(status: Status) -> Self {
        match status {
            Status::Active => Self::Active,
            Status::Disabled => Self::Disabled,
            Status::Expired => Self::Expired,
            Status::Revoked => Self::Revoked,
        }
    }
}

/// Prints the page.
pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    let query = ListQuery {
        owner: args.owner.clone(),
        search: args.search.clone(),
        status: args.status.map(KeyStatus::from),
        limit: Some(usize::from(args.limit)),
        cursor: args.cursor.clone(),
        export: false,
    };
    let client = args.admin.client()?;
    let list = block_on(async { Ok(client.list_keys(&query).await?) })?;
    args.output.print(&list, text)?;
    if let (Some(cursor), Format::Text) = (&list.next_cursor, args.output.output) {
        output::notice(&format!("more keys: --cursor {cursor}"));
    }
    Ok(Exit::Done)
}

fn text(list: &KeyList) -> String {
    let mut table =
        output::table(&["ID", "NAME", "SCOPE", "OWNER", "STATUS", "CREATED", "LAST USED"]);
    for key in &list.keys {
        table.add_row([
            key.id.to_string(),
            key.name.clone(),
            key.scope.to_string(),
            key.owner.clone().unwrap_or_else(|| "-".into()),
            key.status.to_string(),
            key.created_at.to_string(),
            super::last_used(key.last_used_at, "-"),
        ]);
    }
    output::table_text(&table)
}
