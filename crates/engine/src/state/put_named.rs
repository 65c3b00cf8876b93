//! The commands of level 4: the seed, and records with a name.

use std::sync::Arc;

use fluxgate_types::{Limit, SubjectSeed, caps};

use super::Registry;
use super::apply::{Context, invalid};
use super::audit::Action;
use super::changes;
use super::command::{Actor, CommandError, Outcome};
use super::limits::own_limits;
use super::named::{Definition, Named, NamedKind, NamedRow};
use super::put::operator;
use super::record::LimitSpec;

const fn set_action(kind: NamedKind) -> Action {
    match kind {
        NamedKind::Owner => Action::OwnerSet,
    }
}

const fn deleted_action(kind: NamedKind) -> Action {
    match kind {
        NamedKind::Owner => Action::OwnerDeleted,
    }
}

/// The record in memory; `None` if its limits break a rule or their tags do not fit.
pub(super) fn named_of(row: NamedRow, seed: &SubjectSeed) -> Option<Named> {
    let Definition { limits, enabled, metadata } = row.definition;
    checked(&limits).ok()?;
    Some(Named {
        subject: row.kind.subject(seed, &row.name),
        kind: row.kind,
        enabled,
        limits: LimitSpec::with_tags(limits.into_iter(), &row.tags)?,
        name: row.name,
        metadata: metadata.into(),
        revision: row.revision,
        created_index: row.created_index,
        created_at: row.created_at,
        changed_at: row.changed_at,
    })
}

/// A record may have no limits; otherwise the rules for those of a key apply.
fn checked(limits: &[Limit]) -> Result<Arc<[LimitSpec]>, CommandError> {
    let specs = own_limits(Some(limits).filter(|limits| !limits.is_empty()))?;
    Ok(specs.unwrap_or_else(|| Arc::new([])))
}

impl Registry {
    /// Sets the key of the hash of names, once.
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
        }
        Ok(Outcome::Done)
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
        let mut limits = checked(&definition.limits)?;
        let subject = kind.subject(&seed, name);
        let before = self.shared.named.get(&subject);
        match (&before, if_revision) {
            (Some(known), Some(expected)) if known.revision != expected => {
                return Err(CommandError::Revision(known.revision));
            }
            (None, Some(_)) => return Err(CommandError::NotFound),
            (None, None) if self.shared.named.len() >= caps::OWNERS_MAX => {
                return Err(invalid("there are as many owners as there may be"));
            }
            _ => {}
        }
        if let Some(known) = &before {
            limits = LimitSpec::follow(&known.limits, &definition.limits);
        }
        let limits = self.shared.table.share_limits(&limits);
        let named = Named {
            subject,
            kind,
            enabled: definition.enabled,
            name: name.into(),
            limits,
            metadata: definition.metadata.clone().into(),
            revision: before.as_ref().map_or(0, |known| known.revision).saturating_add(1),
            created_index: before.as_ref().map_or(context.index, |known| known.created_index),
            created_at: before.as_ref().map_or(context.at, |known| known.created_at),
            changed_at: context.at,
        };
        let row = NamedRow::from(&named);
        let details = format!(
            "{} {name:?}: {}, limits {}",
            kind.as_str(),
            if named.enabled { "enabled" } else { "disabled" },
            if named.limits.is_empty() {
                "none".to_owned()
            } else {
                changes::limits_text(&named.limits)
            },
        );
        self.shared.table.change(|| self.shared.named.put(named));
        self.audit(context, set_action(kind), None, &changes::bounded(details));
        Ok(Outcome::Named(Box::new(row)))
    }

    /// The current record, for a repeat of the command that made it.
    pub(super) fn shown_named(&self, kind: NamedKind, name: &str) -> Outcome {
        let seed = self.shared.view().seed;
        let known = seed.and_then(|seed| self.shared.named.get(&kind.subject(&seed, name)));
        known.map_or(Outcome::Refused(CommandError::NotFound), |known| {
            Outcome::Named(Box::new(NamedRow::from(&*known)))
        })
    }

    /// Deletes a record. Keys keep the name of their owner. Only for the operator.
    pub(super) fn delete_named(
        &self,
        context: &Context<'_>,
        (kind, name): (NamedKind, &str),
        if_revision: Option<u64>,
    ) -> Result<Outcome, CommandError> {
        operator(context)?;
        let seed = self.shared.view().seed.ok_or(CommandError::NotFound)?;
        let subject = kind.subject(&seed, name);
        let known = self.shared.named.get(&subject).ok_or(CommandError::NotFound)?;
        if if_revision.is_some_and(|expected| expected != known.revision) {
            return Err(CommandError::Revision(known.revision));
        }
        self.shared.table.change(|| self.shared.named.remove(&subject));
        let details = changes::bounded(format!("{} {name:?}", kind.as_str()));
        self.audit(context, deleted_action(kind), None, &details);
        Ok(Outcome::Done)
    }
}
