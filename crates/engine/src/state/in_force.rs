//! The limits in force, by name: those of a key itself, otherwise those of its plan, otherwise those of
//! the plan `default`.
//!
//! Answers for: they are computed when they are first needed after a change of a plan, so that a plan
//! with many keys changes at the cost of one record.

use std::sync::Arc;

use fluxgate_types::{Mode, Subject};

use super::Shared;
use super::governing::{DEFAULT_PLAN, Governing, InForce, SharedLimits};
use super::named::{Named, NamedKind};
use super::record::LimitSpec;

/// Where a limit in force comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The key, or the record, itself.
    Own,
    /// This plan.
    Plan(Box<str>),
}

/// Limits, the names of farther ones that do not apply, and their source.
type Level<'a> = (&'a [LimitSpec], &'a [Box<str>], Source);

fn level_of(plan: Option<&Named>, removes: bool) -> Level<'_> {
    let Some(plan) = plan else { return (&[], &[], Source::Own) };
    let of = &plan.governing;
    let removed: &[Box<str>] = if removes { &of.terms().removes } else { &[] };
    (of.own().map(|own| &**own).unwrap_or_default(), removed, Source::Plan(plan.name.clone()))
}

/// By name: the closest one of each, unless a closer level removes it.
fn merged(levels: &[Level<'_>]) -> Vec<(LimitSpec, Source)> {
    let mut found: Vec<(LimitSpec, Source)> = Vec::new();
    for (at, (limits, _, source)) in levels.iter().enumerate() {
        for spec in *limits {
            let name = &spec.limit.name;
            let removed = levels[..at].iter().any(|(_, removes, _)| removes.contains(name));
            if removed || found.iter().any(|(closer, _)| closer.limit.name == *name) {
                continue;
            }
            let mut spec = spec.clone();
            // A renamed limit keeps its tag, which may be that of a limit of the plan.
            let taken = |spec: &LimitSpec| {
                found.iter().any(|(closer, _)| {
                    (closer.tag, closer.limit.period_ms) == (spec.tag, spec.limit.period_ms)
                })
            };
            while taken(&spec) {
                spec.tag = spec.tag.wrapping_add(1);
            }
            found.push((spec, source.clone()));
        }
    }
    found
}

impl InForce {
    fn of(governing: &Governing, shared: &Shared) -> Self {
        let all = shared.sources_in(governing).into_iter().map(|(spec, _)| spec);
        let terms = governing.terms();
        let names = terms.pools.clone().or_else(|| {
            let plan = terms.plan.as_deref().unwrap_or(DEFAULT_PLAN);
            shared.plan(plan)?.governing.terms().pools.clone()
        });
        let names = names.filter(|_| governing.is_of_key()).unwrap_or_default();
        Self::split(all, shared.pool_subjects(&names))
    }

    /// Separates limits by their mode.
    pub(super) fn split(all: impl Iterator<Item = LimitSpec>, pools: Arc<[Subject]>) -> Self {
        let (limits, shadow): (Vec<_>, Vec<_>) =
            all.partition(|spec| spec.limit.mode == Mode::Enforce);
        Self { limits: limits.into(), shadow: shadow.into(), pools }
    }
}

impl Shared {
    /// Reads the limits in force for a key or a record.
    pub fn in_force<R>(&self, governing: &Governing, read: impl FnOnce(&InForce) -> R) -> R {
        // BEFORE the plans: what is computed from older ones must not be taken for newer.
        let plans = self.plans_changed();
        let known = governing.known(plans);
        let known = known.unwrap_or_else(|| governing.keep(plans, InForce::of(governing, self)));
        read(&known.1)
    }

    /// Each limit in force with its source, the closest first.
    #[must_use]
    pub fn sources_in(&self, governing: &Governing) -> Vec<(LimitSpec, Source)> {
        let terms = governing.terms();
        let plan = terms.plan.as_deref().and_then(|name| self.plan(name));
        let own = governing.own().map_or(&[][..], |own| own);
        // A list that names no plan and removes nothing is complete.
        let is_complete = terms.plan.is_none() && terms.removes.is_empty();
        let defaults = if governing.is_of_key() && !(is_complete && governing.own().is_some()) {
            self.default_limits()
        } else {
            Arc::new([])
        };
        let levels = |removes: bool| {
            let plan = plan.as_deref();
            let of_plan = plan.filter(|plan| &*plan.name != DEFAULT_PLAN);
            merged(&[
                (own, if removes { &*terms.removes } else { &[] }, Source::Own),
                level_of(of_plan, removes),
                (&defaults, &[], Source::Plan(DEFAULT_PLAN.into())),
            ])
        };
        let found = levels(true);
        // Nothing may be left without a limit by taking limits away from it.
        if found.is_empty() { levels(false) } else { found }
    }

    /// The record of a plan.
    #[must_use]
    pub fn plan(&self, name: &str) -> Option<Arc<Named>> {
        self.record(NamedKind::Plan, name)
    }

    /// The record of a kind with this name.
    #[must_use]
    pub fn record(&self, kind: NamedKind, name: &str) -> Option<Arc<Named>> {
        let seed = self.view_now().seed?;
        self.named.get(&kind.subject(&seed, name))
    }

    /// The limits of the plan `default`, in their order.
    fn default_limits(&self) -> SharedLimits {
        let plan = self.plan(DEFAULT_PLAN);
        let own = plan.and_then(|plan| plan.governing.own().cloned());
        own.unwrap_or_else(|| Arc::clone(&self.view_now().defaults))
    }

    pub(super) fn pool_subjects(&self, names: &[Box<str>]) -> Arc<[Subject]> {
        let Some(seed) = self.view_now().seed else { return Arc::new([]) };
        names.iter().map(|name| NamedKind::Pool.subject(&seed, name)).collect()
    }
}

#[cfg(test)]
mod tests {
    use fluxgate_types::Limit;

    use super::*;

    #[test]
    fn two_limits_never_share_a_counter() {
        let spec = |name: &str| LimitSpec::new(Limit::new(name, 1, 60_000));
        // "a" was renamed to "b".
        let own = [LimitSpec { tag: spec("a").tag, ..spec("b") }];
        let plan = [spec("a")];
        let found = merged(&[
            (&own, &[], Source::Own),
            (&plan, &[], Source::Plan("gold".into())),
            (&[], &[], Source::Own),
        ]);
        assert_eq!(found.len(), 2);
        assert_ne!(found[0].0.tag, found[1].0.tag);
    }
}
