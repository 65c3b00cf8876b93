//! `fluxgate keys export`: prints the records of all keys as JSON lines.

use fluxgate_api::ErrorCode;
use fluxgate_api::keys::ListQuery;

use super::list::Status;
use crate::connect::{AdminArgs, block_on};
use crate::exit::Exit;
use crate::output;

/// Records requested with one call.
const PAGE: usize = 200;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Newest first, one record per line, to standard output. Records contain no digests: to move a cluster, use \
        `fluxgate cluster backup`.\n\n\
        Example:\n  fluxgate keys export --status active > keys.jsonl"
)]
pub(super) struct Args {
    /// Only keys of this owner
    #[arg(long, value_name = "TEXT")]
    owner: Option<String>,
    /// Only keys with this status
    #[arg(long, value_enum, value_name = "STATUS")]
    status: Option<Status>,
    #[command(flatten)]
    admin: AdminArgs,
}

/// Prints all pages.
pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    let client = args.admin.client()?;
    let mut query = ListQuery {
        owner: args.owner.clone(),
        status: args.status.map(Into::into),
        limit: Some(PAGE),
        export: true,
        ..ListQuery::default()
    };
    let bar = output::bar(0, "keys");
    block_on(async {
        loop {
            let page = match client.list_keys(&query).await {
                // Nodes of version 0.2 do not record exports and reject the parameter.
                Err(error) if query.export && error.code() == Some(ErrorCode::InvalidRequest) => {
                    query.export = false;
                    continue;
                }
                page => page?,
            };
            let mut text = String::new();
            for record in &page.keys {
                text += &serde_json::to_string(record)?;
                text.push('\n');
            }
            if !text.is_empty() {
                output::data(&text)?;
            }
            bar.inc(page.keys.len() as u64);
            match page.next_cursor {
                Some(cursor) => query.cursor = Some(cursor),
                None => break Ok(Exit::Done),
            }
        }
    })
}
