//! The order in which things are due: windows by their end, and subjects without an open window by their
//! last use.
//!
//! Answers for: forgetting in order, so that no step scans all subjects; and for the data that belongs
//! to a window as a whole and is dropped with it: the counters whose reports changed, and the
//! reports of counters that are not open here.

use std::collections::{BTreeMap, VecDeque};

use fluxgate_types::{ClusterMs, Subject, caps};

use super::heard::{Heard, Noted};
use super::window_counter::WindowCounter;
use super::{CounterId, Incarnation};

/// A window may be opened until this many milliseconds after its end, for peers whose clock is a
/// little behind.
pub(super) const OPEN_LATE_MS: u64 = 1_000;
/// A window is removed this many milliseconds after its end: later than [`OPEN_LATE_MS`], so that it
/// cannot be opened twice.
pub(super) const FORGET_AFTER_MS: u64 = 2_000;
/// Subjects are ordered by their last use in steps of this many milliseconds.
pub(super) const USED_STEP_MS: u64 = 1_000;

/// Places to add to a full list: a quarter. With doubling, half of the memory would be empty.
fn growth(len: usize) -> usize {
    (len / 4).max(4)
}

/// Appends, and grows by [`growth`].
fn push_sparing<T>(list: &mut Vec<T>, item: T) {
    if list.len() == list.capacity() {
        list.reserve_exact(growth(list.len()));
    }
    list.push(item);
}

/// The same for a queue.
fn queue_sparing<T>(queue: &mut VecDeque<T>, item: T) {
    if queue.len() == queue.capacity() {
        queue.reserve_exact(growth(queue.len()));
    }
    queue.push_back(item);
}

/// Everything that ends at one moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Due {
    // Counters that are open here or have kept reports, in order of arrival.
    listed: Vec<(Subject, u32)>,
    // Counters whose reports changed.
    dirty: VecDeque<(Subject, u32)>,
    heard: Heard,
}

/// The order of one shard.
#[derive(Clone, Debug, Default)]
pub(super) struct Order {
    windows: BTreeMap<ClusterMs, Due>,
    // Subjects without an open window by last use, each once: a subject that was used since moves, or leaves
    // the order, when its entry is due.
    used: BTreeMap<u64, Vec<Subject>>,
    /// Windows in memory.
    pub(super) cells: usize,
    /// How many reports are kept of counters that are not open.
    pub(super) heard: usize,
}

impl Order {
    /// A counter is opened: lists it, and passes it the reports that were kept for it.
    pub(super) fn take_in(
        &mut self,
        end: ClusterMs,
        subject: &Subject,
        tag: u32,
        incarnation: &Incarnation,
        cell: &mut WindowCounter,
    ) {
        let due = self.windows.entry(end).or_default();
        let mut known = false;
        due.heard.take(subject, tag, |report| {
            known = true;
            self.heard -= 1;
            cell.take_in(incarnation, &report);
        });
        if !known {
            push_sparing(&mut due.listed, (*subject, tag));
        }
    }

    /// Keeps a report of a counter that is not open here. Beyond the bound the report is dropped:
    /// this node asks its peers when it needs the counter.
    pub(super) fn note_heard(&mut self, end: ClusterMs, report: Noted) {
        let due = self.windows.entry(end).or_default();
        if self.heard >= caps::FIGURES_HEARD_PER_SHARD_MAX && !due.heard.knows(&report) {
            return;
        }
        let (subject, tag) = (report.subject, report.tag);
        let first = due.heard.is_unknown(&subject, tag);
        self.heard += usize::from(due.heard.note(report));
        if first {
            push_sparing(&mut due.listed, (subject, tag));
        }
    }

    /// The report of a counter changed.
    pub(super) fn note_dirty(&mut self, end: ClusterMs, counter: CounterId) {
        let due = self.windows.entry(end).or_default();
        queue_sparing(&mut due.dirty, (counter.subject, counter.limit));
    }

    /// Takes counters whose reports changed, at most `most`: a fair part of each open window, first
    /// in, first out.
    pub(super) fn take_dirty(
        &mut self,
        now: ClusterMs,
        most: usize,
    ) -> Vec<(ClusterMs, Subject, u32)> {
        let open = |(end, due): &(&ClusterMs, &mut Due)| {
            **end + OPEN_LATE_MS >= now && !due.dirty.is_empty()
        };
        let mut waiting: Vec<(&ClusterMs, &mut Due)> =
            self.windows.iter_mut().filter(open).collect();
        let mut taken = Vec::new();
        // Windows that need less than their part leave the rest to the others.
        waiting.sort_unstable_by_key(|(_, due)| due.dirty.len());
        let count = waiting.len();
        for (place, (end, due)) in waiting.into_iter().enumerate() {
            let part = (most - taken.len()).div_ceil(count - place).min(due.dirty.len());
            taken.extend(due.dirty.drain(..part).map(|(subject, tag)| (*end, subject, tag)));
            if due.dirty.is_empty() && due.dirty.capacity() > caps::QUEUE_KEPT {
                due.dirty.shrink_to(0);
            }
        }
        taken
    }

    /// Whether reports wait to be sent.
    pub(super) fn has_dirty(&self) -> bool {
        self.windows.values().any(|due| !due.dirty.is_empty())
    }

    /// The next listed counter at or after a place in the order, of a window that is not over.
    pub(super) fn next_listed(
        &self,
        now: ClusterMs,
        at: (ClusterMs, usize),
    ) -> Option<((ClusterMs, usize), (Subject, u32))> {
        let from = at.0.max(now);
        for (end, due) in self.windows.range(from..) {
            let place = if *end == at.0 { at.1 } else { 0 };
            if let Some(counter) = due.listed.get(place) {
                return Some(((*end, place), *counter));
            }
        }
        None
    }

    /// Removes a counter whose window has been over for long enough to be forgotten.
    pub(super) fn pop_over(&mut self, now: ClusterMs) -> Option<(Subject, u32)> {
        loop {
            let mut first = self.windows.first_entry()?;
            if *first.key() + FORGET_AFTER_MS >= now {
                return None;
            }
            let due = first.get_mut();
            self.heard -= due.heard.len();
            (due.dirty, due.heard) = (VecDeque::new(), Heard::default());
            if let Some(counter) = due.listed.pop() {
                return Some(counter);
            }
            first.remove();
        }
    }

    /// Records a subject without an open window, by its last use.
    pub(super) fn note_used(&mut self, subject: &Subject, at: ClusterMs) {
        push_sparing(self.used.entry(at.0 / USED_STEP_MS).or_default(), *subject);
    }

    /// Removes a subject that was recorded before this time. If it was used since, the caller records it
    /// again, at once or when its last window is over.
    pub(super) fn pop_used_before(&mut self, before: u64) -> Option<(Subject, ClusterMs)> {
        loop {
            let mut first = self.used.first_entry()?;
            let noted = ClusterMs(*first.key() * USED_STEP_MS);
            if noted.0 + USED_STEP_MS > before {
                return None;
            }
            if let Some(subject) = first.get_mut().pop() {
                return Some((subject, noted));
            }
            first.remove();
        }
    }
}
