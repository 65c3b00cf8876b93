//! `fluxgate cluster status`: the cluster at a glance.
//!
//! Answers for: one row per node, problems in colour, and a dash for values that the answering node
//! does not know.

use comfy_table::{Cell, Color};
use fluxgate_api::cluster::{ClusterView, NodeView, Role, ShareMapView, WriteState};
use fluxgate_console::health::{self, Severity};

use crate::connect::{AdminArgs, block_on};
use crate::exit::Exit;
use crate::output::{self, OutputArgs};

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  fluxgate cluster status --url http://10.0.0.11:7201")]
pub(super) struct Args {
    /// Exit with 1 unless every node is ready and no problem below the table is worse than a notice
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    admin: AdminArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Prints the view of the first node that answers.
pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    let client = args.admin.client()?;
    let view = block_on(async { Ok(client.read_cluster().await?) })?;
    args.output.print(&view, text)?;
    Ok(if args.check && !is_healthy(&view) { Exit::Failed } else { Exit::Done })
}

fn is_healthy(view: &ClusterView) -> bool {
    let all_ready = view.nodes.iter().all(|node| node.ready == Some(true));
    let bad = |problem: &health::Problem| problem.severity > Severity::Notice;
    all_ready && !health::problems(view).iter().any(bad)
}

fn text(view: &ClusterView) -> String {
    let leader = match view.leader {
        Some(leader) => format!("leader node {leader} in term {}", view.term),
        None => format!("no leader in term {}", view.term),
    };
    let mut text = format!(
        "cluster {}, seen by node {}: {leader}, committed {}, cluster time {}\n\n",
        view.cluster, view.node_id, view.committed, view.cluster_time
    );
    text += &output::table_text(&nodes(view));
    if let Some(pending) = &view.pending_share_map {
        let shares: Vec<String> = pending
            .nodes
            .iter()
            .map(|node| format!("node {} {}", node.node, share(pending, node.node)))
            .collect();
        text += &format!("\nshares from {} on: {}\n", pending.from, shares.join(", "));
    }
    if !view.certificates.is_empty() {
        let ends = view.certificates.iter();
        let ends = ends.map(|one| format!("{} until {}", one.listener, one.ends_at));
        let ends = ends.collect::<Vec<_>>().join(", ");
        text += &format!("\ncertificates of node {}: {ends}\n", view.node_id);
    }
    let problems = health::problems(view);
    if !problems.is_empty() {
        text.push('\n');
    }
    for problem in problems {
        text += &format!("{}: {} {}\n", problem.severity.as_str(), problem.what, problem.means);
    }
    text
}

fn nodes(view: &ClusterView) -> comfy_table::Table {
    let mut table = output::table(&[
        "NODE", "ROLE", "READY", "TERM", "APPLIED", "LAG", "LEASE", "SHARE", "CLOCK", "DISK",
        "TLS", "VERSION", "PEER",
    ]);
    for node in &view.nodes {
        table.add_row([
            Cell::new(node.id),
            role(node),
            ready(node),
            known(node.term.map(|term| term.to_string())),
            known(node.applied.map(|applied| applied.to_string())),
            known(node.lag.map(|lag| lag.to_string())),
            lease(node),
            Cell::new(share(&view.share_map, node.id)),
            known(node.clock_offset_ms.map(|ms| format!("{ms:+}ms"))),
            disk(node),
            known(node.peer_tls.map(|tls| if tls { "yes" } else { "plain" }.to_owned())),
            known(node.version.clone()),
            Cell::new(&node.peer),
        ]);
    }
    table
}

fn known(value: Option<String>) -> Cell {
    Cell::new(value.unwrap_or_else(|| "-".to_owned()))
}

fn coloured(cell: Cell, colour: Color) -> Cell {
    if output::colour() { cell.fg(colour) } else { cell }
}

fn role(node: &NodeView) -> Cell {
    let cell = Cell::new(node.role.as_str());
    match node.role {
        Role::Leader => coloured(cell, Color::Green),
        Role::Unreachable => coloured(cell, Color::Red),
        Role::Candidate => coloured(cell, Color::Yellow),
        Role::Follower | Role::Learner => cell,
    }
}

fn ready(node: &NodeView) -> Cell {
    match node.ready {
        Some(true) => Cell::new("yes"),
        Some(false) => coloured(Cell::new("no"), Color::Red),
        None => Cell::new("-"),
    }
}

