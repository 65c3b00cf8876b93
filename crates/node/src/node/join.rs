//! Takes part in the cluster, or forms it, once it is known that this directory may.
//!
//! Answers for: a directory that is new, older than what the others know, or a copy of one that
//! runs elsewhere takes no part: it has forgotten its votes, its part of the log, or what its node
//! has spent, and with it a majority could lose what was acknowledged.
//!
//! Before it answers any call of consensus a node asks the others:
//!
//! - A directory with a log belongs to a node that was there before. A majority of the members must
//!   have answered, this node included, and none may know a later start of it. At its own address
//!   nobody else may answer. That a later start was committed by members that are all down now
//!   cannot be known; once one of them is up, the digests of the states tell.
//! - A directory without a log asks so many that at least one of those must know which directory
//!   ran under this id: a majority registered it. Where none is in a cluster, a majority of nodes
//!   without memory may form one; a node that formed it and waits to be elected has no more memory
//!   than they ([`fluxgate_raft::RaftHandle::has_history`]).
//! - A new cluster is formed only by nodes whose wall clocks agree.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use fluxgate_engine::clock::sync;
use fluxgate_peer::process;
use fluxgate_types::{BootId, BootNs, NodeId};
use fluxgate_wire::peer::Introduction;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::NodeError;
use crate::clock::boot_now;
use crate::peer;
use crate::state::NodeState;
use crate::time;

/// Pause between two attempts.
const RETRY: Duration = Duration::from_millis(200);
/// How long a node waits for those with lower ids before it forms the cluster itself.
const FORM_PATIENCE: Duration = Duration::from_secs(5);
/// How long a node that knows no other listens before it forms a cluster alone.
const FORM_ALONE: Duration = Duration::from_millis(500);
/// Longest wait for another node's introduction.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(500);

/// One node's answer, and the moment at which it was true.
struct Heard {
    said: Introduction,
    at: BootNs,
}

/// What was logged, so that each thing is logged once.
#[derive(Default)]
struct Said {
    waiting: bool,
    clocks: String,
}

