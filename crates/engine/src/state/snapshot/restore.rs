//! Building a state from the items of a snapshot.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use fluxgate_types::{BootId, KeyId, Limit, NodeId};

use super::{Item, KeyRow};
use crate::lease::TermsRecord;
use crate::state::cluster_state::{ClusterState, LEVEL, StartId};
use crate::state::put_named::named_of;
use crate::state::record::{KeyRecord, LimitSpec};
use crate::state::table::KeyTable;
use crate::state::terms::Terms;
use crate::state::{NodeRecord, Registry, Shared, View};

/// Why the items are not a valid snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// The head is missing or occurs twice.
    #[error("snapshot does not begin with one head")]
    Head,
    /// Limits that break the rules.
    #[error("snapshot holds limits that cannot be kept")]
    Limits,
    /// The cluster state is invalid or comes from a newer program.
    #[error("snapshot holds a cluster state that this program does not know")]
    Cluster,
    /// Records with names before the key of their hash, or one of them twice.
    #[error("snapshot holds an owner twice, or before the seed")]
    Named,
    /// Too many keys for a table, or a key that occurs twice.
    #[error("snapshot holds a key twice, or too many")]
    Keys,
}

/// A state that is being built from the items of a snapshot.
#[derive(Debug)]
pub struct Restore {
    pub(super) registry: Registry,
    begun: bool,
    /// Runs of places for the keys to come: the first place and how many.
    places: VecDeque<(u32, u32)>,
}

impl Default for Restore {
    fn default() -> Self {
        Self { registry: Registry::at_level(1), begun: false, places: VecDeque::new() }
    }
}

impl Restore {
    /// Takes the next item.
    ///
    /// # Errors
    /// When the item is invalid after the ones before it.
    pub fn take(&mut self, item: Item) -> Result<(), RestoreError> {
        let head = matches!(item, Item::Head { .. });
        if head == self.begun {
            return Err(RestoreError::Head);
        }
        let registry = &mut self.registry;
        match item {
            Item::Head { last_stamp, defaults, share_maps, nodes } => {
                self.begun = true;
                registry.last_stamp = last_stamp;
                // There are none until a leader has set them.
                let defaults = if defaults.is_empty() { [].into() } else { checked(&defaults)? };
                let record = |(id, dir_id, removed)| (id, NodeRecord { dir_id, removed });
                let nodes: BTreeMap<_, _> = nodes.into_iter().map(record).collect();
                registry.shared.change_view(|view| {
                    *view = View { defaults, share_maps, nodes, ..View::default() }
                });
            }
            Item::Keys(rows) => {
                for row in rows {
                    let place = next_place(&mut self.places);
                    add_key(&registry.shared, row, place)?;
                }
            }
            Item::Places(runs) => self.take_places(runs)?,
            Item::Audit(rows) => registry.shared.change_audit(|log| {
                rows.into_iter().for_each(|row| log.restore(Arc::new(row)));
            }),
            Item::Idempotency(rows) => {
                for (key, expires, id) in rows {
                    registry.idempotency.restore(key, expires, id, None);
                }
            }
            Item::IdempotencyOf(rows) => {
                for (key, expires, id, content) in rows {
                    registry.idempotency.restore(key, expires, id, content);
                }
            }
            Item::Outcomes(rows) => {
                let stamp = registry.last_stamp;
                registry.outcomes_order.extend(rows.iter().map(|(id, _)| (*id, stamp)));
                registry.outcomes.extend(rows);
            }
            Item::OutcomesAt(rows) => {
                registry.outcomes_order.extend(rows.iter().map(|(id, at, _)| (*id, *at)));
                registry.outcomes.extend(rows.into_iter().map(|(id, _, of)| (id, of)));
            }
            Item::Cluster { level, terms, start_ids, default_tags } => {
                let state = (level, terms, start_ids);
                take_cluster(&registry.shared, state, &default_tags)?;
            }
            Item::Seed(seed) => registry.shared.change_view(|view| view.seed = Some(seed)),
            Item::Named(rows) => {
                let seed = registry.shared.view().seed.ok_or(RestoreError::Named)?;
                for row in rows {
                    let named = named_of(row, &seed, &registry.shared.table);
                    let named = named.ok_or(RestoreError::Limits)?;
                    if registry.shared.named.get(&named.subject).is_some() {
                        return Err(RestoreError::Named);
                    }
                    registry.shared.put_named(named);
                }
            }
            Item::KeyTerms(rows) => rows.into_iter().try_for_each(|(id, terms, marks)| {
                set_terms(&registry.shared, &id, terms, &marks)
            })?,
            Item::LimitTags(rows) => {
                rows.iter().try_for_each(|(id, tags)| set_tags(&registry.shared, id, tags))?;
            }
        }
        Ok(())
    }

