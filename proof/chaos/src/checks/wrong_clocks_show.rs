//! A cluster that is started for the first time with one wall clock years off becomes ready (and
//! then tells the right time, which `time_is_right` judges), or says what is wrong, within a minute.

use super::Tally;
use crate::history::{SECOND, Us};
use crate::knowledge::Knowledge;

/// A minute, and what a look at all nodes takes.
const WITHIN: Us = 62 * SECOND;

pub(super) fn judge(known: &Knowledge) -> Tally {
    let mut tally = Tally::new("wrong_clocks_show");
    if let Some(start) = &known.first_start {
        let told = start.ready || start.line.contains("clock");
        tally.judge(told && start.t1 - start.t0 <= WITHIN, || format!("{start:?}"));
    }
    tally
}

#[cfg(test)]
mod tests {
    use super::super::testing::{figures, known};
    use super::*;
    use crate::history::{Event, FirstStart};

    #[test]
    fn neither_ready_nor_told_is_a_violation() {
        let start = |ready, line: &str, t1| {
            let line = line.to_owned();
            let start = FirstStart { n: 1, off_s: -94_608_000, t0: 0, t1, ready, line };
            figures(&judge(&known(vec![Event::FirstStart(start)])))
        };
        assert_eq!(start(true, "", SECOND), (1, 0));
        assert_eq!(start(false, "ERROR the clock of node 1 is off", SECOND), (1, 0));
        assert_eq!(start(false, "", SECOND), (1, 1));
        assert_eq!(start(false, "the clock", WITHIN + 1), (1, 1));
    }
}
