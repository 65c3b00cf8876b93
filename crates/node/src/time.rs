//! What the other nodes know of cluster time, and the wall clocks of all.

use std::time::Duration;

use fluxgate_engine::clock::sync::{ClocksDiffer, WallClock};
use fluxgate_engine::member::ClocksHeard;
use fluxgate_peer::process;
use fluxgate_types::{ClusterMs, NodeId};
use tokio::task::JoinSet;

use crate::calls::Calls;
use crate::clock::boot_now;

/// Names the clocks that disagree, for the log and for `/readyz`.
pub fn in_words(differ: &ClocksDiffer) -> String {
    let clock = |clock: &WallClock| {
        let wrong = if clock.plausible {
            ""
        } else {
            " (before the program was built, or before an earlier start: wrong)"
        };
        format!("node {} says {}{wrong}", clock.node, ClusterMs(clock.wall_ns / 1_000_000))
    };
    let clocks: Vec<String> = differ.clocks.iter().map(clock).collect();
    format!(
        "the wall clocks of the members differ, and no majority of them agrees: {}; set the wrong one",
        clocks.join(", ")
    )
}

/// Asks nodes for their clocks, as the leader of a term, until the answers suffice
/// ([`ClocksHeard::suffice`]); each node answers within `timeout` or counts as silent.
pub async fn ask_clocks(
    calls: &Calls,
    nodes: Vec<NodeId>,
    term: u64,
    enough: Option<usize>,
    timeout: Duration,
) -> ClocksHeard {
    let mut asking = JoinSet::new();
    for node in nodes {
        let calls = calls.clone();
        asking.spawn(process::bind(async move {
            let said = calls.clocks(node, term, timeout).await.ok()?;
            let arrived = boot_now();
            // As it was when the answer left: the node has reached at least this by now.
            Some((said.time.answer(node, arrived, arrived), said.contact_ago_ns, arrived))
        }));
    }
    let mut heard = ClocksHeard::default();
    while !heard.suffice(enough)
        && let Some(answer) = asking.join_next().await
    {
        if let Ok(Some((answer, contact_ago_ns, arrived))) = answer {
            heard.add(answer, contact_ago_ns, arrived);
        }
    }
    heard
}
