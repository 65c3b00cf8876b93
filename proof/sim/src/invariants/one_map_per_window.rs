//! All nodes that spend in a window have opened it under the same share map.

use fluxgate_engine::quota::{CounterId, Verdict};
use fluxgate_types::NodeId;

use super::Invariant;
use crate::messages::{Charged, Seen};
use crate::world::World;

pub(super) struct Judge;

impl Invariant for Judge {
    fn name(&self) -> &'static str {
        "one_map_per_window"
    }

    fn see(&mut self, world: &World, node: NodeId, seen: &Seen) -> Result<(), String> {
        let Seen::Decided { request, decision, at, charged } = seen else { return Ok(()) };
        if decision.verdict != Verdict::Admitted || request.cost == 0 {
            return Ok(());
        }
        let Some(process) = world.node(node) else { return Ok(()) };
        let of = |one: &Charged| -> Vec<CounterId> {
            one.limits.specs.iter().map(|spec| one.counter(spec, *at)).collect()
        };
        for counter in charged.iter().flat_map(of) {
            let number = counter.window;
            let mine = process.shard.observe(&counter).map(|seen| seen.map_from);
            let known = world.book.windows.get(&(counter.subject, counter.limit, number));
            let first = known.and_then(|window| window.map_from);
            if mine != first {
                return Err(format!(
                    "window {number} of {}: node {node} spends under the map from {mine:?}, others under {first:?}",
                    counter.subject
                ));
            }
        }
        Ok(())
    }
}
