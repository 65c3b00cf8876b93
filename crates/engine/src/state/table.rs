//! Every key, by id, in shards that a snapshot can share without copying.
//!
//! Answers for: look-ups that hold a lock for one access to a small table, changes by the one
//! thread that applies, and a frozen view that costs one pointer per shard. A revoked key stays
//! readable until it is erased.

mod order;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use fluxgate_types::{ClusterMs, KeyId, caps};
use hashbrown::HashTable;

use super::census::Census;
use super::digest;
use super::entry::KeyEntry;
use super::governing::{Governing, Governings};
use super::named::NamedKind;
use super::record::{KeyRecord, Status};
use super::terms::Uses;
use order::{Order, Place};

/// Shards of the table: with a million keys, some 400 per shard, which nearly fill a table of 448
/// places.
const SHARDS: usize = 2_560;

/// How many ends of keys one count may pass while it holds the lock that a writer needs.
const CENSUS_STEPS: usize = 4_096;

/// Fewer empty places of erased keys than this are not worth sweeping.
const EMPTY_PLACES_MIN: usize = 1_024;

/// A key id is its own hash and is part of the record, so a slot of the table is one pointer.
type Shard = Arc<HashTable<KeyEntry>>;

fn same(id: &KeyId) -> impl Fn(&KeyEntry) -> bool + '_ {
    move |entry| entry.id() == *id
}

fn hash(entry: &KeyEntry) -> u64 {
    entry.id().mix()
}

/// The key table.
#[derive(Debug)]
pub struct KeyTable {
    shards: Box<[RwLock<Shard>]>,
    order: RwLock<Arc<Order>>,
    governings: Mutex<Governings>,
    uses: Mutex<Uses>,
    // The sum of the digests of all records. Changed by the one thread that applies.
    digest: AtomicU64,
    // Counts of changes to data that a reader may have copied: begun, and completed.
    changes: (AtomicU64, AtomicU64),
    census: Mutex<Census>,
    // Keys whose records were erased, for those who keep something by key.
    erased: Mutex<VecDeque<KeyId>>,
}

impl Default for KeyTable {
    fn default() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| RwLock::default()).collect(),
            order: RwLock::default(),
            governings: Mutex::default(),
            uses: Mutex::default(),
            digest: AtomicU64::new(0),
            changes: (AtomicU64::new(0), AtomicU64::new(0)),
            census: Mutex::default(),
            erased: Mutex::default(),
        }
    }
}

/// The table at one moment.
#[derive(Clone, Debug)]
pub struct FrozenTable {
    shards: Box<[Shard]>,
    order: Arc<Order>,
}

impl FrozenTable {
    /// The records in order of creation.
    pub fn entries(&self) -> impl Iterator<Item = &KeyEntry> {
        self.order.places().filter_map(|place| {
            let found = self.shards[shard_of(&place.id)].find(place.id.mix(), same(&place.id));
            found.filter(|entry| entry.seq() == place.seq)
        })
    }

    /// How many keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether there is no key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.order.len() == 0
    }

    /// The place that the next key gets.
    pub(super) fn next_seq(&self) -> u32 {
        self.order.next_seq
    }
}

/// The keys of one shard at one moment. A writer copies a shard before changing it while a reader
/// uses it.
#[derive(Debug)]
pub struct Part(Shard);

impl Part {
    /// Its keys, in no particular order.
    pub fn entries(&self) -> impl Iterator<Item = &KeyEntry> {
        self.0.iter()
    }
}

fn shard_of(id: &KeyId) -> usize {
    // The low bits place a key within its shard.
    usize::try_from((id.mix() >> 32) % SHARDS as u64).unwrap_or(0)
}

impl KeyTable {
    /// Reads one key in place, under a short shard lock.
    pub fn with<R>(&self, id: &KeyId, read: impl FnOnce(&KeyEntry) -> R) -> Option<R> {
        let shard = self.shards[shard_of(id)].read().unwrap_or_else(PoisonError::into_inner);
        shard.find(id.mix(), same(id)).map(read)
    }

