//! Without faults every request is answered, and a window admits what it was asked for, up to its
//! budget.

use super::was_changed;
use crate::book::Window;
use crate::world::{Shared, Validate};

/// An answer, or none, to one validate.
pub(super) fn answered(
    world: &Shared,
    asked: &Validate,
    status: Option<u16>,
) -> Result<(), String> {
    let refused = status.is_none_or(|status| status == 503);
    if refused && world.lock().book.was_calm(asked.began, asked.ended) {
        return Err(format!("nothing was wrong, and {asked:?} came to {status:?}"));
    }
    Ok(())
}

/// A window is over.
pub(super) fn closed(
    world: &Shared,
    key: usize,
    reset: u64,
    window: &Window,
) -> Result<(), String> {
    let period = world.plan.base.limits[0].1 * 1_000;
    let changed = was_changed(world, key, window);
    let mut state = world.lock();
    let book = &mut state.book;
    book.counts.windows.0 += 1;
    // From before it began, whenever it was first used.
    let calm = book.was_calm(window.seen.0.saturating_sub(period), window.seen.1) && !changed;
    if !calm {
        return Ok(());
    }
    book.counts.windows.1 += 1;
    let Some(cost) = window.denied_min else { return Ok(()) };
    book.counts.windows.2 += 1;
    if window.admitted + cost > window.limit.1 {
        return Ok(());
    }
    Err(format!(
        "key {key}, window until {reset}: {cost} was denied, and {} of {} admitted: {window:?}",
        window.admitted, window.limit.1
    ))
}
