//! What can be done to a key by whoever has been authenticated, over JSON or in the console.
//!
//! Answers for: every field is checked, and what an administrator may do is decided, in this one
//! place. Knows nothing of heads and bodies.

use std::sync::Arc;

use fluxgate_api::error::ErrorCode;
use fluxgate_api::keys::{CreateKey, CreatedKey, ErasedKey, RotateKey, UpdateKey, WriteAnswer};
use fluxgate_api::text::{Shown, Text};
use fluxgate_engine::state::command::{Command, CommandError, KeyChange, NewKey, OneKey, Outcome};
use fluxgate_engine::state::record::{KeyEntry, KeyRecord, LimitSpec};
use fluxgate_node::state::NodeState;
use fluxgate_node::writes::{WriteError, Written, proposal};
use fluxgate_types::{Digest, KeyId, caps, credential};

use super::fields::{bad, future, limits, may_own, metadata, not_found, own, random, text};
use super::{previous_valid_until, shown};
use crate::shared::auth::{Principal, RequestContext};
use crate::shared::error::ApiError;

/// Random bytes for a secret: enough that drawing without bias never runs out.
const SECRET_RANDOM_BYTES: usize = 128;

/// What a change is guarded by.
#[derive(Clone, Debug, Default)]
pub(crate) struct Guards {
    /// Only at this revision.
    pub(crate) if_revision: Option<u64>,
    /// Idempotency key: apply at most once.
    pub(crate) idempotency_key: Option<String>,
}

/// Makes a key.
pub(crate) async fn create(
    state: &NodeState,
    caller: &RequestContext,
    asked: CreateKey,
    idempotency_key: Option<String>,
) -> Result<CreatedKey, ApiError> {
    let owner = match (&asked.owner, &caller.who) {
        // An admin key's new keys are its owner's unless it says otherwise.
        (None, Principal::Key { entry, .. }) => entry.record.owner.clone(),
        (None, Principal::Operator) => None,
        (Some(owner), _) => Some(text("owner", owner, caps::OWNER_CHARS_MAX)?),
    };
    may_own(&caller.who, owner.as_deref())?;
    let id = KeyId::from_random(&random::<64>()?).ok_or_else(|| bad("try again"))?;
    let (prefix, environment) = (&state.config.key_prefix, &state.config.key_environment);
    let secret =
        credential::Secret::make(prefix, environment, id, &random::<SECRET_RANDOM_BYTES>()?);
    let secret = secret.ok_or_else(|| bad("try again"))?;
    let content = content(&(&asked, &owner));
    let mut new = NewKey {
        id,
        prefix: credential::shown_prefix(prefix, environment, &id).into(),
        digest: secret.digest(),
        name: text("name", &asked.name, caps::NAME_CHARS_MAX)?,
        scope: asked.scope,
        owner,
        limits: asked.limits.map(limits).transpose()?,
        expires_at: asked.expires_at.map(|at| future(state, at.0)).transpose()?,
        metadata: asked.metadata.as_ref().map(metadata).transpose()?.unwrap_or_default(),
        idempotency_key: idempotency_key.map(|key| own(&caller.who, "create", &key)),
    };
    let command = match new.idempotency_key.take_if(|_| state.shared.cluster().level >= 3) {
        Some(key) => Command::Once { key, content, command: OneKey::Create(Box::new(new)) },
        None => Command::CreateKey(Box::new(new)),
    };
    let written = change(state, caller, command).await?;
    Ok(CreatedKey { key: Shown::new(secret.expose()), written })
}