    /// One key.
    #[must_use]
    pub fn get(&self, id: &KeyId) -> Option<KeyEntry> {
        self.with(id, KeyEntry::clone)
    }

    /// The number of the newest change of records or of the view, for [`KeyTable::is_unchanged`];
    /// none during a change. A new key does not count: no reader can have copied it before.
    #[must_use]
    pub fn revision(&self) -> Option<u64> {
        let made = self.changes.1.load(Ordering::Acquire);
        (self.changes.0.load(Ordering::Acquire) == made).then_some(made)
    }

    /// Whether data that was read AFTER [`KeyTable::revision`] is still current.
    #[must_use]
    pub fn is_unchanged(&self, since: Option<u64>) -> bool {
        since.is_some_and(|revision| self.changes.0.load(Ordering::Acquire) == revision)
    }

    /// The copy of what governs records that all of them share.
    pub(super) fn share(&self, governing: Governing) -> Arc<Governing> {
        self.governings.lock().unwrap_or_else(PoisonError::into_inner).share(governing)
    }

    /// How many keys name this record.
    #[must_use]
    pub fn uses(&self, kind: NamedKind, name: &str) -> usize {
        self.uses.lock().unwrap_or_else(PoisonError::into_inner).of(kind, name)
    }

    /// Makes a change that readers notice: counted BEFORE it begins and AFTER it is complete.
    pub(super) fn change<R>(&self, change: impl FnOnce() -> R) -> R {
        self.changes.0.fetch_add(1, Ordering::AcqRel);
        let result = change();
        self.changes.1.fetch_add(1, Ordering::AcqRel);
        result
    }

