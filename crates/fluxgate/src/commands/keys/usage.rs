//! `fluxgate keys usage`: prints the current and the last windows of a key, by node.

use fluxgate_api::usage::{LimitUsage, Usage};
use fluxgate_types::{ClusterMs, KeyId};

use crate::connect::{AdminArgs, block_on};
use crate::exit::Exit;
use crate::output::{self, OutputArgs};

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  fluxgate keys usage key_Qm2xK9dA3f01")]
pub(super) struct Args {
    /// Id of the key
    #[arg(value_name = "ID")]
    id: KeyId,
    #[command(flatten)]
    admin: AdminArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Prints the usage.
pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    let client = args.admin.client()?;
    let usage = block_on(async { Ok(client.read_usage(args.id).await?) })?;
    args.output.print(&usage, text)?;
    Ok(Exit::Done)
}

fn text(usage: &Usage) -> String {
    let used = super::last_used(usage.last_used_at, "no known use");
    let head = output::fields(&[("id", usage.key_id.to_string()), ("last used", used)]);
    let mut table = output::table(&[
        "LIMIT",
        "SPENT",
        "LEFT",
        "OF",
        "UNTIL",
        "PER NODE",
        "WINDOWS SINCE",
        "LAST WINDOWS",
    ]);
    for limit in &usage.limits {
        table.add_row([
            limit.name.clone(),
            limit.spent.to_string(),
            limit.remaining.to_string(),
            limit.limit.to_string(),
            ClusterMs(limit.reset.saturating_mul(1_000)).to_string(),
            per_node(limit),
            limit.series.first().map_or_else(
                || "-".to_owned(),
                |window| ClusterMs(window.window_start.saturating_mul(1_000)).to_string(),
            ),
            bars(limit),
        ]);
    }
    let scale =
        "LAST WINDOWS: one character per window, oldest first; a full block is the whole limit";
    [head, "\n".to_owned(), output::table_text(&table), format!("\n{scale}")].concat()
}

fn per_node(limit: &LimitUsage) -> String {
    let nodes: Vec<String> =
        limit.per_node.iter().map(|node| format!("{}:{}", node.node, node.spent)).collect();
    nodes.join(" ")
}

/// The last windows as bars: a space is no usage, a full block the whole limit.
fn bars(limit: &LimitUsage) -> String {
    const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let bar = |spent: u64| {
        let eighths = (spent.saturating_mul(8)).div_ceil(limit.limit.max(1));
        BARS[usize::try_from(eighths.min(8)).unwrap_or(8)]
    };
    limit.series.iter().map(|window| bar(window.spent)).collect()
}
