//! The commands of level 4: the seed, and records with a name.

use fluxgate_types::{Limit, Mode, SubjectSeed, caps};

use super::Registry;
use super::apply::{Context, invalid};
use super::audit::Action;
use super::changes;
use super::command::{Actor, CommandError, Outcome};
use super::governing::{DEFAULT_PLAN, Governing, InForce};
use super::limits::own_limits;
use super::named::{Definition, Named, NamedKind, NamedRow};
use super::put::operator;
use super::record::LimitSpec;
use super::table::KeyTable;
use super::terms::Terms;

const fn set_action(kind: NamedKind) -> Action {
    match kind {
        NamedKind::Owner => Action::OwnerSet,
        NamedKind::Plan => Action::PlanSet,
        NamedKind::Pool => Action::PoolSet,
    }
}

const fn deleted_action(kind: NamedKind) -> Action {
    match kind {
        NamedKind::Owner => Action::OwnerDeleted,
        NamedKind::Plan => Action::PlanDeleted,
        NamedKind::Pool => Action::PoolDeleted,
    }
}

/// The record in memory; `None` if it breaks a rule or the tags of its limits do not fit.
pub(super) fn named_of(row: NamedRow, seed: &SubjectSeed, table: &KeyTable) -> Option<Named> {
    let Definition { limits, terms, exposes, enabled, metadata } = row.definition;
    checked(&limits).ok()?;
    let own = LimitSpec::with_tags(limits.into_iter(), &row.tags)?;
    Some(Named {
        subject: row.kind.subject(seed, &row.name),
        kind: row.kind,
        enabled,
        governing: table.share(Governing::of_record(own, terms)),
        exposes: exposes.into(),
        name: row.name,
        metadata: metadata.into(),
        revision: row.revision,
        created_index: row.created_index,
        created_at: row.created_at,
        changed_at: row.changed_at,
    })
}

/// A record may have no limits; otherwise the rules for those of a key apply.
fn checked(limits: &[Limit]) -> Result<(), CommandError> {
    own_limits(Some(limits).filter(|limits| !limits.is_empty())).map(drop)
}

/// What a record of a kind may not say.
fn check_kind(kind: NamedKind, name: &str, definition: &Definition) -> Result<(), CommandError> {
    let Definition { limits, terms, exposes, enabled, .. } = definition;
    let wrong = match kind {
        NamedKind::Owner if terms.pools.is_some() => Some("an owner has no pools: its plan has"),
        NamedKind::Plan | NamedKind::Pool if terms.plan.is_some() => {
            Some("only keys and owners have a plan")
        }
        NamedKind::Plan | NamedKind::Pool if !enabled => Some("only an owner can be disabled"),
        NamedKind::Pool if terms.pools.is_some() || !terms.removes.is_empty() => {
            Some("a pool has limits of its own and nothing else")
        }
        NamedKind::Pool if limits.is_empty() => Some("a pool needs a limit"),
        NamedKind::Owner | NamedKind::Pool if !exposes.is_empty() => {
            Some("only a plan exposes metadata")
        }
        // A 401 shows it, and every key without another plan must have one.
        NamedKind::Plan
            if name == DEFAULT_PLAN && !limits.iter().any(|one| one.mode == Mode::Enforce) =>
        {
            Some("the plan default needs a limit that is enforced")
        }
        NamedKind::Owner | NamedKind::Plan | NamedKind::Pool => None,
    };
    wrong.map_or(Ok(()), |why| Err(invalid(why)))
}

impl Registry {
    /// Sets the key of the hash of names, once. From then on there is a plan `default`.
    pub(super) fn set_seed(
        &self,
        context: &Context<'_>,
        seed: SubjectSeed,
    ) -> Result<Outcome, CommandError> {
        if context.actor != Actor::System {
            return Err(CommandError::Actor);
        }
        if self.shared.view().seed.is_none() {
            self.shared.change_view(|view| view.seed = Some(seed));
            self.found_default_plan(context);
        }
        Ok(Outcome::Done)
    }

    /// Makes the plan `default` of the default limits, if there are any and it does not exist.
    pub(super) fn found_default_plan(&self, context: &Context<'_>) {
        let view = self.shared.view();
        let Some(seed) = view.seed.filter(|_| !view.defaults.is_empty()) else { return };
        if self.shared.plan(DEFAULT_PLAN).is_some() {
            return;
        }
        let governing = Governing::of_record(view.defaults.clone(), Terms::default());
        self.shared.put_named(Named {
            subject: NamedKind::Plan.subject(&seed, DEFAULT_PLAN),
            kind: NamedKind::Plan,
            enabled: true,
            name: DEFAULT_PLAN.into(),
            governing: self.shared.table.share(governing),
            exposes: Box::default(),
            metadata: Box::default(),
            revision: 1,
            created_index: context.index,
            created_at: context.at,
            changed_at: context.at,
        });
    }

