//! When one node is killed, stopped or asked to hand over, no other node answers 503: an election
//! is well inside the lease. The same for a jump of one wall clock; that node itself drops its
//! lease at the next renewal, because its machine may have been suspended, and gets another one a
//! moment later.
//!
//! A lease of one second leaves room for one election, and a split vote takes two: such runs are
//! not judged by this.

use super::CheckResult;
use crate::knowledge::{COOLDOWN, Knowledge};

/// How long the phase before a fault must have been calm.
const BEFORE: u64 = COOLDOWN;
/// The shortest lease that outlasts two elections, microseconds.
const LEASE_LEAST: u64 = 3_000_000;

pub(super) fn judge(known: &Knowledge) -> CheckResult {
    let mut result = CheckResult::new("survivors_serve");
    if known.run.as_ref().is_none_or(|run| run.lease_us < LEASE_LEAST) {
        result.not_promised = true;
        result.note = "not promised at this lease".to_owned();
        return result;
    }
    for fault in known.faults.iter().filter(|fault| fault.quiet && fault.alone) {
        if !known.is_calm(fault.t0.saturating_sub(BEFORE), fault.t0 - 1) {
            continue;
        }
        let from = known.validates.partition_point(|validate| validate.t0 < fault.t0);
        let rest = known.validates.iter().skip(from);
        for validate in rest.take_while(|validate| validate.t0 < fault.t1) {
            let spared = !fault.nodes.contains(&validate.n)
                && !known.is_stalled(validate.t0.saturating_sub(BEFORE), validate.t1);
            if spared {
                result.judge(!matches!(validate.s, 0 | 503), || {
                    format!("{} of {:?} at {}: {validate:?}", fault.kind, fault.nodes, fault.t0)
                });
            }
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::super::testing::{MS, answer, counts, known, validate, well};
    use super::*;
    use crate::history::{Event, Fault};

    #[test]
    fn a_503_from_a_survivor_is_a_violation() {
        let kill = |nodes: Vec<u64>, alone| {
            let (t0, installed, t1) = (3_000 * MS, 3_001 * MS, 5_000 * MS);
            let kind = "kill".to_owned();
            let quiet = true;
            Event::Fault(Fault { kind, nodes, t0, installed, t1, quiet, isolates: false, alone })
        };
        let at = |nodes, alone, s| {
            judge(&known(vec![
                well(0),
                kill(nodes, alone),
                validate(answer((4_000, 4_005), s, 0, 4)),
            ]))
        };
        assert_eq!(counts(&at(vec![2], true, 200)), (1, 0));
        assert_eq!(counts(&at(vec![2], true, 503)), (1, 1));
        assert_eq!(counts(&at(vec![2], false, 503)), (0, 0));
        assert_eq!(counts(&at(vec![1], true, 503)), (0, 0));
    }
}
