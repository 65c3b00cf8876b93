//! The state as a stream of items, for snapshot files.
//!
//! Answers for: splitting the state into items without stopping applies ([`Frozen`]) and building
//! it from them ([`Restore`]). The item types are written to disk: variants and fields are only
//! appended under a new format version.

mod restore;

use std::sync::Arc;

use fluxgate_types::{BootId, ClusterMs, DirId, KeyId, Limit, LogIndex, NodeId, SubjectSeed};

use super::audit::{AuditEntry, AuditLog};
use super::cluster_state::ClusterState;
use super::digest::Digests;
use super::entry::KeyEntry;
use super::governing::DEFAULT_PLAN;
use super::idempotency::IdempotencyRow;
use super::named::{FrozenNamed, Named, NamedKind, NamedRow};
use super::record::LimitSpec;
use super::repeats::Remembered;
pub use super::row::KeyRow;
use super::table::FrozenTable;
use super::terms::Terms;
use super::{Registry, View};
use crate::lease::TermsRecord;
use crate::share_map::ShareMap;

pub use restore::{Restore, RestoreError};

/// Keys or audit lines in one item: sixteen of the largest keys fit into a snapshot chunk.
const ITEM_ROWS: usize = 16;
/// Runs of places in one item.
const PLACES_ROWS: usize = 4_096;

/// One item of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// First: the small part.
    Head {
        /// Newest stamp applied.
        last_stamp: ClusterMs,
        /// Default limits.
        defaults: Vec<Limit>,
        /// Share maps, in order.
        share_maps: Vec<ShareMap>,
        /// Nodes: id, data directory, removed.
        nodes: Vec<(NodeId, DirId, bool)>,
    },
    /// Keys in order of creation, without what level 4 adds.
    Keys(Vec<KeyRow>),
    /// Audit lines, oldest first.
    Audit(Vec<AuditEntry>),
    /// Idempotency keys, oldest first: key, expiry, the API key that it created.
    Idempotency(Vec<(Box<str>, ClusterMs, KeyId)>),
    /// Outcomes of recent requests, oldest first.
    Outcomes(Vec<(u128, Remembered)>),
    /// Directly after the head: what the cluster has agreed on about itself. Since level 2.
    Cluster {
        /// The level.
        level: u32,
        /// Lease terms, oldest first.
        terms: Vec<TermsRecord>,
        /// The newest start of each node.
        start_ids: Vec<(NodeId, BootId, u64)>,
        /// Tags of the default limits.
        default_tags: Vec<u32>,
    },
    /// Tags of keys whose limits were renamed, after the keys. Since level 2.
    LimitTags(Vec<(KeyId, Vec<u32>)>),
    /// Outcomes of recent requests with the stamps of their entries, oldest first. Since level 2.
    OutcomesAt(Vec<(u128, ClusterMs, Remembered)>),
    /// Places in the order of creation, before the keys: runs of them, ascending, each with its
    /// first place and its length. The last run may have length 0 and gives the place of the next
    /// key. Without this item the places are consecutive. Since level 3.
    Places(Vec<(u32, u32)>),
    /// Idempotency keys, oldest first, with a hash of the request's content. Since level 3.
    IdempotencyOf(Vec<IdempotencyRow>),
    /// The key of the hash of names. Since level 4.
    Seed(SubjectSeed),
    /// Records with a name, after the seed. Since level 4.
    Named(Vec<NamedRow>),
    /// What keys name besides their limits, and the marks of those limits; after the keys. Since
    /// level 4.
    KeyTerms(Vec<(KeyId, Terms, Vec<u8>)>),
}

/// The state at one moment, sharing memory with the current one.
#[derive(Debug)]
pub struct Frozen {
    table: FrozenTable,
    named: FrozenNamed,
    view: Arc<View>,
    cluster: Arc<ClusterState>,
    audit: AuditLog,
    last_stamp: ClusterMs,
    idempotency: Vec<IdempotencyRow>,
    outcomes: Vec<(u128, ClusterMs, Remembered)>,
}

