//! A node that hears nothing from a majority answers only 503 once its lease has expired.

use super::CheckResult;
use crate::history::Us;
use crate::knowledge::Knowledge;

/// Difference of clock rates: the lease is an upper bound on a clock that is 1 % slow.
const DRIFT_PERCENT: Us = 2;

pub(super) fn judge(known: &Knowledge) -> CheckResult {
    let mut result = CheckResult::new("isolated_falls_silent");
    let lease = known.run.as_ref().map_or(Us::MAX / 1_000, |run| run.lease_us);
    for fault in known.faults.iter().filter(|fault| fault.isolates) {
        let silent = fault.installed + lease + lease * DRIFT_PERCENT / 100;
        let from = known.validates.partition_point(|validate| validate.t0 < silent);
        let rest = known.validates.iter().skip(from);
        for validate in rest.take_while(|validate| validate.t0 < fault.t1) {
            // An answer that arrives after the healing may have been given after it.
            if fault.nodes.contains(&validate.n) && validate.t1 < fault.t1 && validate.s != 0 {
                result.judge(validate.s == 503, || {
                    format!("{} of {:?} at {}: {validate:?}", fault.kind, fault.nodes, fault.t0)
                });
            }
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::super::testing::{MS, answer, counts, known, validate};
    use super::*;
    use crate::history::{Event, Fault};

    #[test]
    fn an_answer_after_the_lease_is_a_violation() {
        let cut = || {
            let (t0, installed, t1) = (1_000 * MS, 1_000 * MS, 8_000 * MS);
            let kind = "cut".to_owned();
            let (nodes, isolates) = (vec![1], true);
            Event::Fault(Fault {
                kind,
                nodes,
                t0,
                installed,
                t1,
                quiet: false,
                isolates,
                alone: true,
            })
        };
        let at = |ms, s| judge(&known(vec![cut(), validate(answer((ms, ms + 5), s, 0, 4))]));
        assert_eq!(counts(&at(4_100, 503)), (1, 0));
        assert_eq!(counts(&at(4_100, 200)), (1, 1));
        assert_eq!(counts(&at(4_000, 200)), (0, 0));
        assert_eq!(counts(&at(7_999, 200)), (0, 0));
    }
}
