//! The newest entries in memory, and the bounds of the log as its readers see them.
//!
//! Answers for: a submitted entry is readable from here until the writer has put it into the
//! database. Must never evict an entry before that. Durability is the writer's concern.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::error::StoreError;
use crate::log::entry::Entry;

#[derive(Debug)]
struct Held {
    index: u64,
    /// Number of the submission that contained it.
    submission: u64,
    bytes: Arc<[u8]>,
}

/// Entries `last + 1 - held.len() ..= last`, and the bounds of the log.
#[derive(Debug)]
pub(crate) struct Tail {
    held: VecDeque<Held>,
    bytes: usize,
    bytes_max: usize,
    purged: Option<(u64, Vec<u8>)>,
    first: Option<u64>,
    last: Option<u64>,
    submissions: u64,
    /// The last submission that is completely in the database.
    written: u64,
    /// Number of truncations, by which a reader notices one during its read.
    truncations: u64,
}

/// Where a range must be read from.
#[derive(Debug)]
pub(crate) enum Plan {
    /// There is nothing to read.
    Nothing,
    /// The whole range was in memory.
    Here(Vec<Entry>),
    /// `start..upto` is in the database only; later entries may be in memory.
    Database { upto: u64, truncations: u64 },
}

impl Tail {
    pub(crate) fn new(
        entries: VecDeque<Entry>,
        bytes_max: usize,
        purged: Option<(u64, Vec<u8>)>,
        first: Option<u64>,
    ) -> Self {
        let last = entries.back().map(|(index, _)| *index);
        let bytes = entries.iter().map(|(_, bytes)| bytes.len()).sum();
        let held = entries.into_iter().map(|(index, bytes)| Held { index, submission: 0, bytes });
        Self {
            held: held.collect(),
            bytes,
            bytes_max,
            purged,
            first,
            last,
            submissions: 0,
            written: 0,
            truncations: 0,
        }
    }

    pub(crate) fn purged(&self) -> Option<&(u64, Vec<u8>)> {
        self.purged.as_ref()
    }

    pub(crate) fn last(&self) -> Option<u64> {
        self.last
    }

    pub(crate) fn is_readable(&self, index: u64) -> bool {
        self.first.is_some_and(|first| first <= index) && Some(index) <= self.last
    }

    pub(crate) fn first(&self) -> Option<u64> {
        self.first
    }

    pub(crate) fn truncations(&self) -> u64 {
        self.truncations
    }

    /// Rejects entries that do not continue the log. An empty log may begin at any index that is
    /// not purged.
    pub(crate) fn check(&self, entries: &[Entry]) -> Result<(), StoreError> {
        let behind = |index: u64| index.checked_add(1);
        let mut expected = self.last.map(behind);
        for (index, _) in entries {
            let lowest = self.purged.as_ref().map_or(Some(0), |(upto, _)| behind(*upto));
            let fits = match expected {
                Some(next) => next == Some(*index),
                None => lowest.is_some_and(|lowest| lowest <= *index),
            };
            if !fits || *index == u64::MAX {
                let expected = expected.flatten().or(lowest).unwrap_or(u64::MAX);
                return Err(StoreError::Gap { expected, found: *index });
            }
            expected = Some(behind(*index));
        }
        Ok(())
    }

    /// Adds entries that [`Tail::check`] accepted; returns the number of the submission.
    pub(crate) fn push(&mut self, entries: &[Entry]) -> u64 {
        self.submissions += 1;
        for (index, bytes) in entries {
            self.bytes += bytes.len();
            let bytes = Arc::clone(bytes);
            self.held.push_back(Held { index: *index, submission: self.submissions, bytes });
            self.first.get_or_insert(*index);
            self.last = Some(*index);
        }
        self.submissions
    }

    /// Called when the writer has put all submissions up to this one into the database.
    pub(crate) fn mark_written(&mut self, submission: u64) {
        self.written = self.written.max(submission);
        while self.bytes > self.bytes_max
            && self.held.len() > 1
            && self.held.front().is_some_and(|held| held.submission <= self.written)
        {
            self.drop_front();
        }
    }

    fn drop_front(&mut self) {
        if let Some(held) = self.held.pop_front() {
            self.bytes -= held.bytes.len();
        }
    }

    pub(crate) fn truncate_after(&mut self, last_kept: Option<u64>) {
        self.truncations += 1;
        while self.held.back().is_some_and(|held| Some(held.index) > last_kept) {
            if let Some(held) = self.held.pop_back() {
                self.bytes -= held.bytes.len();
            }
        }
        if self.last > last_kept {
            self.last = last_kept.filter(|kept| self.first.is_some_and(|first| first <= *kept));
        }
        if self.last.is_none() {
            self.first = None;
        }
    }

