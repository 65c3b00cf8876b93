//! Only processes that end lose tokens: a token that is neither spent nor within reach was the share
//! of an incarnation that ended, or in its balance when it ended.

use fluxgate_engine::quota::{CounterId, Verdict};
use fluxgate_types::NodeId;

use super::{Invariant, find};
use crate::messages::Seen;
use crate::world::World;

pub(super) struct Judge;

impl Invariant for Judge {
    fn name(&self) -> &'static str {
        "loss_is_bounded"
    }

    fn see(&mut self, world: &World, _: NodeId, seen: &Seen) -> Result<(), String> {
        let Seen::Decided { request, decision, at, limits } = seen else { return Ok(()) };
        let Some(spec) = limits.specs.get(decision.limit_at) else { return Ok(()) };
        if decision.verdict != Verdict::Limited {
            return Ok(());
        }
        let id = (request.key.into(), spec.tag, spec.limit.window_at(*at).number);
        let Some(window) = world.book.windows.get(&id) else { return Ok(()) };
        if !world.limit_is_settled(&id) {
            return Ok(());
        }
        let counter = CounterId { subject: id.0, limit: id.1, window: id.2 };
        let found = find(world, &counter, limits, spec);
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