    fn take_places(&mut self, runs: Vec<(u32, u32)>) -> Result<(), RestoreError> {
        for (first, count) in runs {
            let behind = self.places.back().map_or(0, |(first, count)| first + count);
            let end = first.checked_add(count).ok_or(RestoreError::Keys)?;
            if first < behind || !self.registry.shared.table.is_empty() {
                return Err(RestoreError::Keys);
            }
            self.registry.shared.table.skip_to(end);
            self.places.push_back((first, count));
        }
        Ok(())
    }

    /// Whether the head has been taken: without it there is no state.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.begun
    }
}

/// Checks limits: every request computes with them.
fn checked(limits: &[Limit]) -> Result<Arc<[LimitSpec]>, RestoreError> {
    Limit::check_all(limits).map_err(|_| RestoreError::Limits)?;
    LimitSpec::all(limits).ok_or(RestoreError::Limits)
}

/// Level, terms and starts, as in a snapshot.
type ClusterRow = (u32, Vec<TermsRecord>, Vec<(NodeId, BootId, u64)>);

fn take_cluster(
    shared: &Shared,
    (level, terms, start_ids): ClusterRow,
    default_tags: &[u32],
) -> Result<(), RestoreError> {
    let known = (1..=LEVEL).contains(&level);
    if !known || terms.iter().any(|record| !record.terms.is_sound()) {
        return Err(RestoreError::Cluster);
    }
    let started = start_ids.into_iter();
    let start_ids = started.map(|(node, boot, nonce)| (node, StartId { boot, nonce })).collect();
    shared.change_cluster(|slot| *slot = ClusterState { level, terms, start_ids });
    let defaults = retagged(&shared.view().defaults, default_tags)?;
    shared.change_view(|view| view.defaults = defaults);
    Ok(())
}

/// The same limits with these tags, which must be distinct.
fn retagged(specs: &[LimitSpec], tags: &[u32]) -> Result<Arc<[LimitSpec]>, RestoreError> {
    let limits = specs.iter().map(|spec| spec.limit.clone());
    LimitSpec::with_tags(limits, tags).ok_or(RestoreError::Limits)
}

fn set_tags(shared: &Shared, id: &KeyId, tags: &[u32]) -> Result<(), RestoreError> {
    let entry = shared.table.get(id).ok_or(RestoreError::Keys)?;
    let limits = entry.own_limits().ok_or(RestoreError::Limits)?;
    let record = KeyRecord { limits: Some(retagged(limits, tags)?), ..entry.record() };
    shared.table.replace(&record, entry.last_used());
    Ok(())
}

fn set_terms(shared: &Shared, id: &KeyId, terms: Terms, marks: &[u8]) -> Result<(), RestoreError> {
    let entry = shared.table.get(id).ok_or(RestoreError::Keys)?;
    let own = entry.own_limits().map_or(&[][..], |limits| limits);
    if own.len() != marks.len() {
        return Err(RestoreError::Limits);
    }
    let marked = |(spec, marks): (&LimitSpec, &u8)| {
        Some(LimitSpec { limit: spec.limit.clone().marked(*marks)?, tag: spec.tag })
    };
    let own: Option<Arc<[LimitSpec]>> = own.iter().zip(marks).map(marked).collect();
    let own = own.ok_or(RestoreError::Limits)?;
    let limits = entry.own_limits().is_some().then_some(own);
    let record = KeyRecord { limits, terms, ..entry.record() };
    shared.table.replace(&record, entry.last_used());
    Ok(())
}

/// The place of the next key, if the snapshot has it.
fn next_place(places: &mut VecDeque<(u32, u32)>) -> Option<u32> {
    while let Some((first, count)) = places.front_mut() {
        if *count > 0 {
            let place = *first;
            (*first, *count) = (*first + 1, *count - 1);
            return Some(place);
        }
        places.pop_front();
    }
    None
}

fn add_key(shared: &Shared, row: KeyRow, place: Option<u32>) -> Result<(), RestoreError> {
    let table: &KeyTable = &shared.table;
    let seq = place.or_else(|| table.next_seq()).ok_or(RestoreError::Keys)?;
    if table.with(&row.id, |_| ()).is_some() {
        return Err(RestoreError::Keys);
    }
    row.limits.as_deref().map(checked).transpose()?;
    let last_used = row.last_used;
    let record = row.into_record(seq).ok_or(RestoreError::Limits)?;
    table.insert(&record, last_used);
    Ok(())
}
