//! Without faults every request is answered, and a window admits the demand, up to its budget.

use super::was_changed;
use crate::observations::Window;
use crate::world::{Shared, Validate};

/// Judges the answer to one validate, or its absence.
pub(super) fn answered(
    world: &Shared,
    asked: &Validate,
    status: Option<u16>,
) -> Result<(), String> {
    let unserved = status.is_none_or(|status| status == 503);
    if unserved && world.lock().observations.was_calm(asked.began, asked.ended) {
        return Err(format!("nothing was wrong, and {asked:?} was answered {status:?}"));
    }
    Ok(())
}

/// Judges a window that is over.
pub(super) fn closed(
    world: &Shared,
    key: usize,
    reset: u64,
    window: &Window,
) -> Result<(), String> {
    let period = world.plan.base.limits[0].1 * 1_000;
    let changed = was_changed(world, key, window);
    let mut state = world.lock();
    let observations = &mut state.observations;
    observations.counts.windows.0 += 1;
    // Calm from one period before the first use, because the window may have begun that early.
    let calm =
        observations.was_calm(window.seen.0.saturating_sub(period), window.seen.1) && !changed;
    if !calm {
        return Ok(());
    }
    observations.counts.windows.1 += 1;
    let Some(cost) = window.denied_min else { return Ok(()) };
    observations.counts.windows.2 += 1;
    if window.admitted + cost > window.limit.1 {
        return Ok(());
    }
    Err(format!(
        "key {key}, window until {reset}: {cost} was denied, and {} of {} admitted: {window:?}",
        window.admitted, window.limit.1
    ))
}
