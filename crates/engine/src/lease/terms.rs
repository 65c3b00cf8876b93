//! Lease terms as replicated state.
//!
//! Answers for: which terms a leader grants by, and which ones it must still allow for, because a
//! lease or a horizon that was promised under them may not have ended yet. Two leaders
//! with different terms would break the write barrier: the one with the shorter lease would
//! acknowledge a write while a node still answers under the longer one.
//!
//! Assumes that a leader applies everything up to the commit index that a grant carries BEFORE it
//! grants. Then the leader of a grant under old terms proved its leadership before the change was
//! committed. So every promise of the grant ends within its terms after any node has applied the
//! change.

use fluxgate_types::{BootNs, ClusterMs, LogIndex};

use super::LeaseTerms;

/// Lease terms with the log position from which they apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TermsRecord {
    /// The entry that set them.
    pub index: LogIndex,
    /// The stamp of that entry.
    pub at: ClusterMs,
    /// The terms.
    pub terms: LeaseTerms,
}

/// The terms in force on one node, and the earlier ones whose promises may not have ended.
#[derive(Clone, Debug)]
pub struct TermsWatch {
    in_force: LeaseTerms,
    newest: Option<LogIndex>,
    // Superseded terms, with the moment at which this node saw the change.
    superseded: Vec<(LeaseTerms, BootNs)>,
}

impl TermsWatch {
    /// Begins with the terms of the node's own configuration: they apply until the cluster has
    /// set its terms.
    #[must_use]
    pub fn new(configured: LeaseTerms) -> Self {
        Self { in_force: configured, newest: None, superseded: Vec::new() }
    }

    /// Adopts the terms of the replicated state, oldest first. Call after every change of it; a
    /// late call errs on the safe side.
    pub fn observe(&mut self, now: BootNs, records: &[TermsRecord]) {
        for record in records {
            if self.newest.is_some_and(|newest| record.index <= newest) {
                continue;
            }
            if record.terms != self.in_force {
                self.superseded.push((self.in_force, now));
            }
            self.newest = Some(record.index);
            self.in_force = record.terms;
        }
        self.superseded.retain(|(terms, since)| now.since(*since) < over_ms(terms) * 1_000_000);
    }

    /// The terms that this node grants and renews by.
    #[must_use]
    pub fn in_force(&self) -> LeaseTerms {
        self.in_force
    }

    /// The longest of the terms in force and all whose promises may not have ended: what a new
    /// leader, the write barrier and a new share map must allow for.
    #[must_use]
    pub fn cautious(&self, now: BootNs) -> LeaseTerms {
        let out = self.superseded.iter();
        let out = out.filter(|(terms, since)| now.since(*since) < over_ms(terms) * 1_000_000);
        out.fold(self.in_force, |longest, (terms, _)| LeaseTerms {
            lease_ms: longest.lease_ms.max(terms.lease_ms),
            clock_error_ms_max: longest.clock_error_ms_max.max(terms.clock_error_ms_max),
        })
    }
}

/// After this time every lease and every horizon under superseded terms has ended, by a clock that
/// runs 2 % fast against the one that they were promised by, milliseconds.
fn over_ms(terms: &LeaseTerms) -> u64 {
    terms.map_ahead_ms() * 102 / 100 + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: LeaseTerms = LeaseTerms { lease_ms: 10_000, clock_error_ms_max: 1_000 };
    const SHORT: LeaseTerms = LeaseTerms { lease_ms: 3_000, clock_error_ms_max: 500 };

    fn record(index: u64, terms: LeaseTerms) -> TermsRecord {
        TermsRecord { index: LogIndex(index), at: ClusterMs(0), terms }
    }

    fn at(ms: u64) -> BootNs {
        BootNs(0).plus_ms(ms)
    }

    #[test]
    fn shorter_terms_are_in_force_at_once_and_the_longer_ones_are_allowed_for() {
        let mut watch = TermsWatch::new(LONG);
        watch.observe(at(1_000), &[record(1, LONG), record(7, SHORT)]);
        assert_eq!(watch.in_force(), SHORT);
        assert_eq!(watch.cautious(at(1_000 + LONG.map_ahead_ms())), LONG);
        assert_eq!(watch.cautious(at(1_100 + LONG.map_ahead_ms() * 102 / 100)), SHORT);
    }

    #[test]
    fn a_change_between_two_looks_is_not_missed() {
        let mut watch = TermsWatch::new(SHORT);
        watch.observe(at(0), &[record(3, LONG), record(4, SHORT)]);
        assert_eq!((watch.in_force(), watch.cautious(at(10))), (SHORT, LONG));
        // Adopting the same state again changes nothing.
        watch.observe(at(60_000), &[record(3, LONG), record(4, SHORT)]);
        assert_eq!(watch.cautious(at(60_000)), SHORT);
    }

    #[test]
    fn another_configuration_than_the_clusters_is_allowed_for_after_a_start() {
        let mut watch = TermsWatch::new(LONG);
        watch.observe(at(5), &[record(0, SHORT)]);
        assert_eq!((watch.in_force(), watch.cautious(at(10))), (SHORT, LONG));
    }
}
