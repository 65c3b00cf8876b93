//! What all nodes admitted in a window, over all their lives, is at most its budget.
//!
//! A window is named by the key and the reset that the answer itself names, so no clock of the
//! harness is in it. Where the limit may have changed while the window was in use, the largest
//! value that it may have had counts. Answers that were lost may have been admissions too; that
//! only makes the true sum larger than the one judged.

use std::collections::BTreeMap;

use super::Tally;
use crate::history::Us;
use crate::knowledge::Knowledge;

#[derive(Debug, Default)]
struct Window {
    admitted: u64,
    span: Option<(Us, Us)>,
}

pub(super) fn judge(known: &Knowledge) -> Tally {
    let mut tally = Tally::new("never_over_admits");
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
        tally.judge(window.admitted <= most, || {
            format!("key {k}, window until {reset}: {} of {most} admitted", window.admitted)
        });
    }
    tally.note = format!("{full} windows spent to the last token");
    tally
}

#[cfg(test)]
mod tests {
    use super::super::testing::{answer, change, figures, known, validate};
    use super::*;
    use crate::history::Change;

    fn admissions(count: u64, reset: u64) -> Vec<crate::history::Event> {
        let one = |at| validate(answer((100 + at, 101 + at), 200, 0, reset));
        (0..count).map(one).collect()
    }

    #[test]
    fn the_whole_budget_is_fine_and_one_more_is_not() {
        assert_eq!(figures(&judge(&known(admissions(10, 4)))), (1, 0));
        assert_eq!(figures(&judge(&known(admissions(11, 4)))), (1, 1));
    }

    #[test]
    fn a_raise_counts_while_it_may_be_in_force_and_not_when_it_was_refused() {
        for (status, violated) in [(200, 0), (0, 0), (503, 1)] {
            let mut events = admissions(12, 4);
            events.push(change(Change::Limit(12), (90, 95), status));
            assert_eq!(figures(&judge(&known(events))), (1, violated), "{status}");
        }
    }

    #[test]
    fn a_limit_that_was_lowered_before_is_the_lower_one() {
        let mut events = admissions(10, 4);
        events.push(change(Change::Limit(9), (50, 60), 200));
        assert_eq!(figures(&judge(&known(events))), (1, 1));
    }
}