    /// Returns whether the marker moved.
    pub(crate) fn purge(&mut self, upto: u64, marker: &[u8]) -> bool {
        if self.purged.as_ref().is_some_and(|(purged, _)| *purged >= upto) {
            return false;
        }
        self.purged = Some((upto, marker.to_vec()));
        while self.held.front().is_some_and(|held| held.index <= upto) {
            self.drop_front();
        }
        if self.last.is_some_and(|last| last <= upto) {
            (self.first, self.last) = (None, None);
        } else if let Some(first) = &mut self.first {
            *first = (*first).max(upto.saturating_add(1));
        }
        true
    }

    /// Determines where `start..end` is, and reads it if it is in memory.
    pub(crate) fn plan(&self, start: u64, end: u64, bytes_max: usize) -> Plan {
        if !self.is_readable(start) || start >= end {
            return Plan::Nothing;
        }
        let behind_last = self.last.map_or(0, |last| last + 1);
        let held_from = self.held.front().map_or(behind_last, |held| held.index);
        if start < held_from {
            let upto = end.min(held_from);
            return Plan::Database { upto, truncations: self.truncations };
        }
        Plan::Here(self.collect(start, end, bytes_max))
    }

    /// Entries from `start` on: at least one, then as many as fit into `bytes_max`. Empty if
    /// `start` is not in memory.
    pub(crate) fn collect(&self, start: u64, end: u64, bytes_max: usize) -> Vec<Entry> {
        let skip = self.held.partition_point(|held| held.index < start);
        let mut used = 0usize;
        let mut entries = Vec::new();
        for held in self.held.iter().skip(skip).take_while(|held| held.index < end) {
            used += held.bytes.len();
            let stops = if entries.is_empty() { held.index != start } else { used > bytes_max };
            if stops {
                break;
            }
            entries.push((held.index, Arc::clone(&held.bytes)));
        }
        entries
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(index: u64) -> Entry {
        (index, vec![u8::try_from(index % 251).unwrap(); 100].into())
    }

    fn filled(count: u64, bytes_max: usize) -> Tail {
        let mut tail = Tail::new(VecDeque::new(), bytes_max, None, None);
        for index in 0..count {
            tail.push(&[entry(index)]);
        }
        tail
    }

    #[test]
    fn an_entry_stays_in_memory_until_it_is_written() {
        let mut tail = filled(10, 250);
        tail.mark_written(0);
        assert!(matches!(tail.plan(0, 10, usize::MAX), Plan::Here(all) if all.len() == 10));
        tail.mark_written(4);
        assert!(matches!(tail.plan(4, 10, usize::MAX), Plan::Here(rest) if rest.len() == 6));
        assert!(matches!(tail.plan(3, 10, usize::MAX), Plan::Database { upto: 4, .. }));
    }

    #[test]
    fn a_rewritten_entry_is_not_evicted_for_its_predecessor() {
        let mut tail = filled(10, 0);
        tail.truncate_after(Some(4));
        tail.push(&[entry(5)]);
        tail.push(&[entry(6)]);
        // The writer has finished the first ten submissions, which contained the old 5 and 6.
        tail.mark_written(10);
        assert!(matches!(tail.plan(5, 7, usize::MAX), Plan::Here(new) if new.len() == 2));
    }

    #[test]
    fn gaps_and_overlaps_are_rejected() {
        let mut tail = filled(3, 1_000);
        assert_eq!(tail.check(&[entry(4)]), Err(StoreError::Gap { expected: 3, found: 4 }));
        assert!(tail.check(&[entry(2)]).is_err());
        assert!(tail.check(&[entry(3), entry(5)]).is_err());
        assert!(tail.check(&[entry(3), entry(4)]).is_ok());
        tail.purge(9, b"m");
        assert!(tail.check(&[entry(9)]).is_err());
        assert!(tail.check(&[entry(10)]).is_ok());
    }

    #[test]
    fn a_read_returns_at_least_one_entry_and_then_what_fits() {
        let tail = filled(10, 10_000);
        assert_eq!(tail.collect(2, 10, 1).len(), 1);
        assert_eq!(tail.collect(2, 10, 350).len(), 3);
        assert_eq!(tail.collect(2, 4, 10_000).len(), 2);
    }
}
