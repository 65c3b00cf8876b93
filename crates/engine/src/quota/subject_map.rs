//! The counters of the keys of one shard, by key.

use fluxgate_types::{ClusterMs, KeyId, Window, caps};
use hashbrown::HashTable;

use super::CounterId;
use super::key::KeyCounters;
use super::window_counter::WindowCounter;

/// The keys of one shard. A key id is its own hash and part of the counters, so a slot of the table
/// is one pointer.
#[derive(Clone, Debug, Default)]
pub(super) struct KeyMap {
    table: HashTable<Box<KeyCounters>>,
}

fn same(key: &KeyId) -> impl Fn(&Box<KeyCounters>) -> bool + '_ {
    move |counters| counters.key() == *key
}

impl KeyMap {
    pub(super) fn get(&self, key: &KeyId) -> Option<&KeyCounters> {
        self.table.find(key.mix(), same(key)).map(AsRef::as_ref)
    }

    pub(super) fn get_mut(&mut self, key: &KeyId) -> Option<&mut KeyCounters> {
        self.table.find_mut(key.mix(), same(key)).map(AsMut::as_mut)
    }

    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    pub(super) fn contains(&self, key: &KeyId) -> bool {
        self.get(key).is_some()
    }

    /// The counters of a key that is used at `now`, created if they are not in memory.
    pub(super) fn entry(&mut self, key: &KeyId, now: ClusterMs) -> &mut KeyCounters {
        let entry = self.table.entry(key.mix(), same(key), |counters| counters.key().mix());
        let counters = entry.or_insert_with(|| Box::new(KeyCounters::new(*key))).into_mut();
        counters.note_use(now);
        counters
    }

    pub(super) fn remove(&mut self, key: &KeyId) {
        if let Ok(found) = self.table.find_entry(key.mix(), same(key)) {
            found.remove();
        }
        // A table keeps its capacity; this frees it once three quarters are empty.
        let (used, size) = (self.table.len(), self.table.capacity());
        if size > caps::QUEUE_KEPT && used < size / 4 {
            self.table.shrink_to(used * 2, |counters| counters.key().mix());
        }
    }
}

pub(super) fn cell_of<'a>(
    keys: &'a mut KeyMap,
    counter: &CounterId,
) -> Option<&'a mut WindowCounter> {
    let limits = keys.get_mut(&counter.key)?.limits.iter_mut();
    let mut cells = limits.filter(|l| l.tag == counter.limit).flat_map(|l| &mut l.cells);
    cells.find(|cell| cell.window() == counter.window)
}

/// The open windows of a limit that end at one moment, each with its period in milliseconds.
/// There is one, except while a limit of another period has the same tag.
pub(super) fn cells_of<'a>(
    keys: &'a mut KeyMap,
    key: &KeyId,
    tag: u32,
    end: ClusterMs,
) -> impl Iterator<Item = (u64, &'a mut WindowCounter)> {
    let limits = keys.get_mut(key).into_iter().flat_map(|counters| &mut counters.limits);
    let cells = limits.filter(move |limit| limit.tag == tag).flat_map(|limit| {
        let period_ms = limit.period_ms;
        limit.cells.iter_mut().map(move |cell| (period_ms, cell))
    });
    cells.filter(move |(period_ms, cell)| {
        Window { number: cell.window(), period_ms: *period_ms }.end() == end
    })
}
