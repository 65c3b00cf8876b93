//! The state as a stream of items, for snapshot files.
//!
//! Answers for: taking the state apart without stopping applies ([`Frozen`]) and putting it
//! together again ([`Restore`]). The item types are written to disk: variants and fields are only
//! appended behind a new format version.

use std::collections::BTreeMap;
use std::sync::Arc;

use fluxgate_types::{ClusterMs, Digest, DirId, KeyId, Limit, LogIndex, NodeId, Scope};
use serde::{Deserialize, Serialize};

use super::audit::{AuditEntry, AuditLog};
use super::command::{Actor, Remembered};
use super::record::{KeyEntry, KeyRecord, LimitSpec, Previous};
use super::table::{FrozenTable, KeyTable};
use super::{NodeRecord, Registry, Shared, View};
use crate::share::ShareMap;

/// Keys or audit lines in one item: sixteen of the largest keys stay under a snapshot chunk.
const ITEM_ROWS: usize = 16;

/// A key as it is written to disk and sent between nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRecordV1 {
    /// See [`KeyRecord`], for every field.
    pub id: KeyId,
    /// Digest of the credential.
    pub digest: Digest,
    /// Scope.
    pub scope: Scope,
    /// Not switched off.
    pub enabled: bool,
    /// Revision.
    pub revision: u64,
    /// Log position of the creation.
    pub created_index: LogIndex,
    /// Time of creation.
    pub created_at: ClusterMs,
    /// Maker.
    pub created_by: Actor,
    /// Time of revocation.
    pub revoked_at: Option<ClusterMs>,
    /// End.
    pub expires_at: Option<ClusterMs>,
    /// Name.
    pub name: Box<str>,
    /// First characters of the credential.
    pub prefix: Box<str>,
    /// Owner.
    pub owner: Option<Box<str>>,
    /// Limits of its own.
    pub limits: Option<Vec<Limit>>,
    /// Digest and end of the rotated-out credential.
    pub previous: Option<(Digest, ClusterMs)>,
    /// Free text pairs.
    pub metadata: Vec<(Box<str>, Box<str>)>,
    /// When a node last saw it used, as far as known when this was written.
    pub last_used: Option<ClusterMs>,
}

impl From<&KeyRecord> for KeyRecordV1 {
    fn from(record: &KeyRecord) -> Self {
        let limits = record.limits.as_ref();
        Self {
            id: record.id,
            digest: record.digest,
            scope: record.scope,
            enabled: record.enabled,
            revision: record.revision,
            created_index: record.created_index,
            created_at: record.created_at,
            created_by: record.created_by,
            revoked_at: record.revoked_at,
            expires_at: record.expires_at,
            name: record.name.clone(),
            prefix: record.prefix().into(),
            owner: record.owner.clone(),
            limits: limits.map(|l| l.iter().map(|spec| spec.limit.clone()).collect()),
            previous: record.previous.as_ref().map(|p| (p.digest, p.until)),
            metadata: record.metadata.as_ref().map(|m| m.to_vec()).unwrap_or_default(),
            last_used: None,
        }
    }
}

impl KeyRecordV1 {
    /// The record in memory, at place `seq` of the order of creation.
    /// `intern` shares the texts before the ids. `None` where the limits cannot be kept.
    #[must_use]
    pub fn into_record(self, seq: u32, intern: impl FnOnce(&str) -> Arc<str>) -> Option<KeyRecord> {
        let limits = match self.limits {
            Some(limits) => Some(LimitSpec::all(&limits)?),
            None => None,
        };
        let metadata = (!self.metadata.is_empty()).then(|| Box::new(self.metadata.into()));
        Some(KeyRecord {
            id: self.id,
            digest: self.digest,
            seq,
            scope: self.scope,
            enabled: self.enabled,
            revision: self.revision,
            created_index: self.created_index,
            created_at: self.created_at,
            created_by: self.created_by,
            revoked_at: self.revoked_at,
            expires_at: self.expires_at,
            name: self.name,
            head: intern(self.prefix.strip_suffix(self.id.as_str()).unwrap_or("")),
            owner: self.owner,
            limits,
            previous: self.previous.map(|(digest, until)| Box::new(Previous { digest, until })),
            metadata,
        })
    }
}

/// One item of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ItemV1 {
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
    /// Keys in order of creation.
    Keys(Vec<KeyRecordV1>),
    /// Audit lines, oldest first.
    Audit(Vec<AuditEntry>),
    /// Idempotency keys, oldest first: key, expiry, the key that it made.
    Idempotency(Vec<(Box<str>, ClusterMs, KeyId)>),
    /// Outcomes of recent requests, oldest first.
    Outcomes(Vec<(u128, Remembered)>),
}

/// The state at one moment, sharing memory with the living one.
#[derive(Debug)]
pub struct Frozen {
    table: FrozenTable,
    view: Arc<View>,
    audit: AuditLog,
    last_stamp: ClusterMs,
    idempotency: Vec<(Box<str>, ClusterMs, KeyId)>,
    outcomes: Vec<(u128, Remembered)>,
}

impl Registry {
    /// The state as it is, in some pointers: call between two applies.
    #[must_use]
    pub fn freeze(&self) -> Frozen {
        let outcome = |id: &u128| self.outcomes.get(id).map(|outcome| (*id, outcome.clone()));
        Frozen {
            table: self.shared.table.freeze(),
            view: self.shared.view(),
            audit: self.shared.with_audit(AuditLog::clone),
            last_stamp: self.last_stamp,
            idempotency: self.idempotency.rows(),
            outcomes: self.outcomes_order.iter().filter_map(outcome).collect(),
        }
    }

