//! All nodes together, over all their incarnations, admit at most the budget of a window.

use super::was_changed;
use crate::observations::Window;
use crate::world::Shared;

pub(super) fn look(world: &Shared, key: usize, window: &Window) -> Result<(), String> {
    // If the limit may have changed, the largest value that it ever had counts.
    let ever = world.lock().observations.keys.get(key).map_or(0, |key| key.tokens_max);
    let most =
        if was_changed(world, key, window) { ever.max(window.limit.1) } else { window.limit.1 };
    if window.admitted <= most {
        return Ok(());
    }
    Err(format!("key {key}: {} of {most} admitted: {window:?}", window.admitted))
}
