//! Limits: the defaults for keys without their own, and what stays spent when a list changes.

use std::sync::Arc;

use fluxgate_types::Limit;

use super::apply::{Context, invalid};
use super::audit::Action;
use super::changes;
use super::command::{CommandError, Outcome};
use super::entry::KeyEntry;
use super::governing::{DEFAULT_PLAN, Governing};
use super::in_force::Source;
use super::record::{KeyRecord, LimitSpec};
use super::terms::Terms;
use super::{Registry, Shared};

impl Registry {
    pub(super) fn set_defaults(
        &self,
        context: &Context<'_>,
        limits: &[Limit],
    ) -> Result<Outcome, CommandError> {
        let mut specs = own_limits(Some(limits))?.ok_or_else(|| invalid("no limits"))?;
        if self.shared.plan(DEFAULT_PLAN).is_some() {
            // Settings are only its first value.
            return Ok(Outcome::Done);
        }
        let before = changes::limits_text(&self.shared.view().defaults);
        if context.level() >= 2 {
            specs = LimitSpec::follow(&self.shared.view().defaults, limits);
        }
        let after = changes::limits_text(&specs);
        self.shared.change_view(|view| view.defaults = specs);
        self.found_default_plan(context);
        let details = if context.level() >= 3 {
            format!("{} → {after}", if before.is_empty() { "none" } else { &before })
        } else {
            let text =
                limits.iter().map(|l| format!("{} {} per {} ms", l.name, l.tokens, l.period_ms));
            text.collect::<Vec<_>>().join(", ")
        };
        self.audit(context, Action::DefaultsSet, None, &details);
        Ok(Outcome::Done)
    }

    /// The limits of a key after a change. What was spent stays spent if the period stays the same.
    pub(super) fn limits_after(
        &self,
        context: &Context<'_>,
        before: Option<&KeyEntry>,
        limits: Option<&[Limit]>,
        terms: &Terms,
    ) -> Result<Option<Arc<[LimitSpec]>>, CommandError> {
        let specs = match limits_beside(limits, terms)? {
            Some(specs) if context.level() >= 2 => specs,
            other => return Ok(other),
        };
        let view = self.shared.view();
        let mut governed = before.map_or_else(
            || view.defaults.to_vec(),
            |entry| self.shared.sources_of(entry).into_iter().map(|(spec, _)| spec).collect(),
        );
        // A limit of the plan that stays in force keeps its tag.
        let after = Governing::of_key(Some(Arc::clone(&specs)), terms.clone());
        let stays =
            self.shared.sources_in(&after).into_iter().filter(|(_, from)| *from != Source::Own);
        let stays: Vec<LimitSpec> = stays.map(|(spec, _)| spec).collect();
        governed.retain(|spec| !stays.iter().any(|other| other.limit.name == spec.limit.name));
        let limits: Vec<Limit> = specs.iter().map(|spec| spec.limit.clone()).collect();
        Ok(Some(LimitSpec::follow(&governed, &limits)))
    }

    /// What a key must have: records that exist, and a limit.
    pub(super) fn check_governing(&self, record: &KeyRecord) -> Result<(), CommandError> {
        let Some(governing) = Governing::of(record).filter(|_| !record.terms.is_empty()) else {
            return Ok(());
        };
        self.check_terms(&record.terms)?;
        let in_force = self.shared.sources_in(&governing);
        let (removes, mut names) = (&record.terms.removes, in_force.iter().map(|(spec, _)| spec));
        if names.any(|spec| removes.contains(&spec.limit.name)) {
            return Err(invalid("a key needs a limit: not all of them can be removed"));
        }
        Ok(())
    }
}

impl Shared {
    /// Every limit in force for a key, also those in mode shadow, and where each comes from.
    #[must_use]
    pub fn sources_of(&self, entry: &KeyEntry) -> Vec<(LimitSpec, Source)> {
        match entry.governing() {
            Some(governing) => self.sources_in(governing),
            None => self.sources_in(&Governing::of_key(None, Terms::default())),
        }
    }
}

/// Limits of a key: beside a plan, or with names that it removes, there may be none.
fn limits_beside(
    limits: Option<&[Limit]>,
    terms: &Terms,
) -> Result<Option<Arc<[LimitSpec]>>, CommandError> {
    let merged = terms.plan.is_some() || !terms.removes.is_empty();
    own_limits(limits.filter(|limits| !(merged && limits.is_empty())))
}

pub(super) fn own_limits(
    limits: Option<&[Limit]>,
) -> Result<Option<Arc<[LimitSpec]>>, CommandError> {
    let Some(limits) = limits else {
        return Ok(None);
    };
    Limit::check_all(limits).map_err(|error| invalid(&error.to_string()))?;
    let specs =
        LimitSpec::all(limits).ok_or_else(|| invalid("two limits cannot be distinguished"))?;
    Ok(Some(specs))
}