    /// Replaces the whole state by that of a snapshot. Readers of [`Shared`] keep their handle.
    pub fn install(&mut self, restored: Restore) {
        let other = restored.registry;
        self.shared.table.adopt(&other.shared.table);
        let view = other.shared.view();
        self.shared.change_view(|slot| *slot = View::clone(&view));
        let audit = other.shared.with_audit(AuditLog::clone);
        self.shared.change_audit(|slot| *slot = audit);
        self.set_stamp(other.last_stamp);
        self.idempotency = other.idempotency;
        self.outcomes = other.outcomes;
        self.outcomes_order = other.outcomes_order;
    }
}

impl Frozen {
    /// How many keys it holds.
    #[must_use]
    pub fn keys(&self) -> usize {
        self.table.len()
    }

    /// Calls `sink` with every item, in order, and stops at its first error.
    ///
    /// # Errors
    /// The sink's.
    pub fn write<E>(&self, mut sink: impl FnMut(ItemV1) -> Result<(), E>) -> Result<(), E> {
        let nodes = self.view.nodes.iter().map(|(id, node)| (*id, node.dir_id, node.removed));
        sink(ItemV1::Head {
            last_stamp: self.last_stamp,
            defaults: self.view.defaults.iter().map(|spec| spec.limit.clone()).collect(),
            share_maps: self.view.share_maps.clone(),
            nodes: nodes.collect(),
        })?;
        let row = |entry: &Arc<KeyEntry>| KeyRecordV1 {
            last_used: entry.last_used(),
            ..KeyRecordV1::from(&entry.record)
        };
        in_rows(self.table.entries().map(row), |rows| sink(ItemV1::Keys(rows)))?;
        let lines = self.audit.entries().map(|entry| AuditEntry::clone(entry));
        in_rows(lines, |rows| sink(ItemV1::Audit(rows)))?;
        in_rows(self.idempotency.iter().cloned(), |rows| sink(ItemV1::Idempotency(rows)))?;
        in_rows(self.outcomes.iter().cloned(), |rows| sink(ItemV1::Outcomes(rows)))
    }
}

fn in_rows<T, E>(
    rows: impl Iterator<Item = T>,
    mut sink: impl FnMut(Vec<T>) -> Result<(), E>,
) -> Result<(), E> {
    let mut rows = rows.peekable();
    while rows.peek().is_some() {
        sink(rows.by_ref().take(ITEM_ROWS).collect())?;
    }
    Ok(())
}

/// Items that cannot be a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// The head is missing or comes twice.
    #[error("snapshot does not begin with one head")]
    Head,
    /// Limits that break the rules.
    #[error("snapshot holds limits that cannot be kept")]
    Limits,
    /// More keys than a table holds, or one twice.
    #[error("snapshot holds a key twice, or too many")]
    Keys,
}

/// A state being put together from the items of a snapshot.
#[derive(Debug, Default)]
pub struct Restore {
    registry: Registry,
    begun: bool,
}

impl Restore {
    /// Takes the next item.
    ///
    /// # Errors
    /// When the item cannot follow the ones before it.
    pub fn take(&mut self, item: ItemV1) -> Result<(), RestoreError> {
        let head = matches!(item, ItemV1::Head { .. });
        if head == self.begun {
            return Err(RestoreError::Head);
        }
        let registry = &mut self.registry;
        match item {
            ItemV1::Head { last_stamp, defaults, share_maps, nodes } => {
                self.begun = true;
                registry.last_stamp = last_stamp;
                // None before a leader has set them.
                let defaults = if defaults.is_empty() { [].into() } else { checked(&defaults)? };
                let record = |(id, dir_id, removed)| (id, NodeRecord { dir_id, removed });
                let nodes: BTreeMap<_, _> = nodes.into_iter().map(record).collect();
                registry.shared.change_view(|view| *view = View { defaults, share_maps, nodes });
            }
            ItemV1::Keys(rows) => {
                rows.into_iter().try_for_each(|row| add_key(&registry.shared, row))?
            }
            ItemV1::Audit(rows) => registry.shared.change_audit(|log| {
                rows.into_iter().for_each(|row| log.restore(Arc::new(row)));
            }),
            ItemV1::Idempotency(rows) => {
                for (key, expires, id) in rows {
                    registry.idempotency.restore(key, expires, id);
                }
            }
            ItemV1::Outcomes(rows) => {
                registry.outcomes_order.extend(rows.iter().map(|(id, _)| *id));
                registry.outcomes.extend(rows);
            }
        }
        Ok(())
    }

    /// Whether the head has been taken: without it there is no state.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.begun
    }
}

/// Limits that can be kept: every request computes with what stands here.
fn checked(limits: &[Limit]) -> Result<Arc<[LimitSpec]>, RestoreError> {
    Limit::check_all(limits).map_err(|_| RestoreError::Limits)?;
    LimitSpec::all(limits).ok_or(RestoreError::Limits)
}

fn add_key(shared: &Shared, row: KeyRecordV1) -> Result<(), RestoreError> {
    let table: &KeyTable = &shared.table;
    let seq = table.next_seq().ok_or(RestoreError::Keys)?;
    if table.with(&row.id, |_| ()).is_some() {
        return Err(RestoreError::Keys);
    }
    row.limits.as_deref().map(checked).transpose()?;
    let last_used = row.last_used;
    let record = row.into_record(seq, |head| table.intern(head)).ok_or(RestoreError::Limits)?;
    table.insert(Arc::new(KeyEntry::new(record, last_used)));
    Ok(())
}
