//! An orderly restart of one node, alone in its window, makes no denial unproven.

use super::Invariant;
use crate::book::{Window, WindowId};
use crate::world::World;
use fluxgate_plan::MS;

pub(super) struct Judge;

impl Invariant for Judge {
    fn name(&self) -> &'static str {
        "restart_is_free"
    }

    fn closed(
        &mut self,
        world: &World,
        id: &WindowId,
        window: &Window,
        _calm: bool,
    ) -> Result<(), String> {
        // Where a key has several limits, requests that wait for tokens of a window which the node had
        // not opened hold those of this one.
        if !world.limit_was_settled(id, window) || world.plan.limits.len() > 1 {
            return Ok(());
        }
        let from = window.seen.0.saturating_sub(window.spec.limit.period_ms * MS);
        let from = from.saturating_sub(world.settle_time());
        if window.unproven > 0 && world.book.was_one_restart(id, from, window.seen.1) {
            return Err(format!("{id:?}: {} denials without a proof", window.unproven));
        }
        Ok(())
    }
}
