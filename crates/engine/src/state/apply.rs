//! The effect of each command.
//!
//! A rejected command changes nothing at all. `apply` repeats the proposer's checks if the state
//! depends on them: an entry may come from another version.

use fluxgate_types::{ClusterMs, Digest, KeyId, LogIndex, Scope};

use super::Registry;
use super::audit::{Action, AuditEntry};
use super::changes;
use super::command::{
    Actor, Applied, Batch, Command, CommandError, KeyChange, NewKey, Outcome, Proposal,
};
use super::entry::KeyEntry;
use super::record::{KeyRecord, Previous, Status};
use super::repeats::{repeat_would_differ, shown};

/// The actor, the time and the rules for one command.
pub(super) struct Context<'a> {
    pub(super) term: u64,
    pub(super) index: LogIndex,
    pub(super) at: ClusterMs,
    pub(super) actor: Actor,
    presented: Option<Digest>,
    from: Option<&'a str>,
    /// The rules that apply: [`super::cluster_state::ClusterState::level`].
    level: u32,
}

impl Context<'_> {
    pub(super) fn level(&self) -> u32 {
        self.level
    }
}

impl Registry {
    /// Applies one committed entry of term `term`. Deterministic; never panics on the content of
    /// an entry.
    pub fn apply(&mut self, term: u64, index: LogIndex, batch: &Batch) -> Applied {
        self.set_stamp(batch.at);
        let outcomes = batch.proposals.iter().map(|p| self.apply_one(term, index, p)).collect();
        if self.shared.cluster().level >= 2 {
            self.prune_maps(self.last_stamp);
            self.prune_terms(self.last_stamp);
        }
        self.shared.keep_digest(index);
        Applied { index, outcomes }
    }

    fn apply_one(&mut self, term: u64, index: LogIndex, proposal: &Proposal) -> Outcome {
        if let Some(remembered) = self.outcomes.get(&proposal.request) {
            return self.repeat(remembered);
        }
        let context = Context {
            term,
            index,
            at: self.last_stamp,
            actor: proposal.actor,
            presented: proposal.presented,
            from: proposal.from.as_deref(),
            level: self.shared.cluster().level,
        };
        let result = self.carry_out(&context, &proposal.command);
        let outcome = result.unwrap_or_else(Outcome::Refused);
        if context.level < 2 || repeat_would_differ(&proposal.command, &outcome) {
            self.remember_outcome(proposal.request, &outcome);
        }
        outcome
    }

    fn carry_out(
        &mut self,
        context: &Context<'_>,
        command: &Command,
    ) -> Result<Outcome, CommandError> {
        match command {
            Command::CreateKey(new) => self.create(context, new),
            Command::UpdateKey(change) => self.update(context, change),
            Command::RotateKey { id, digest, grace_ms, idempotency_key, if_revision } => {
                let idempotency = idempotency_key.as_deref();
                self.rotate(context, *id, *digest, *grace_ms, idempotency, *if_revision)
            }
            Command::RevokeKey { id, if_revision } => self.revoke(context, *id, *if_revision),
            Command::SetDefaults { limits } => self.set_defaults(context, limits),
            Command::SetShareMap { map, term } => self.set_share_map(context, map, *term),
            Command::RegisterNode { node, dir_id } => self.register(context, *node, *dir_id),
            Command::RemoveNode { node } => self.remove_node(context, *node),
            Command::PutKeys { rows, origin } => self.put_keys(context, rows, *origin),
            Command::RestoreAudit { lines } => self.restore_audit(context, lines),
            Command::SetLevel { level } => self.set_level(*level),
            Command::SetTerms { terms } => self.set_terms(context, *terms),
            Command::RegisterStart { node, dir_id, start_id } => {
                self.register_incarnation(context, *node, *dir_id, *start_id)
            }
            Command::SetTime { to } => self.set_time(context, *to),
            Command::EraseKeys { ids, ended_before } => self.erase(context, ids, *ended_before),
            Command::Once { key, content, command } => self.once(context, key, *content, command),
            Command::Note { action, details } => self.note(context, *action, details),
            Command::SetSeed { seed } => self.set_seed(context, *seed),
            Command::PutNamed { kind, name, definition, if_revision } => {
                self.put_named(context, (*kind, name), definition, *if_revision)
            }
            Command::DeleteNamed { kind, name, if_revision } => {
                self.delete_named(context, (*kind, name), *if_revision)
            }
        }
    }

