//! A command that would break the cluster is rejected with 409 in a short time, the error names the
//! nodes that are the reason, and the members stay the same.

use super::CheckResult;
use crate::history::{Mistake, SECOND, Us};
use crate::knowledge::Knowledge;

/// Longest time until the error: about a second, on a busy machine.
const WITHIN: Us = 3 * SECOND;

pub(super) fn judge(known: &Knowledge) -> CheckResult {
    let mut result = CheckResult::new("mistakes_change_nothing");
    for mistake in &known.mistakes {
        let flaw = flaw(mistake);
        result.judge(flaw.is_none(), || format!("{}: {mistake:?}", flaw.unwrap_or_default()));
    }
    result
}

fn flaw(mistake: &Mistake) -> Option<&'static str> {
    if mistake.before != mistake.after {
        return Some("the members changed");
    }
    if mistake.s != 409 {
        return Some("not rejected");
    }
    if mistake.t1 - mistake.t0 > WITHIN {
        return Some("rejected late");
    }
    let names = |node: &u64| {
        let words = mistake.body.split(|c: char| !c.is_ascii_alphanumeric());
        words.clone().any(|word| word == node.to_string())
    };
    (!mistake.named.iter().all(names)).then_some("the reason is not named")
}

#[cfg(test)]
mod tests {
    use super::super::testing::{counts, known};
    use super::*;
    use crate::history::Event;

    #[test]
    fn an_accepted_or_late_mistake_or_changed_members_are_violations() {
        let members = |peer: &str| vec![(1, vec![(3, peer.to_owned())])];
        let good = Mistake {
            what: "remove_wrong".to_owned(),
            t0: 0,
            t1: SECOND,
            s: 409,
            body: r#"{"error":"conflict","message":"node 2 is down"}"#.to_owned(),
            named: vec![2],
            before: members("a:1"),
            after: members("a:1"),
        };
        let judged = |mistake: Mistake| counts(&judge(&known(vec![Event::Mistake(mistake)])));
        assert_eq!(judged(good.clone()), (1, 0));
        assert_eq!(judged(Mistake { s: 200, ..good.clone() }), (1, 1));
        assert_eq!(judged(Mistake { t1: WITHIN + 1, ..good.clone() }), (1, 1));
        assert_eq!(judged(Mistake { named: vec![3], ..good.clone() }), (1, 1));
        assert_eq!(judged(Mistake { after: members("b:1"), ..good }), (1, 1));
    }
}
