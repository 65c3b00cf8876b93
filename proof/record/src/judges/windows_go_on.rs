//! Cluster time never goes back on a node, over all its incarnations, and neither do the windows in
//! its answers.

use std::collections::BTreeMap;

use super::CheckResult;
use crate::history::{Us, Validate};
use crate::knowledge::Knowledge;

pub(super) fn judge(known: &Knowledge) -> CheckResult {
    let mut result = CheckResult::new("windows_go_on");
    let mut of_node: BTreeMap<(u64, u64), Vec<&Validate>> = BTreeMap::new();
    for validate in &known.validates {
        if matches!(validate.s, 200 | 429) && validate.h.reset.is_some() {
            of_node.entry((validate.n, validate.k)).or_default().push(validate);
        }
    }
    for mut answers in of_node.into_values() {
        answers.sort_by_key(|answer| answer.t1);
        // When an answer arrived, and the latest window so far.
        let mut heard: Vec<(Us, u64)> = Vec::new();
        for answer in answers {
            let Some(reset) = answer.h.reset else { continue };
            let before = heard.partition_point(|(arrived, _)| *arrived < answer.t0);
            if let Some((_, latest)) = before.checked_sub(1).and_then(|at| heard.get(at)) {
                result.judge(reset >= *latest, || {
                    format!("after a window until {latest}: {answer:?}")
                });
            }
            let latest = heard.last().map_or(0, |last| last.1);
            heard.push((answer.t1, latest.max(reset)));
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::super::testing::{answer, counts, known, validate};
    use super::*;

    #[test]
    fn an_earlier_window_in_a_later_answer_is_a_violation() {
        for (reset, violated) in [(6, 0), (4, 0), (2, 1)] {
            let events = vec![
                validate(answer((10, 20), 200, 5, 4)),
                validate(answer((30, 40), 200, 4, reset)),
            ];
            assert_eq!(counts(&judge(&known(events))), (1, violated));
        }
    }
}
