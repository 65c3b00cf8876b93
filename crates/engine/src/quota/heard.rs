//! Reports of counters that this node has not opened, in a compact form.
//!
//! If the counter of another node's report is not open here, this node keeps the report until it
//! opens the counter or the window is over, so that the first request sees the right remainder.

use fluxgate_types::{BootId, NodeId, Subject};
use hashbrown::HashTable;

use fluxgate_types::id::mix64;

use super::peer_account::Burned;
use super::{CounterReport, Incarnations, Sender};

/// A node's report of one counter. Tokens fit into 32 bits: a limit is at most a thousand million.
#[derive(Clone, Copy, Debug)]
pub(super) struct Noted {
    pub(super) subject: Subject,
    pub(super) tag: u32,
    spent: u32,
    // Spent by incarnations that have ended, as far as they reported.
    spent_before: u32,
    left: u32,
    limit: u32,
    burned: Option<i32>,
    node: NodeId,
    boot: BootId,
    incarnations: u64,
}

fn small(tokens: u64) -> u32 {
    u32::try_from(tokens).unwrap_or(u32::MAX)
}

impl Noted {
    pub(super) fn of(subject: Subject, tag: u32, sender: &Sender, mine: &CounterReport) -> Self {
        Self {
            subject,
            tag,
            spent: small(mine.spent),
            spent_before: 0,
            left: small(mine.left),
            limit: small(mine.limit),
            burned: i32::try_from(mine.burned).ok(),
            node: sender.node,
            boot: sender.boot,
            incarnations: mine.incarnations,
        }
    }

    pub(super) fn node(&self) -> NodeId {
        self.node
    }

    pub(super) fn limit(&self) -> u64 {
        u64::from(self.limit)
    }

    pub(super) fn boot(&self) -> BootId {
        self.boot
    }

    /// The report under these incarnations: spent by the newest one, spent by those before it, and
    /// the burned tokens and balance, which only the newest one can report.
    pub(super) fn under(&self, incarnations: &Incarnations) -> (u64, u64, Option<(Burned, u64)>) {
        let (spent, before) = (u64::from(self.spent), u64::from(self.spent_before));
        if incarnations.of(self.node).is_some_and(|newest| self.boot < newest) {
            return (0, before + spent, None);
        }
        let said = self.burned.map(|tokens| {
            let limit = u64::from(self.limit);
            (
                Burned { incarnations: self.incarnations, limit, tokens: i64::from(tokens) },
                u64::from(self.left),
            )
        });
        (spent, before, said)
    }

    /// Merges another report of the same node; one of an ended incarnation is late and ignored.
    fn follow(&mut self, newer: &Self) {
        if newer.boot < self.boot {
            return;
        }
        let mut next = *newer;
        if self.boot == newer.boot {
            next.spent = next.spent.max(self.spent);
            next.spent_before = self.spent_before;
        } else {
            next.spent_before = self.spent_before.saturating_add(self.spent);
        }
        *self = next;
    }
}

/// Reports by counter: all reports of one counter have the same hash.
#[derive(Clone, Debug, Default)]
pub(super) struct Heard {
    reports: HashTable<Noted>,
}

fn hash(subject: &Subject, tag: u32) -> u64 {
    mix64(subject.mix() ^ u64::from(tag))
}

impl Heard {
    pub(super) fn len(&self) -> usize {
        self.reports.len()
    }

    pub(super) fn is_unknown(&self, subject: &Subject, tag: u32) -> bool {
        self.reports.find(hash(subject, tag), |n| n.subject == *subject && n.tag == tag).is_none()
    }

    pub(super) fn knows(&self, report: &Noted) -> bool {
        let same =
            |n: &Noted| n.subject == report.subject && n.tag == report.tag && n.node == report.node;
        self.reports.find(hash(&report.subject, report.tag), same).is_some()
    }

    /// Keeps a report; true if there was none of the same node and counter.
    pub(super) fn note(&mut self, report: Noted) -> bool {
        let hashed = hash(&report.subject, report.tag);
        let same =
            |n: &Noted| n.subject == report.subject && n.tag == report.tag && n.node == report.node;
        if let Some(known) = self.reports.find_mut(hashed, same) {
            known.follow(&report);
            return false;
        }
        self.reports.insert_unique(hashed, report, |n| hash(&n.subject, n.tag));
        true
    }

    /// Removes all reports of a counter and passes each to `each`.
    pub(super) fn take(&mut self, subject: &Subject, tag: u32, mut each: impl FnMut(Noted)) {
        if self.reports.is_empty() {
            return;
        }
        let hashed = hash(subject, tag);
        while let Ok(found) =
            self.reports.find_entry(hashed, |n| n.subject == *subject && n.tag == tag)
        {
            each(found.remove().0);
        }
    }
}
