//! After faults are removed, every node is ready, admits, and takes a write within a stated time.

use super::CheckResult;
use crate::history::{SECOND, Us};
use crate::knowledge::Knowledge;

/// The stated time: a lease, an election, the start of a process, on a busy machine.
pub const HEAL_MAX: Us = 20 * SECOND;

pub(super) fn judge(known: &Knowledge) -> CheckResult {
    let mut result = CheckResult::new("cluster_heals");
    let mut longest = 0;
    for heal in &known.heals {
        let took = heal.t1.saturating_sub(heal.t0);
        longest = longest.max(took);
        result.judge(heal.well && took <= HEAL_MAX, || format!("not well: {heal:?}"));
    }
    result.note = format!("longest {}.{} s", longest / SECOND, longest % SECOND / (SECOND / 10));
    result
}

#[cfg(test)]
mod tests {
    use super::super::testing::{counts, known, well};
    use super::*;
    use crate::history::{Event, Heal};

    #[test]
    fn healing_late_or_never_is_a_violation() {
        let heal = |t1, well| Event::Heal(Heal { t0: 0, t1, well, why: String::new() });
        assert_eq!(counts(&judge(&known(vec![well(1)]))), (1, 0));
        assert_eq!(counts(&judge(&known(vec![heal(HEAL_MAX + 1, true)]))), (1, 1));
        assert_eq!(counts(&judge(&known(vec![heal(5, false)]))), (1, 1));
    }
}
