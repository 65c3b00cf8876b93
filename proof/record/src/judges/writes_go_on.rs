//! While a majority of nodes has room on its disks, writes succeed within a stated time after a
//! disk became full, even if the leader's did.

use super::CheckResult;
use crate::history::{SECOND, Us, Write};
use crate::knowledge::Knowledge;

/// The stated time.
const WITHIN: Us = 5 * SECOND;
/// The faults that fill one disk and leave the others alone.
const FULL: &[&str] = &["leader_disk_low", "leader_disk_full", "follower_disk_low"];

pub(super) fn judge(known: &Knowledge) -> CheckResult {
    let mut result = CheckResult::new("writes_go_on");
    let mut slowest = 0;
    for fault in known.faults.iter().filter(|fault| FULL.contains(&fault.kind.as_str())) {
        let from = fault.installed + WITHIN;
        let during = |write: &&Write| {
            let spared = !fault.nodes.contains(&write.n) && !known.is_stalled(write.t0, write.t1);
            spared && from <= write.t0 && write.t1 < fault.t1
        };
        for write in known.writes.iter().filter(during) {
            slowest = slowest.max(write.t1 - write.t0);
            result.judge(!matches!(write.s, 0 | 408 | 503), || {
                format!("{} of {:?} since {}: {write:?}", fault.kind, fault.nodes, fault.installed)
            });
        }
    }
    result.note = format!("slowest {} ms", slowest / 1_000);
    result
}

#[cfg(test)]
mod tests {
    use super::super::testing::{MS, change, counts, known};
    use super::*;
    use crate::history::{Change, Event, Fault};

    #[test]
    fn a_rejected_write_after_the_stated_time_is_a_violation() {
        let full = |kind: &str, node| {
            let (t0, installed, t1) = (1_000 * MS, 1_000 * MS, 12_000 * MS);
            let (kind, nodes) = (kind.to_owned(), vec![node]);
            let (quiet, isolates, alone) = (false, false, true);
            Event::Fault(Fault { kind, nodes, t0, installed, t1, quiet, isolates, alone })
        };
        let at = |kind, node, ms, s| {
            let write = change(Change::Limit(5), (ms, ms + 10), s);
            counts(&judge(&known(vec![full(kind, node), write])))
        };
        assert_eq!(at("leader_disk_low", 2, 6_100, 200), (1, 0));
        assert_eq!(at("leader_disk_low", 2, 6_100, 503), (1, 1));
        assert_eq!(at("follower_disk_low", 2, 6_100, 0), (1, 1));
        assert_eq!(at("leader_disk_low", 2, 5_900, 503), (0, 0));
        // The full node itself, and a fault for which nothing is promised.
        assert_eq!(at("leader_disk_low", 1, 6_100, 503), (0, 0));
        assert_eq!(at("disk_full", 2, 6_100, 503), (0, 0));
    }
}
