//! A key passes only where its scope includes what the endpoint requires.

use super::CheckResult;
use crate::knowledge::Knowledge;

/// `admin` includes `write` includes `read`.
fn rank(scope: &str) -> usize {
    ["read", "write", "admin"].iter().position(|name| *name == scope).unwrap_or(usize::MAX)
}

pub(super) fn judge(known: &Knowledge) -> CheckResult {
    let mut result = CheckResult::new("scopes_are_obeyed");
    for validate in &known.validates {
        let Some(key) = known.key_of(validate) else { continue };
        if !matches!(validate.s, 200 | 403 | 429) {
            continue;
        }
        let required = validate.scope.as_deref().map_or(0, rank);
        let scopes = key.scopes((validate.t0, validate.t1));
        let may_pass = scopes.iter().any(|scope| rank(scope) >= required);
        let may_not = scopes.iter().any(|scope| rank(scope) < required);
        let sound = if validate.s == 403 { may_not } else { may_pass };
        result.judge(sound, || format!("the scope is one of {scopes:?}: {validate:?}"));
    }
    result
}

#[cfg(test)]
mod tests {
    use super::super::testing::{answer, change, counts, known, validate};
    use super::*;
    use crate::history::{Change, Validate};

    #[test]
    fn a_scope_that_is_too_small_must_not_pass_and_a_larger_one_must() {
        for (required, status, violated) in
            [("write", 200, 0), ("write", 403, 1), ("admin", 403, 0), ("admin", 200, 1)]
        {
            let scope = Some(required.to_owned());
            let asked = Validate { scope, ..answer((10, 20), status, 5, 4) };
            let result = judge(&known(vec![validate(asked)]));
            assert_eq!(counts(&result), (1, violated), "{required} {status}");
        }
        let asked = Validate { scope: Some("admin".to_owned()), ..answer((10, 20), 200, 5, 4) };
        let raised = change(Change::Scope("admin".to_owned()), (6, 7), 0);
        assert_eq!(counts(&judge(&known(vec![raised, validate(asked)]))), (1, 0));
    }
}
