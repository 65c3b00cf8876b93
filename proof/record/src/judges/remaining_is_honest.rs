//! Remaining never rises on one node within a window, unless the limit may have been raised.
//!
//! Compares answers of one incarnation of one node, where the first answer had arrived before the
//! second request was sent. A denial counts only if it shows less than every earlier answer: when
//! the cost is above 1, it shows tokens that it did not spend.

use std::collections::BTreeMap;

use super::CheckResult;
use crate::history::{Us, Validate};
use crate::knowledge::Knowledge;

/// What clients heard about one window from one incarnation of a node: when the answer arrived, the
/// least remaining so far, and when its request was sent.
type Heard = Vec<(Us, u64, Us)>;

pub(super) fn judge(known: &Knowledge) -> CheckResult {
    let mut result = CheckResult::new("remaining_is_honest");
    let mut windows: BTreeMap<(u64, u64, u64, usize), Vec<&Validate>> = BTreeMap::new();
    for validate in &known.validates {
        let incarnation = known.incarnation(validate.n, validate.t0);
        let counted = matches!(validate.s, 200 | 403 | 429) && validate.k != 0;
        let (Some(reset), true) = (validate.h.reset, counted) else { continue };
        if incarnation == known.incarnation(validate.n, validate.t1) {
            windows.entry((validate.n, validate.k, reset, incarnation)).or_default().push(validate);
        }
    }
    for ((_, k, ..), mut answers) in windows {
        let Some(key) = known.keys.get(&k) else { continue };
        answers.sort_by_key(|answer| answer.t1);
        let mut heard: Heard = Vec::new();
        for answer in answers {
            let Some(remaining) = answer.h.remaining else { continue };
            let before = heard.partition_point(|(arrived, ..)| *arrived < answer.t0);
            if let Some((_, least, sent)) = before.checked_sub(1).and_then(|at| heard.get(at))
                && !key.limit_may_change((*sent, answer.t1))
            {
                result.judge(remaining <= *least, || {
                    format!("remaining rose from {least}, asked at {sent}: {answer:?}")
                });
            }
            let least = heard.last().map_or(u64::MAX, |last| last.1);
            if remaining < least || answer.s == 200 && remaining == least {
                heard.push((answer.t1, remaining, answer.t0));
            } else if remaining > least && key.limit_may_change((0, answer.t1)) {
                // The limit was raised in between: earlier answers no longer bind.
                heard.clear();
                heard.push((answer.t1, remaining, answer.t0));
            }
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::super::testing::{answer, change, counts, known, validate};
    use super::*;
    use crate::history::Change;

    fn rising(first: (u64, u64), second: (u64, u64)) -> Vec<crate::history::Event> {
        vec![validate(answer(first, 200, 3, 4)), validate(answer(second, 200, 5, 4))]
    }

    #[test]
    fn a_rise_is_a_violation_only_between_ordered_requests() {
        assert_eq!(counts(&judge(&known(rising((10, 20), (30, 40))))), (1, 1));
        assert_eq!(counts(&judge(&known(rising((10, 35), (30, 40))))), (0, 0));
        let falling = vec![
            validate(answer((10, 20), 200, 5, 4)),
            validate(answer((30, 40), 200, 3, 4)),
            validate(answer((50, 60), 200, 9, 6)),
        ];
        assert_eq!(counts(&judge(&known(falling))), (1, 0));
    }

    #[test]
    fn a_raised_limit_may_raise_remaining_even_when_its_answer_was_lost() {
        for status in [200, 0] {
            let mut events = rising((10, 20), (30, 40));
            events.push(change(Change::Limit(12), (21, 25), status));
            assert_eq!(counts(&judge(&known(events))).1, 0, "{status}");
        }
        let mut events = rising((10, 20), (30, 40));
        events.push(change(Change::Limit(12), (6, 8), 200));
        assert_eq!(counts(&judge(&known(events))), (1, 1));
    }
}
