//! A cluster whose first start has one wall clock years off becomes ready within a minute (and then
//! tells the right time, which `time_is_right` judges), or logs what is wrong.

use super::CheckResult;
use crate::history::{SECOND, Us};
use crate::knowledge::Knowledge;

/// A minute, and the time for checking all nodes.
const WITHIN: Us = 62 * SECOND;

pub(super) fn judge(known: &Knowledge) -> CheckResult {
    let mut result = CheckResult::new("wrong_clocks_show");
    if let Some(start) = &known.first_start {
        let resolved = start.ready || start.line.contains("clock");
        result.judge(resolved && start.t1 - start.t0 <= WITHIN, || format!("{start:?}"));
    }
    result
}

#[cfg(test)]
mod tests {
    use super::super::testing::{counts, known};
    use super::*;
    use crate::history::{Event, FirstStart};

    #[test]
    fn neither_ready_nor_a_warning_is_a_violation() {
        let start = |ready, line: &str, t1| {
            let line = line.to_owned();
            let start = FirstStart { n: 1, off_s: -94_608_000, t0: 0, t1, ready, line };
            counts(&judge(&known(vec![Event::FirstStart(start)])))
        };
        assert_eq!(start(true, "", SECOND), (1, 0));
        assert_eq!(start(false, "ERROR the clock of node 1 is off", SECOND), (1, 0));
        assert_eq!(start(false, "", SECOND), (1, 1));
        assert_eq!(start(false, "the clock", WITHIN + 1), (1, 1));
    }
}
