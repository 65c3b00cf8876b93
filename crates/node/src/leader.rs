//! What only the leader does, besides granting leases: the default limits and the share map.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use fluxgate_engine::keeper::Keeper;
use fluxgate_engine::lease::Granter;
use fluxgate_engine::registry::command::{Actor, Command, Outcome};
use fluxgate_engine::share::ShareMap;
use fluxgate_raft::{SubmitError, Submitted};
use fluxgate_types::{ClusterMs, Limit, NodeId};

use crate::clock::boot_now;
use crate::core::Core;
use crate::writes::proposal;

/// How often the leader looks.
const EVERY: Duration = Duration::from_millis(200);
/// What a map begins later than it must, so that a slow commit wastes no attempt, milliseconds.
const MAP_SLACK_MS: u64 = 1_000;

/// Looks after what the leader owes the cluster.
pub(crate) async fn run(core: Arc<Core>) {
    let mut every = tokio::time::interval(EVERY);
    let mut keeper = Keeper::default();
    let mut office = None;
    loop {
        every.tick().await;
        let term = core.take_office();
        if term != office {
            office = term;
            keeper = Keeper::default();
        }
        if let Some(term) = term.filter(|_| !core.is_stopping()) {
            form(&core, term).await;
            share(&core, term, &mut keeper).await;
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
async fn share(core: &Core, term: u64, keeper: &mut Keeper) {
    let view = core.shared.view();
    let Some(last) = view.share_maps.last() else { return };
    settle_pending(core, term, last.from);
    let (now, status) = (boot_now(), core.cluster.status());
    let members = status.nodes.iter().map(|(id, node)| (*id, node.votes));
    let wanted =
        in_office(core, term, |granter| keeper.next(now, &core.terms, granter, members, &view));
    if let Some(wanted) = wanted.flatten() {
        propose_map(core, term, wanted).await;
    }
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
