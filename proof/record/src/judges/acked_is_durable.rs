//! No answered write is lost: at the end every node has every key as its administrators know it. A
//! key whose creation was never answered exists once or not at all; one whose creation was rejected
//! does not exist.

use std::collections::BTreeMap;

use super::CheckResult;
use crate::history::{Record, Us};
use crate::knowledge::{Knowledge, Outcome, Status, outcome};

pub(super) fn judge(known: &Knowledge) -> CheckResult {
    let mut result = CheckResult::new("acked_is_durable");
    let mut by_name: BTreeMap<(u64, &str), Vec<&Record>> = BTreeMap::new();
    for record in &known.records {
        by_name.entry((record.n, &record.name)).or_default().push(record);
    }
    let Some(end) = &known.end else { return result };
    let after = (end.t, Us::MAX);
    for n in &end.scanned {
        for key in known.keys.values() {
            let found = by_name.get(&(*n, key.name.as_str())).map_or(&[][..], Vec::as_slice);
            let counts = match outcome(&key.created) {
                Outcome::Done => 1..=1,
                Outcome::NotDone => 0..=0,
                Outcome::Unknown => 0..=1,
            };
            let states = key.statuses(after).into_iter().map(name);
            let states: Vec<&str> = states.collect();
            let sound = |record: &&Record| {
                key.created.id.as_ref().is_none_or(|id| *id == record.id)
                    && states.contains(&record.status.as_str())
                    && key.limits(after).contains(&record.tokens)
                    && key.scopes(after).contains(&record.scope)
            };
            let fine = counts.contains(&found.len()) && found.iter().all(sound);
            result.judge(fine, || {
                format!("node {n}: {found:?}; the status may be {states:?}, the administrators know {key:?}")
            });
        }
    }
    result
}

fn name(status: Status) -> &'static str {
    match status {
        Status::Active => "active",
        Status::Disabled => "disabled",
        Status::Revoked => "revoked",
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{MS, change, counts, create, known};
    use super::*;
    use crate::history::{Change, End, Event};

    fn record(k: u64, status: &str, tokens: u64) -> Event {
        Event::Record(Record {
            n: 2,
            id: format!("key_{k}"),
            name: format!("key {k}"),
            status: status.to_owned(),
            scope: "write".to_owned(),
            tokens,
            revision: 1,
        })
    }

    fn end() -> Event {
        let t = 90_000 * MS;
        Event::End(End { t, faults_until: t, faults: 0, scanned: vec![2], cut_off: false })
    }

    #[test]
    fn a_lost_key_revocation_or_limit_is_a_violation() {
        assert_eq!(counts(&judge(&known(vec![end()]))), (1, 1));
        assert_eq!(counts(&judge(&known(vec![record(1, "active", 10), end()]))), (1, 0));
        assert_eq!(counts(&judge(&known(vec![record(1, "revoked", 10), end()]))), (1, 1));
        let revoked = |status| change(Change::Revoke, (6, 7), status);
        let kept = |status| judge(&known(vec![revoked(status), record(1, "active", 10), end()]));
        assert_eq!(counts(&kept(200)), (1, 1));
        assert_eq!(counts(&kept(0)), (1, 0));
        let limit = change(Change::Limit(20), (6, 7), 200);
        assert_eq!(counts(&judge(&known(vec![limit, record(1, "active", 10), end()]))), (1, 1));
    }

    #[test]
    fn a_rejected_creation_leaves_no_key_and_an_unanswered_one_at_most_one() {
        for (status, copies, violated) in [(503, 1, 1), (503, 0, 0), (0, 1, 0), (0, 2, 1)] {
            let mut events = vec![record(1, "active", 10), create(2, (10, 20), status)];
            events.extend((0..copies).map(|_| record(2, "active", 10)));
            events.push(end());
            assert_eq!(counts(&judge(&known(events))), (2, violated), "{status} {copies}");
        }
    }
}