    /// Checks the actor again, since the state may have changed after the proposer's check: an
    /// administrator's key must be valid at this log position, so that no command with a revoked
    /// or rotated-out credential takes effect after its end.
    fn actor(&self, context: &Context<'_>) -> Result<Option<KeyEntry>, CommandError> {
        let Actor::Key(id) = context.actor else { return Ok(None) };
        let entry = self.shared.table.get(&id).ok_or(CommandError::Actor)?;
        let active = entry.status(context.at) == Status::Active
            && context.presented.is_some_and(|digest| entry.opens(&digest, context.at));
        let owner = self.shared.owner_of(&self.shared.view(), &entry);
        let disabled = owner.is_some_and(|owner| !owner.enabled);
        if active && !disabled && entry.scope().includes(Scope::Admin) {
            Ok(Some(entry))
        } else {
            Err(CommandError::Actor)
        }
    }

    pub(super) fn create(
        &mut self,
        context: &Context<'_>,
        new: &NewKey,
    ) -> Result<Outcome, CommandError> {
        let table = &self.shared.table;
        if let Some(known) = table.get(&new.id) {
            // A repeat whose first outcome is no longer remembered: only its client has the secret.
            let repeated = *known.digest() == new.digest;
            return if repeated { Ok(shown(&known.record())) } else { Err(CommandError::IdTaken) };
        }
        let actor = self.actor(context)?;
        if actor.is_some_and(|actor| !actor.manages_owner(new.owner.as_deref())) {
            return Err(CommandError::Actor);
        }
        if context.actor != Actor::Operator && new.terms.named().next().is_some() {
            return Err(CommandError::Actor);
        }
        self.check_idempotency(new.idempotency_key.as_deref())?;
        let seq = table.next_seq().ok_or_else(|| invalid("the table is full"))?;
        let record = KeyRecord {
            id: new.id,
            digest: new.digest,
            seq,
            scope: new.scope,
            enabled: true,
            revision: 1,
            created_index: context.index,
            created_at: context.at,
            created_by: context.actor,
            revoked_at: None,
            expires_at: new.expires_at,
            name: new.name.clone(),
            head: new.prefix.strip_suffix(new.id.as_str()).unwrap_or("").into(),
            owner: new.owner.clone(),
            limits: self.limits_after(context, None, new.limits.as_deref(), &new.terms)?,
            terms: new.terms.clone(),
            previous: None,
            metadata: boxed(&new.metadata),
        };
        self.check_governing(&record)?;
        let details = if context.level >= 3 {
            changes::of_creation(&record)
        } else {
            format!("created with scope {}", new.scope)
        };
        let shown = shown(&record);
        table.insert(&record, None);
        if let Some(key) = &new.idempotency_key {
            self.idempotency.remember(key.clone(), new.id, None, self.last_stamp);
        }
        self.audit(context, Action::Created, Some(new.id), &details);
        Ok(shown)
    }

    fn update(
        &mut self,
        context: &Context<'_>,
        change: &KeyChange,
    ) -> Result<Outcome, CommandError> {
        let entry = self.living(context, change.id, change.if_revision)?;
        let before = entry.record();
        let mut record = before.clone();
        let mut fields = Vec::new();
        if let Some(name) = &change.name {
            record.name = name.clone();
            fields.push("name");
        }
        if let Some(scope) = change.scope {
            record.scope = scope;
            fields.push("scope");
        }
        if let Some(owner) = &change.owner {
            record.owner = owner.clone();
            fields.push("owner");
        }
        if let Some(plan) = &change.plan {
            record.terms.plan = plan.clone();
        }
        if let Some(pools) = &change.pools {
            record.terms.pools = pools.clone();
        }
        if let Some(limits) = &change.limits {
            record.terms.removes = change.removes.clone();
            let (limits, terms) = (limits.as_deref(), &record.terms);
            record.limits = self.limits_after(context, Some(&entry), limits, terms)?;
            fields.push("limits");
        }
        self.check_governing(&record)?;
        if let Some(enabled) = change.enabled {
            record.enabled = enabled;
            fields.push(if enabled { "enabled" } else { "disabled" });
        }
        if let Some(expires_at) = change.expires_at {
            record.expires_at = expires_at;
            fields.push("expires_at");
        }
        if let Some(metadata) = &change.metadata {
            record.metadata = boxed(metadata);
            fields.push("metadata");
        }
        if context.level >= 2 {
            self.check_rights(context, &before, &record)?;
        }
        let details = if context.level >= 3 {
            changes::between(&before, &record)
        } else {
            format!("changed: {}", fields.join(", "))
        };
        Ok(self.replace(context, &entry, record, Action::Updated, &details))
    }

