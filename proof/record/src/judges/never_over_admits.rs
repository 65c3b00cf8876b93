//! All nodes together, over all their incarnations, admit at most the budget of a window.
//!
//! The key and the reset in the answer name a window, so no clock of the harness takes part. If the
//! limit may have changed while the window was in use, the largest value that it may have had
//! counts. Lost answers may have been admissions too; so the true sum can only be larger than the
//! judged one.

use std::collections::BTreeMap;

use super::CheckResult;
use crate::history::Us;
use crate::knowledge::Knowledge;

#[derive(Debug, Default)]
struct Window {
    admitted: u64,
    span: Option<(Us, Us)>,
}

pub(super) fn judge(known: &Knowledge) -> CheckResult {
    let mut result = CheckResult::new("never_over_admits");
    let mut windows: BTreeMap<(u64, u64), Window> = BTreeMap::new();
    for validate in known.validates.iter().filter(|validate| validate.s == 200) {
        let Some(reset) = validate.h.reset else { continue };
        let window = windows.entry((validate.k, reset)).or_default();
        window.admitted += validate.cost;
        let span = window.span.unwrap_or((validate.t0, validate.t1));
        window.span = Some((span.0.min(validate.t0), span.1.max(validate.t1)));
    }
    let mut full = 0u64;
    for ((k, reset), window) in windows {
        let (Some(key), Some(span)) = (known.keys.get(&k), window.span) else { continue };
        let most = key.limits(span).into_iter().max().unwrap_or(0);
        full += u64::from(window.admitted == most);
        result.judge(window.admitted <= most, || {
            format!("key {k}, window until {reset}: {} of {most} admitted", window.admitted)
        });
    }
    result.note = format!("{full} windows spent to the last token");
    result
}

#[cfg(test)]
mod tests {
    use super::super::testing::{answer, change, counts, known, validate};
    use super::*;
    use crate::history::Change;

    fn admissions(count: u64, reset: u64) -> Vec<crate::history::Event> {
        let one = |at| validate(answer((100 + at, 101 + at), 200, 0, reset));
        (0..count).map(one).collect()
    }

    #[test]
    fn one_token_above_the_budget_is_a_violation() {
        assert_eq!(counts(&judge(&known(admissions(10, 4)))), (1, 0));
        assert_eq!(counts(&judge(&known(admissions(11, 4)))), (1, 1));
    }

    #[test]
    fn a_raised_limit_counts_unless_the_change_was_rejected() {
        for (status, violated) in [(200, 0), (0, 0), (503, 1)] {
            let mut events = admissions(12, 4);
            events.push(change(Change::Limit(12), (90, 95), status));
            assert_eq!(counts(&judge(&known(events))), (1, violated), "{status}");
        }
    }

    #[test]
    fn a_limit_lowered_before_the_window_counts_as_lowered() {
        let mut events = admissions(10, 4);
        events.push(change(Change::Limit(9), (50, 60), 200));
        assert_eq!(counts(&judge(&known(events))), (1, 1));
    }
}
