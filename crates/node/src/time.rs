//! Where cluster time comes from: what the other nodes know of it, and the wall clocks of all.

use std::sync::Arc;
use std::sync::PoisonError;

use fluxgate_engine::clock::sync::{self, ClockAnswer, ClocksDiffer};
use fluxgate_peer::process;
use fluxgate_types::{BootNs, ClusterMs, NodeId};
use tokio::task::JoinSet;

use crate::clock::{boot_now, wall_ns};
use crate::lease::ASK_TIMEOUT;
use crate::peer;
use crate::state::NodeState;

/// Names the clocks that disagree, for the log and for `/readyz`.
pub fn in_words(differ: &ClocksDiffer) -> String {
    let clock = |(node, wall_ns, plausible): &(NodeId, u64, bool)| {
        let wrong = if *plausible {
            ""
        } else {
            " (before the program was built, or before an earlier start: wrong)"
        };
        format!("node {node} says {}{wrong}", ClusterMs(wall_ns / 1_000_000))
    };
    let clocks: Vec<String> = differ.clocks.iter().map(clock).collect();
    format!(
        "the wall clocks of the members differ, and no majority of them agrees: {}; set the wrong one",
        clocks.join(", ")
    )
}

/// A leader whose clock no leader has synchronized asks the other nodes before it grants or stamps
/// anything: its wall clock may be behind cluster time, or wrong by years.
pub async fn settle_time(state: &Arc<NodeState>) -> Result<(), String> {
    let members = state.raft.status().nodes;
    let voters: Vec<NodeId> = members.iter().filter(|(_, n)| n.votes).map(|(id, _)| *id).collect();
    let (all, quorum) = (voters.len(), voters.len() / 2 + 1);
    let mut asking = JoinSet::new();
    for node in voters.into_iter().filter(|node| *node != state.me) {
        let state = Arc::clone(state);
        asking.spawn(process::bind(async move {
            let sent = boot_now();
            let said = peer::introduce(&state, node, None, ASK_TIMEOUT).await.ok()?;
            // Half the round trip is the best estimate of the way back.
            Some((node, said.time, BootNs(sent.0 + boot_now().since(sent) / 2)))
        }));
    }
    // Waits for all, not only for a quorum: two clocks alone do not show which one is wrong.
    let heard: Vec<_> = asking.join_all().await.into_iter().flatten().collect();
    if heard.len() + 1 < quorum {
        return Err("no quorum says what time the cluster has reached".to_owned());
    }
    let now = boot_now();
    let others = heard.iter().map(|(node, times, at)| times.answer(*node, *at, now));
    let answers: Vec<ClockAnswer> =
        others.chain([state.times().answer(state.me, now, now)]).collect();
    let bound_ns = state.terms_in_force().clock_error_ms_max * 1_000_000;
    let start = sync::start_ns(&answers, all, bound_ns);
    let start_ns = start.map_err(|differ| in_words(&differ))?;
    state.clock.adjust(|clock| clock.begin_leadership(now, Some(start_ns), 0));
    Ok(())
}

/// What cluster time should be by the wall clocks of the members, nanoseconds.
pub fn wall_target_ns(state: &NodeState) -> u64 {
    let now_ms = state.now().0;
    let members = state.raft.status().nodes;
    let others: Vec<i64> = {
        let heard = state.heard.read().unwrap_or_else(PoisonError::into_inner);
        let recent = heard
            .iter()
            .filter(|(node, about)| members.contains_key(node) && state.is_recent(about, now_ms));
        recent.map(|(_, about)| about.clock_offset_ms.saturating_mul(1_000_000)).collect()
    };
    let cluster_ns = state.clock.now_ns();
    let own = fluxgate_engine::clock::signed_difference(wall_ns(), cluster_ns);
    let bound_ns = state.terms_in_force().clock_error_ms_max * 1_000_000;
    let offset = sync::wall_offset_ns(own, &others, members.len(), bound_ns);
    cluster_ns.saturating_add_signed(offset)
}
