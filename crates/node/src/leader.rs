//! What only the leader does, besides granting leases: the default limits and the share map.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use fluxgate_engine::lease::Granter;
use fluxgate_engine::member::{SubmitError, Submitted};
use fluxgate_engine::share_map::ShareMap;
use fluxgate_engine::share_map::ShareMapPlanner;
use fluxgate_engine::state::cluster_state::LEVEL;
use fluxgate_engine::state::command::{Actor, Command, Outcome};
use fluxgate_engine::state::erase;
use fluxgate_engine::state::record::KeyEntry;
use fluxgate_raft::WriteHealth;
use fluxgate_types::{ClusterMs, Limit, NodeId, caps};
use fluxgate_wire::peer::Writes;
use tokio::time::Instant;

use crate::clock::boot_now;
use crate::metrics::SHARED_SETTINGS;
use crate::peer::level_of;
use crate::state::NodeState;
use crate::writes::proposal;

/// How often the leader checks.
const EVERY: Duration = Duration::from_millis(200);
/// Longest wait for the check whether the disk has room.
const LOOK_AT_DISK: Duration = Duration::from_millis(100);
/// Pause between two hand-over attempts of a leader that cannot write.
const HAND_OVER_PAUSE: Duration = Duration::from_secs(3);
/// After this time a change of the members counts as stuck.
const CHANGE_STANDS: Duration = Duration::from_secs(2);
/// Parts of the table that one round checks for records to erase: the whole table in half a minute.
const PURGED_PARTS: usize = 32;
/// Longest time for one hand-over attempt.
const HAND_OVER_TIMEOUT: Duration = Duration::from_millis(1_500);
/// Extra lead of a map's start, so that a slow commit does not waste the attempt, milliseconds.
const MAP_SLACK_MS: u64 = 1_000;

/// Runs the leader's periodic duties.
pub async fn run(state: Arc<NodeState>) {
    let mut every = tokio::time::interval(EVERY);
    let mut planner = ShareMapPlanner::default();
    let mut leadership = None;
    let mut settings = Settings::default();
    let mut handed = None;
    let mut change = None;
    let mut purged = 0;
    loop {
        every.tick().await;
        let term = state.assume_leadership();
        if term != leadership {
            leadership = term;
            planner = ShareMapPlanner::default();
        }
        if let Some(term) = term.filter(|_| !state.is_stopping()) {
            form(&state, term).await;
            end_change(&state, &mut change).await;
            // Without a lease of its own this node may no longer be the leader: it decides nothing
            // then.
            if state.is_leased(boot_now()) {
                share(&state, term, &mut planner).await;
                purge(&state, &mut purged).await;
            }
        }
        look_at_settings(&state, &mut settings);
        state.judge_state();
        hand_over_if_unable(&state, &mut handed).await;
    }
}

/// Ends a change of the members that is stuck: the leader that began it may have lost its
/// leadership between the two steps, and until the second step everything needs a majority of old
/// and new.
async fn end_change(state: &NodeState, since: &mut Option<Instant>) {
    if state.raft.status().changing.is_none() {
        *since = None;
        return;
    }
    if since.get_or_insert_with(Instant::now).elapsed() < CHANGE_STANDS {
        return;
    }
    *since = None;
    match tokio::time::timeout(HAND_OVER_TIMEOUT, state.raft.end_change()).await {
        Ok(Ok(())) => tracing::warn!("a change of the members that stood still was ended"),
        Ok(Err(error)) => tracing::warn!(%error, "a change of the members stands still"),
        Err(_) => tracing::warn!("a change of the members stands still"),
    }
}

/// Sets what a new cluster lacks, and default limits that differ from this node's configuration.
async fn form(state: &NodeState, term: u64) {
    let (view, cluster) = (state.shared.view(), state.shared.cluster());
    let level = known_level(state, view.share_maps.is_empty());
    if cluster.level < level {
        tracing::info!(level, "every member knows the rules of this level: they apply");
        let command = Command::SetLevel { level };
        state.raft.submit(proposal(Actor::System, None, command)).await.ok();
        return;
    }
    let terms = state.config.lease_terms();
    if cluster.level >= 2 && cluster.terms() != Some(terms) {
        tracing::info!(
            lease_ms = terms.lease_ms,
            clock_error_ms = terms.clock_error_ms_max,
            "setting the lease terms of the cluster"
        );
        let command = Command::SetTerms { terms };
        state.raft.submit(proposal(Actor::System, None, command)).await.ok();
    }
    let defaults = default_limits(state);
    if defaults != state.config.default_limits {
        let limits = state.config.default_limits.clone();
        tracing::info!("setting the default limits of the cluster");
        state
            .raft
            .submit(proposal(Actor::System, None, Command::SetDefaults { limits }))
            .await
            .ok();
    }
    if view.share_maps.is_empty() {
        // It applies from the beginning: no node can have spent before it.
        let nodes = state.raft.status().nodes;
        let nodes = nodes.iter().filter(|(_, n)| n.votes).map(|(id, _)| (*id, 1)).collect();
        let map = ShareMap { from: ClusterMs(0), nodes };
        let command = Command::SetShareMap { map, term };
        state.raft.submit(proposal(Actor::System, None, command)).await.ok();
    }
}

