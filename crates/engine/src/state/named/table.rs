//! The records with names: by subject, and in the order of their names.

use std::borrow::Borrow;
use std::cmp::Ordering as Compared;
use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use fluxgate_types::Subject;
use hashbrown::HashTable;

use super::{Named, NamedKind};
use crate::state::digest;
use crate::state::terms::{Terms, Uses};

/// Parts of the table, each behind a lock of its own: with a million records, some 4 000 in each.
const SHARDS: usize = 256;

type Shard = Arc<HashTable<Arc<Named>>>;

/// What has a place in the order of kinds and names.
trait Placed {
    fn place(&self) -> (NamedKind, &str);
}

impl Placed for (NamedKind, &str) {
    fn place(&self) -> (NamedKind, &str) {
        *self
    }
}

impl PartialEq for dyn Placed + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.place() == other.place()
    }
}

impl Eq for dyn Placed + '_ {}

impl PartialOrd for dyn Placed + '_ {
    fn partial_cmp(&self, other: &Self) -> Option<Compared> {
        Some(self.cmp(other))
    }
}

impl Ord for dyn Placed + '_ {
    fn cmp(&self, other: &Self) -> Compared {
        self.place().cmp(&other.place())
    }
}

/// A record at its place: one pointer.
#[derive(Clone, Debug)]
struct ByName(Arc<Named>);

impl Placed for ByName {
    fn place(&self) -> (NamedKind, &str) {
        (self.0.kind, &self.0.name)
    }
}

/// So that a place can be looked up without a record.
impl<'a> Borrow<dyn Placed + 'a> for ByName {
    fn borrow(&self) -> &(dyn Placed + 'a) {
        self
    }
}

impl PartialEq for ByName {
    fn eq(&self, other: &Self) -> bool {
        self.place() == other.place()
    }
}

impl Eq for ByName {}

impl PartialOrd for ByName {
    fn partial_cmp(&self, other: &Self) -> Option<Compared> {
        Some(self.cmp(other))
    }
}

impl Ord for ByName {
    fn cmp(&self, other: &Self) -> Compared {
        self.place().cmp(&other.place())
    }
}

/// Every record with a name.
#[derive(Debug)]
pub struct NamedTable {
    shards: Box<[RwLock<Shard>]>,
    names: RwLock<BTreeSet<ByName>>,
    counts: [AtomicUsize; NamedKind::ALL.len()],
    uses: RwLock<Uses>,
    // The sum of the digests of all records.
    digest: AtomicU64,
}

impl Default for NamedTable {
    fn default() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| RwLock::default()).collect(),
            names: RwLock::default(),
            counts: Default::default(),
            uses: RwLock::default(),
            digest: AtomicU64::new(0),
        }
    }
}

fn hash(named: &Arc<Named>) -> u64 {
    named.subject.mix()
}

fn same(subject: &Subject) -> impl Fn(&Arc<Named>) -> bool + '_ {
    move |named| named.subject == *subject
}

impl NamedTable {
    fn shard(&self, subject: &Subject) -> &RwLock<Shard> {
        &self.shards[usize::try_from(subject.mix() >> 48).unwrap_or(0) % SHARDS]
    }

    /// The record of a subject.
    #[must_use]
    pub fn get(&self, subject: &Subject) -> Option<Arc<Named>> {
        let shard = self.shard(subject).read().unwrap_or_else(PoisonError::into_inner);
        shard.find(subject.mix(), same(subject)).cloned()
    }

    /// How many records of a kind there are: of none, nothing has to be looked up.
    #[must_use]
    pub fn count(&self, kind: NamedKind) -> usize {
        self.counts[kind as usize].load(Ordering::Relaxed)
    }

    /// How many records name this one.
    #[must_use]
    pub fn uses(&self, kind: NamedKind, name: &str) -> usize {
        self.uses.read().unwrap_or_else(PoisonError::into_inner).of(kind, name)
    }

    /// At most `most` records of a kind in the order of their names, after this name.
    #[must_use]
    pub fn page(&self, kind: NamedKind, after: Option<&str>, most: usize) -> Vec<Arc<Named>> {
        let names = self.names.read().unwrap_or_else(PoisonError::into_inner);
        let place = (kind, after.unwrap_or(""));
        let from: Bound<&dyn Placed> =
            if after.is_some() { Bound::Excluded(&place) } else { Bound::Included(&place) };
        let later = names.range::<dyn Placed, _>((from, Bound::Unbounded)).map(|one| &one.0);
        later.take_while(|one| one.kind == kind).take(most).cloned().collect()
    }