/// What tells the content of a request from another one's: a repeat has the same.
fn content(asked: &impl serde::Serialize) -> u64 {
    let text = serde_json::to_vec(asked).unwrap_or_default();
    let digest = Digest::of(&text);
    digest.as_bytes().iter().take(8).fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

/// Changes fields of a key that the caller manages.
pub(crate) async fn update(
    state: &NodeState,
    caller: &RequestContext,
    id: KeyId,
    asked: UpdateKey,
    if_revision: Option<u64>,
) -> Result<WriteAnswer, ApiError> {
    if let Some(owner) = &asked.owner {
        may_own(&caller.who, owner.as_deref())?;
    }
    let expires_at = match asked.expires_at {
        Some(Some(at)) => Some(Some(future(state, at.0)?)),
        other => other.map(|_| None),
    };
    let owner = asked
        .owner
        .map(|owner| owner.map(|o| text("owner", &o, caps::OWNER_CHARS_MAX)).transpose());
    let change_of = KeyChange {
        id,
        if_revision,
        name: asked.name.map(|name| text("name", &name, caps::NAME_CHARS_MAX)).transpose()?,
        scope: asked.scope,
        owner: owner.transpose()?,
        limits: asked.limits.map(|own| own.map(limits).transpose()).transpose()?,
        enabled: asked.enabled,
        expires_at,
        metadata: asked.metadata.map(|m| metadata(&m.unwrap_or_default())).transpose()?,
    };
    let before = state.shared.table.get(&id);
    if let (Principal::Key { entry, .. }, Some(before)) = (&caller.who, &before)
        && entry.record.id == id
        && changes_rights(&before.record, &change_of)
    {
        let message = "An admin key cannot change its own scope, owner, limits or end: ask another \
                       administrator";
        return Err(ApiError::new(ErrorCode::InsufficientScope, message));
    }
    let notes = before.map_or_else(Vec::new, |before| new_counters(state, &before, &change_of));
    let written = change(state, caller, Command::UpdateKey(Box::new(change_of))).await?;
    Ok(WriteAnswer { notes, ..written })
}

/// Whether a change is one of what a key may do, and for how long.
fn changes_rights(before: &KeyRecord, change: &KeyChange) -> bool {
    change.scope.is_some_and(|scope| scope != before.scope)
        || change.owner.as_ref().is_some_and(|owner| *owner != before.owner)
        || change.expires_at.is_some_and(|end| end != before.expires_at)
        || change.limits.as_ref().is_some_and(|new| *new != before.own_limits())
}

/// Says which limits of a changed list begin to count from nothing.
fn new_counters(state: &NodeState, before: &KeyEntry, change: &KeyChange) -> Vec<String> {
    let Some(Some(limits)) = &change.limits else { return Vec::new() };
    let view = state.shared.view();
    let old = before.record.limits(&view.defaults);
    let fresh = LimitSpec::follow(old, limits);
    let fresh = fresh.iter().filter(|new| old.iter().all(|old| old.tag != new.tag));
    let note = |new: &LimitSpec| {
        format!(
            "limit `{}` has a period that is new to this key: it begins to count from nothing",
            new.limit.name
        )
    };
    fresh.map(note).collect()
}

/// Gives a key that the caller manages a new secret.
pub(crate) async fn rotate(
    state: &NodeState,
    caller: &RequestContext,
    entry: &KeyEntry,
    asked: RotateKey,
    guards: Guards,
) -> Result<CreatedKey, ApiError> {
    let grace_ms = asked.grace.map_or(0, |grace| grace.ms);
    if grace_ms > caps::ROTATE_GRACE_MS_MAX {
        return Err(bad("grace: at most 30 days"));
    }
    let id = entry.record.id;
    let end_previous = asked.end_previous == Some(true);
    // A repeat is told what the first one did, so with a key for that the log decides.
    let in_log = guards.idempotency_key.is_some() && state.shared.cluster().level >= 3;
    let valid_until = previous_valid_until(&entry.record, state.now());
    if let Some(until) = valid_until.filter(|_| !end_previous && !in_log) {
        return Err(refused(&CommandError::Promised(until)));
    }
    // The credential keeps the first part that it was made with, whatever the configuration says.
    let shown_before = entry.record.prefix();
    let head = shown_before.splitn(3, '_').collect::<Vec<_>>();
    let [prefix, environment, _] = head[..] else {
        return Err(bad("an imported key cannot be rotated"));
    };
    let secret =
        credential::Secret::make(prefix, environment, id, &random::<SECRET_RANDOM_BYTES>()?);
    let secret = secret.ok_or_else(|| bad("try again"))?;
    let (digest, if_revision) = (secret.digest(), guards.if_revision);
    let idempotency_key = guards.idempotency_key.map(|key| own(&caller.who, "rotate", &key));
    let command = match idempotency_key {
        Some(key) if state.shared.cluster().level >= 3 => {
            let command = OneKey::Rotate { id, digest, grace_ms, if_revision, end_previous };
            Command::Once { key, content: content(&(id, &asked)), command }
        }
        idempotency_key => {
            Command::RotateKey { id, digest, grace_ms, idempotency_key, if_revision }
        }
    };
    let written = change(state, caller, command).await?;
    Ok(CreatedKey { key: Shown::new(secret.expose()), written })
}

/// Ends a key that the caller manages for good.
pub(crate) async fn revoke(
    state: &NodeState,
    caller: &RequestContext,
    id: KeyId,
    if_revision: Option<u64>,
) -> Result<WriteAnswer, ApiError> {
    change(state, caller, Command::RevokeKey { id, if_revision }).await
}

/// Forgets the record of a key that has ended. The operator's alone.
pub(crate) async fn erase(
    state: &NodeState,
    caller: &RequestContext,
    entry: &KeyEntry,
    if_revision: Option<u64>,
) -> Result<ErasedKey, ApiError> {
    let (id, revision) = (entry.record.id, entry.record.revision);
    if !matches!(caller.who, Principal::Operator) {
        let message = "Erasing a record requires the operator token";
        return Err(ApiError::new(ErrorCode::InsufficientScope, message));
    }
    if state.shared.cluster().level < 3 {
        let message = "not before every node runs version 0.3 or later";
        return Err(ApiError::new(ErrorCode::Conflict, message));
    }
    // What has ended hardly changes any more, so it is enough to look here.
    if if_revision.is_some_and(|expected| expected != revision) {
        return Err(refused(&CommandError::Revision(revision)));
    }
    let command = Command::EraseKeys { ids: vec![id], ended_before: None };
    let Written { outcome, applied_on, waited_ms } = write(state, caller, command).await?;
    match outcome {
        Outcome::Done => Ok(ErasedKey {
            erased: Text(id),
            applied_on: applied_on.iter().map(|node| node.0).collect(),
            waited_ms,
        }),
        Outcome::Key(_) | Outcome::Put(_) => {
            Err(ApiError::new(ErrorCode::Internal, "internal error"))
        }
        Outcome::Refused(refusal) => Err(refused(&refusal)),
    }
}

/// The key of a path, if this administrator manages it. Another's key is not found either. A node
/// without a lease may be behind: what it does not know may well be there.
pub(crate) fn managed(
    state: &NodeState,
    who: &Principal,
    id: &str,
) -> Result<Arc<KeyEntry>, ApiError> {
    let id: KeyId = id.parse().map_err(|_| not_found())?;
    let unknown = || match state.not_ready() {
        Some(why) => ApiError::new(ErrorCode::Unavailable, why),
        None => not_found(),
    };
    let entry = state.shared.table.get(&id).ok_or_else(unknown)?;
    if who.manages(&entry.record) { Ok(entry) } else { Err(not_found()) }
}

/// Makes a change and shapes its answer.
async fn change(
    state: &NodeState,
    caller: &RequestContext,
    command: Command,
) -> Result<WriteAnswer, ApiError> {
    let Written { outcome, applied_on, waited_ms } = write(state, caller, command).await?;
    let record = match outcome {
        Outcome::Key(record) => *record,
        Outcome::Done | Outcome::Put(_) => {
            return Err(ApiError::new(ErrorCode::Internal, "internal error"));
        }
        Outcome::Refused(CommandError::Actor) => {
            return Err(crate::gateway::validate::unauthenticated(state, true).into());
        }
        Outcome::Refused(refusal) => return Err(refused(&refusal)),
    };
    let last_used = state.shared.table.with(&record.id, |entry| entry.last_used()).flatten();
    let record =
        record.into_record(0, |head| head.into()).ok_or_else(|| bad("limits cannot be kept"))?;
    let record = shown(state, &KeyEntry::new(record, last_used));
    Ok(WriteAnswer {
        record,
        applied_on: applied_on.iter().map(|node| node.0).collect(),
        waited_ms,
        notes: Vec::new(),
    })
}

async fn write(
    state: &NodeState,
    caller: &RequestContext,
    command: Command,
) -> Result<Written, ApiError> {
    let mut proposal = proposal(caller.who.actor(), caller.from.clone(), command);
    proposal.presented = caller.who.digest();
    state.write(proposal, state.config.request_timeout).await.map_err(unwritten)
}

/// A write that nobody may rely on.
fn unwritten(error: WriteError) -> ApiError {
    let (code, message) = match error {
        WriteError::NoLeader => {
            (ErrorCode::NoLeader, "the cluster has no leader now; nothing was changed")
        }
        WriteError::Busy => {
            (ErrorCode::Unavailable, "the leader takes no writes now; nothing was changed")
        }
        WriteError::Unknown => (
            ErrorCode::RequestTimeout,
            "the change may or may not have been made, or be made yet: look at the key, or for a new one at \
             the list of keys, before you try again",
        ),
    };
    ApiError::new(code, message)
}

fn refused(refusal: &CommandError) -> ApiError {
    let code = match refusal {
        CommandError::Actor => ErrorCode::AuthenticationFailed,
        CommandError::NotFound => ErrorCode::NotFound,
        CommandError::IdTaken
        | CommandError::Revoked
        | CommandError::OtherDirectory(_)
        | CommandError::OlderStart { .. }
        | CommandError::NotEnded(_)
        | CommandError::Promised(_)
        | CommandError::Removed(_) => ErrorCode::Conflict,
        CommandError::AlreadyDone(_) => ErrorCode::AlreadyDone,
        CommandError::OtherContent(_) => ErrorCode::IdempotencyKeyReused,
        CommandError::Revision(_) => ErrorCode::PreconditionFailed,
        CommandError::Invalid(_) => ErrorCode::InvalidRequest,
    };
    ApiError::new(code, refusal.to_string())
}
