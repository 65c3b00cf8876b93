//! However far the wall clocks of a minority are off, cluster time stays within what the others
//! showed at some moment, except for what clocks that drift move it between two corrections, and for
//! the time for which clocks stood still. And no node begins to lead with a cluster time that a majority
//! has left behind, whatever happened to its clocks.

use fluxgate_types::NodeId;

use super::Invariant;
use crate::messages::Seen;
use crate::node::Node;
use crate::world::World;
use fluxgate_plan::MS;

pub(super) struct Judge;

/// Boot clocks drift by less than this from the wall clocks, and a leader corrects cluster time for
/// only a part of the time: of a hundred, this much.
const DRIFT_PERCENT: u64 = 1;

impl Invariant for Judge {
    fn name(&self) -> &'static str {
        "time_is_bounded"
    }

    fn see(&mut self, world: &World, node: NodeId, seen: &Seen) -> Result<(), String> {
        let (Seen::Elected(term), Some(leader)) = (seen, world.node(node)) else { return Ok(()) };
        // One that was deposed meanwhile and does not know it yet can grant nothing.
        if world.nodes().any(|other| other.replica.raft.leads_in() > Some(*term)) {
            return Ok(());
        }
        let own = leader.cluster_now(world.now) + world.plan.terms.clock_error_ms_max;
        let synced = world.nodes().filter(|other| other.member.clock().is_synced());
        let ahead = synced.filter(|other| other.cluster_now(world.now) > own).count();
        if 2 * ahead > world.slots.len() {
            return Err(format!(
                "node {node} leads in term {term} and cluster time is {own} at most, while {ahead} nodes are past that"
            ));
        }
        Ok(())
    }

    fn each_second(&mut self, world: &World) -> Result<(), String> {
        let minority = (world.slots.len() - 1) / 2;
        let mut lowest: Vec<i64> = world.slots.iter().map(|slot| slot.wall_ms.0).collect();
        let mut highest: Vec<i64> = world.slots.iter().map(|slot| slot.wall_ms.1).collect();
        lowest.sort_unstable();
        highest.sort_unstable();
        let (low, high) = (lowest[minority], highest[highest.len() - 1 - minority]);
        let slack = 2 * world.plan.terms.clock_error_ms_max + world.now * DRIFT_PERCENT / 100 / MS;
        let slack = i64::try_from(slack).unwrap_or(i64::MAX);
        let stood_still = i64::try_from(world.book.stood_still / MS).unwrap_or(i64::MAX);
        let low = low.saturating_sub(stood_still);
        let judged = |node: &&Node| {
            node.member.clock().is_synced() && !world.stood_still(node.id, world.now)
        };
        for node in world.nodes().filter(judged) {
            let ahead_ms = world.ahead_of_true_ms(node);
            if ahead_ms > high.saturating_add(slack) || ahead_ms < low.saturating_sub(slack) {
                return Err(format!(
                    "node {}: cluster time is {ahead_ms} ms ahead of true time, the wall clocks of a majority were between {low} and {high}",
                    node.id
                ));
            }
        }
        Ok(())
    }
}