/// Free disk space, or why the node cannot write.
fn disk(node: &NodeView) -> Cell {
    match node.writes {
        Some(WriteState::DiskFull) => coloured(Cell::new("full"), Color::Red),
        Some(WriteState::Stalled) => coloured(Cell::new("stalled"), Color::Red),
        Some(WriteState::Ok) | None => known(node.free_bytes.map(|bytes| {
            let mib = bytes / (1024 * 1024);
            if mib < 10 * 1024 { format!("{mib}MiB") } else { format!("{}GiB", mib / 1024) }
        })),
    }
}

fn lease(node: &NodeView) -> Cell {
    match node.lease_remaining_ms {
        Some(0) => coloured(Cell::new("none"), Color::Red),
        Some(ms) => Cell::new(format!("{ms}ms")),
        None => Cell::new("-"),
    }
}

/// A node's share of every window, in per cent with one decimal.
fn share(map: &ShareMapView, node: u64) -> String {
    let sum: u64 = map.nodes.iter().map(|node| node.weight).sum();
    let own = map.nodes.iter().find(|entry| entry.node == node);
    match own {
        Some(own) if sum > 0 => {
            // Adding half of the divisor rounds to the nearest tenth.
            let tenths = (own.weight.saturating_mul(1_000) + sum / 2) / sum;
            format!("{}.{}%", tenths / 10, tenths % 10)
        }
        Some(_) | None => "none".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VIEW: &str = r#"{"cluster":"fluxcascade","node_id":1,"leader":2,"term":3,"committed":42,
        "applied":42,"cluster_time":"2024-01-20T11:20:00Z","clock_offset_ms":-2,"version":"0.1.0",
        "share_map":{"from":"1970-01-01T00:00:00Z","nodes":[{"node":1,"weight":1},{"node":2,"weight":1},{"node":3,"weight":1}]},
        "pending_share_map":{"from":"2024-01-20T11:21:00Z","nodes":[{"node":1,"weight":1},{"node":2,"weight":1}]},
        "nodes":[
          {"id":1,"peer":"127.0.0.1:7301","role":"follower","term":3,"applied":42,"lag":0,"lease_remaining_ms":2870,"ready":true,"reachable":true,"clock_offset_ms":-2,"version":"0.1.0","writes":"ok","free_bytes":21474836480},
          {"id":2,"peer":"127.0.0.1:7302","role":"leader","term":3,"applied":42,"lag":0,"lease_remaining_ms":2910,"ready":true,"reachable":true,"peer_tls":true,"clock_offset_ms":1,"version":"0.1.0","writes":"disk_full","free_bytes":0},
          {"id":3,"peer":"127.0.0.1:7303","role":"unreachable","term":null,"applied":40,"lag":2,"lease_remaining_ms":0,"ready":null,"reachable":false,"peer_tls":false,"trouble":"it has another cluster secret","clock_offset_ms":null,"version":null}],
        "warnings":["peer traffic is not encrypted"]}"#;

    #[test]
    fn the_status_text_is_complete() {
        let view: ClusterView = serde_json::from_str(VIEW).unwrap();
        let expected = "\
cluster fluxcascade, seen by node 1: leader node 2 in term 3, committed 42, cluster time 2024-01-20T11:20:00Z

NODE  ROLE         READY  TERM  APPLIED  LAG  LEASE   SHARE  CLOCK  DISK   TLS    VERSION  PEER
1     follower     yes    3     42       0    2870ms  33.3%  -2ms   20GiB  -      0.1.0    127.0.0.1:7301
2     leader       yes    3     42       0    2910ms  33.3%  +1ms   full   yes    0.1.0    127.0.0.1:7302
3     unreachable  -      -     40       2    none    33.3%  -      -      plain  -        127.0.0.1:7303

shares from 2024-01-20T11:21:00Z on: node 1 50.0%, node 2 50.0%

degraded: Node 1 cannot call node 3: it has another cluster secret. Requests are still answered by nodes 1 and 2. Limits hold. Node 3's unspent share of the current windows may be unavailable, so callers may hit their limits slightly early until budgets are redistributed. Bring it back; if it is lost for good, remove it.
notice: A new share map takes effect with the next windows. Callers notice nothing: each window uses a single map.
notice: Peer traffic is not encrypted. Reported by this node.
";
        assert_eq!(text(&view), expected);
    }
}