impl Registry {
    /// The current state, as a few pointers: call between two applies.
    #[must_use]
    pub fn freeze(&self) -> Frozen {
        let outcome = |(id, at): &(u128, ClusterMs)| {
            self.outcomes.get(id).map(|outcome| (*id, *at, outcome.clone()))
        };
        Frozen {
            table: self.shared.table.freeze(),
            named: self.shared.named.freeze(),
            view: self.shared.view(),
            cluster: self.shared.cluster(),
            audit: self.shared.with_audit(AuditLog::clone),
            last_stamp: self.last_stamp,
            idempotency: self.idempotency.rows(),
            outcomes: self.outcomes_order.iter().filter_map(outcome).collect(),
        }
    }

    /// Replaces the whole state by that of a snapshot, which includes all entries up to this one.
    /// Readers of [`Shared`] keep their handle.
    pub fn install(&mut self, applied: LogIndex, restored: Restore) {
        let other = restored.registry;
        // Owners first: a key must not appear before what it is charged to.
        self.shared.table.change(|| self.shared.named.adopt(&other.shared.named));
        self.shared.table.adopt(&other.shared.table);
        let view = other.shared.view();
        self.shared.change_view(|slot| *slot = View::clone(&view));
        self.shared.note_plans_changed();
        let cluster = other.shared.cluster();
        self.shared.change_cluster(|slot| *slot = ClusterState::clone(&cluster));
        self.shared.change_digests(Digests::clear);
        self.shared.keep_digest(applied);
        let audit = other.shared.with_audit(AuditLog::clone);
        self.shared.change_audit(|slot| *slot = audit);
        self.set_stamp(other.last_stamp);
        self.idempotency = other.idempotency;
        self.outcomes = other.outcomes;
        self.outcomes_order = other.outcomes_order;
    }
}

impl Frozen {
    /// The lowest level of a cluster whose nodes can all read its items.
    #[must_use]
    pub fn level(&self) -> u32 {
        self.cluster.level
    }

    /// How many keys it holds.
    #[must_use]
    pub fn keys(&self) -> usize {
        self.table.len()
    }

    /// Whether it holds something that only level 4 knows, other than the plan `default` as it was made
    /// of the default limits.
    #[must_use]
    pub fn has_named(&self) -> bool {
        let is_default =
            |named: &Named| named.kind == NamedKind::Plan && &*named.name == DEFAULT_PLAN;
        let plain = |specs: &[LimitSpec]| specs.iter().all(|spec| spec.limit.marks() == 0);
        let mut records = self.named.records();
        !records.all(|named| {
            let terms = named.governing.terms();
            is_default(named) && named.revision == 1 && terms.is_empty() && plain(named.limits())
        }) || self.table.entries().any(|entry| !KeyRow::from(&entry.record()).is_plain())
    }

    /// Every key with all that it says, in the order of creation.
    pub fn key_rows(&self) -> impl Iterator<Item = KeyRow> {
        let row = |entry: &KeyEntry| KeyRow {
            last_used: entry.last_used(),
            ..KeyRow::from(&entry.record())
        };
        self.table.entries().map(row)
    }

    /// Every record with a name, each after those that it may name.
    pub fn named_rows(&self) -> impl Iterator<Item = NamedRow> {
        [NamedKind::Pool, NamedKind::Plan, NamedKind::Owner].into_iter().flat_map(|kind| {
            let of_kind = self.named.records().filter(move |named| named.kind == kind);
            of_kind.map(|named| NamedRow::from(&**named))
        })
    }

    /// The lines of the audit trail, oldest first.
    pub fn audit_lines(&self) -> impl Iterator<Item = AuditEntry> {
        self.audit.entries().map(|entry| AuditEntry::clone(entry))
    }