fn default_limits(state: &NodeState) -> Vec<Limit> {
    state.shared.view().defaults.iter().map(|spec| spec.limit.clone()).collect()
}

/// The newest level that every member knows, as each has recently reported. In a new cluster it is
/// enough that none has reported a lower one.
fn known_level(state: &NodeState, new: bool) -> u32 {
    let heard = state.heard.read().unwrap_or_else(PoisonError::into_inner).clone();
    let members = state.raft.status().nodes;
    let others = members.keys().filter(|node| **node != state.me);
    let known = others.map(|node| match heard.get(node) {
        Some(about) if new || state.heard_lately(*node) => level_of(&about.version),
        None if new => LEVEL,
        Some(_) | None => 1,
    });
    known.min().unwrap_or(LEVEL).min(LEVEL)
}

/// Erases records of keys that ended long ago, if the configuration says so. Checks some parts of
/// the table at a time, from `next` on.
async fn purge(state: &NodeState, next: &mut usize) {
    let Some(age_ms) = state.config.purge_after_ms else { return };
    if state.shared.cluster().level < 3 {
        return;
    }
    let now = state.now();
    let before = ClusterMs(now.0.saturating_sub(age_ms));
    let is_old = |entry: &&Arc<KeyEntry>| {
        erase::ended_at(&entry.record, now).is_some_and(|ended| ended < before)
    };
    let mut ids = Vec::new();
    let mut looked_at = 0;
    for part in state.shared.table.parts().skip(*next).take(PURGED_PARTS) {
        let room = caps::ERASED_AT_ONCE_MAX - ids.len();
        ids.extend(part.entries().filter(is_old).take(room).map(|entry| entry.record.id));
        if ids.len() == caps::ERASED_AT_ONCE_MAX {
            // This part may hold more.
            break;
        }
        looked_at += 1;
    }
    *next = if looked_at == 0 && ids.is_empty() { 0 } else { *next + looked_at };
    if ids.is_empty() {
        return;
    }
    let count = ids.len();
    let command = Command::EraseKeys { ids, ended_before: Some(before) };
    let submitted = state.raft.submit(proposal(Actor::System, None, command)).await;
    if matches!(submitted, Ok(Submitted { outcome: Outcome::Done, .. })) {
        tracing::info!(keys = count, "erased records of keys that ended before {before}");
    }
}

/// How this node's configuration differs from the cluster's settings, as last logged.
#[derive(Default)]
struct Settings {
    differs: [bool; SHARED_SETTINGS.len()],
}

/// Logs where this node's configuration differs from the cluster's: the leader's settings apply.
fn look_at_settings(state: &NodeState, said: &mut Settings) {
    let Some(terms) = state.shared.cluster().terms() else { return };
    let own = state.config.lease_terms();
    let differs = [
        own.lease_ms != terms.lease_ms,
        own.clock_error_ms_max != terms.clock_error_ms_max,
        default_limits(state) != state.config.default_limits,
    ];
    if differs == said.differs {
        return;
    }
    state.metrics.set_config_differs(differs);
    for (at, setting) in SHARED_SETTINGS.iter().enumerate() {
        if differs[at] && !said.differs[at] {
            tracing::warn!(
                setting,
                "this node's configuration differs from what the cluster runs by: keep the files alike"
            );
        }
    }
    said.differs = differs;
}

