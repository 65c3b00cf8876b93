//! A node exits only when it was killed or stopped, or with the documented exit code after its disk
//! failed.

use super::CheckResult;
use crate::knowledge::Knowledge;

pub(super) fn judge(known: &Knowledge) -> CheckResult {
    let mut result = CheckResult::new("nodes_live_on");
    for exit in &known.exits {
        result.judge(exit.expected, || format!("{exit:?}"));
    }
    result
}

#[cfg(test)]
mod tests {
    use super::super::testing::{counts, known};
    use super::*;
    use crate::history::{Event, Exit};

    #[test]
    fn an_unexpected_exit_is_a_violation() {
        let exit = |expected| Event::Exit(Exit { n: 1, t: 5, how: "code 1".to_owned(), expected });
        assert_eq!(counts(&judge(&known(vec![exit(true)]))), (1, 0));
        assert_eq!(counts(&judge(&known(vec![exit(false)]))), (1, 1));
    }
}