    // Only the one thread that applies calls these.
    pub(in crate::state) fn put(&self, named: Named) {
        let named = Arc::new(named);
        self.note(&named, AtomicU64::fetch_add, AtomicUsize::fetch_add);
        // Replaced under one hold of the lock: to a reader in between, a disabled owner would have no
        // record, and its keys would be accepted.
        let mut shard = self.shard(&named.subject).write().unwrap_or_else(PoisonError::into_inner);
        let table = Arc::make_mut(&mut shard);
        let before = match table.find_mut(named.subject.mix(), same(&named.subject)) {
            Some(known) => Some(std::mem::replace(known, Arc::clone(&named))),
            None => {
                table.insert_unique(hash(&named), Arc::clone(&named), hash);
                None
            }
        };
        drop(shard);
        let old = before.as_ref().map(|before| before.governing.terms());
        self.count_uses(old, Some(named.governing.terms()));
        if let Some(before) = &before {
            self.note(before, AtomicU64::fetch_sub, AtomicUsize::fetch_sub);
        }
        self.names.write().unwrap_or_else(PoisonError::into_inner).replace(ByName(named));
    }

    pub(in crate::state) fn remove(&self, subject: &Subject) {
        let mut shard = self.shard(subject).write().unwrap_or_else(PoisonError::into_inner);
        let table = Arc::make_mut(&mut shard);
        let Ok(found) = table.find_entry(subject.mix(), same(subject)) else { return };
        let (named, _) = found.remove();
        drop(shard);
        self.count_uses(Some(named.governing.terms()), None);
        self.note(&named, AtomicU64::fetch_sub, AtomicUsize::fetch_sub);
        self.names.write().unwrap_or_else(PoisonError::into_inner).remove(&ByName(named));
    }

    fn count_uses(&self, old: Option<&Terms>, new: Option<&Terms>) {
        self.uses.write().unwrap_or_else(PoisonError::into_inner).replace(old, new);
    }

    /// Counts a record in, or out.
    fn note(
        &self,
        named: &Named,
        add_digest: fn(&AtomicU64, u64, Ordering) -> u64,
        add_count: fn(&AtomicUsize, usize, Ordering) -> usize,
    ) {
        add_digest(&self.digest, digest::of(3, named), Ordering::Relaxed);
        add_count(&self.counts[named.kind as usize], 1, Ordering::Relaxed);
    }

    /// The sum of the digests of all records.
    pub(in crate::state) fn digest(&self) -> u64 {
        self.digest.load(Ordering::Relaxed)
    }

    /// The table at this moment, sharing memory with it.
    pub(in crate::state) fn freeze(&self) -> FrozenNamed {
        let frozen = |shard: &RwLock<Shard>| {
            Arc::clone(&shard.read().unwrap_or_else(PoisonError::into_inner))
        };
        FrozenNamed(self.shards.iter().map(frozen).collect())
    }

    /// Takes the records of another table in place of its own.
    #[expect(clippy::mutable_key_type, reason = "the order is that of kinds and names")]
    pub(in crate::state) fn adopt(&self, other: &Self) {
        for (mine, theirs) in self.shards.iter().zip(&other.shards) {
            let theirs = Arc::clone(&theirs.read().unwrap_or_else(PoisonError::into_inner));
            *mine.write().unwrap_or_else(PoisonError::into_inner) = theirs;
        }
        let names = other.names.read().unwrap_or_else(PoisonError::into_inner).clone();
        *self.names.write().unwrap_or_else(PoisonError::into_inner) = names;
        for kind in NamedKind::ALL {
            self.counts[kind as usize].store(other.count(kind), Ordering::Relaxed);
        }
        let uses = other.uses.read().unwrap_or_else(PoisonError::into_inner).clone();
        *self.uses.write().unwrap_or_else(PoisonError::into_inner) = uses;
        self.digest.store(other.digest(), Ordering::Relaxed);
    }
}

/// The records at one moment.
#[derive(Clone, Debug)]
pub(in crate::state) struct FrozenNamed(Box<[Shard]>);

impl FrozenNamed {
    /// The records, in an order that depends on nothing but the records.
    pub(in crate::state) fn records(&self) -> impl Iterator<Item = &Arc<Named>> {
        self.0.iter().flat_map(|shard| {
            let mut records: Vec<&Arc<Named>> = shard.iter().collect();
            records.sort_unstable_by_key(|named| named.subject);
            records
        })
    }
}