    /// Every record that the terms name must exist, and there must not be too many.
    pub(super) fn check_terms(&self, terms: &Terms) -> Result<(), CommandError> {
        if terms.pools.as_ref().is_some_and(|pools| pools.len() > caps::POOLS_PER_KEY_MAX) {
            return Err(invalid(&format!("at most {} pools", caps::POOLS_PER_KEY_MAX)));
        }
        if terms.removes.len() > caps::LIMITS_PER_KEY_MAX {
            return Err(invalid("too many limits are removed"));
        }
        for (kind, name) in terms.named() {
            if self.shared.record(kind, name).is_none() {
                return Err(invalid(&format!("there is no {} {name:?}", kind.as_str())));
            }
        }
        let mut pools = terms.pools.iter().flat_map(|pools| pools.iter());
        if let Some(first) = pools.next()
            && pools.any(|other| other == first)
        {
            return Err(invalid("a pool is named twice"));
        }
        Ok(())
    }

    /// Creates a record, or replaces what it says. Only for the operator.
    pub(super) fn put_named(
        &self,
        context: &Context<'_>,
        (kind, name): (NamedKind, &str),
        definition: &Definition,
        if_revision: Option<u64>,
    ) -> Result<Outcome, CommandError> {
        operator(context)?;
        let seed = self.shared.view().seed.ok_or_else(|| invalid("the cluster has no seed yet"))?;
        let length = name.chars().count();
        if length == 0 || length > caps::OWNER_CHARS_MAX {
            return Err(invalid("the name is empty or too long"));
        }
        checked(&definition.limits)?;
        check_kind(kind, name, definition)?;
        self.check_terms(&definition.terms)?;
        let subject = kind.subject(&seed, name);
        let before = self.shared.named.get(&subject);
        match (&before, if_revision) {
            (Some(known), Some(expected)) if known.revision != expected => {
                return Err(CommandError::Revision(known.revision));
            }
            (None, Some(_)) => return Err(CommandError::NotFound),
            (None, None) if self.shared.named.count(kind) >= kind.most() => {
                return Err(invalid(&format!(
                    "there are as many {}s as there may be",
                    kind.as_str()
                )));
            }
            _ => {}
        }
        let own = LimitSpec::follow(before.as_ref().map_or(&[], |known| known.limits()), {
            &definition.limits
        });
        let governing = Governing::of_record(own, definition.terms.clone());
        let named = Named {
            subject,
            kind,
            enabled: definition.enabled,
            name: name.into(),
            governing: self.shared.table.share(governing),
            exposes: definition.exposes.clone().into(),
            metadata: definition.metadata.clone().into(),
            revision: before.as_ref().map_or(0, |known| known.revision).saturating_add(1),
            created_index: before.as_ref().map_or(context.index, |known| known.created_index),
            created_at: before.as_ref().map_or(context.at, |known| known.created_at),
            changed_at: context.at,
        };
        let row = NamedRow::from(&named);
        let details = changes::of_named(&named);
        self.shared.put_named(named);
        self.audit(context, set_action(kind), None, &details);
        Ok(Outcome::Named(Box::new(row)))
    }

    /// The current record, for a repeat of the command that made it.
    pub(super) fn shown_named(&self, kind: NamedKind, name: &str) -> Outcome {
        let known = self.shared.record(kind, name);
        known.map_or(Outcome::Refused(CommandError::NotFound), |known| {
            Outcome::Named(Box::new(NamedRow::from(&*known)))
        })
    }

    /// Deletes a record that is not in use. Keys keep the name of their owner. Only for the operator.
    pub(super) fn delete_named(
        &self,
        context: &Context<'_>,
        (kind, name): (NamedKind, &str),
        if_revision: Option<u64>,
    ) -> Result<Outcome, CommandError> {
        operator(context)?;
        let known = self.shared.record(kind, name).ok_or(CommandError::NotFound)?;
        if if_revision.is_some_and(|expected| expected != known.revision) {
            return Err(CommandError::Revision(known.revision));
        }
        let (keys, records) = self.shared.uses(kind, name);
        if (keys, records) != (0, 0) {
            let others = if kind == NamedKind::Plan { "owners" } else { "plans" };
            let by = format!(
                "{} {name:?} is used by {keys} keys and {records} {others}; revoked keys count until they are erased",
                kind.as_str()
            );
            return Err(CommandError::InUse(by.into()));
        }
        if kind == NamedKind::Plan && name == DEFAULT_PLAN {
            let by = "plan \"default\" is used by every key without another plan";
            return Err(CommandError::InUse(by.into()));
        }
        self.shared.table.change(|| {
            self.shared.named.remove(&known.subject);
            self.shared.note_plans_changed();
        });
        let details = changes::bounded(format!("{} {name:?}", kind.as_str()));
        self.audit(context, deleted_action(kind), None, &details);
        Ok(Outcome::Done)
    }
}

impl super::Shared {
    /// Adds or replaces a record, and what follows from it.
    pub(super) fn put_named(&self, named: Named) {
        self.table.change(|| {
            let is_default = named.kind == NamedKind::Plan && *named.name == *DEFAULT_PLAN;
            let all = named.governing.own().cloned();
            let pools = named.governing.terms().pools.clone().unwrap_or_default();
            let is_plan = named.kind == NamedKind::Plan;
            self.named.put(named);
            if let Some(all) = all.filter(|_| is_default) {
                let pools = self.pool_subjects(&pools);
                let InForce { limits, shadow, pools } = InForce::split(all.iter().cloned(), pools);
                let plain = shadow.is_empty();
                self.change_view(|view| {
                    view.defaults = if plain { all } else { limits };
                    (view.shadow, view.pools) = (shadow, pools);
                });
            }
            if is_plan {
                self.note_plans_changed();
            }
        });
    }
}
