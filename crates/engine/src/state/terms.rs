//! What a key or a record names besides its own limits: its plan, its pools, and the limits of its
//! plan that do not apply to it.
//!
//! Answers for: which plans and pools are in use, counted as records change.

use std::collections::BTreeMap;

use super::kind::NamedKind;

/// What a key or a record names besides its own limits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Terms {
    /// Its plan: the limits that it does not have itself are those of the plan.
    pub plan: Option<Box<str>>,
    /// Its pools. None: those of its plan.
    pub pools: Option<Box<[Box<str>]>>,
    /// Names of limits of its plan, or of the plan `default`, that do not apply to it.
    pub removes: Box<[Box<str>]>,
}

impl Terms {
    /// Whether it names nothing, as every key before level 4.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.plan.is_none() && self.pools.is_none() && self.removes.is_empty()
    }

    /// The records that it names.
    pub fn named(&self) -> impl Iterator<Item = (NamedKind, &str)> {
        let plan = self.plan.iter().map(|name| (NamedKind::Plan, &**name));
        let pools = self.pools.iter().flat_map(|pools| pools.iter());
        plan.chain(pools.map(|name| (NamedKind::Pool, &**name)))
    }
}

/// How many records name each plan and each pool.
#[derive(Clone, Debug, Default)]
pub(super) struct Uses(BTreeMap<NamedKind, BTreeMap<Box<str>, usize>>);

impl Uses {
    /// A record was added, removed, or changed from the old terms to the new ones.
    pub(super) fn replace(&mut self, old: Option<&Terms>, new: Option<&Terms>) {
        if old == new {
            return;
        }
        for (kind, name) in new.iter().flat_map(|terms| terms.named()) {
            *self.0.entry(kind).or_default().entry(name.into()).or_default() += 1;
        }
        for (kind, name) in old.iter().flat_map(|terms| terms.named()) {
            let Some(names) = self.0.get_mut(&kind) else { continue };
            let Some(count) = names.get_mut(name) else { continue };
            *count = count.saturating_sub(1);
            if *count == 0 {
                names.remove(name);
            }
        }
    }

    /// How many records name this one.
    pub(super) fn of(&self, kind: NamedKind, name: &str) -> usize {
        self.0.get(&kind).and_then(|names| names.get(name)).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uses_are_counted_until_the_last_one_ends() {
        let gold = Terms { plan: Some("gold".into()), ..Terms::default() };
        let pools = Some(["a".into(), "b".into()].into());
        let both = Terms { pools, ..gold.clone() };
        let mut uses = Uses::default();
        uses.replace(None, Some(&gold));
        uses.replace(None, Some(&both));
        uses.replace(Some(&both), Some(&both));
        let seen = |uses: &Uses| [uses.of(NamedKind::Plan, "gold"), uses.of(NamedKind::Pool, "a")];
        assert_eq!((seen(&uses), uses.of(NamedKind::Pool, "gold")), ([2, 1], 0));
        uses.replace(Some(&both), Some(&gold));
        assert_eq!(seen(&uses), [2, 0]);
        uses.replace(Some(&gold), None);
        uses.replace(Some(&gold), Some(&Terms::default()));
        assert_eq!(seen(&uses), [0, 0]);
        assert!(uses.0.values().all(BTreeMap::is_empty));
    }
}