    /// Calls `sink` with every item, in order, and stops at its first error.
    ///
    /// # Errors
    /// The sink's.
    pub fn write<E>(&self, mut sink: impl FnMut(Item) -> Result<(), E>) -> Result<(), E> {
        let nodes = self.view.nodes.iter().map(|(id, node)| (*id, node.dir_id, node.removed));
        sink(Item::Head {
            last_stamp: self.last_stamp,
            defaults: self.view.defaults.iter().map(|spec| spec.limit.clone()).collect(),
            share_maps: self.view.share_maps.clone(),
            nodes: nodes.collect(),
        })?;
        if self.level() >= 2 {
            sink(self.cluster_item())?;
        }
        if let Some(seed) = self.view.seed {
            sink(Item::Seed(seed))?;
            in_rows(self.named_rows(), |rows| sink(Item::Named(rows)))?;
        }
        if self.level() >= 3 {
            in_rows_of(PLACES_ROWS, self.places().into_iter(), |rows| sink(Item::Places(rows)))?;
        }
        in_rows(self.key_rows().map(KeyRow::into_plain), |rows| sink(Item::Keys(rows)))?;
        if self.level() >= 2 {
            let renamed = |entry: &KeyEntry| {
                let limits = entry.own_limits()?;
                let tags = || limits.iter().map(|spec| spec.tag).collect();
                (!LimitSpec::are_derived(limits)).then(|| (entry.id(), tags()))
            };
            let tags = self.table.entries().filter_map(renamed);
            in_rows(tags, |rows| sink(Item::LimitTags(rows)))?;
        }
        if self.level() >= 4 {
            let named = |entry: &KeyEntry| {
                let governing = entry.governing()?;
                let limits = governing.own().map_or(&[][..], |limits| limits);
                let marks: Vec<u8> = limits.iter().map(|spec| spec.limit.marks()).collect();
                let plain = governing.terms().is_empty() && marks.iter().all(|marks| *marks == 0);
                (!plain).then(|| (entry.id(), governing.terms().clone(), marks))
            };
            let rows = self.table.entries().filter_map(named);
            in_rows(rows, |rows| sink(Item::KeyTerms(rows)))?;
        }
        in_rows(self.audit_lines(), |rows| sink(Item::Audit(rows)))?;
        let used = self.idempotency.iter().cloned();
        if self.level() >= 3 {
            in_rows(used, |rows| sink(Item::IdempotencyOf(rows)))?;
        } else {
            let used = used.map(|(key, expires, id, _)| (key, expires, id));
            in_rows(used, |rows| sink(Item::Idempotency(rows)))?;
        }
        let outcomes = self.outcomes.iter().cloned();
        if self.level() >= 2 {
            return in_rows(outcomes, |rows| sink(Item::OutcomesAt(rows)));
        }
        let outcomes = outcomes.map(|(request, _, outcome)| (request, outcome));
        in_rows(outcomes, |rows| sink(Item::Outcomes(rows)))
    }

    /// The places of the keys as runs; none if they are consecutive from 0 on.
    fn places(&self) -> Vec<(u32, u32)> {
        let mut runs: Vec<(u32, u32)> = Vec::new();
        for seq in self.table.entries().map(|entry| entry.seq()) {
            match runs.last_mut() {
                Some((first, count)) if *first + *count == seq => *count += 1,
                Some(_) | None => runs.push((seq, 1)),
            }
        }
        let next = self.table.next_seq();
        match runs.last() {
            Some((first, count)) if first + count == next => {}
            Some(_) | None => runs.push((next, 0)),
        }
        if matches!(runs[..], [(0, _)]) { Vec::new() } else { runs }
    }

    fn cluster_item(&self) -> Item {
        let start_ids = self.cluster.start_ids.iter();
        Item::Cluster {
            level: self.cluster.level,
            terms: self.cluster.terms.clone(),
            start_ids: start_ids.map(|(node, of)| (*node, of.boot, of.nonce)).collect(),
            default_tags: self.view.defaults.iter().map(|spec| spec.tag).collect(),
        }
    }
}

fn in_rows<T, E>(
    rows: impl Iterator<Item = T>,
    sink: impl FnMut(Vec<T>) -> Result<(), E>,
) -> Result<(), E> {
    in_rows_of(ITEM_ROWS, rows, sink)
}

fn in_rows_of<T, E>(
    count: usize,
    rows: impl Iterator<Item = T>,
    mut sink: impl FnMut(Vec<T>) -> Result<(), E>,
) -> Result<(), E> {
    let mut rows = rows.peekable();
    while rows.peek().is_some() {
        sink(rows.by_ref().take(count).collect())?;
    }
    Ok(())
}
