//! At the instant of a final denial less than its cost is left anywhere.

use fluxgate_engine::quota::{CounterId, Verdict};
use fluxgate_types::NodeId;

use super::{Invariant, find};
use crate::messages::Seen;
use crate::world::World;

pub(super) struct Judge;

impl Invariant for Judge {
    fn name(&self) -> &'static str {
        "denials_are_proven"
    }

    fn see(&mut self, world: &World, node: NodeId, seen: &Seen) -> Result<(), String> {
        let Seen::Decided { request, decision, at, limits } = seen else { return Ok(()) };
        let Some(spec) = limits.specs.get(decision.limit_at) else { return Ok(()) };
        if decision.verdict != Verdict::Limited || request.cost == 0 {
            return Ok(());
        }
        let window = spec.limit.window_at(*at).number;
        // After a cut of the limit some nodes hold tokens that others have overspent.
        if !world.limit_is_settled(&(request.key.into(), spec.tag, window)) {
            return Ok(());
        }
        let counter = CounterId { subject: request.key.into(), limit: spec.tag, window };
        let left = find(world, &counter, limits, spec).reachable;
        if left >= request.cost {
            return Err(format!(
                "{counter:?}: node {node} denied {} with {left} left",
                request.cost
            ));
        }
        Ok(())
    }
}
