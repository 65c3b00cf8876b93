//! The cluster rejects a directory that is older than what the other nodes know, or that runs
//! twice: one process ends with exit code 1 and logs why. A directory that lost nothing is
//! accepted.

use super::CheckResult;
use crate::history::REJECTED_CODE;
use crate::knowledge::Knowledge;

pub(super) fn judge(known: &Knowledge) -> CheckResult {
    let mut result = CheckResult::new("restored_are_refused");
    for rejection in &known.rejections {
        let rejected =
            rejection.code == Some(REJECTED_CODE) && rejection.line.contains("directory");
        let sound = if rejection.expected { rejected } else { rejection.code.is_none() };
        result.judge(sound, || format!("{rejection:?}"));
    }
    result
}

#[cfg(test)]
mod tests {
    use super::super::testing::{counts, known};
    use super::*;
    use crate::history::{Event, Rejection};

    #[test]
    fn an_old_directory_that_runs_on_or_exits_without_a_reason_is_a_violation() {
        let says = "node 3: this data directory is older than what the cluster knows";
        for (expected, code, line, violated) in [
            (true, Some(1), says, 0),
            (true, Some(1), "", 1),
            (true, Some(4), says, 1),
            (true, None, says, 1),
            (false, None, "", 0),
            (false, Some(1), says, 1),
        ] {
            let (what, line) = ("restored".to_owned(), line.to_owned());
            let rejection = Rejection { what, n: 3, t0: 1, t1: 2, expected, code, line };
            let result = judge(&known(vec![Event::Rejection(rejection)]));
            assert_eq!(counts(&result), (1, violated), "{expected} {code:?}");
        }
    }
}
