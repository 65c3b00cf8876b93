//! The number of keys of each status, counted as they change.
//!
//! Answers for: a query costs work only for the ends of keys between the last queried moment and
//! this one, and never scans all keys; however far apart the two are, one step is bounded.

use std::collections::BTreeMap;
use std::ops::Bound;

use fluxgate_types::ClusterMs;

use super::record::{KeyRecord, Status};

/// Keys that are not revoked: how many are disabled, and how many enabled.
type Switched = [usize; 2];

/// The counts.
#[derive(Clone, Debug, Default)]
pub(super) struct Census {
    revoked: usize,
    /// All keys that are not revoked.
    living: Switched,
    /// Those of them that expire, by their expiry.
    ends: BTreeMap<ClusterMs, Switched>,
    /// Those of them whose expiry is at or before `reached`.
    ended: Switched,
    reached: ClusterMs,
}

impl Census {
    /// A record was added, or replaced another one.
    pub(super) fn replace(&mut self, old: Option<&KeyRecord>, new: &KeyRecord) {
        if let Some(old) = old {
            self.remove(old);
        }
        self.change(new, |count| *count += 1);
    }

    /// A record was removed.
    pub(super) fn remove(&mut self, old: &KeyRecord) {
        self.change(old, |count| *count = count.saturating_sub(1));
    }

    fn change(&mut self, record: &KeyRecord, change: impl Fn(&mut usize)) {
        if record.revoked_at.is_some() {
            return change(&mut self.revoked);
        }
        let on = usize::from(record.enabled);
        change(&mut self.living[on]);
        let Some(end) = record.expires_at else { return };
        let at_end = self.ends.entry(end).or_default();
        change(&mut at_end[on]);
        if *at_end == [0, 0] {
            self.ends.remove(&end);
        }
        if end <= self.reached {
            change(&mut self.ended[on]);
        }
    }

    /// How many keys of each status there are at `now`, in the order of [`Status::ALL`]. `None` if
    /// more than `steps_max` ends lie between the moment reached so far and `now`: call again.
    pub(super) fn at(
        &mut self,
        now: ClusterMs,
        steps_max: usize,
    ) -> Option<[usize; Status::ALL.len()]> {
        let (low, high) = (self.reached.min(now), self.reached.max(now));
        let between = (Bound::Excluded(low), Bound::Included(high));
        let forward = self.reached <= now;
        let mut passed: Switched = [0, 0];
        let mut steps = 0;
        let mut stopped = None;
        let mut pass = |end: &ClusterMs, counts: &Switched| {
            if steps == steps_max {
                stopped = Some(*end);
                return false;
            }
            steps += 1;
            passed = [passed[0] + counts[0], passed[1] + counts[1]];
            true
        };
        if forward {
            self.ends.range(between).all(|(end, counts)| pass(end, counts));
        } else {
            self.ends.range(between).rev().all(|(end, counts)| pass(end, counts));
        }
        for (ended, passed) in self.ended.iter_mut().zip(passed) {
            *ended = if forward { *ended + passed } else { ended.saturating_sub(passed) };
        }
        // When going backwards, the end at which it stopped still counts as reached.
        self.reached = match stopped {
            Some(end) if forward => ClusterMs(end.0.saturating_sub(1)),
            Some(end) => end,
            None => now,
        };
        stopped.is_none().then(|| {
            let [off, on] = self.living;
            let [off_ended, on_ended] = self.ended;
            [on - on_ended, off - off_ended, off_ended + on_ended, self.revoked]
        })
    }
}
