//! Drives [`Join`], which decides whether this data directory takes part, and forms the cluster.
//!
//! Answers for: what the machine asks for is carried out in its order. Must never decide anything
//! itself: the rules are in `fluxgate_engine::join`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use fluxgate_engine::join::{Effect, Heard, Introduction, Join, Report, Settings, Situation};
use fluxgate_peer::process;
use fluxgate_types::{BootNs, NodeId};
use tokio::task::JoinSet;

use crate::clock::boot_now;
use crate::error::NodeError;
use crate::state::NodeState;
use crate::time;

/// Returns once this node takes part in a cluster, or with an error if it must not.
pub(super) async fn join(state: Arc<NodeState>) -> Result<(), NodeError> {
    let settings = Settings {
        me: state.me,
        dir_id: state.start.dir_id,
        members: state.config.members.keys().copied().collect(),
        clock_error_ms_max: state.config.clock_error_ms_max,
    };
    let mut join = Join::new(settings, boot_now());
    loop {
        let situation = situation(&state).await;
        match join.poll_effect(boot_now(), &situation) {
            Some(Effect::Introduce { nodes, timeout_ms }) => {
                let heard = ask_all(&state, nodes, Duration::from_millis(timeout_ms)).await;
                let situation = self::situation(&state).await;
                let made = |start| state.start.made(start);
                join.handle_introductions(boot_now(), &situation, made, &heard);
            }
            Some(Effect::LookForCopy { timeout_ms }) => {
                let answers = ask_own_addresses(&state, Duration::from_millis(timeout_ms)).await;
                join.handle_own_addresses(state.start.id(), &answers);
            }
            Some(Effect::CountOn(boot)) => state.member.count_on_from(boot),
            Some(Effect::Form) => form(&state).await,
            Some(Effect::TakePart) => state.lifecycle.allow_votes(&state.raft),
            Some(Effect::AskForLease) => state.member.step(|member, step| member.renew_now(step)),
            Some(Effect::NoteClocks(differ)) => {
                state.health.note_clocks(differ.as_ref().map(time::in_words));
            }
            Some(Effect::Report(report)) => log(&state, &report),
            Some(Effect::End(error)) => return Err(error.into()),
            Some(Effect::Done) => return Ok(()),
            None => {
                let now = boot_now();
                let until = join.poll_timeout().unwrap_or(now);
                tokio::time::sleep(Duration::from_nanos(until.since(now))).await;
            }
        }
    }
}

async fn situation(state: &NodeState) -> Situation {
    let formed = state.raft.is_formed().await;
    let members = state.raft.status().nodes;
    Situation {
        formed,
        takes_part: state.lifecycle.may_vote(),
        members: members.into_iter().map(|(node, member)| (node, member.votes)).collect(),
        start_id: state.start.id(),
        times: state.clock.times(state.shared.last_stamp()),
    }
}

async fn form(state: &NodeState) {
    let members = &state.config.members;
    match state.raft.bootstrap(members).await {
        Ok(()) => tracing::info!(members = members.len(), "formed the cluster"),
        Err(error) => tracing::debug!(%error, "not formed here"),
    }
}

fn log(state: &NodeState, report: &Report) {
    match report {
        Report::Waiting { missing, needed } => {
            let missing: Vec<u64> = missing.iter().map(|node| node.0).collect();
            tracing::info!(
                nodes = ?missing,
                needed,
                "waiting to hear from these nodes: this data directory is new, and one of them may \
                 know an earlier one of this node"
            );
        }
        Report::WaitingForMajority { answered, voters } => tracing::info!(
            answered,
            voters,
            "waiting for a majority of the members to say that they know no later start of this node"
        ),
        Report::CountsOn { after } => tracing::info!(
            node = state.me.0,
            after = after.0,
            "an earlier directory of this node was removed from the cluster: its starts are counted on"
        ),
        Report::ClocksDiffer(differ) => {
            tracing::error!("the cluster is not formed: {}", time::in_words(differ));
        }
        Report::WrongClocks { nodes } => {
            let nodes: Vec<String> = nodes.iter().map(NodeId::to_string).collect();
            tracing::error!(
                nodes = nodes.join(", "),
                "the wall clock of these nodes is wrong: the others agree on another time"
            );
        }
    }
}

/// The introductions at this node's own addresses, where a node answers.
async fn ask_own_addresses(state: &NodeState, timeout: Duration) -> Vec<(String, Introduction)> {
    #[cfg(feature = "sim")]
    if process::current().is_some() {
        // Simulated calls have no addresses.
        return Vec::new();
    }
    let replicated = state.raft.status().nodes.get(&state.me).map(|node| node.address.clone());
    let configured = state.config.members.get(&state.me).cloned();
    let addresses: BTreeSet<String> = replicated.into_iter().chain(configured).collect();
    let mut answers = Vec::new();
    for address in addresses {
        if let Ok(said) = state.calls.introduce(state.me, Some(&address), timeout).await {
            answers.push((address, said));
        }
    }
    answers
}

/// Asks a node at its last known address, and at the configured one: it may have moved while this
/// node was away.
async fn introduction(state: &NodeState, node: NodeId, timeout: Duration) -> Option<Introduction> {
    let known = state.transport.address(node);
    if let Ok(said) = state.calls.introduce(node, None, timeout).await {
        return Some(said);
    }
    let configured = state.config.members.get(&node).filter(|at| Some(*at) != known.as_ref())?;
    state.calls.introduce(node, Some(configured), timeout).await.ok()
}

/// The introductions of the nodes that answer.
async fn ask_all(
    state: &Arc<NodeState>,
    nodes: BTreeSet<NodeId>,
    timeout: Duration,
) -> BTreeMap<NodeId, Heard> {
    let mut asking = JoinSet::new();
    for node in nodes {
        let state = Arc::clone(state);
        asking.spawn(process::bind(async move {
            let sent = boot_now();
            let said = introduction(&state, node, timeout).await?;
            // Half the round trip is the best estimate of the way back.
            let at = BootNs(sent.0 + boot_now().since(sent) / 2);
            Some((node, Heard { said, at }))
        }));
    }
    asking.join_all().await.into_iter().flatten().collect()
}
