//! Only processes that end lose tokens: a token that is neither spent nor within reach was the share
//! of an incarnation that ended, or in its balance when it ended.

use fluxgate_engine::quota::Verdict;
use fluxgate_types::NodeId;

use super::{Invariant, find};
use crate::messages::{Charged, Seen};
use crate::world::World;

pub(super) struct Judge;

impl Invariant for Judge {
    fn name(&self) -> &'static str {
        "loss_is_bounded"
    }

    fn see(&mut self, world: &World, _: NodeId, seen: &Seen) -> Result<(), String> {
        let Seen::Decided { decision, at, charged, .. } = seen else { return Ok(()) };
        let Some((one, spec)) = Charged::deciding(charged, decision) else { return Ok(()) };
        if decision.verdict != Verdict::Limited {
            return Ok(());
        }
        let counter = one.counter(spec, *at);
        let id = (counter.subject, counter.limit, counter.window);
        let Some(window) = world.book.windows.get(&id) else { return Ok(()) };
        if !world.limit_is_settled(&id) {
            return Ok(());
        }
        let found = find(world, &counter, &one.limits, spec);
        let budget = spec.limit.tokens;
        let gone = budget.saturating_sub(window.spent + found.reachable);
        if gone > found.unusable + window.lost {
            return Err(format!(
                "{counter:?}: of {budget}, {} spent, {} within reach; {gone} are gone, but only {} + {} were lost",
                window.spent, found.reachable, found.unusable, window.lost
            ));
        }
        Ok(())
    }
}
