//! Remaining never rises on one node within a window, and where a request for one token was denied
//! it is 0, unless the denial was not proven: that happens after faults only.

use super::Said;
use crate::book::Window;
use crate::world::Validate;

pub(super) fn answered(
    window: &mut Window,
    calm: bool,
    asked: &Validate,
    status: u16,
    said: Said,
) -> Result<(), String> {
    if window.limit.0 != window.limit.1 {
        // A raised limit raises what remains of it.
        window.remaining.clear();
        return Ok(());
    }
    if calm && status == 429 && asked.cost == 1 && said.remaining != 0 {
        return Err(format!("denied with {} remaining: {asked:?}", said.remaining));
    }
    let heard = window.remaining.entry((asked.node.0, asked.life)).or_default();
    let before = heard.partition_point(|(ended, _)| *ended < asked.began);
    let least = before.checked_sub(1).and_then(|at| heard.get(at)).map_or(u64::MAX, |at| at.1);
    let so_far = heard.last().map_or(u64::MAX, |at| at.1);
    // A denial of a larger request shows no more than what it found.
    if status == 200 || said.remaining < so_far {
        heard.push((asked.ended, so_far.min(said.remaining)));
    }
    if said.remaining > least {
        return Err(format!("remaining rose from {least} to {}: {asked:?}", said.remaining));
    }
    Ok(())
}
