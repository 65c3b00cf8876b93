//! No validate that was sent after a key's end was answered is accepted, on any node. A refusal
//! for scope or quota would tell that the key is still known.

use super::Tally;
use crate::knowledge::{Knowledge, Status};

pub(super) fn judge(known: &Knowledge) -> Tally {
    let mut tally = Tally::new("revoked_means_revoked");
    for validate in &known.validates {
        let Some(key) = known.key_of(validate) else { continue };
        let statuses = key.statuses((validate.t0, validate.t1));
        if !statuses.contains(&Status::Active) && matches!(validate.s, 200 | 401 | 403 | 429) {
            tally.judge(validate.s == 401, || {
                format!("the key is {statuses:?}, and accepted: {validate:?}")
            });
        }
    }
    tally
}

#[cfg(test)]
mod tests {
    use super::super::testing::{answer, change, figures, known, validate};
    use super::*;
    use crate::history::Change;

    #[test]
    fn accepted_after_the_answer_is_a_violation_and_before_it_is_not() {
        for end in [Change::Revoke, Change::Enabled(false)] {
            for (sent, status, expected) in
                [(20, 200, (1, 1)), (20, 429, (1, 1)), (20, 401, (1, 0)), (14, 200, (0, 0))]
            {
                let events = vec![
                    change(end.clone(), (10, 15), 200),
                    validate(answer((sent, 30), status, 5, 4)),
                ];
                assert_eq!(figures(&judge(&known(events))), expected, "{end:?} {sent} {status}");
            }
        }
    }

    #[test]
    fn a_revocation_whose_answer_was_lost_binds_nobody_and_one_that_stands_is_for_good() {
        let accepted = || validate(answer((20, 30), 200, 5, 4));
        let lost = vec![change(Change::Revoke, (10, 15), 0), accepted()];
        assert_eq!(figures(&judge(&known(lost))), (0, 0));
        let late = change(Change::Enabled(true), (6, 7), 0);
        let events = vec![late, change(Change::Revoke, (10, 15), 200), accepted()];
        assert_eq!(figures(&judge(&known(events))), (1, 1));
    }
}
