//! No node rejects a key as unknown in a validate that was sent after the key's creation was
//! answered.

use super::CheckResult;
use crate::knowledge::{Knowledge, Status};

pub(super) fn judge(known: &Knowledge) -> CheckResult {
    let mut result = CheckResult::new("created_means_usable");
    for validate in &known.validates {
        let Some(key) = known.key_of(validate) else { continue };
        let sure = key.created.t1 < validate.t0
            && key.statuses((validate.t0, validate.t1)) == [Status::Active];
        if sure && matches!(validate.s, 200 | 401 | 403 | 429) {
            result.judge(validate.s != 401, || {
                format!("created at {}, and rejected: {validate:?}", key.created.t1)
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
    fn a_rejection_is_a_violation_only_after_the_creation_was_answered() {
        let at = |ms| vec![validate(answer(ms, 401, 0, 4))];
        assert_eq!(counts(&judge(&known(at((10, 20))))), (1, 1));
        assert_eq!(counts(&judge(&known(at((4, 20))))), (0, 0));
        assert_eq!(counts(&judge(&known(vec![validate(answer((10, 20), 429, 0, 4))]))), (1, 0));
    }

    #[test]
    fn a_key_enabled_again_is_usable_unless_an_outcome_is_unknown() {
        let off = |status| change(Change::Enabled(false), (6, 7), status);
        let on = || change(Change::Enabled(true), (8, 9), 200);
        let rejected = || validate(answer((10, 20), 401, 0, 4));
        assert_eq!(counts(&judge(&known(vec![off(200), on(), rejected()]))), (1, 1));
        assert_eq!(counts(&judge(&known(vec![off(0), on(), rejected()]))), (0, 0));
        assert_eq!(counts(&judge(&known(vec![off(503), rejected()]))), (1, 1));
    }
}
