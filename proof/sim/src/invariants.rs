//! The invariants of `docs/protocol.md`, one file each, by name.
//!
//! An invariant knows what clients saw and what an observer outside of all nodes sees. It judges
//! each observation, once a second, each window that is over, and the end.

mod acked_is_durable;
mod cluster_heals;
mod created_means_usable;
mod denials_are_proven;
mod healthy_is_exact;
mod limits_are_as_set;
mod loss_is_bounded;
mod never_over_admits;
mod no_second_life;
mod old_directories_stay_out;
mod one_map_per_window;
mod remaining_is_honest;
mod replicas_agree;
mod requests_end_in_time;
mod restart_is_free;
mod revoked_means_revoked;
mod time_is_bounded;
mod tokens_are_conserved;
mod writes_go_on;

use fluxgate_engine::quota::{Context, CounterId, Entitlement, Incarnation, Shard, SubjectLimits};
use fluxgate_engine::state::record::LimitSpec;
use fluxgate_types::{BootId, ClusterMs, LogIndex, NodeId};

use crate::book::{Window, WindowId};
use crate::messages::Seen;
use crate::node::Node;
use crate::world::{Directory, Host, World};
use fluxgate_plan::Us;

/// An invariant that did not hold.
#[derive(Clone, Debug)]
pub struct Violation {
    /// Its name.
    pub invariant: &'static str,
    /// True time.
    pub at: Us,
    /// What was seen.
    pub what: String,
}

/// Something that must hold, whatever happens.
pub trait Invariant {
    /// Its name, as in `docs/protocol.md`.
    fn name(&self) -> &'static str;

    /// Something was seen at a node.
    ///
    /// # Errors
    /// What is wrong.
    fn see(&mut self, _world: &World, _node: NodeId, _seen: &Seen) -> Result<(), String> {
        Ok(())
    }

    /// A second has passed.
    ///
    /// # Errors
    /// What is wrong.
    fn each_second(&mut self, _world: &World) -> Result<(), String> {
        Ok(())
    }

    /// A window is over by every clock. `calm`: nothing had disturbed it.
    ///
    /// # Errors
    /// What is wrong.
    fn closed(
        &mut self,
        _world: &World,
        _id: &WindowId,
        _window: &Window,
        _calm: bool,
    ) -> Result<(), String> {
        Ok(())
    }

    /// The faults have stopped, and the time to heal has passed.
    ///
    /// # Errors
    /// What is wrong.
    fn healed(&mut self, _world: &World) -> Result<(), String> {
        Ok(())
    }

    /// The run is over, after a calm end.
    ///
    /// # Errors
    /// What is wrong.
    fn at_end(&mut self, _world: &World) -> Result<(), String> {
        Ok(())
    }
}

/// Every invariant.
#[must_use]
pub fn all() -> Vec<Box<dyn Invariant>> {
    vec![
        Box::new(never_over_admits::Judge),
        Box::new(tokens_are_conserved::Judge::default()),
        Box::new(denials_are_proven::Judge),
        Box::new(healthy_is_exact::Judge),
        Box::new(loss_is_bounded::Judge),
        Box::new(no_second_life::Judge::default()),
        Box::new(one_map_per_window::Judge),
        Box::new(revoked_means_revoked::Judge),
        Box::new(created_means_usable::Judge),
        Box::new(acked_is_durable::Judge),
        Box::new(replicas_agree::Judge::default()),
        Box::new(remaining_is_honest::Judge::default()),
        Box::new(requests_end_in_time::Judge),
        Box::new(cluster_heals::Judge),
        Box::new(restart_is_free::Judge),
        Box::new(time_is_bounded::Judge),
        Box::new(writes_go_on::Judge::default()),
        Box::new(limits_are_as_set::Judge),
        Box::new(old_directories_stay_out::Judge),
    ]
}

