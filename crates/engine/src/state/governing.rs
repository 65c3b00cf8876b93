//! What governs a key or a record: its own limits, its plan and its pools, one copy for all that have
//! the same. It keeps what follows from them until a plan changes.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use fluxgate_types::Subject;
use hashbrown::HashTable;

use super::record::{KeyRecord, LimitSpec};
use super::terms::Terms;

/// Limits, shared by all that have the same.
pub type SharedLimits = Arc<[LimitSpec]>;

/// Lists that no key has any more are not worth a sweep before there are so many lists.
const LISTS_MIN: usize = 64;

/// What governs keys or records: those with the same own limits, plan and pools share one.
pub struct Governing {
    own: Option<SharedLimits>,
    terms: Terms,
    // Of keys: those of the plan `default` apply too.
    of_key: bool,
    // With the number of the plans that it was computed from.
    in_force: ArcSwapOption<(u64, InForce)>,
}

/// The limits that govern requests, after plans.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InForce {
    /// Those that deny.
    pub limits: SharedLimits,
    /// Those in mode shadow.
    pub shadow: SharedLimits,
    /// The subjects of the pools that requests are charged to as well.
    pub pools: Arc<[Subject]>,
}

impl Default for InForce {
    fn default() -> Self {
        Self { limits: Arc::new([]), shadow: Arc::new([]), pools: Arc::new([]) }
    }
}

impl PartialEq for Governing {
    fn eq(&self, other: &Self) -> bool {
        self.own == other.own && self.terms == other.terms && self.of_key == other.of_key
    }
}

impl Eq for Governing {}

impl Hash for Governing {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.own.hash(state);
        self.terms.hash(state);
    }
}

impl fmt::Debug for Governing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Governing").field("own", &self.own).field("terms", &self.terms).finish()
    }
}

impl Governing {
    /// Of a key with these own limits and terms.
    #[must_use]
    pub fn of_key(own: Option<SharedLimits>, terms: Terms) -> Self {
        Self { own, terms, of_key: true, in_force: ArcSwapOption::empty() }
    }

    /// Of a key with this record, if that is more than the plan `default`.
    #[must_use]
    pub fn of(record: &KeyRecord) -> Option<Self> {
        let named = record.limits.is_some() || !record.terms.is_empty();
        named.then(|| Self::of_key(record.limits.clone(), record.terms.clone()))
    }

    /// Of a record with these own limits and terms.
    #[must_use]
    pub fn of_record(own: SharedLimits, terms: Terms) -> Self {
        Self { own: Some(own), terms, of_key: false, in_force: ArcSwapOption::empty() }
    }

    /// Its own limits.
    #[must_use]
    pub fn own(&self) -> Option<&SharedLimits> {
        self.own.as_ref()
    }

    /// Whether those of the plan `default` apply too.
    pub(super) fn is_of_key(&self) -> bool {
        self.of_key
    }

    /// What it names besides them.
    #[must_use]
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// What was computed from the plans with this number, if it was.
    pub(super) fn known(&self, plans: u64) -> Option<Arc<(u64, InForce)>> {
        self.in_force.load_full().filter(|known| known.0 == plans)
    }

    /// Keeps what was computed from the plans with this number.
    pub(super) fn keep(&self, plans: u64, in_force: InForce) -> Arc<(u64, InForce)> {
        let computed = Arc::new((plans, in_force));
        self.in_force.store(Some(Arc::clone(&computed)));
        computed
    }
}

/// The name of the plan of keys without another one.
pub const DEFAULT_PLAN: &str = "default";

/// What governs keys and records, each once.
#[derive(Debug)]
pub(super) struct Governings {
    all: HashTable<Arc<Governing>>,
    // Swept when there are so many: twice as many as the last sweep left.
    sweep_at: usize,
}

impl Default for Governings {
    fn default() -> Self {
        Self { all: HashTable::new(), sweep_at: LISTS_MIN }
    }
}

fn hash(governing: &Governing) -> u64 {
    let mut hasher = DefaultHasher::new();
    governing.hash(&mut hasher);
    hasher.finish()
}

impl Governings {
    /// The one that all share which have the same.
    pub(super) fn share(&mut self, new: Governing) -> Arc<Governing> {
        let of = hash(&new);
        if let Some(known) = self.all.find(of, |known| **known == new) {
            return Arc::clone(known);
        }
        if self.all.len() >= self.sweep_at {
            self.all.retain(|one| Arc::strong_count(one) > 1);
            self.sweep_at = LISTS_MIN.max(2 * self.all.len());
        }
        let new = Arc::new(new);
        self.all.insert_unique(of, Arc::clone(&new), |one| hash(one));
        new
    }
}

#[cfg(test)]
mod tests {
    use fluxgate_types::Limit;

    use super::*;

    fn limits(tokens: u64) -> Option<SharedLimits> {
        Some([LimitSpec::new(Limit::new("requests", tokens, 60_000))].into())
    }

    #[test]
    fn equal_ones_are_one_and_those_of_no_key_are_forgotten() {
        let mut all = Governings::default();
        let of = |tokens| Governing::of_key(limits(tokens), Terms::default());
        let first = all.share(of(1));
        assert!(Arc::ptr_eq(&first, &all.share(of(1))));
        assert!(!Arc::ptr_eq(&first, &all.share(of(2))));
        let gold = Terms { plan: Some("gold".into()), ..Terms::default() };
        assert!(!Arc::ptr_eq(&first, &all.share(Governing::of_key(limits(1), gold))));
        let of_record = limits(1).map(|own| Governing::of_record(own, Terms::default()));
        assert!(!Arc::ptr_eq(&first, &all.share(of_record.expect("limits"))));
        for tokens in 0..10 * LISTS_MIN as u64 {
            assert_eq!(all.share(of(tokens)).own(), limits(tokens).as_ref());
            assert!(all.all.len() <= LISTS_MIN);
        }
        assert!(Arc::ptr_eq(&first, &all.share(of(1))));
    }
}
