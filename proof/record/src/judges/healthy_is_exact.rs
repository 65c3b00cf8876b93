//! In a window without any fault no request is denied unless the budget is used up, and a denied
//! request for one token shows 0 remaining. A peek (cost 0) needs one token.
//!
//! A window that began while something was wrong may have lost a share. So the window must have
//! begun in the calm phase: the phase reaches one period back from the first request seen.

use std::collections::BTreeMap;

use super::CheckResult;
use crate::history::{SECOND, Us, Validate};
use crate::knowledge::Knowledge;

#[derive(Debug, Default)]
struct Window<'a> {
    /// Tokens of all admissions that were answered.
    admitted: u64,
    denied: Option<&'a Validate>,
    remaining: Option<&'a Validate>,
    span: Option<(Us, Us)>,
}

pub(super) fn judge(known: &Knowledge) -> CheckResult {
    let mut result = CheckResult::new("healthy_is_exact");
    let mut windows: BTreeMap<(u64, u64), Window<'_>> = BTreeMap::new();
    for validate in &known.validates {
        let (200 | 429, Some(reset)) = (validate.s, validate.h.reset) else { continue };
        let window = windows.entry((validate.k, reset)).or_default();
        if validate.s == 200 {
            window.admitted += validate.cost;
        } else {
            if window.denied.is_none_or(|denied| validate.cost < denied.cost) {
                window.denied = Some(validate);
            }
            if validate.cost == 1 && validate.h.remaining != Some(0) {
                window.remaining = Some(validate);
            }
        }
        let span = window.span.unwrap_or((validate.t0, validate.t1));
        window.span = Some((span.0.min(validate.t0), span.1.max(validate.t1)));
    }
    let mut calm = 0u64;
    for ((k, _), window) in windows {
        let (Some(key), Some((t0, t1))) = (known.keys.get(&k), window.span) else { continue };
        let from = t0.saturating_sub(key.period_s * SECOND);
        if !known.is_calm(from, t1) || key.limit_may_change((from, t1)) {
            continue;
        }
        calm += 1;
        let limit = key.limits((from, t1)).first().copied().unwrap_or(0);
        let Some(denied) = window.denied else { continue };
        result.judge(
            window.admitted + denied.cost.max(1) > limit && window.remaining.is_none(),
            || {
                format!(
                    "{} of {limit} admitted: {denied:?} {:?}",
                    window.admitted, window.remaining
                )
            },
        );
    }
    result.note = format!("{calm} windows without any fault");
    result
}

#[cfg(test)]
mod tests {
    use super::super::testing::{answer, counts, known, validate, well};
    use super::*;

    fn window(admitted: u64, denied_remaining: u64, began: u64) -> Vec<crate::history::Event> {
        let one = |at| validate(answer((began + at, began + 1 + at), 200, 0, 4));
        let mut events: Vec<_> = (0..admitted).map(one).collect();
        let denied = answer((began + 50, began + 60), 429, denied_remaining, 4);
        events.push(validate(denied));
        events.push(well(0));
        events
    }

    #[test]
    fn a_denial_with_tokens_left_is_a_violation_only_in_a_calm_window() {
        assert_eq!(counts(&judge(&known(window(10, 0, 3_200)))), (1, 0));
        assert_eq!(counts(&judge(&known(window(9, 0, 3_200)))), (1, 1));
        assert_eq!(counts(&judge(&known(window(10, 1, 3_200)))), (1, 1));
        // The window may have begun before the calm phase.
        assert_eq!(counts(&judge(&known(window(9, 0, 2_900)))), (0, 0));
    }
}
