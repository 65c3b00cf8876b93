//! At the instant of a final denial less than its cost is left anywhere.

use fluxgate_engine::quota::Verdict;
use fluxgate_types::NodeId;

use super::{Invariant, find};
use crate::messages::{Charged, Seen};
use crate::world::World;

pub(super) struct Judge;

impl Invariant for Judge {
    fn name(&self) -> &'static str {
        "denials_are_proven"
    }

    fn see(&mut self, world: &World, node: NodeId, seen: &Seen) -> Result<(), String> {
        let Seen::Decided { request, decision, at, charged } = seen else { return Ok(()) };
        let Some((one, spec)) = Charged::deciding(charged, decision) else { return Ok(()) };
        if decision.verdict != Verdict::Limited || request.cost == 0 {
            return Ok(());
        }
        let counter = one.counter(spec, *at);
        // After a cut of the limit some nodes hold tokens that others have overspent.
        if !world.limit_is_settled(&(counter.subject, counter.limit, counter.window)) {
            return Ok(());
        }
        let left = find(world, &counter, &one.limits, spec).reachable;
        if left >= request.cost {
            return Err(format!(
                "{counter:?}: node {node} denied {} with {left} left",
                request.cost
            ));
        }
        Ok(())
    }
}
