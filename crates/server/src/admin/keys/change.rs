//! What an authenticated administrator can do to a key, over JSON or in the console.
//!
//! Answers for: every field is checked here, and here alone it is decided what an administrator may
//! do. Must not know of headers and bodies.

use fluxgate_api::error::ErrorCode;
use fluxgate_api::keys::{CreateKey, CreatedKey, ErasedKey, RotateKey, UpdateKey, WriteAnswer};
use fluxgate_api::text::{Shown, Text};
use fluxgate_engine::state::Shared;
use fluxgate_engine::state::command::{Command, CommandError, KeyChange, NewKey, OneKey, Outcome};
use fluxgate_engine::state::entry::KeyEntry;
use fluxgate_engine::state::record::{KeyRecord, LimitSpec};
use fluxgate_engine::state::terms::Terms;
use fluxgate_node::state::NodeState;
use fluxgate_node::writes::Written;
use fluxgate_types::{Digest, KeyId, caps, credential};

use super::fields::{
    check_owner, future, invalid, limits_beside, metadata, pools, record_name, text,
};
use super::guards::{Guards, scoped_idempotency_key};
use super::secret::{new_id, new_secret};
use super::view::previous_valid_until;
use super::write::{change, rejected, write};
use crate::shared::auth::{Principal, RequestContext};
use crate::shared::error::ApiError;

/// A pool is a ceiling over keys of several owners, and a plan says what an owner has bought.
const PLANS_AND_POOLS: &str = "The plan and the pools of a key require the operator token";

/// Makes a key.
pub(crate) async fn create(
    state: &NodeState,
    caller: &RequestContext,
    request: CreateKey,
    idempotency_key: Option<String>,
) -> Result<CreatedKey, ApiError> {
    let owner = match (&request.owner, &caller.principal) {
        // By default, a key that an admin key creates has the same owner.
        (None, Principal::Key { entry, .. }) => entry.owner().map(Into::into),
        (None, Principal::Operator) => None,
        (Some(owner), _) => Some(text("owner", owner, caps::OWNER_CHARS_MAX)?),
    };
    check_owner(&caller.principal, owner.as_deref())?;
    let id = new_id()?;
    let (prefix, environment) = (&state.config.key_prefix, &state.config.key_environment);
    let secret = new_secret(prefix, environment, id)?;
    let content = content(&(&request, &owner));
    let plan = request.plan.as_deref().map(|plan| record_name("plan", plan)).transpose()?;
    let pools = request.pools.as_deref().map(pools).transpose()?;
    let own = request.limits.map(|own| limits_beside(own, plan.is_some())).transpose()?;
    let (limits, removes) = own.unzip();
    let terms = Terms { plan, pools, removes: removes.unwrap_or_default() };
    let mut new = NewKey {
        id,
        prefix: credential::shown_prefix(prefix, environment, &id).into(),
        digest: secret.digest(),
        name: text("name", &request.name, caps::NAME_CHARS_MAX)?,
        scope: request.scope,
        owner,
        limits: limits.filter(|limits| !limits.is_empty()),
        terms,
        expires_at: request.expires_at.map(|at| future(state.now(), at.0)).transpose()?,
        metadata: request.metadata.as_ref().map(metadata).transpose()?.unwrap_or_default(),
        idempotency_key: idempotency_key
            .map(|key| scoped_idempotency_key(&caller.principal, "create", &key)),
    };
    check_level(state, new.is_plain())?;
    if new.terms.named().next().is_some() {
        caller.principal.only_operator(PLANS_AND_POOLS)?;
    }
    let command = match new.idempotency_key.take_if(|_| state.shared.cluster().level >= 3) {
        Some(key) => Command::Once { key, content, command: OneKey::Create(Box::new(new)) },
        None => Command::CreateKey(Box::new(new)),
    };
    let written = change(state, caller, command).await?;
    Ok(CreatedKey { key: Shown::new(secret.expose()), written })
}