/// A leader that cannot write hands over to a voter that can, so that writes continue.
async fn hand_over_if_unable(state: &NodeState, handed: &mut Option<Instant>) {
    // A disk that hangs must not block the leader: the waiting appends then show that it cannot
    // write.
    tokio::time::timeout(LOOK_AT_DISK, state.raft.look_at_room()).await.ok();
    let health = state.raft.write_health();
    state.metrics.can_write.set(i64::from(health == WriteHealth::Fine));
    let unable = health != WriteHealth::Fine || state.agreement.differs();
    let leads = state.raft.leads_in().is_some() && !state.is_stopping();
    if !unable || !leads || handed.is_some_and(|at| at.elapsed() < HAND_OVER_PAUSE) {
        return;
    }
    *handed = Some(Instant::now());
    let status = state.raft.status();
    let able = status.nodes.iter().filter(|(node, member)| {
        let fine = || state.more_of(**node).is_some_and(|more| more.writes == Writes::Fine);
        **node != state.me && member.votes && fine() && state.said_ready(**node)
    });
    let target = able.max_by_key(|(_, member)| member.matched).map(|(node, _)| *node);
    let why = match health {
        WriteHealth::DiskFull => "its disk is full",
        WriteHealth::Stalled => "its disk does not confirm writes",
        WriteHealth::Fine => "its state differs from that of the other nodes",
    };
    let Some(target) = target else {
        tracing::error!(
            "this node leads and cannot write, for {why}; no other voter says that it can"
        );
        return;
    };
    tracing::error!(to = target.0, "this node leads and cannot write, for {why}: it hands over");
    if let Err(error) = state.raft.transfer_leadership(Some(target), HAND_OVER_TIMEOUT).await {
        tracing::warn!(%error, "the leadership was not handed over");
    }
}

/// Removes nodes from the share map that are away for a while, and adds those that hold a lease.
async fn share(state: &NodeState, term: u64, planner: &mut ShareMapPlanner) {
    let view = state.shared.view();
    let Some(last) = view.share_maps.last() else { return };
    settle_pending(state, term, last.from);
    let (now, status) = (boot_now(), state.raft.status());
    let (terms, cautious) = state.terms();
    in_office(state, term, |granter| granter.set_terms(terms, cautious));
    let members = status.nodes.iter().map(|(id, node)| (*id, node.votes));
    let wanted =
        in_office(state, term, |granter| planner.next(now, &cautious, granter, members, &view));
    if let Some(wanted) = wanted.flatten() {
        propose_map(state, term, wanted).await;
    }
}

/// A map whose proposal got no answer, but which is applied here, is committed.
fn settle_pending(state: &NodeState, term: u64, last: ClusterMs) {
    in_office(state, term, |granter| {
        if granter.map_pending().is_some_and(|from| from <= last) {
            granter.handle_map_committed(state.raft.applied());
        }
    });
}

async fn propose_map(state: &NodeState, term: u64, nodes: Vec<(NodeId, u32)>) {
    let now = state.now();
    let (terms, cautious) = state.terms();
    in_office(state, term, |granter| granter.set_terms(terms, cautious));
    let from = now + cautious.map_ahead_ms() + MAP_SLACK_MS;
    // Reported to the granter BEFORE the proposal: from here on no grant promises windows beyond
    // it.
    let told = in_office(state, term, |granter| granter.handle_map_proposed(now, from));
    if told != Some(true) {
        return;
    }
    let ids: Vec<u64> = nodes.iter().map(|(id, _)| id.0).collect();
    tracing::info!(nodes = ?ids, %from, "redistributing budgets");
    let command = Command::SetShareMap { map: ShareMap { from, nodes }, term };
    let submitted = state.raft.submit(proposal(Actor::System, None, command)).await;
    in_office(state, term, |granter| match submitted {
        Ok(Submitted { outcome: Outcome::Refused(_), .. })
        | Err(SubmitError::NotLeader | SubmitError::Busy | SubmitError::DiskFull) => {
            granter.handle_map_dropped(from);
        }
        Ok(done) => granter.handle_map_committed(done.index),
        // It may still be committed: `settle_pending` sees it, or another leader term begins.
        Err(SubmitError::Unknown | SubmitError::Stopped) => {}
    });
}

/// Runs a step on the granter of this term; `None` if the leadership has changed since.
fn in_office<R>(state: &NodeState, term: u64, step: impl FnOnce(&mut Granter) -> R) -> Option<R> {
    let mut leadership = state.leadership.lock().unwrap_or_else(PoisonError::into_inner);
    leadership
        .as_mut()
        .filter(|leadership| leadership.term == term)
        .map(|leadership| step(&mut leadership.granter))
}
