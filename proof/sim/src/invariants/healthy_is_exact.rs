//! With no fault in a window, admitted = min(demand, budget), and nothing is denied unproven.

use super::Invariant;
use crate::book::{Window, WindowId};
use crate::world::World;

pub(super) struct Judge;

impl Invariant for Judge {
    fn name(&self) -> &'static str {
        "healthy_is_exact"
    }

    fn closed(
        &mut self,
        world: &World,
        id: &WindowId,
        window: &Window,
        calm: bool,
    ) -> Result<(), String> {
        if !calm || !world.limit_was_settled(id, window) {
            return Ok(());
        }
        if window.degraded > 0 {
            return Err(format!("{id:?}: {} denials without a proof", window.degraded));
        }
        let budget = window.spec.limit.tokens;
        if window.denied_one > 0 && window.spent != budget {
            return Err(format!("{id:?}: denied with {} of {budget} spent", window.spent));
        }
        Ok(())
    }
}