/// Returns once this node takes part, or with an error if it must not.
pub(super) async fn join(state: Arc<NodeState>) -> Result<(), NodeError> {
    let begun = Instant::now();
    let mut said = Said::default();
    while !state.raft.is_formed().await {
        let heard = ask_all(&state, state.config.members.keys()).await;
        if new_directory(&state, &heard, begun, &mut said).await? {
            state.allow_votes();
        }
        tokio::time::sleep(RETRY).await;
    }
    if state.may_vote() {
        return Ok(());
    }
    loop {
        if no_copy_runs(&state).await? && old_directory(&state, &mut said).await? {
            state.allow_votes();
            state.member(|member, step| member.renew_now(step));
            return Ok(());
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Whether a directory with a log may take part now.
async fn old_directory(state: &Arc<NodeState>, said: &mut Said) -> Result<bool, NodeError> {
    let replicated = state.raft.status().nodes;
    // Before it has applied the list of members, it uses those of its configuration.
    let configured = state.config.members.keys().copied();
    let voters: BTreeSet<NodeId> = if replicated.is_empty() {
        configured.clone().chain([state.me]).collect()
    } else {
        replicated.iter().filter(|(_, member)| member.votes).map(|(node, _)| *node).collect()
    };
    // Asks every node that may know: a copy may date from when the cluster was smaller.
    let all: BTreeSet<NodeId> = replicated.keys().copied().chain(configured).collect();
    let heard = ask_all(state, all.iter()).await;
    for other in heard.values() {
        judge_start(state, &other.said)?;
    }
    // Only voters make a majority: a node that is being added may never have answered.
    let answered = voters.iter().filter(|node| **node == state.me || heard.contains_key(node));
    let (answered, others) = (answered.count(), voters.len());
    let enough = answered * 2 > others;
    if !enough && !std::mem::replace(&mut said.waiting, true) {
        tracing::info!(
            answered,
            voters = others,
            "waiting for a majority of the members to say that they know no later start of this node"
        );
    }
    Ok(enough)
}

/// An error if another node knows a later start of this directory.
fn judge_start(state: &NodeState, other: &Introduction) -> Result<(), NodeError> {
    let same = |(node, dir_id, removed): &(NodeId, _, bool)| {
        *node == state.me && *dir_id == state.dir_id && !removed
    };
    if !other.directories.iter().any(same) {
        // Removed, or another directory runs under this id: the leader reports that at the first
        // lease.
        return Ok(());
    }
    // Compares with what the directory remembers, not with the number alone: a start that was
    // rejected has been counted too.
    let newest = other.start_ids.iter().find(|(node, _)| *node == state.me);
    match newest.filter(|(_, newest)| !state.made(*newest)) {
        None => Ok(()),
        Some((_, newest)) => Err(NodeError::OlderDirectory { node: state.me, newest: newest.boot }),
    }
}

/// An error if a copy of this directory answers at the address of this node.
async fn no_copy_runs(state: &NodeState) -> Result<bool, NodeError> {
    #[cfg(feature = "sim")]
    if process::current().is_some() {
        // Simulated calls have no addresses.
        return Ok(true);
    }
    let replicated = state.raft.status().nodes.get(&state.me).map(|node| node.address.clone());
    let configured = state.config.members.get(&state.me).cloned();
    let addresses: BTreeSet<String> = replicated.into_iter().chain(configured).collect();
    for address in addresses {
        let said = peer::introduce(state, state.me, Some(&address), ANSWER_TIMEOUT).await;
        // Another member may have this node's previous address.
        let is_copy =
            |said: Introduction| said.node == state.me && said.start_id != state.start_id();
        if said.is_ok_and(is_copy) {
            return Err(NodeError::Copy { node: state.me, address });
        }
    }
    Ok(true)
}

/// Whether a directory without a log may take part now; forms the cluster if that is this node's
/// task.
async fn new_directory(
    state: &Arc<NodeState>,
    heard: &BTreeMap<NodeId, Heard>,
    begun: Instant,
    said: &mut Said,
) -> Result<bool, NodeError> {
    let members = &state.config.members;
    let mine = |(node, ..): &&(NodeId, _, bool)| *node == state.me;
    let directories = || heard.values().flat_map(|other| &other.said.directories).filter(mine);
    let earlier = directories().any(|(_, dir_id, removed)| *dir_id != state.dir_id && *removed);
    if directories().any(|(_, dir_id, removed)| *dir_id != state.dir_id && !removed) {
        // A node that is behind does not know of the removal yet.
        return if earlier { Ok(false) } else { Err(NodeError::OtherDirectory(state.me)) };
    }
    // Once it takes part, other nodes know the number of this start.
    if earlier && !state.may_vote() {
        count_on(state, heard);
    }
    let formed_elsewhere = heard.values().any(|other| other.said.formed);
    let others = members.keys().filter(|node| **node != state.me).count();
    let all = others + 1;
    let needed = if formed_elsewhere { all - all / 2 } else { all / 2 };
    let enough = heard.len() >= needed && (others > 0 || begun.elapsed() > FORM_ALONE);
    if !enough && others > 0 && !std::mem::replace(&mut said.waiting, true) {
        let missing: Vec<u64> = members
            .keys()
            .filter(|node| **node != state.me && !heard.contains_key(node))
            .map(|node| node.0)
            .collect();
        tracing::info!(
            nodes = ?missing,
            needed = needed - heard.len(),
            "waiting to hear from these nodes: this data directory is new, and one of them may know an \
             earlier one of this node"
        );
    }
    if enough && !formed_elsewhere && forms(state, heard, begun, said) {
        match state.raft.bootstrap(members).await {
            Ok(()) => tracing::info!(members = members.len(), "formed the cluster"),
            Err(error) => tracing::debug!(%error, "not formed here"),
        }
    }
    Ok(enough)
}

/// Whether this node must form a new cluster: it has the lowest id of those whose clocks agree, or
/// the next one if that node does not come.
fn forms(
    state: &NodeState,
    heard: &BTreeMap<NodeId, Heard>,
    begun: Instant,
    said: &mut Said,
) -> bool {
    let members = &state.config.members;
    if !members.contains_key(&state.me) {
        return false;
    }
    let now = boot_now();
    let others =
        heard.iter().map(|(node, other)| time::answer(*node, &other.said.time, other.at, now));
    let answers: Vec<_> =
        others.chain([time::answer(state.me, &state.times(), now, now)]).collect();
    let bound_ns = state.config.clock_error_ms_max * 1_000_000;
    let fit = match sync::fit_to_form(&answers, members.len(), bound_ns) {
        Ok(fit) => fit,
        Err(differ) => {
            // The clocks of missing nodes may still agree; once all nodes are here, a clock must be
            // set.
            let differ_at_all = sync::agreeing(&answers, bound_ns).len() < answers.len();
            let words = time::in_words(&differ);
            if differ_at_all {
                if said.clocks.is_empty() {
                    tracing::error!("the cluster is not formed: {words}");
                    said.clocks.clone_from(&words);
                }
                state.note_clocks(Some(words));
            }
            return false;
        }
    };
    state.note_clocks(None);
    let wrong: Vec<String> = answers
        .iter()
        .filter(|answer| !fit.contains(&answer.node))
        .map(|answer| answer.node.to_string())
        .collect();
    if !wrong.is_empty() && said.clocks.is_empty() {
        said.clocks = format!("wall clock of node {}", wrong.join(", "));
        tracing::error!(
            nodes = wrong.join(", "),
            "the wall clock of these nodes is wrong: the others agree on another time"
        );
    }
    if !fit.contains(&state.me) {
        return false;
    }
    let before = members.keys().take_while(|node| **node != state.me);
    let patient = begun.elapsed() > FORM_PATIENCE;
    let mut waits_for = before.filter(|node| match heard.get(*node) {
        Some(_) => fit.contains(*node),
        None => !patient,
    });
    waits_for.next().is_none()
}

/// An earlier directory of this node was removed: this one continues above all its starts, so that
/// their late messages stay late.
fn count_on(state: &NodeState, heard: &BTreeMap<NodeId, Heard>) {
    let registered = heard.values().flat_map(|other| &other.said.start_ids);
    let registered = registered.filter(|(node, _)| *node == state.me).map(|(_, of)| of.boot);
    let known = heard.values().flat_map(|other| &other.said.heard);
    let known = known.filter(|(node, _)| *node == state.me).map(|(_, boot)| *boot);
    let newest = registered.chain(known).max().unwrap_or(BootId(0));
    if newest >= state.boot() {
        tracing::info!(
            node = state.me.0,
            after = newest.0,
            "an earlier directory of this node was removed from the cluster: its starts are counted on"
        );
    }
    state.count_on_from(BootId(newest.0 + 1).max(state.boot()));
}

/// Asks a node at its last known address, and at the configured one: it may have moved while this
/// node was away.
async fn introduction(state: &NodeState, node: NodeId) -> Option<Introduction> {
    let known = state.transport.address(node);
    if let Ok(said) = peer::introduce(state, node, None, ANSWER_TIMEOUT).await {
        return Some(said);
    }
    let configured = state.config.members.get(&node).filter(|at| Some(*at) != known.as_ref())?;
    peer::introduce(state, node, Some(configured), ANSWER_TIMEOUT).await.ok()
}

/// The introductions of the nodes that answer.
async fn ask_all(
    state: &Arc<NodeState>,
    nodes: impl Iterator<Item = &NodeId>,
) -> BTreeMap<NodeId, Heard> {
    let mut asking = JoinSet::new();
    for node in nodes.copied().filter(|node| *node != state.me) {
        let state = Arc::clone(state);
        asking.spawn(process::bind(async move {
            let sent = boot_now();
            let said = introduction(&state, node).await?;
            // Half the round trip is the best estimate of the way back.
            let at = BootNs(sent.0 + boot_now().since(sent) / 2);
            Some((node, Heard { said, at }))
        }));
    }
    asking.join_all().await.into_iter().flatten().collect()
}