    /// How many keys there are, revoked ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.order.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether there is no key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    // Shared: changing it while a reader uses it copies it once.
    fn order(&self) -> Arc<Order> {
        Arc::clone(&self.order.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn change_order(&self, change: impl FnOnce(&mut Order)) {
        change(Arc::make_mut(&mut self.order.write().unwrap_or_else(PoisonError::into_inner)));
    }

    /// Up to `count` key ids that were created before place `before`, newest first, with their
    /// places. Copies only those; some of their records may have been erased.
    #[must_use]
    pub fn page(&self, before: usize, count: usize) -> Vec<(usize, KeyId)> {
        let order = self.order.read().unwrap_or_else(PoisonError::into_inner);
        order.before(before).take(count).map(|place| (place.seq as usize, place.id)).collect()
    }

    fn packed(&self, record: &KeyRecord, last_used: Option<ClusterMs>) -> KeyEntry {
        let governing = Governing::of(record).map(|governing| self.share(governing));
        KeyEntry::sharing(record, last_used, governing)
    }

    /// The place in the order of creation that the next key gets. None if no numbers are left.
    pub(super) fn next_seq(&self) -> Option<u32> {
        let next = self.order.read().unwrap_or_else(PoisonError::into_inner).next_seq;
        Some(next).filter(|next| *next < u32::MAX)
    }

    /// Gives the next key this place, unless a key has a later one.
    pub(super) fn skip_to(&self, seq: u32) {
        self.change_order(|order| order.next_seq = order.next_seq.max(seq));
    }

    /// Puts a new key at the end of the order.
    pub(super) fn insert(&self, record: &KeyRecord, last_used: Option<ClusterMs>) {
        let (id, seq) = (record.id, record.seq);
        self.change_order(|order| {
            order.push(Place { seq, id });
            order.next_seq = order.next_seq.max(seq.saturating_add(1));
        });
        self.put(record, last_used);
    }

    /// Removes a key.
    pub(super) fn remove(&self, id: &KeyId) {
        self.change(|| {
            let removed = {
                let shard = &self.shards[shard_of(id)];
                let mut shard = shard.write().unwrap_or_else(PoisonError::into_inner);
                let shard = Arc::make_mut(&mut shard);
                let Ok(found) = shard.find_entry(id.mix(), same(id)) else { return };
                found.remove().0
            };
            let removed = removed.record();
            self.census().remove(&removed);
            let mut uses = self.uses.lock().unwrap_or_else(PoisonError::into_inner);
            uses.replace(Some(&removed.terms), None);
            drop(uses);
            self.digest.fetch_sub(digest::of_key(&removed), Ordering::Relaxed);
            self.change_order(|order| order.empty += 1);
            let mut erased = self.erased.lock().unwrap_or_else(PoisonError::into_inner);
            if erased.len() == caps::ERASED_NOTED_MAX {
                erased.pop_front();
            }
            erased.push_back(*id);
        });
        self.sweep_order();
    }

    /// Takes up to `most` keys whose records were erased since the last call, oldest first. Beyond
    /// [`caps::ERASED_NOTED_MAX`] the oldest are left out.
    pub fn take_erased(&self, most: usize) -> Vec<KeyId> {
        let mut erased = self.erased.lock().unwrap_or_else(PoisonError::into_inner);
        let most = most.min(erased.len());
        erased.drain(..most).collect()
    }

    /// Sweeps the empty places once they are as many as the others: constant cost per removal.
    fn sweep_order(&self) {
        let order = self.order();
        if order.empty < EMPTY_PLACES_MIN || order.empty < order.len() {
            return;
        }
        let is_full = |place: &&Place| {
            self.with(&place.id, |entry| entry.seq() == place.seq).unwrap_or(false)
        };
        let mut swept = order.emptied();
        order.places().filter(is_full).for_each(|place| swept.push(*place));
        drop(order);
        self.change_order(|order| *order = swept);
    }

    /// Replaces a record by its changed version.
    pub(super) fn replace(&self, record: &KeyRecord, last_used: Option<ClusterMs>) {
        self.change(|| self.put(record, last_used));
    }

    fn put(&self, record: &KeyRecord, last_used: Option<ClusterMs>) {
        let (id, entry) = (record.id, self.packed(record, last_used));
        // No other thread changes the table, so what is derived from the old record needs no lock.
        let old = self.with(&id, KeyEntry::record);
        let before = old.as_ref().map_or(0, digest::of_key);
        let after = digest::of_key(record);
        self.census().replace(old.as_ref(), record);
        let mut uses = self.uses.lock().unwrap_or_else(PoisonError::into_inner);
        uses.replace(old.as_ref().map(|old| &old.terms), Some(&record.terms));
        drop(uses);
        {
            let shard = &self.shards[shard_of(&id)];
            let mut shard = shard.write().unwrap_or_else(PoisonError::into_inner);
            let shard = Arc::make_mut(&mut shard);
            match shard.find_mut(id.mix(), same(&id)) {
                Some(place) => *place = entry,
                None => drop(shard.insert_unique(id.mix(), entry, hash)),
            }
        }
        self.digest.fetch_add(after.wrapping_sub(before), Ordering::Relaxed);
    }

    /// One number for all records: equal for equal tables.
    pub(super) fn digest(&self) -> u64 {
        self.digest.load(Ordering::Relaxed)
    }

    fn census(&self) -> MutexGuard<'_, Census> {
        self.census.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many keys of each status there are at `now`, in the order of [`Status::ALL`]. `None` if
    /// more keys ended since the last count than one call processes: call again.
    #[must_use]
    pub fn count_by_status(&self, now: ClusterMs) -> Option<[usize; Status::ALL.len()]> {
        self.census().at(now, CENSUS_STEPS)
    }

    fn frozen(shard: &RwLock<Shard>) -> Shard {
        Arc::clone(&shard.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The current table: call only between two applies.
    #[must_use]
    pub(super) fn freeze(&self) -> FrozenTable {
        FrozenTable { shards: self.shards.iter().map(Self::frozen).collect(), order: self.order() }
    }

    /// All keys, part by part: the fastest way to visit each, because it follows the memory layout
    /// and not the order of creation.
    pub fn parts(&self) -> impl Iterator<Item = Part> {
        self.shards.iter().map(|shard| Part(Self::frozen(shard)))
    }

    /// Adopts the keys of another table, shard by shard. A reader sees each key either as it was or
    /// as it is in the new table, which is newer.
    pub(super) fn adopt(&self, other: &Self) {
        // The last use of a key is this node's own data and not part of the other table.
        for (mine, theirs) in self.shards.iter().zip(&other.shards) {
            let new = Self::frozen(theirs);
            for entry in Self::frozen(mine).iter() {
                let found = new.find(entry.id().mix(), same(&entry.id()));
                if let (Some(found), Some(at)) = (found, entry.last_used()) {
                    found.touch(at);
                }
            }
        }
        self.change(|| self.take_over(other));
    }

    fn take_over(&self, other: &Self) {
        for (mine, theirs) in self.shards.iter().zip(&other.shards) {
            let new = Arc::clone(&theirs.read().unwrap_or_else(PoisonError::into_inner));
            *mine.write().unwrap_or_else(PoisonError::into_inner) = new;
        }
        *self.order.write().unwrap_or_else(PoisonError::into_inner) = other.order();
        self.digest.store(other.digest(), Ordering::Relaxed);
        let census = other.census().clone();
        *self.census() = census;
        let uses = other.uses.lock().unwrap_or_else(PoisonError::into_inner).clone();
        *self.uses.lock().unwrap_or_else(PoisonError::into_inner) = uses;
    }
}

#[cfg(test)]
mod tests {
    use fluxgate_types::{Digest, LogIndex, Scope};

    use super::order::ORDER_PIECE;
    use super::*;
    use crate::state::actor::Actor;
    use crate::state::terms::Terms;

    #[test]
    fn what_was_read_before_or_during_a_change_is_not_taken_for_new() {
        let table = KeyTable::default();
        let before = table.revision();
        assert!(before.is_some() && table.is_unchanged(before));
        let during = table.change(|| {
            assert!(!table.is_unchanged(before));
            table.revision()
        });
        assert_eq!(during, None);
        assert!(!table.is_unchanged(during) && !table.is_unchanged(before));
        assert!(table.is_unchanged(table.revision()));
    }

    /// A page is the same wherever the pieces of the order end, and a reader keeps what it saw.
    #[test]
    fn a_list_goes_over_the_ends_of_pieces() {
        let table = KeyTable::default();
        let record = |seq: u32| KeyRecord {
            id: format!("key_{seq:012}").parse().unwrap(),
            digest: Digest::of(b""),
            seq,
            scope: Scope::Read,
            enabled: true,
            revision: 1,
            created_index: LogIndex(1),
            created_at: ClusterMs(1),
            created_by: Actor::Operator,
            revoked_at: None,
            expires_at: None,
            name: "".into(),
            head: "".into(),
            owner: None,
            limits: None,
            terms: Terms::default(),
            previous: None,
            metadata: None,
        };
        let count = 2 * u32::try_from(ORDER_PIECE).unwrap() + 10;
        // Every other place is left out, as after a restore.
        (0..count).for_each(|at| table.insert(&record(2 * at), None));
        let frozen = table.freeze();
        table.insert(&record(2 * count), None);
        assert_eq!((frozen.len(), table.len()), (count as usize, count as usize + 1));
        let all: Vec<usize> = (0..=count).map(|at| 2 * at as usize).rev().collect();
        for before in
            (0..2 * ORDER_PIECE * 2 + 40).step_by(331).chain([ORDER_PIECE * 2, usize::MAX])
        {
            let wanted = all.iter().copied().filter(|seq| *seq < before).take(20);
            let page = table.page(before, 20).into_iter().map(|(seq, _)| seq);
            assert!(page.eq(wanted), "before {before}");
        }
        assert!(frozen.entries().map(KeyEntry::seq).eq((0..count).map(|at| 2 * at)));
    }
}
