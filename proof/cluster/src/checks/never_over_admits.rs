//! What all nodes admitted in a window, over all their lives, is at most its budget.

use super::was_changed;
use crate::book::Window;
use crate::world::Shared;

pub(super) fn look(world: &Shared, key: usize, window: &Window) -> Result<(), String> {
    // Where the limit was being changed, the largest value that it ever had.
    let ever = world.lock().book.keys.get(key).map_or(0, |key| key.tokens_max);
    let most =
        if was_changed(world, key, window) { ever.max(window.limit.1) } else { window.limit.1 };
    if window.admitted <= most {
        return Ok(());
    }
    Err(format!("key {key}: {} of {most} admitted: {window:?}", window.admitted))
}
