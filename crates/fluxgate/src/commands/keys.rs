//! `fluxgate keys`: its subcommands, and what they share.
//!
//! Answers for: a new key is the only output on standard output of the command that created it, so
//! that it can be piped into a secret store.

mod create;
mod erase;
mod export;
mod import;
mod list;
mod revoke;
mod rotate;
mod secret;
mod show;
mod update;
mod usage;

use clap::Subcommand;
use fluxgate_api::Time;
use fluxgate_api::keys::{KeyRecord, WriteAnswer};

use crate::exit::Exit;
use crate::output;
use crate::values;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  FLUXGATE_TOKEN=$(cat operator.token) fluxgate keys list --status active"
)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Create a key and print it once
    Create(create::Args),
    /// List keys, newest first
    List(list::Args),
    /// Print a key's record
    Show(show::Args),
    /// Change a key
    Update(update::Args),
    /// Replace a key's secret, under the same id
    Rotate(rotate::Args),
    /// Revoke a key permanently
    Revoke(revoke::Args),
    /// Erase the record of a revoked or expired key
    Erase(erase::Args),
    /// Print a key's usage
    Usage(usage::Args),
    /// Import keys from another system by SHA-256 digest
    Import(import::Args),
    /// Print the records of all keys as JSON lines
    Export(export::Args),
}

pub(crate) fn run(args: &Args) -> anyhow::Result<Exit> {
    match &args.command {
        Command::Create(args) => create::run(args),
        Command::List(args) => list::run(args),
        Command::Show(args) => show::run(args),
        Command::Update(args) => update::run(args),
        Command::Rotate(args) => rotate::run(args),
        Command::Revoke(args) => revoke::run(args),
        Command::Erase(args) => erase::run(args),
        Command::Usage(args) => usage::run(args),
        Command::Import(args) => import::run(args),
        Command::Export(args) => export::run(args),
    }
}

/// A record as text.
fn record_text(record: &KeyRecord) -> String {
    let never = || "never".to_owned();
    let mut fields = vec![
        ("id", record.id.to_string()),
        ("name", record.name.clone()),
        ("prefix", record.prefix.clone()),
        ("scope", record.scope.to_string()),
        ("owner", record.owner.clone().unwrap_or_else(|| "-".into())),
        ("status", record.status.to_string()),
    ];
    if let Some(plan) = &record.plan {
        fields.push(("plan", plan.clone()));
    }
    if let Some(pools) = &record.pools {
        fields.push(("pools", pools.join(", ")));
    }
    match &record.effective {
        Some(limits) => {
            for one in limits {
                let limit = values::limit_text(&one.limit());
                fields.push(("limit", format!("{limit} from {}", one.from)));
            }
        }
        None => {
            for limit in &record.limits {
                fields.push(("limit", values::limit_text(limit)));
            }
        }
    }
    fields.extend([
        ("created", format!("{} by {}", record.created_at, record.created_by)),
        ("expires", record.expires_at.map_or_else(never, |at| at.to_string())),
        ("last used", last_used(record.last_used_at, "no known use")),
        ("revision", record.revision.to_string()),
    ]);
    if let Some(until) = record.previous_valid_until {
        fields.push(("old secret", format!("valid until {until}")));
    }
    for (name, value) in &record.metadata {
        fields.push(("metadata", format!("{name}={value}")));
    }
    output::fields(&fields)
}

/// When a key was last used, as far as the nodes know.
fn last_used(at: Option<Time>, unknown: &str) -> String {
    at.map_or_else(|| unknown.to_owned(), |at| at.to_string())
}

/// A record after a change, with the nodes that have applied the change.
fn written_text(written: &WriteAnswer) -> String {
    let nodes: Vec<String> = written.applied_on.iter().map(u64::to_string).collect();
    let applied = format!("nodes {} after {} ms", nodes.join(", "), written.waited_ms);
    let notes = written.notes.iter().map(|note| ("note", note.clone()));
    let fields: Vec<(&str, String)> = [("applied on", applied)].into_iter().chain(notes).collect();
    record_text(&written.record) + &output::fields(&fields)
}
