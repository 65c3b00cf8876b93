//! No validate that was sent after a creation was answered is refused as unknown, on any node.

use super::Tally;
use crate::knowledge::{Knowledge, Status};

pub(super) fn judge(known: &Knowledge) -> Tally {
    let mut tally = Tally::new("created_means_usable");
    for validate in &known.validates {
        let Some(key) = known.key_of(validate) else { continue };
        let sure = key.created.t1 < validate.t0
            && key.statuses((validate.t0, validate.t1)) == [Status::Active];
        if sure && matches!(validate.s, 200 | 401 | 403 | 429) {
            tally.judge(validate.s != 401, || {
                format!("created at {}, and refused: {validate:?}", key.created.t1)
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
    fn refused_after_the_answer_is_a_violation_and_before_it_is_not() {
        let at = |ms| vec![validate(answer(ms, 401, 0, 4))];
        assert_eq!(figures(&judge(&known(at((10, 20))))), (1, 1));
        assert_eq!(figures(&judge(&known(at((4, 20))))), (0, 0));
        assert_eq!(figures(&judge(&known(vec![validate(answer((10, 20), 429, 0, 4))]))), (1, 0));
    }

    #[test]
    fn switched_on_again_is_usable_unless_something_is_unknown() {
        let off = |status| change(Change::Enabled(false), (6, 7), status);
        let on = || change(Change::Enabled(true), (8, 9), 200);
        let refused = || validate(answer((10, 20), 401, 0, 4));
        assert_eq!(figures(&judge(&known(vec![off(200), on(), refused()]))), (1, 1));
        assert_eq!(figures(&judge(&known(vec![off(0), on(), refused()]))), (0, 0));
        assert_eq!(figures(&judge(&known(vec![off(503), refused()]))), (1, 1));
    }
}
