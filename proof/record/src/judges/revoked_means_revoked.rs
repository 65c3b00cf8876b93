//! No node accepts a key in a validate that was sent after the key's revocation was answered. A
//! denial for scope or quota counts as accepted: it reveals that the node still knows the key.

use super::CheckResult;
use crate::knowledge::{Knowledge, Status};

pub(super) fn judge(known: &Knowledge) -> CheckResult {
    let mut result = CheckResult::new("revoked_means_revoked");
    for validate in &known.validates {
        let Some(key) = known.key_of(validate) else { continue };
        let statuses = key.statuses((validate.t0, validate.t1));
        if !statuses.contains(&Status::Active) && matches!(validate.s, 200 | 401 | 403 | 429) {
            result.judge(validate.s == 401, || {
                format!("the key is {statuses:?}, and accepted: {validate:?}")
            });
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::super::testing::{answer, change, counts, known, validate};
    use super::*;
    use crate::history::Change;

    #[test]
    fn accepting_a_key_is_a_violation_only_after_its_revocation_was_answered() {
        for end in [Change::Revoke, Change::Enabled(false)] {
            for (sent, status, expected) in
                [(20, 200, (1, 1)), (20, 429, (1, 1)), (20, 401, (1, 0)), (14, 200, (0, 0))]
            {
                let events = vec![
                    change(end.clone(), (10, 15), 200),
                    validate(answer((sent, 30), status, 5, 4)),
                ];
                assert_eq!(counts(&judge(&known(events))), expected, "{end:?} {sent} {status}");
            }
        }
    }

    #[test]
    fn an_unanswered_revocation_allows_both_and_an_answered_one_is_final() {
        let accepted = || validate(answer((20, 30), 200, 5, 4));
        let lost = vec![change(Change::Revoke, (10, 15), 0), accepted()];
        assert_eq!(counts(&judge(&known(lost))), (0, 0));
        let late = change(Change::Enabled(true), (6, 7), 0);
        let events = vec![late, change(Change::Revoke, (10, 15), 200), accepted()];
        assert_eq!(counts(&judge(&known(events))), (1, 1));
    }
}
