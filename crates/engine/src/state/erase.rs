//! The commands of level 3: erased records, commands that are executed at most once, and lines of
//! the audit trail without a change.

use std::collections::BTreeSet;

use fluxgate_types::{ClusterMs, KeyId, caps};

use super::Registry;
use super::apply::{Context, invalid};
use super::audit::Action;
use super::changes;
use super::command::{Actor, CommandError, OneKey, Outcome};
use super::put::operator;

impl Registry {
    /// Erases records. The audit trail keeps ids, actions, actors and times, without the content of
    /// the records.
    pub(super) fn erase(
        &mut self,
        context: &Context<'_>,
        ids: &[KeyId],
        ended_before: Option<ClusterMs>,
    ) -> Result<Outcome, CommandError> {
        if ids.len() > caps::ERASED_AT_ONCE_MAX {
            return Err(invalid("too many keys at once"));
        }
        let table = &self.shared.table;
        let has_ended = |id: &KeyId| {
            let ended = table.with(id, |entry| entry.ended_at(context.at));
            ended.map(|ended| ended.is_some_and(|at| ended_before.is_none_or(|most| at < most)))
        };
        let chosen: BTreeSet<KeyId> = match ended_before {
            Some(_) if context.actor == Actor::System => {
                ids.iter().filter(|id| has_ended(id) == Some(true)).copied().collect()
            }
            Some(_) => return Err(CommandError::Actor),
            None => {
                operator(context)?;
                for id in ids {
                    match has_ended(id) {
                        Some(true) => {}
                        Some(false) => return Err(CommandError::NotEnded(*id)),
                        None => return Err(CommandError::NotFound),
                    }
                }
                ids.iter().copied().collect()
            }
        };
        if chosen.is_empty() {
            return Ok(Outcome::Done);
        }
        chosen.iter().for_each(|id| table.remove(id));
        self.shared.change_audit(|log| log.scrub(&chosen));
        match (ended_before, chosen.first()) {
            (None, Some(id)) if chosen.len() == 1 => {
                self.audit(context, Action::Erased, Some(*id), "erased");
            }
            _ => {
                let listed: Vec<String> = chosen.iter().map(ToString::to_string).collect();
                let why = if ended_before.is_some() { "ended long ago: " } else { "" };
                let details = format!("{why}{}", listed.join(", "));
                self.audit(context, Action::Erased, None, &details);
            }
        }
        Ok(Outcome::Done)
    }

    /// Executes a command unless its idempotency key was used within a day.
    pub(super) fn once(
        &mut self,
        context: &Context<'_>,
        key: &str,
        content: u64,
        command: &OneKey,
    ) -> Result<Outcome, CommandError> {
        if !self.is_repeat(command) {
            match self.idempotency.get(key, self.last_stamp()) {
                Some((id, Some(before))) if before != content => {
                    return Err(CommandError::OtherContent(id));
                }
                Some((id, _)) => return Err(CommandError::AlreadyDone(id)),
                None => {}
            }
        }
        let outcome = match command {
            OneKey::Create(new) => self.create(context, new)?,
            OneKey::Rotate { id, digest, grace_ms, if_revision, end_previous } => {
                let promised = self.shared.table.with(id, |known| {
                    let previous = known.previous()?;
                    let runs = known.digest() != digest && context.at < previous.until;
                    (runs && !end_previous).then_some(previous.until)
                });
                if let Some(until) = promised.flatten() {
                    return Err(CommandError::Promised(until));
                }
                self.rotate(context, *id, *digest, *grace_ms, None, *if_revision)?
            }
        };
        if let Outcome::Key(record) = &outcome {
            let now = self.last_stamp();
            self.idempotency.remember(key.into(), record.id, Some(content), now);
        }
        Ok(outcome)
    }

    /// Whether this very command was executed before: its secret is drawn at random, so only this
    /// command can have created a key with this digest.
    fn is_repeat(&self, command: &OneKey) -> bool {
        let (id, digest) = match command {
            OneKey::Create(new) => (&new.id, &new.digest),
            OneKey::Rotate { id, digest, .. } => (id, digest),
        };
        self.shared.table.with(id, |entry| entry.digest() == digest).unwrap_or(false)
    }

    pub(super) fn note(
        &self,
        context: &Context<'_>,
        action: Action,
        details: &str,
    ) -> Result<Outcome, CommandError> {
        if !action.is_note() {
            return Err(invalid("this action is no note"));
        }
        // A requesting key must still be valid; other notes come from the cluster or the operator.
        let key = match context.actor {
            Actor::Key(id) => Some(id),
            Actor::Operator | Actor::System => None,
        };
        self.audit(context, action, key, &changes::bounded(details.to_owned()));
        Ok(Outcome::Done)
    }
}
