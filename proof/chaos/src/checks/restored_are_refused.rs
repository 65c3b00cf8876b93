//! A directory that is older than what the other nodes know, or that runs twice, is refused: one
//! process ends with exit code 1 and says why. One that nothing was lost of is not.

use super::Tally;
use crate::knowledge::Knowledge;
use crate::process::REFUSED_CODE;

pub(super) fn judge(known: &Knowledge) -> Tally {
    let mut tally = Tally::new("restored_are_refused");
    for refusal in &known.refusals {
        let refused = refusal.code == Some(REFUSED_CODE) && refusal.line.contains("directory");
        let sound = if refusal.expected { refused } else { refusal.code.is_none() };
        tally.judge(sound, || format!("{refusal:?}"));
    }
    tally
}

#[cfg(test)]
mod tests {
    use super::super::testing::{figures, known};
    use super::*;
    use crate::history::{Event, Rejection};

    #[test]
    fn one_that_runs_on_and_one_that_ends_without_a_word_are_violations() {
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
            let refusal = Rejection { what, n: 3, t0: 1, t1: 2, expected, code, line };
            let tally = judge(&known(vec![Event::Rejection(refusal)]));
            assert_eq!(figures(&tally), (1, violated), "{expected} {code:?}");
        }
    }
}
