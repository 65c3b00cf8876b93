//! The life of a key: create, read, update, rotate, revoke.

pub(super) mod fields;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::request::Parts;
use axum::http::{HeaderValue, Request, Response, StatusCode, header};
use fluxgate_api::error::{ErrorBody, ErrorCode};
use fluxgate_api::keys::{
    CreateKey, CreatedKey, KeyRecord, KeyStatus, LimitSpec, RotateKey, UpdateKey, WriteAnswer,
};
use fluxgate_api::text::{Shown, Text};
use fluxgate_engine::registry::command::{Actor, Command, KeyChange, NewKey, Outcome, Refusal};
use fluxgate_engine::registry::record::{self, KeyEntry, Status};
use fluxgate_types::{KeyId, Scope, caps, credential};

use super::admin::origin;
use super::auth::{Administrator, authenticate};
use super::body::{parse, parse_optional, read_body};
use super::path::PathId;
use super::respond;
use crate::core::Core;
use crate::writes::{WriteError, Written, proposal};
use fields::{
    bad, future, idempotency_key, if_match, limits, may_own, metadata, not_found, random, text,
};

/// Random bytes for a secret: enough that drawing without bias never runs out.
const SECRET_RANDOM_BYTES: usize = 128;

type Refused = Box<Response<Body>>;

/// `POST /v1/keys`.
pub(crate) async fn create(
    State(core): State<Arc<Core>>,
    request: Request<Body>,
) -> Response<Body> {
    let (parts, body) = request.into_parts();
    create_key(&core, &parts, body).await.unwrap_or_else(|refused| *refused)
}

async fn create_key(core: &Core, parts: &Parts, body: Body) -> Result<Response<Body>, Refused> {
    let who = authenticate(core, &parts.headers, Scope::Admin).await?;
    let asked: CreateKey = read_json(core, parts, body).await?;
    let owner = match (&asked.owner, &who) {
        // An admin key's new keys are its owner's unless it says otherwise.
        (None, Administrator::Key { entry, .. }) => entry.record.owner.clone(),
        (None, Administrator::Operator) => None,
        (Some(owner), _) => Some(text("owner", owner, caps::OWNER_CHARS_MAX)?),
    };
    may_own(&who, owner.as_deref())?;
    let id = KeyId::from_random(&random::<64>()?).ok_or_else(|| bad("try again"))?;
    let (prefix, environment) = (&core.config.key_prefix, &core.config.key_environment);
    let secret =
        credential::Secret::make(prefix, environment, id, &random::<SECRET_RANDOM_BYTES>()?);
    let secret = secret.ok_or_else(|| bad("try again"))?;
    let new = NewKey {
        id,
        prefix: credential::shown_prefix(prefix, environment, &id).into(),
        digest: secret.digest(),
        name: text("name", &asked.name, caps::NAME_CHARS_MAX)?,
        scope: asked.scope,
        owner,
        limits: asked.limits.map(limits).transpose()?,
        expires_at: asked.expires_at.map(|at| future(core, at.0)).transpose()?,
        metadata: asked.metadata.as_ref().map(metadata).transpose()?.unwrap_or_default(),
        idempotency_key: idempotency_key(&parts.headers, &who, "create")?,
    };
    let written = change(core, &who, parts, Command::CreateKey(Box::new(new))).await?;
    let key = Shown::new(secret.expose());
    Ok(tagged(StatusCode::CREATED, written.record.revision, &CreatedKey { key, written }))
}

/// `GET /v1/keys/{id}`.
pub(crate) async fn read(
    State(core): State<Arc<Core>>,
    PathId(id): PathId,
    request: Request<Body>,
) -> Response<Body> {
    let (parts, _) = request.into_parts();
    read_key(&core, &id, &parts).await.unwrap_or_else(|refused| *refused)
}

async fn read_key(core: &Core, id: &str, parts: &Parts) -> Result<Response<Body>, Refused> {
    let who = authenticate(core, &parts.headers, Scope::Admin).await?;
    let entry = managed(core, &who, id)?;
    let shown = shown(core, &entry);
    Ok(tagged(StatusCode::OK, shown.revision, &shown))
}

/// `PATCH /v1/keys/{id}`.
pub(crate) async fn update(
    State(core): State<Arc<Core>>,
    PathId(id): PathId,
    request: Request<Body>,
) -> Response<Body> {
    let (parts, body) = request.into_parts();
    update_key(&core, &id, &parts, body).await.unwrap_or_else(|refused| *refused)
}