/// The tokens of one counter, as an observer finds them who sees every node.
#[derive(Clone, Copy, Debug, Default)]
struct Found {
    /// Tokens that some node may yet spend: in a balance, in a file, or on their way between running
    /// processes.
    reachable: u64,
    /// Shares that no process may use any more, and balances of removed nodes.
    unusable: u64,
}

/// Whether a node is removed and holds no lease: what it has will never be spent. Others do not wait
/// for its report, unless they know that it has had tokens of the window.
fn is_out(world: &World, id: NodeId) -> bool {
    let view = world.newest().map(Node::view);
    let removed = view.is_some_and(|view| view.nodes.get(&id).is_some_and(|node| node.removed));
    removed && world.node(id).is_none_or(|node| !node.is_leased(world.now))
}

/// The balance that the process on this machine, or the next one, has of a counter that it has not
/// opened.
fn unopened(
    world: &World,
    slot: &Host,
    id: NodeId,
    counter: &CounterId,
    limits: &SubjectLimits,
    spec: &LimitSpec,
) -> Option<fluxgate_engine::quota::Observed> {
    // Any node's maps will do: windows are opened under one map only.
    let view = world.newest()?.view();
    // Another directory opens nothing.
    let is_whole = slot.directory == Directory::Whole;
    let mut incarnation = match &slot.node {
        Some(node) if is_whole => Incarnation::clone(node.member.incarnation()),
        _ => {
            let (disk, next) = (&slot.disk, BootId(slot.disk.boots + 1));
            let left = disk.carryover.clone().filter(|_| is_whole);
            let (reached, error_ms) =
                (disk.clock.map(|(at, _)| at), world.plan.terms.clock_error_ms_max);
            let mut next = Incarnation::at_start(id, next, left, reached, &[], error_ms);
            next.entitlement = next.entitlement.filter(|_| is_whole);
            next
        }
    };
    // The directory of a removed node first counts its starts above the earlier ones.
    let newest = || world.nodes().filter_map(|n| n.member.incarnation().incarnations.of(id)).max();
    let counts_on = slot.node.as_ref().is_some_and(|node| newest() > Some(node.boot));
    if incarnation.entitlement().is_none() || counts_on {
        // It opens nothing before its first lease, and may use no share of what began before that.
        let (from, index) = (ClusterMs(u64::MAX), LogIndex(u64::MAX));
        incarnation.entitlement = Some(Entitlement::After { from, index });
    }
    let context = Context {
        boot: fluxgate_types::BootNs(0),
        now: world.cluster_max(),
        leased: true,
        horizon: ClusterMs(u64::MAX),
        view: &view,
        incarnation: &incarnation,
    };
    Shard::would_observe(&context, limits, spec, counter)
}

fn find(world: &World, counter: &CounterId, limits: &SubjectLimits, spec: &LimitSpec) -> Found {
    let mut found = Found::default();
    for (place, slot) in world.slots.iter().enumerate() {
        let id = NodeId(place as u64 + 1);
        let open = slot.node.as_deref().and_then(|node| node.shard.observe(counter));
        let seen = match open {
            Some(seen) => seen,
            None => match unopened(world, slot, id, counter, limits, spec) {
                Some(seen) => seen,
                None => continue,
            },
        };
        let balance = u64::try_from(seen.balance).unwrap_or(0);
        if is_out(world, id) {
            found.unusable += balance;
        } else {
            found.reachable += balance;
        }
        if !seen.usable {
            found.unusable += seen.share;
        }
        // Given by this incarnation to a running one, and not received yet: gossip repeats it.
        let Some(boot) = slot.node.as_deref().map(|node| node.boot) else { continue };
        for totals in seen.transfers {
            // A directory that has not joined may have counted as many starts.
            let is_it = |node: &&Node| node.takes_part() && Some(node.boot) == totals.boot;
            let Some(receiver) = world.node(totals.node).filter(is_it) else { continue };
            let theirs = receiver.shard.observe(counter).and_then(|seen| seen.with(id, boot));
            found.reachable += totals.given.saturating_sub(theirs.map_or(0, |theirs| theirs.got));
        }
    }
    found
}
