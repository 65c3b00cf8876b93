//! The counters of the subjects of one shard, by subject.

use fluxgate_types::{ClusterMs, Subject, Window, caps};
use hashbrown::HashTable;

use super::CounterId;
use super::subject::SubjectCounters;
use super::window_counter::WindowCounter;

/// The subjects of one shard. A subject id is its own hash and part of the counters, so a slot of the table
/// is one pointer.
#[derive(Clone, Debug, Default)]
pub(super) struct SubjectMap {
    table: HashTable<Box<SubjectCounters>>,
}

fn same(subject: &Subject) -> impl Fn(&Box<SubjectCounters>) -> bool + '_ {
    move |counters| counters.subject() == *subject
}

impl SubjectMap {
    pub(super) fn get(&self, subject: &Subject) -> Option<&SubjectCounters> {
        self.table.find(subject.mix(), same(subject)).map(AsRef::as_ref)
    }

    pub(super) fn get_mut(&mut self, subject: &Subject) -> Option<&mut SubjectCounters> {
        self.table.find_mut(subject.mix(), same(subject)).map(AsMut::as_mut)
    }

    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    pub(super) fn contains(&self, subject: &Subject) -> bool {
        self.get(subject).is_some()
    }

    /// The counters of a subject that is used at `now`, created if they are not in memory.
    pub(super) fn entry(&mut self, subject: &Subject, now: ClusterMs) -> &mut SubjectCounters {
        let entry =
            self.table.entry(subject.mix(), same(subject), |counters| counters.subject().mix());
        let counters = entry.or_insert_with(|| Box::new(SubjectCounters::new(*subject))).into_mut();
        counters.note_use(now);
        counters
    }

    pub(super) fn remove(&mut self, subject: &Subject) {
        if let Ok(found) = self.table.find_entry(subject.mix(), same(subject)) {
            found.remove();
        }
        // A table keeps its capacity; this frees it once three quarters are empty.
        let (used, size) = (self.table.len(), self.table.capacity());
        if size > caps::QUEUE_KEPT && used < size / 4 {
            self.table.shrink_to(used * 2, |counters| counters.subject().mix());
        }
    }
}

pub(super) fn cell_of<'a>(
    subjects: &'a mut SubjectMap,
    counter: &CounterId,
) -> Option<&'a mut WindowCounter> {
    let limits = subjects.get_mut(&counter.subject)?.limits.iter_mut();
    let mut cells = limits.filter(|l| l.tag == counter.limit).flat_map(|l| &mut l.cells);
    cells.find(|cell| cell.window() == counter.window)
}

/// The open windows of a limit that end at one moment, each with its period in milliseconds.
/// There is one, except while a limit of another period has the same tag.
pub(super) fn cells_of<'a>(
    subjects: &'a mut SubjectMap,
    subject: &Subject,
    tag: u32,
    end: ClusterMs,
) -> impl Iterator<Item = (u64, &'a mut WindowCounter)> {
    let limits = subjects.get_mut(subject).into_iter().flat_map(|counters| &mut counters.limits);
    let cells = limits.filter(move |limit| limit.tag == tag).flat_map(|limit| {
        let period_ms = limit.period_ms;
        limit.cells.iter_mut().map(move |cell| (period_ms, cell))
    });
    cells.filter(move |(period_ms, cell)| {
        Window { number: cell.window(), period_ms: *period_ms }.end() == end
    })
}
