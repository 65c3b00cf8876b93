//! All nodes that spend in a window have opened it under the same share map.

use fluxgate_engine::counters::Verdict;
use fluxgate_types::{ClusterMs, NodeId};

use super::Invariant;
use crate::messages::Seen;
use crate::world::World;

pub(super) struct Judge;

impl Invariant for Judge {
    fn name(&self) -> &'static str {
        "one_map_per_window"
    }

    fn see(&mut self, world: &World, node: NodeId, seen: &Seen) -> Result<(), String> {
        let Seen::Decided { request, decision, at, limits } = seen else { return Ok(()) };
        if decision.verdict != Verdict::Admitted || request.cost == 0 {
            return Ok(());
        }
        let Some(process) = world.node(node) else { return Ok(()) };
        let view = process.view();
        for spec in limits.limits.iter() {
            let number = spec.limit.window_at(*at);
            let start = ClusterMs(number * spec.limit.period_ms);
            let mine = view.map_at(start).map(|map| map.from);
            let known = world.book.windows.get(&(request.key, spec.tag, number));
            let first = known.and_then(|window| window.map_from);
            if mine != first {
                return Err(format!(
                    "window {number} of {}: node {node} spends under the map from {mine:?}, others under {first:?}",
                    request.key
                ));
            }
        }
        Ok(())
    }
}
