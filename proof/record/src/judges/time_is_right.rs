//! Cluster time is true time: the window's end in an answer is within a period of the moment of the
//! answer.
//!
//! Wall clocks jump by hours in a run and stay wrong, and the leader slews towards its own by one
//! per cent. Cluster time may be off by that much and no more, however far a clock is off.

use super::CheckResult;
use crate::history::{SECOND, Us};
use crate::knowledge::Knowledge;

/// Error of a node's estimate and of the harness's clock.
const ERROR: Us = 2 * SECOND;
/// Largest sum of slewing and drift over a run, percent.
const STEERED_PERCENT: Us = 3;

pub(super) fn judge(known: &Knowledge) -> CheckResult {
    let mut result = CheckResult::new("time_is_right");
    let Some(wall) = known.run.as_ref().map(|run| run.wall_us).filter(|wall| *wall > 0) else {
        return result;
    };
    let mut furthest: i64 = 0;
    for validate in known.validates.iter().filter(|v| matches!(v.s, 200 | 429)) {
        let Some(key) = known.keys.get(&validate.k) else { continue };
        let Some(reset) = validate.h.reset else { continue };
        let (ends, period) = (reset.saturating_mul(SECOND), key.period_s * SECOND);
        let error = ERROR + validate.t1 * STEERED_PERCENT / 100;
        // The window was open at some moment between request and answer.
        let (asked, answered) = (wall + validate.t0, wall + validate.t1);
        let ahead = ends.saturating_sub(period).saturating_sub(answered);
        let behind = asked.saturating_sub(ends);
        let off = i64::try_from(ahead).unwrap_or(i64::MAX).saturating_sub_unsigned(behind);
        if off.unsigned_abs() > furthest.unsigned_abs() {
            furthest = off;
        }
        result.judge(ahead <= error && behind <= error, || {
            format!("cluster time is {} s off: {validate:?}", off / 1_000_000)
        });
    }
    result.note = format!("at most {} ms off", furthest / 1_000);
    result
}

#[cfg(test)]
mod tests {
    use super::super::testing::{answer, counts, create, run, validate};
    use super::*;
    use crate::history::Event;

    #[test]
    fn a_window_that_is_too_early_or_late_is_a_violation() {
        let at = |reset: u64| {
            let mut first = run();
            if let Event::Run(run) = &mut first {
                run.wall_us = 1_000 * SECOND;
            }
            let events =
                vec![first, create(1, (0, 5), 201), validate(answer((10, 20), 200, 5, reset))];
            counts(&judge(&Knowledge::new(events)))
        };
        assert_eq!(at(1_002), (1, 0));
        assert_eq!(at(1_000), (1, 0));
        assert_eq!(at(1_090), (1, 1));
        assert_eq!(at(914), (1, 1));
    }
}
