//! What only the leader does, besides granting leases: the default limits and the share map.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use fluxgate_engine::lease::Granter;
use fluxgate_engine::registry::command::{Actor, Command, Outcome};
use fluxgate_engine::share::ShareMap;
use fluxgate_raft::{SubmitError, Submitted};
use fluxgate_types::{BootNs, ClusterMs, Limit, NodeId};

use crate::clock::boot_now;
use crate::core::Core;
use crate::writes::proposal;

/// How often the leader looks.
const EVERY: Duration = Duration::from_millis(200);
/// A node leaves the share map when its lease has been gone for so many leases.
const GONE_LEASES: u64 = 2;
/// What a map begins later than it must, so that a slow commit wastes no attempt, milliseconds.
const MAP_SLACK_MS: u64 = 1_000;

/// Looks after what the leader owes the cluster.
pub(crate) async fn run(core: Arc<Core>) {
    let mut every = tokio::time::interval(EVERY);
    // Since when each node has been without a lease, in this office.
    let mut gone: BTreeMap<NodeId, BootNs> = BTreeMap::new();
    let mut office = None;
    loop {
        every.tick().await;
        let term = core.take_office();
        if term != office {
            office = term;
            gone.clear();
        }
        if let Some(term) = term.filter(|_| !core.is_stopping()) {
            form(&core, term).await;
            share(&core, term, &mut gone).await;
        }
    }
}

/// Sets what a new cluster lacks, and default limits that differ from this node's configuration.
async fn form(core: &Core, term: u64) {
    let view = core.shared.view();
    let defaults: Vec<Limit> = view.defaults.iter().map(|spec| spec.limit.clone()).collect();
    if defaults != core.config.default_limits {
        let limits = core.config.default_limits.clone();
        tracing::info!("setting the default limits of the cluster");
        core.cluster
            .submit(proposal(Actor::System, None, Command::SetDefaults { limits }))
            .await
            .ok();
    }
    if view.share_maps.is_empty() {
        // It counts from the beginning: nobody can have spent before it.
        let nodes = core.cluster.status().nodes;
        let nodes = nodes.iter().filter(|(_, n)| n.votes).map(|(id, _)| (*id, 1)).collect();
        let map = ShareMap { from: ClusterMs(0), nodes };
        let command = Command::SetShareMap { map, term };
        core.cluster.submit(proposal(Actor::System, None, command)).await.ok();
    }
}

/// Takes nodes out of the share map that are gone for a while, and in those that hold a lease.
async fn share(core: &Core, term: u64, gone: &mut BTreeMap<NodeId, BootNs>) {
    let view = core.shared.view();
    let Some(last) = view.share_maps.last() else { return };
    settle_pending(core, term, last.from);
    let (now, status) = (boot_now(), core.cluster.status());
    let in_map = |node: &NodeId| last.nodes.iter().any(|(id, _)| id == node);
    let mut wanted = Vec::new();
    for (node, member) in &status.nodes {
        let latest = in_office(core, term, |granter| granter.latest(*node)).flatten();
        // What an earlier leader granted counts as a lease held: it is no reason to come in, and
        // none to go.
        let leased = *node == core.me || latest.is_some_and(|until| until > now);
        let registered = view.nodes.get(node).is_some_and(|known| !known.removed);
        if leased {
            gone.remove(node);
        }
        let since = if leased { now } else { *gone.entry(*node).or_insert(now) };
        let long_gone = now.since(since) > GONE_LEASES * core.terms.lease_ms * 1_000_000;
        let stays = if in_map(node) { !long_gone } else { leased && registered };
        if member.votes && stays {
            wanted.push((*node, 1));
        }
    }
    if wanted.is_empty() || wanted == last.nodes {
        return;
    }
    propose_map(core, term, wanted).await;
}

/// A map whose proposal got no answer, but which is applied here: it is committed.
fn settle_pending(core: &Core, term: u64, last: ClusterMs) {
    in_office(core, term, |granter| {
        if granter.map_pending().is_some_and(|from| from <= last) {
            granter.handle_map_committed(core.cluster.applied());
        }
    });
}

async fn propose_map(core: &Core, term: u64, nodes: Vec<(NodeId, u32)>) {
    let now = core.now();
    let from = now + core.terms.map_ahead_ms() + MAP_SLACK_MS;
    // Told BEFORE it is proposed: from here on no grant promises windows beyond it.
    let told = in_office(core, term, |granter| granter.handle_map_proposed(now, from));
    if told != Some(true) {
        return;
    }
    let ids: Vec<u64> = nodes.iter().map(|(id, _)| id.0).collect();
    tracing::info!(nodes = ?ids, %from, "splitting budgets anew");
    let command = Command::SetShareMap { map: ShareMap { from, nodes }, term };
    let submitted = core.cluster.submit(proposal(Actor::System, None, command)).await;
    in_office(core, term, |granter| match submitted {
        Ok(Submitted { outcome: Outcome::Refused(_), .. })
        | Err(SubmitError::NotLeader | SubmitError::Busy | SubmitError::DiskFull) => {
            granter.handle_map_dropped(from);
        }
        Ok(done) => granter.handle_map_committed(done.index),
        // It may yet be committed; `settle_pending` sees it, or another office begins.
        Err(SubmitError::Unknown | SubmitError::Stopped) => {}
    });
}

/// A step of the granter of this term; nothing where the office has changed since.
fn in_office<R>(core: &Core, term: u64, step: impl FnOnce(&mut Granter) -> R) -> Option<R> {
    let mut office = core.office.lock().unwrap_or_else(PoisonError::into_inner);
    office.as_mut().filter(|office| office.term == term).map(|office| step(&mut office.granter))
}