async fn update_key(
    core: &Core,
    id: &str,
    parts: &Parts,
    body: Body,
) -> Result<Response<Body>, Refused> {
    let who = authenticate(core, &parts.headers, Scope::Admin).await?;
    let entry = managed(core, &who, id)?;
    let asked: UpdateKey = read_json(core, parts, body).await?;
    if let Some(owner) = &asked.owner {
        may_own(&who, owner.as_deref())?;
    }
    let expires_at = match asked.expires_at {
        Some(Some(at)) => Some(Some(future(core, at.0)?)),
        other => other.map(|_| None),
    };
    let owner = asked
        .owner
        .map(|owner| owner.map(|o| text("owner", &o, caps::OWNER_CHARS_MAX)).transpose());
    let change_of = KeyChange {
        id: entry.record.id,
        if_revision: if_match(&parts.headers)?,
        name: asked.name.map(|name| text("name", &name, caps::NAME_CHARS_MAX)).transpose()?,
        scope: asked.scope,
        owner: owner.transpose()?,
        limits: asked.limits.map(|own| own.map(limits).transpose()).transpose()?,
        enabled: asked.enabled,
        expires_at,
        metadata: asked.metadata.map(|m| metadata(&m.unwrap_or_default())).transpose()?,
    };
    let written = change(core, &who, parts, Command::UpdateKey(Box::new(change_of))).await?;
    Ok(tagged(StatusCode::OK, written.record.revision, &written))
}

/// `POST /v1/keys/{id}/rotate`.
pub(crate) async fn rotate(
    State(core): State<Arc<Core>>,
    PathId(id): PathId,
    request: Request<Body>,
) -> Response<Body> {
    let (parts, body) = request.into_parts();
    rotate_key(&core, &id, &parts, body).await.unwrap_or_else(|refused| *refused)
}

async fn rotate_key(
    core: &Core,
    id: &str,
    parts: &Parts,
    body: Body,
) -> Result<Response<Body>, Refused> {
    let who = authenticate(core, &parts.headers, Scope::Admin).await?;
    let entry = managed(core, &who, id)?;
    let body = read_whole(core, body).await?;
    let asked: Option<RotateKey> =
        parse_optional(&parts.headers, &body).map_err(|e| Box::new(respond::error(&e)))?;
    let grace_ms = asked.and_then(|asked| asked.grace).map_or(0, |grace| grace.ms);
    if grace_ms > caps::ROTATE_GRACE_MS_MAX {
        return Err(bad("grace: at most 30 days"));
    }
    let id = entry.record.id;
    // The credential keeps the first part that it was made with, whatever the configuration says.
    let shown_before = entry.record.prefix();
    let head = shown_before.splitn(3, '_').collect::<Vec<_>>();
    let [prefix, environment, _] = head[..] else {
        return Err(bad("an imported key cannot be rotated"));
    };
    let secret =
        credential::Secret::make(prefix, environment, id, &random::<SECRET_RANDOM_BYTES>()?);
    let secret = secret.ok_or_else(|| bad("try again"))?;
    let command = Command::RotateKey {
        id,
        digest: secret.digest(),
        grace_ms,
        idempotency_key: idempotency_key(&parts.headers, &who, "rotate")?,
        if_revision: if_match(&parts.headers)?,
    };
    let written = change(core, &who, parts, command).await?;
    let key = Shown::new(secret.expose());
    Ok(tagged(StatusCode::OK, written.record.revision, &CreatedKey { key, written }))
}

/// `DELETE /v1/keys/{id}`.
pub(crate) async fn revoke(
    State(core): State<Arc<Core>>,
    PathId(id): PathId,
    request: Request<Body>,
) -> Response<Body> {
    let (parts, _) = request.into_parts();
    revoke_key(&core, &id, &parts).await.unwrap_or_else(|refused| *refused)
}

async fn revoke_key(core: &Core, id: &str, parts: &Parts) -> Result<Response<Body>, Refused> {
    let who = authenticate(core, &parts.headers, Scope::Admin).await?;
    let entry = managed(core, &who, id)?;
    let command =
        Command::RevokeKey { id: entry.record.id, if_revision: if_match(&parts.headers)? };
    let written = change(core, &who, parts, command).await?;
    Ok(tagged(StatusCode::OK, written.record.revision, &written))
}

async fn read_whole(core: &Core, body: Body) -> Result<bytes::Bytes, Refused> {
    let read = read_body(body, core.config.max_body_bytes, core.config.request_timeout).await;
    read.map_err(|error| Box::new(respond::error(&error)))
}

async fn read_json<T: serde::de::DeserializeOwned>(
    core: &Core,
    parts: &Parts,
    body: Body,
) -> Result<T, Refused> {
    let body = read_whole(core, body).await?;
    parse(&parts.headers, &body).map_err(|error| Box::new(respond::error(&error)))
}

