//! While nothing is wrong every request is answered: no 503, no lost answer, no other 5xx, for
//! writes too. No answer ever has a status that is not documented.

use super::CheckResult;
use crate::knowledge::Knowledge;

/// Statuses of a validate.
const VALIDATE: &[u16] = &[0, 200, 401, 403, 429, 503];
/// Statuses of an admin call.
const ADMIN: &[u16] = &[0, 200, 201, 408, 503];
/// The key of an unanswered creation may be unknown, and a revoked key rejects changes.
const ADMIN_IF_UNSURE: &[u16] = &[404, 409];

pub(super) fn judge(known: &Knowledge) -> CheckResult {
    let mut result = CheckResult::new("served_in_calm");
    for validate in &known.validates {
        let calm = known.is_calm(validate.t0, validate.t1);
        let too_dear = validate.s == 400
            && known.keys.get(&validate.k).is_some_and(|key| {
                key.limits((validate.t0, validate.t1)).iter().any(|limit| *limit < validate.cost)
            });
        let documented = VALIDATE.contains(&validate.s) || too_dear;
        let served = !calm || !matches!(validate.s, 0 | 503);
        if calm || !documented {
            result.judge(documented && served, || format!("nothing was wrong: {validate:?}"));
        }
    }
    for write in &known.writes {
        let calm = known.is_calm(write.t0, write.t1);
        let documented = ADMIN.contains(&write.s) || ADMIN_IF_UNSURE.contains(&write.s);
        if calm || !documented {
            let served = !calm || !matches!(write.s, 0 | 408 | 503);
            result.judge(documented && served, || format!("nothing was wrong: {write:?}"));
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::super::testing::{MS, answer, change, counts, known, validate, well};
    use super::*;
    use crate::history::{Change, Event, Stall};

    #[test]
    fn a_503_is_a_violation_in_calm_and_a_500_always() {
        let at = |ms, s| judge(&known(vec![well(0), validate(answer((ms, ms + 5), s, 0, 4))]));
        assert_eq!(counts(&at(2_000, 200)), (1, 0));
        assert_eq!(counts(&at(2_000, 503)), (1, 1));
        assert_eq!(counts(&at(2_000, 0)), (1, 1));
        assert_eq!(counts(&at(500, 503)), (0, 0));
        assert_eq!(counts(&at(500, 500)), (1, 1));
        let write = change(Change::Limit(5), (2_000, 2_005), 503);
        assert_eq!(counts(&judge(&known(vec![well(0), write]))), (1, 1));
    }

    #[test]
    fn a_stalled_machine_is_not_calm() {
        let stall = Event::Stall(Stall { t: 2_100 * MS, late_us: 300 * MS });
        let unavailable = validate(answer((2_000, 2_005), 503, 0, 4));
        assert_eq!(counts(&judge(&known(vec![well(0), stall, unavailable]))), (0, 0));
    }
}