    pub(super) fn rotate(
        &mut self,
        context: &Context<'_>,
        id: KeyId,
        digest: Digest,
        grace_ms: u64,
        idempotency: Option<&str>,
        if_revision: Option<u64>,
    ) -> Result<Outcome, CommandError> {
        let known = self.shared.table.get(&id);
        if let Some(known) = known.filter(|known| *known.digest() == digest) {
            // As above: a second rotation would end the grace of the old secret.
            return Ok(shown(&known.record()));
        }
        self.check_idempotency(idempotency)?;
        let entry = self.living(context, id, if_revision)?;
        let before = entry.record();
        let mut record = before.clone();
        let until = context.at + grace_ms;
        // Without grace the old digest is dropped, not kept with an end in the past.
        record.previous =
            (grace_ms > 0).then(|| Box::new(Previous { digest: record.digest, until }));
        record.digest = digest;
        if let Some(key) = idempotency {
            self.idempotency.remember(key.into(), id, None, self.last_stamp);
        }
        let details = if context.level >= 3 {
            changes::of_rotation(&before, context.at, grace_ms)
        } else {
            format!("new secret; the old one is valid for {grace_ms} ms more")
        };
        Ok(self.replace(context, &entry, record, Action::Rotated, &details))
    }

    fn revoke(
        &mut self,
        context: &Context<'_>,
        id: KeyId,
        if_revision: Option<u64>,
    ) -> Result<Outcome, CommandError> {
        let entry = self.existing(context, id, if_revision)?;
        if entry.is_revoked() {
            // Revoking twice is not an error: the key is in the state that the caller wants.
            return Ok(shown(&entry.record()));
        }
        let mut record = entry.record();
        record.revoked_at = Some(context.at);
        record.previous = None;
        let details = if context.level >= 3 {
            format!("revoked for good; was {}", entry.status(context.at).as_str())
        } else {
            "revoked for good".to_owned()
        };
        Ok(self.replace(context, &entry, record, Action::Revoked, &details))
    }

    fn replace(
        &self,
        context: &Context<'_>,
        old: &KeyEntry,
        mut record: KeyRecord,
        action: Action,
        details: &str,
    ) -> Outcome {
        // A backup may contain any number.
        record.revision = record.revision.saturating_add(1);
        let shown = shown(&record);
        self.audit(context, action, Some(record.id), details);
        self.shared.table.replace(&record, old.last_used());
        shown
    }

    /// An administrator's key may assign a key only to owners that it manages, may not change its own
    /// rights, and never plans and pools: they are the operator's.
    fn check_rights(
        &self,
        context: &Context<'_>,
        before: &KeyRecord,
        after: &KeyRecord,
    ) -> Result<(), CommandError> {
        let Some(actor) = self.actor(context)? else { return Ok(()) };
        let named = |record: &KeyRecord| (record.terms.plan.clone(), record.terms.pools.clone());
        if named(before) != named(after) {
            return Err(CommandError::Actor);
        }
        let own = actor.id() == after.id;
        let given = before.owner == after.owner || actor.manages_owner(after.owner.as_deref());
        if !given || (own && before.differs_in_rights(after)) {
            return Err(CommandError::Actor);
        }
        Ok(())
    }

    /// A key that the actor manages.
    fn existing(
        &self,
        context: &Context<'_>,
        id: KeyId,
        if_revision: Option<u64>,
    ) -> Result<KeyEntry, CommandError> {
        let entry = self.shared.table.get(&id).ok_or(CommandError::NotFound)?;
        let actor = self.actor(context)?;
        if actor.is_some_and(|actor| !actor.manages(&entry)) {
            return Err(CommandError::NotFound);
        }
        match if_revision {
            Some(expected) if expected != entry.revision() => {
                Err(CommandError::Revision(entry.revision()))
            }
            _ => Ok(entry),
        }
    }

    fn living(
        &self,
        context: &Context<'_>,
        id: KeyId,
        if_revision: Option<u64>,
    ) -> Result<KeyEntry, CommandError> {
        let entry = self.existing(context, id, if_revision)?;
        if entry.is_revoked() { Err(CommandError::Revoked) } else { Ok(entry) }
    }

    fn check_idempotency(&self, key: Option<&str>) -> Result<(), CommandError> {
        match key.and_then(|key| self.idempotency.get(key, self.last_stamp)) {
            Some((id, _)) => Err(CommandError::AlreadyDone(id)),
            None => Ok(()),
        }
    }

    pub(super) fn audit(
        &self,
        context: &Context<'_>,
        action: Action,
        key_id: Option<KeyId>,
        details: &str,
    ) {
        let entry = AuditEntry {
            seq: 0,
            at: context.at,
            action,
            key_id,
            actor: context.actor,
            from: context.from.map(Into::into),
            details: details.into(),
        };
        self.shared.change_audit(|log| log.push(entry));
    }
}

pub(super) fn invalid(why: &str) -> CommandError {
    CommandError::Invalid(why.into())
}

fn boxed(pairs: &[(Box<str>, Box<str>)]) -> Option<Box<super::record::Metadata>> {
    (!pairs.is_empty()).then(|| Box::new(pairs.into()))
}
