//! No node ends by itself: only when it was killed or told to stop, or with the documented exit
//! code after its disk had failed.

use super::Tally;
use crate::knowledge::Knowledge;

pub(super) fn judge(known: &Knowledge) -> Tally {
    let mut tally = Tally::new("nodes_live_on");
    for exit in &known.exits {
        tally.judge(exit.expected, || format!("{exit:?}"));
    }
    tally
}

#[cfg(test)]
mod tests {
    use super::super::testing::{figures, known};
    use super::*;
    use crate::history::{Event, Exit};

    #[test]
    fn an_end_that_nobody_asked_for_is_a_violation() {
        let exit = |expected| Event::Exit(Exit { n: 1, t: 5, how: "code 1".to_owned(), expected });
        assert_eq!(figures(&judge(&known(vec![exit(true)]))), (1, 0));
        assert_eq!(figures(&judge(&known(vec![exit(false)]))), (1, 1));
    }
}
