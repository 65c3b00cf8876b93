//! One copy of the limits that many keys have.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use hashbrown::HashTable;

use super::entry::SharedLimits;
use super::record::LimitSpec;

/// Lists that no key has any more are not worth a sweep before there are so many lists.
const LISTS_MIN: usize = 64;

/// The lists of limits that keys have, each once.
#[derive(Debug)]
pub(super) struct LimitLists {
    lists: HashTable<Arc<SharedLimits>>,
    // Swept when there are so many: twice as many as the last sweep left.
    sweep_at: usize,
}

impl Default for LimitLists {
    fn default() -> Self {
        Self { lists: HashTable::new(), sweep_at: LISTS_MIN }
    }
}

fn hash(limits: &[LimitSpec]) -> u64 {
    let mut hasher = DefaultHasher::new();
    limits.hash(&mut hasher);
    hasher.finish()
}

impl LimitLists {
    /// The copy of these limits that all keys share.
    pub(super) fn share(&mut self, limits: &SharedLimits) -> Arc<SharedLimits> {
        let of = hash(limits);
        if let Some(known) = self.lists.find(of, |known| ***known == **limits) {
            return Arc::clone(known);
        }
        if self.lists.len() >= self.sweep_at {
            self.lists.retain(|list| Arc::strong_count(list) > 1);
            self.sweep_at = LISTS_MIN.max(2 * self.lists.len());
        }
        let new = Arc::new(Arc::clone(limits));
        self.lists.insert_unique(of, Arc::clone(&new), |list| hash(list));
        new
    }
}

#[cfg(test)]
mod tests {
    use fluxgate_types::Limit;

    use super::*;

    fn limits(tokens: u64) -> SharedLimits {
        [LimitSpec::new(Limit::new("requests", tokens, 60_000))].into()
    }

    #[test]
    fn equal_limits_are_one_and_those_of_no_key_are_forgotten() {
        let mut lists = LimitLists::default();
        let first = lists.share(&limits(1));
        assert!(Arc::ptr_eq(&first, &lists.share(&limits(1))));
        assert!(!Arc::ptr_eq(&first, &lists.share(&limits(2))));
        for tokens in 0..10 * LISTS_MIN as u64 {
            assert_eq!(*lists.share(&limits(tokens)), limits(tokens));
            assert!(lists.lists.len() <= LISTS_MIN);
        }
        assert!(Arc::ptr_eq(&first, &lists.share(&limits(1))));
    }
}
