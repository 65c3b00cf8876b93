//! A decision uses the tokens that the limits of its key may have at that moment, also for a request
//! that waited while they changed.

use fluxgate_engine::quota::Verdict;
use fluxgate_types::NodeId;

use super::Invariant;
use crate::book::LimitsSet;
use crate::messages::Seen;
use crate::world::World;

pub(super) struct Judge;

impl Invariant for Judge {
    fn name(&self) -> &'static str {
        "limits_are_as_set"
    }

    fn see(&mut self, world: &World, node: NodeId, seen: &Seen) -> Result<(), String> {
        let Seen::Decided { request, decision, charged, .. } = seen else { return Ok(()) };
        if decision.verdict == Verdict::Unavailable || world.stood_still(node, request.taken) {
            return Ok(());
        }
        let Some(facts) = world.book.keys.get(&request.key) else { return Ok(()) };
        // The first are those of the key.
        let limits = charged.first().into_iter().flat_map(|of_key| of_key.limits.specs.iter());
        for spec in limits {
            let name = &spec.limit.name;
            let sets: Vec<&LimitsSet> = facts.limits_within(world.now, world.now).collect();
            // Requests that came before the key lost a limit are decided by it as it was.
            let has = |set: &&LimitsSet| set.tokens.contains_key(name);
            let uses = |set: &&LimitsSet| set.tokens.get(name) == Some(&spec.limit.tokens);
            if sets.iter().all(has) && !sets.iter().any(uses) {
                return Err(format!(
                    "node {node} decided {request:?} by {} of {name}, which is not in force",
                    spec.limit.tokens
                ));
            }
        }
        Ok(())
    }
}
