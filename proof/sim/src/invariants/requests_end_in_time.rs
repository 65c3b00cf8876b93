//! No request waits longer than it may, in whatever state its node is, except while the process is
//! stopped. Each tick that ends waiting requests may be forgotten.

use fluxgate_types::NodeId;

use super::Invariant;
use crate::messages::{Request, Seen};
use crate::world::World;
use fluxgate_plan::{MS, Us};

pub(super) struct Judge;

/// Allowance for clocks that run slower, and for steps that wait for their turn, milliseconds.
const SLACK_MS: u64 = 100;

fn judge(world: &World, node: NodeId, request: &Request) -> Result<(), String> {
    // Ticks come late by one at most.
    let longest: Us = (world.plan.waits.patience_ms() + SLACK_MS) * MS + 2 * world.plan.tick;
    let slot = usize::try_from(node.0 - 1).ok().and_then(|place| world.slots.get(place));
    let since = request.taken.max(slot.map_or(0, |slot| slot.paused_until));
    if since + longest < world.now {
        let waited = (world.now - since) / MS;
        return Err(format!("{node:?}: {request:?} waits for {waited} ms"));
    }
    Ok(())
}

impl Invariant for Judge {
    fn name(&self) -> &'static str {
        "requests_end_in_time"
    }

    fn see(&mut self, world: &World, node: NodeId, seen: &Seen) -> Result<(), String> {
        let Seen::Decided { request, .. } = seen else { return Ok(()) };
        judge(world, node, request)
    }

    fn each_second(&mut self, world: &World) -> Result<(), String> {
        let mut longest = world.nodes().filter_map(|n| n.waits_longest().map(|r| (n.id, r)));
        longest.try_for_each(|(node, request)| judge(world, node, request))
    }
}
