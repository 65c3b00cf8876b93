//! At the end all nodes show the same keys in the same revisions.

use std::collections::BTreeMap;

use super::CheckResult;
use crate::history::Record;
use crate::knowledge::Knowledge;

pub(super) fn judge(known: &Knowledge) -> CheckResult {
    let mut result = CheckResult::new("replicas_agree");
    let mut by_id: BTreeMap<&str, BTreeMap<u64, Record>> = BTreeMap::new();
    for record in &known.records {
        let same = Record { n: 0, ..record.clone() };
        by_id.entry(&record.id).or_default().insert(record.n, same);
    }
    let scanned = known.end.as_ref().map_or(0, |end| end.scanned.len());
    for (id, shown) in by_id {
        let agree = shown.values().all(|record| shown.values().next() == Some(record));
        result.judge(agree && shown.len() == scanned, || format!("{id} on {scanned}: {shown:?}"));
    }
    result
}

#[cfg(test)]
mod tests {
    use super::super::testing::{counts, known};
    use super::*;
    use crate::history::{End, Event};

    #[test]
    fn a_missing_or_different_record_is_a_violation() {
        let record = |n, revision| {
            Event::Record(Record {
                n,
                id: "key_1".to_owned(),
                name: String::new(),
                status: "active".to_owned(),
                scope: "read".to_owned(),
                tokens: 1,
                revision,
            })
        };
        let scanned = vec![1, 2];
        let end = Event::End(End { t: 9, faults_until: 9, faults: 0, scanned, cut_off: false });
        for (records, violated) in [
            (vec![record(1, 1), record(2, 1)], 0),
            (vec![record(1, 1), record(2, 2)], 1),
            (vec![record(1, 1)], 1),
        ] {
            let mut events = records;
            events.push(end.clone());
            assert_eq!(counts(&judge(&known(events))), (1, violated));
        }
    }
}
