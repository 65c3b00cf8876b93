//! The limit headers name a limit that the key may have, at most that many tokens remaining, and a
//! window of the key's period.

use super::CheckResult;
use crate::knowledge::Knowledge;

pub(super) fn judge(known: &Knowledge) -> CheckResult {
    let mut result = CheckResult::new("limits_are_as_set");
    for validate in &known.validates {
        let Some(key) = known.key_of(validate) else { continue };
        if !matches!(validate.s, 200 | 403 | 429) {
            continue;
        }
        let h = &validate.h;
        let limits = key.limits((validate.t0, validate.t1));
        let sound = h.limit.is_some_and(|limit| limits.contains(&limit))
            && h.remaining.is_some_and(|left| Some(left) <= h.limit)
            && h.reset.is_some_and(|reset| reset % key.period_s == 0);
        result.judge(sound, || {
            format!("the limit may be {limits:?} per {} s: {validate:?}", key.period_s)
        });
    }
    result
}

#[cfg(test)]
mod tests {
    use super::super::testing::{answer, change, counts, known, validate};
    use super::*;
    use crate::history::Change;

    #[test]
    fn a_wrong_limit_remaining_or_window_is_a_violation() {
        for (remaining, reset, violated) in [(9, 4, 0), (11, 4, 1), (9, 5, 1)] {
            let events = vec![validate(answer((10, 20), 200, remaining, reset))];
            assert_eq!(counts(&judge(&known(events))), (1, violated));
        }
        let set = change(Change::Limit(20), (6, 8), 200);
        let events = vec![set, validate(answer((10, 20), 200, 9, 4))];
        assert_eq!(counts(&judge(&known(events))), (1, 1));
    }
}