/// The key of a path, if this administrator manages it. Another's key is not found either. A node
/// without a lease may be behind: what it does not know may well be there.
pub(crate) fn managed(
    core: &Core,
    who: &Administrator,
    id: &str,
) -> Result<Arc<KeyEntry>, Refused> {
    let id: KeyId = id.parse().map_err(|_| not_found())?;
    let unknown = || match core.not_ready() {
        Some(why) => Box::new(respond::refuse(ErrorCode::Unavailable, why)),
        None => not_found(),
    };
    let entry = core.shared.table.get(&id).ok_or_else(unknown)?;
    if who.manages(&entry.record) { Ok(entry) } else { Err(not_found()) }
}

/// Makes a change and shapes its answer.
async fn change(
    core: &Core,
    who: &Administrator,
    parts: &Parts,
    command: Command,
) -> Result<WriteAnswer, Refused> {
    let mut proposal = proposal(who.actor(), origin(parts), command);
    proposal.presented = who.digest();
    let written = core.write(proposal, core.config.request_timeout).await.map_err(unwritten)?;
    let Written { outcome, applied_on, waited_ms } = written;
    let record = match outcome {
        Outcome::Key(record) => *record,
        Outcome::Done | Outcome::Put(_) => {
            return Err(Box::new(respond::refuse(ErrorCode::Internal, "internal error")));
        }
        Outcome::Refused(Refusal::Actor) => {
            return Err(Box::new(core.unauthenticated(true).into_response(core)));
        }
        Outcome::Refused(refusal) => return Err(refused(&refusal)),
    };
    let last_used = core.shared.table.with(&record.id, |entry| entry.last_used()).flatten();
    let record =
        record.into_record(0, |head| head.into()).ok_or_else(|| bad("limits cannot be kept"))?;
    let record = shown(core, &KeyEntry::new(record, last_used));
    Ok(WriteAnswer {
        record,
        applied_on: applied_on.iter().map(|node| node.0).collect(),
        waited_ms,
    })
}

/// A write that nobody may rely on.
pub(crate) fn unwritten(error: WriteError) -> Refused {
    Box::new(match error {
        WriteError::NoLeader => respond::refuse(
            ErrorCode::NoLeader,
            "the cluster has no leader now; nothing was changed",
        ),
        WriteError::Busy => respond::refuse(
            ErrorCode::Unavailable,
            "the leader takes no writes now; nothing was changed",
        ),
        WriteError::Unknown => respond::refuse(
            ErrorCode::RequestTimeout,
            "the change may or may not have been made: read the record before you try again",
        ),
    })
}

fn refused(refusal: &Refusal) -> Refused {
    let code = match refusal {
        Refusal::Actor => ErrorCode::AuthenticationFailed,
        Refusal::NotFound => ErrorCode::NotFound,
        Refusal::IdTaken | Refusal::Revoked | Refusal::OtherDirectory(_) => ErrorCode::Conflict,
        Refusal::AlreadyDone(_) => ErrorCode::AlreadyDone,
        Refusal::Revision(_) => ErrorCode::PreconditionFailed,
        Refusal::Invalid(_) => ErrorCode::InvalidRequest,
    };
    Box::new(respond::error(&ErrorBody::new(code, refusal.to_string())))
}

fn tagged<T: serde::Serialize>(status: StatusCode, revision: u64, body: &T) -> Response<Body> {
    let mut response = respond::json(status, body);
    if let Ok(tag) = HeaderValue::try_from(format!("\"{revision}\"")) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}

/// Who made a key or did something to it, in words.
pub(crate) fn actor_text(actor: Actor) -> String {
    match actor {
        Actor::Operator => "operator".to_owned(),
        Actor::Key(id) => id.to_string(),
        Actor::System => "system".to_owned(),
    }
}

/// A record as administrators see it.
pub(crate) fn shown(core: &Core, entry: &KeyEntry) -> KeyRecord {
    let record: &record::KeyRecord = &entry.record;
    let defaults = Arc::clone(&core.shared.view().defaults);
    let pairs = record.metadata.as_ref().map(|pairs| pairs.iter()).into_iter().flatten();
    KeyRecord {
        id: Text(record.id),
        name: record.name.to_string(),
        prefix: record.prefix(),
        scope: record.scope,
        owner: record.owner.as_ref().map(ToString::to_string),
        limits: record.limits(&defaults).iter().map(|spec| LimitSpec::from(&spec.limit)).collect(),
        enabled: record.enabled,
        status: status(record.status(core.now())),
        created_at: Text(record.created_at),
        created_by: actor_text(record.created_by),
        expires_at: record.expires_at.map(Text),
        last_used_at: entry.last_used().map(Text),
        metadata: pairs.map(|(name, value)| (name.to_string(), value.to_string())).collect(),
        revision: record.revision,
    }
}

/// A status in the contract's vocabulary.
pub(crate) fn status(status: Status) -> KeyStatus {
    match status {
        Status::Active => KeyStatus::Active,
        Status::Disabled => KeyStatus::Disabled,
        Status::Expired => KeyStatus::Expired,
        Status::Revoked => KeyStatus::Revoked,
    }
}
