//! What the commands about owners, plans and pools have in common.

use fluxgate_api::keys::LimitEntry;
use fluxgate_api::records::{DeletedRecord, RecordsQuery};
use fluxgate_api::text::Time;

use crate::connect::AdminArgs;
use crate::output::{self, Format, OutputArgs};
use crate::values;

#[derive(Debug, clap::Args)]
pub(super) struct ListArgs {
    /// Largest number of records
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=200))]
    limit: u16,
    /// Cursor that the previous page ended with
    #[arg(long, value_name = "CURSOR")]
    cursor: Option<String>,
    #[command(flatten)]
    pub(super) admin: AdminArgs,
    #[command(flatten)]
    pub(super) output: OutputArgs,
}

impl ListArgs {
    pub(super) fn query(&self) -> RecordsQuery {
        RecordsQuery { limit: Some(usize::from(self.limit)), cursor: self.cursor.clone() }
    }

    /// Tells a reader how to get the next page.
    pub(super) fn note_more(&self, what: &str, next_cursor: Option<&String>) {
        if let (Some(cursor), Format::Text) = (next_cursor, self.output.output) {
            output::notice(&format!("more {what}: --cursor {cursor}"));
        }
    }
}

#[derive(Debug, clap::Args)]
pub(super) struct ShowArgs {
    /// Its name
    #[arg(value_name = "NAME")]
    pub(super) name: String,
    #[command(flatten)]
    pub(super) admin: AdminArgs,
    #[command(flatten)]
    pub(super) output: OutputArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct DeleteArgs {
    /// Its name
    #[arg(value_name = "NAME")]
    pub(super) name: String,
    /// Delete the record only if it is still at this revision
    #[arg(long, value_name = "N")]
    pub(super) if_revision: Option<u64>,
    #[command(flatten)]
    pub(super) admin: AdminArgs,
    #[command(flatten)]
    pub(super) output: OutputArgs,
}

/// A value if an argument for it is given.
pub(super) fn given<T>(is_given: bool, value: impl FnOnce() -> T) -> Option<T> {
    is_given.then(value)
}

/// Limits in one cell of a table.
pub(super) fn limits_cell(limits: &[LimitEntry]) -> String {
    let limits: Vec<String> = limits.iter().map(values::entry_text).collect();
    if limits.is_empty() { "-".to_owned() } else { limits.join(", ") }
}

/// The lines of limits in a record.
pub(super) fn limit_fields(limits: &[LimitEntry]) -> Vec<(&'static str, String)> {
    if limits.is_empty() {
        return vec![("limit", "none of its own".to_owned())];
    }
    limits.iter().map(|limit| ("limit", values::entry_text(limit))).collect()
}

/// The last lines of a record.
pub(super) fn end_fields<'a>(
    created_at: Time,
    changed_at: Time,
    revision: u64,
    metadata: impl IntoIterator<Item = (&'a String, &'a String)>,
) -> Vec<(&'static str, String)> {
    let mut fields = vec![
        ("created", created_at.to_string()),
        ("changed", changed_at.to_string()),
        ("revision", revision.to_string()),
    ];
    let pairs = metadata.into_iter().map(|(name, value)| format!("{name}={value}"));
    fields.extend(pairs.map(|pair| ("metadata", pair)));
    fields
}

/// The nodes that have applied a change.
pub(super) fn applied(nodes: &[u64], waited_ms: u64) -> (&'static str, String) {
    let nodes: Vec<String> = nodes.iter().map(u64::to_string).collect();
    ("applied on", format!("nodes {} after {waited_ms} ms", nodes.join(", ")))
}

pub(super) fn deleted_text(deleted: &DeletedRecord) -> String {
    output::fields(&[
        ("deleted", deleted.deleted.clone()),
        applied(&deleted.applied_on, deleted.waited_ms),
    ])
}
