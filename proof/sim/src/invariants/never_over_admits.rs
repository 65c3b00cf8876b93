//! For each key, limit and window, all incarnations of all nodes together spend at most the budget.

use fluxgate_types::NodeId;

use super::Invariant;
use crate::book::{Window, WindowId};
use crate::messages::Seen;
use crate::world::World;

pub(super) struct Judge;

fn check(world: &World, id: &WindowId, window: &Window) -> Result<(), String> {
    let budget = world.budget(id, window);
    if window.spent > budget {
        return Err(format!("{id:?}: {} spent of {budget}", window.spent));
    }
    Ok(())
}

impl Invariant for Judge {
    fn name(&self) -> &'static str {
        "never_over_admits"
    }

    fn see(&mut self, world: &World, _: NodeId, seen: &Seen) -> Result<(), String> {
        let Seen::Decided { at, charged, .. } = seen else { return Ok(()) };
        for one in charged {
            for spec in one.limits.specs.iter() {
                let id = (one.subject, spec.tag, spec.limit.window_at(*at).number);
                if let Some(window) = world.book.windows.get(&id) {
                    check(world, &id, window)?;
                }
            }
        }
        Ok(())
    }

    fn closed(
        &mut self,
        world: &World,
        id: &WindowId,
        window: &Window,
        _: bool,
    ) -> Result<(), String> {
        check(world, id, window)
    }
}
