//! A key passes where its scope includes what the endpoint requires, and nowhere else.

use super::Tally;
use crate::knowledge::Knowledge;

/// `admin` includes `write` includes `read`.
fn rank(scope: &str) -> usize {
    ["read", "write", "admin"].iter().position(|name| *name == scope).unwrap_or(usize::MAX)
}

pub(super) fn judge(known: &Knowledge) -> Tally {
    let mut tally = Tally::new("scopes_are_obeyed");
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
        tally.judge(sound, || format!("the scope is one of {scopes:?}: {validate:?}"));
    }
    tally
}

#[cfg(test)]
mod tests {
    use super::super::testing::{answer, change, figures, known, validate};
    use super::*;
    use crate::history::{Change, Validate};

    #[test]
    fn too_small_passes_never_and_large_enough_always() {
        for (required, status, violated) in
            [("write", 200, 0), ("write", 403, 1), ("admin", 403, 0), ("admin", 200, 1)]
        {
            let scope = Some(required.to_owned());
            let asked = Validate { scope, ..answer((10, 20), status, 5, 4) };
            let tally = judge(&known(vec![validate(asked)]));
            assert_eq!(figures(&tally), (1, violated), "{required} {status}");
        }
        let asked = Validate { scope: Some("admin".to_owned()), ..answer((10, 20), 200, 5, 4) };
        let raised = change(Change::Scope("admin".to_owned()), (6, 7), 0);
        assert_eq!(figures(&judge(&known(vec![raised, validate(asked)]))), (1, 0));
    }
}