/// A hash of a request's content: a repeated request has the same.
fn content(request: &impl serde::Serialize) -> u64 {
    let text = serde_json::to_vec(request).unwrap_or_default();
    let digest = Digest::of(&text);
    digest.as_bytes().iter().take(8).fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

/// Changes fields of a key that the caller manages.
pub(crate) async fn update(
    state: &NodeState,
    caller: &RequestContext,
    id: KeyId,
    request: UpdateKey,
    if_revision: Option<u64>,
) -> Result<WriteAnswer, ApiError> {
    if let Some(owner) = &request.owner {
        check_owner(&caller.principal, owner.as_deref())?;
    }
    let expires_at = match request.expires_at {
        Some(Some(at)) => Some(Some(future(state.now(), at.0)?)),
        other => other.map(|_| None),
    };
    let owner = request
        .owner
        .map(|owner| owner.map(|o| text("owner", &o, caps::OWNER_CHARS_MAX)).transpose());
    let before = state.shared.table.get(&id);
    let plan = request.plan.map(|plan| plan.map(|plan| record_name("plan", &plan)).transpose());
    let plan = plan.transpose()?;
    let pools = request.pools.map(|names| names.as_deref().map(pools).transpose()).transpose()?;
    let planned = before.as_ref().and_then(|key| key.terms()?.plan.as_deref());
    let has_plan = plan.as_ref().map_or(planned.is_some(), Option::is_some);
    let own = |own: Option<_>| own.map(|own| limits_beside(own, has_plan)).transpose();
    let (limits, removes) = request.limits.map(own).transpose()?.map(Option::unzip).unzip();
    let change_of = KeyChange {
        id,
        if_revision,
        name: request.name.map(|name| text("name", &name, caps::NAME_CHARS_MAX)).transpose()?,
        scope: request.scope,
        owner: owner.transpose()?,
        limits: limits.map(|own| own.filter(|limits| !limits.is_empty())),
        removes: removes.flatten().unwrap_or_default(),
        plan,
        pools,
        enabled: request.enabled,
        expires_at,
        metadata: request.metadata.map(|m| metadata(&m.unwrap_or_default())).transpose()?,
    };
    check_level(state, change_of.is_plain())?;
    if change_of.plan.is_some() || change_of.pools.is_some() {
        caller.principal.only_operator(PLANS_AND_POOLS)?;
    }
    if let (Principal::Key { entry, .. }, Some(before)) = (&caller.principal, &before)
        && entry.id() == id
        && changes_rights(&before.record(), &change_of)
    {
        let message = "An admin key cannot change its own scope, owner, limits or end: ask another \
                       administrator";
        return Err(ApiError::new(ErrorCode::InsufficientScope, message));
    }
    let notes =
        before.map_or_else(Vec::new, |before| new_counters(&state.shared, &before, &change_of));
    let written = change(state, caller, Command::UpdateKey(Box::new(change_of))).await?;
    Ok(WriteAnswer { notes, ..written })
}

/// Whether a change affects what a key may do, or for how long.
fn changes_rights(before: &KeyRecord, change: &KeyChange) -> bool {
    change.scope.is_some_and(|scope| scope != before.scope)
        || change.owner.as_ref().is_some_and(|owner| *owner != before.owner)
        || change.expires_at.is_some_and(|end| end != before.expires_at)
        || change.limits.as_ref().is_some_and(|new| {
            *new != before.own_limits() || change.removes != before.terms.removes
        })
        || change.plan.as_ref().is_some_and(|plan| *plan != before.terms.plan)
        || change.pools.as_ref().is_some_and(|pools| *pools != before.terms.pools)
}

/// What is of level 4 is rejected while the cluster has a node that does not know it.
pub(crate) fn check_level(state: &NodeState, is_plain: bool) -> Result<(), ApiError> {
    if is_plain || state.shared.cluster().level >= 4 {
        return Ok(());
    }
    let message = "not before every node runs version 0.4 or later";
    Err(ApiError::new(ErrorCode::ClusterTooOld, message))
}

/// A note for each limit of a changed list that begins to count from nothing.
fn new_counters(shared: &Shared, before: &KeyEntry, change: &KeyChange) -> Vec<String> {
    let Some(Some(limits)) = &change.limits else { return Vec::new() };
    let old: Vec<LimitSpec> = shared.sources_of(before).into_iter().map(|(spec, _)| spec).collect();
    let fresh = LimitSpec::follow(&old, limits);
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
    request: RotateKey,
    guards: Guards,
) -> Result<CreatedKey, ApiError> {
    let grace_ms = request.grace.map_or(0, |grace| grace.ms);
    if grace_ms > caps::ROTATE_GRACE_MS_MAX {
        return Err(invalid("grace: at most 30 days"));
    }
    let id = entry.id();
    let end_previous = request.end_previous == Some(true);
    // With an idempotency key the log decides, so that a repeat gets the answer to the first request.
    let in_log = guards.idempotency_key.is_some() && state.shared.cluster().level >= 3;
    let valid_until = previous_valid_until(entry, state.now());
    if let Some(until) = valid_until.filter(|_| !end_previous && !in_log) {
        return Err(rejected(&CommandError::Promised(until)));
    }
    // The credential keeps its first part, even if the configuration has another one now.
    let shown_before = entry.prefix();
    let parts = shown_before.splitn(3, '_').collect::<Vec<_>>();
    let [prefix, environment, _] = parts[..] else {
        return Err(invalid("an imported key cannot be rotated"));
    };
    let secret = new_secret(prefix, environment, id)?;
    let (digest, if_revision) = (secret.digest(), guards.if_revision);
    let idempotency_key =
        guards.idempotency_key.map(|key| scoped_idempotency_key(&caller.principal, "rotate", &key));
    let command = match idempotency_key {
        Some(key) if state.shared.cluster().level >= 3 => {
            let command = OneKey::Rotate { id, digest, grace_ms, if_revision, end_previous };
            Command::Once { key, content: content(&(id, &request)), command }
        }
        idempotency_key => {
            Command::RotateKey { id, digest, grace_ms, idempotency_key, if_revision }
        }
    };
    let written = change(state, caller, command).await?;
    Ok(CreatedKey { key: Shown::new(secret.expose()), written })
}

/// Revokes a key that the caller manages. It cannot be undone.
pub(crate) async fn revoke(
    state: &NodeState,
    caller: &RequestContext,
    id: KeyId,
    if_revision: Option<u64>,
) -> Result<WriteAnswer, ApiError> {
    change(state, caller, Command::RevokeKey { id, if_revision }).await
}

/// Erases the record of a key that has ended. Only the operator may do that.
pub(crate) async fn erase(
    state: &NodeState,
    caller: &RequestContext,
    entry: &KeyEntry,
    if_revision: Option<u64>,
) -> Result<ErasedKey, ApiError> {
    let (id, revision) = (entry.id(), entry.revision());
    caller.principal.only_operator("Erasing a record requires the operator token")?;
    if state.shared.cluster().level < 3 {
        let message = "not before every node runs version 0.3 or later";
        return Err(ApiError::new(ErrorCode::Conflict, message));
    }
    // The record of an ended key hardly ever changes, so it is enough to check it on this node.
    if if_revision.is_some_and(|expected| expected != revision) {
        return Err(rejected(&CommandError::Revision(revision)));
    }
    let command = Command::EraseKeys { ids: vec![id], ended_before: None };
    let Written { outcome, applied_on, waited_ms } = write(state, caller, command).await?;
    match outcome {
        Outcome::Done => Ok(ErasedKey {
            erased: Text(id),
            applied_on: applied_on.iter().map(|node| node.0).collect(),
            waited_ms,
        }),
        Outcome::Key(_) | Outcome::Put(_) | Outcome::Named(_) => {
            Err(ApiError::new(ErrorCode::Internal, "internal error"))
        }
        Outcome::Refused(error) => Err(rejected(&error)),
    }
}

/// The key of a path. A key that this administrator does not manage is not found either. A node
/// without a lease may be behind, so it does not know that a key is missing.
pub(crate) fn managed(
    state: &NodeState,
    principal: &Principal,
    id: &str,
) -> Result<KeyEntry, ApiError> {
    let id: KeyId = id.parse().map_err(|_| no_such_key())?;
    let unknown = || match state.not_ready() {
        Some(why) => ApiError::new(ErrorCode::Unavailable, why),
        None => no_such_key(),
    };
    let entry = state.shared.table.get(&id).ok_or_else(unknown)?;
    if principal.manages(&entry) { Ok(entry) } else { Err(no_such_key()) }
}

fn no_such_key() -> ApiError {
    ApiError::new(ErrorCode::NotFound, "no such key")
}
