//! Remaining never rises on one node within a window. When a request for one token is denied, it is
//! 0, unless the denial was unproven, which happens only after faults.

use super::LimitHeaders;
use crate::observations::Window;
use crate::world::Validate;

pub(super) fn answered(
    window: &mut Window,
    calm: bool,
    asked: &Validate,
    status: u16,
    headers: LimitHeaders,
) -> Result<(), String> {
    if window.limit.0 != window.limit.1 {
        // A raised limit raises Remaining.
        window.remaining.clear();
        return Ok(());
    }
    if calm && status == 429 && asked.cost == 1 && headers.remaining != 0 {
        return Err(format!("denied with {} remaining: {asked:?}", headers.remaining));
    }
    let heard = window.remaining.entry((asked.node.0, asked.incarnation)).or_default();
    let before = heard.partition_point(|(ended, _)| *ended < asked.began);
    let least = before.checked_sub(1).and_then(|at| heard.get(at)).map_or(u64::MAX, |at| at.1);
    let so_far = heard.last().map_or(u64::MAX, |at| at.1);
    // The denial of a larger request shows only the tokens that it found.
    if status == 200 || headers.remaining < so_far {
        heard.push((asked.ended, so_far.min(headers.remaining)));
    }
    if headers.remaining > least {
        return Err(format!("remaining rose from {least} to {}: {asked:?}", headers.remaining));
    }
    Ok(())
}
