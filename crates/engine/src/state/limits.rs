//! Limits: the defaults for keys without their own, and what stays spent when a list changes.

use std::sync::Arc;

use fluxgate_types::Limit;

use super::Registry;
use super::apply::{Context, invalid};
use super::audit::Action;
use super::changes;
use super::command::{CommandError, Outcome};
use super::entry::KeyEntry;
use super::record::LimitSpec;

impl Registry {
    pub(super) fn set_defaults(
        &self,
        context: &Context<'_>,
        limits: &[Limit],
    ) -> Result<Outcome, CommandError> {
        let mut specs = own_limits(Some(limits))?.ok_or_else(|| invalid("no limits"))?;
        let before = changes::limits_text(&self.shared.view().defaults);
        if context.level() >= 2 {
            specs = LimitSpec::follow(&self.shared.view().defaults, limits);
        }
        let after = changes::limits_text(&specs);
        self.shared.change_view(|view| view.defaults = specs);
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
    ) -> Result<Option<Arc<[LimitSpec]>>, CommandError> {
        let specs = own_limits(limits)?;
        let Some(limits) = limits.filter(|_| context.level() >= 2) else { return Ok(specs) };
        let view = self.shared.view();
        let governed = before.map_or(&view.defaults, |entry| entry.limits(&view.defaults));
        Ok(Some(LimitSpec::follow(governed, limits)))
    }
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
