//! The life of a key over JSON: create, read, update, rotate, revoke.

pub(crate) mod change;
pub(crate) mod fields;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::request::Parts;
use axum::http::{HeaderValue, Request, Response, StatusCode, header};
use change::Guards;
use fields::{idempotency_key, if_match};
use fluxgate_api::keys::{
    CreateKey, DeleteKey, DeletedKey, KeyRecord, KeyStatus, LimitSpec, RotateKey, UpdateKey,
};
use fluxgate_api::text::Text;
use fluxgate_engine::state::command::Actor;
use fluxgate_engine::state::record::{self, KeyEntry, Status};
use fluxgate_node::state::NodeState;
use fluxgate_types::{ClusterMs, KEY_ID_PREFIX, Scope};

use crate::admin::listing::query;
use crate::admin::origin;
use crate::shared::auth::{RequestContext, authenticate};
use crate::shared::body::{parse, parse_optional, read_body};
use crate::shared::error::ApiError;
use crate::shared::path::PathId;
use crate::shared::respond;

pub(crate) use change::managed;

/// Who calls, if it may administer.
async fn caller(state: &NodeState, parts: &Parts) -> Result<RequestContext, ApiError> {
    let who = authenticate(state, &parts.headers, Scope::Admin).await?;
    Ok(RequestContext { who, from: origin(parts) })
}

/// What a change is guarded by, as the head says.
fn guards(parts: &Parts) -> Result<Guards, ApiError> {
    Ok(Guards {
        if_revision: if_match(&parts.headers)?,
        idempotency_key: idempotency_key(&parts.headers)?,
    })
}

/// `POST /v1/keys`.
pub(crate) async fn create(
    State(state): State<Arc<NodeState>>,
    request: Request<Body>,
) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let created = create_key(&state, &parts, body).await;
    created.unwrap_or_else(|refused| refused.into_response(&state))
}

async fn create_key(
    state: &NodeState,
    parts: &Parts,
    body: Body,
) -> Result<Response<Body>, ApiError> {
    let caller = caller(state, parts).await?;
    let asked: CreateKey = read_json(state, parts, body).await?;
    let again = idempotency_key(&parts.headers)?;
    let created = change::create(state, &caller, asked, again).await?;
    Ok(tagged(StatusCode::CREATED, created.written.record.revision, &created))
}

/// `GET /v1/keys/{id}`.
pub(crate) async fn read(
    State(state): State<Arc<NodeState>>,
    PathId(id): PathId,
    request: Request<Body>,
) -> Response<Body> {
    let (parts, _) = request.into_parts();
    let read = read_key(&state, &id, &parts).await;
    read.unwrap_or_else(|refused| refused.into_response(&state))
}

async fn read_key(state: &NodeState, id: &str, parts: &Parts) -> Result<Response<Body>, ApiError> {
    let caller = caller(state, parts).await?;
    let entry = managed(state, &caller.who, id)?;
    let shown = shown(state, &entry);
    Ok(tagged(StatusCode::OK, shown.revision, &shown))
}

/// `PATCH /v1/keys/{id}`.
pub(crate) async fn update(
    State(state): State<Arc<NodeState>>,
    PathId(id): PathId,
    request: Request<Body>,
) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let updated = update_key(&state, &id, &parts, body).await;
    updated.unwrap_or_else(|refused| refused.into_response(&state))
}

async fn update_key(
    state: &NodeState,
    id: &str,
    parts: &Parts,
    body: Body,
) -> Result<Response<Body>, ApiError> {
    let caller = caller(state, parts).await?;
    let entry = managed(state, &caller.who, id)?;
    let asked: UpdateKey = read_json(state, parts, body).await?;
    let guard = if_match(&parts.headers)?;
    let written = change::update(state, &caller, entry.record.id, asked, guard).await?;
    Ok(tagged(StatusCode::OK, written.record.revision, &written))
}

/// `POST /v1/keys/{id}/rotate`.
pub(crate) async fn rotate(
    State(state): State<Arc<NodeState>>,
    PathId(id): PathId,
    request: Request<Body>,
) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let rotated = rotate_key(&state, &id, &parts, body).await;
    rotated.unwrap_or_else(|refused| refused.into_response(&state))
}

async fn rotate_key(
    state: &NodeState,
    id: &str,
    parts: &Parts,
    body: Body,
) -> Result<Response<Body>, ApiError> {
    let caller = caller(state, parts).await?;
    let entry = managed(state, &caller.who, id)?;
    let body = read_whole(state, body).await?;
    let asked: Option<RotateKey> = parse_optional(&parts.headers, &body)?;
    let asked = asked.unwrap_or_default();
    let rotated = change::rotate(state, &caller, &entry, asked, guards(parts)?).await?;
    Ok(tagged(StatusCode::OK, rotated.written.record.revision, &rotated))
}

/// `DELETE /v1/keys/{id}`: revokes it, or with `erase` forgets the record of one that has ended.
pub(crate) async fn revoke(
    State(state): State<Arc<NodeState>>,
    PathId(id): PathId,
    request: Request<Body>,
) -> Response<Body> {
    let (parts, _) = request.into_parts();
    let revoked = revoke_key(&state, &id, &parts).await;
    revoked.unwrap_or_else(|refused| refused.into_response(&state))
}

async fn revoke_key(
    state: &NodeState,
    id: &str,
    parts: &Parts,
) -> Result<Response<Body>, ApiError> {
    let caller = caller(state, parts).await?;
    let DeleteKey { erase } = query(parts)?;
    let entry = managed(state, &caller.who, id)?;
    let guard = if_match(&parts.headers)?;
    if erase {
        let erased = change::erase(state, &caller, &entry, guard).await?;
        return Ok(respond::json(StatusCode::OK, &DeletedKey::Erased(erased)));
    }
    let written = change::revoke(state, &caller, entry.record.id, guard).await?;
    Ok(tagged(StatusCode::OK, written.record.revision, &written))
}

async fn read_whole(state: &NodeState, body: Body) -> Result<bytes::Bytes, ApiError> {
    let read = read_body(body, state.config.max_body_bytes, state.config.request_timeout).await;
    Ok(read?)
}

async fn read_json<T: serde::de::DeserializeOwned>(
    state: &NodeState,
    parts: &Parts,
    body: Body,
) -> Result<T, ApiError> {
    let body = read_whole(state, body).await?;
    Ok(parse(&parts.headers, &body)?)
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

/// Whether this is an actor's text, without writing it.
pub(crate) fn is_actor(actor: Actor, text: &str) -> bool {
    match actor {
        Actor::Operator => text == "operator",
        Actor::Key(id) => text.strip_prefix(KEY_ID_PREFIX) == Some(id.as_str()),
        Actor::System => text == "system",
    }
}

/// A record as administrators see it.
pub(crate) fn shown(state: &NodeState, entry: &KeyEntry) -> KeyRecord {
    let record: &record::KeyRecord = &entry.record;
    let defaults = Arc::clone(&state.shared.view().defaults);
    let pairs = record.metadata.as_ref().map(|pairs| pairs.iter()).into_iter().flatten();
    KeyRecord {
        id: Text(record.id),
        name: record.name.to_string(),
        prefix: record.prefix(),
        scope: record.scope,
        owner: record.owner.as_ref().map(ToString::to_string),
        limits: record.limits(&defaults).iter().map(|spec| LimitSpec::from(&spec.limit)).collect(),
        enabled: record.enabled,
        status: status(record.status(state.now())),
        created_at: Text(record.created_at),
        created_by: actor_text(record.created_by),
        expires_at: record.expires_at.map(Text),
        last_used_at: entry.last_used().map(Text),
        previous_valid_until: previous_valid_until(record, state.now()).map(Text),
        metadata: pairs.map(|(name, value)| (name.to_string(), value.to_string())).collect(),
        revision: record.revision,
    }
}

/// Until when the secret before the present one is accepted, if it is.
pub(crate) fn previous_valid_until(
    record: &record::KeyRecord,
    now: ClusterMs,
) -> Option<ClusterMs> {
    let is_active = record.status(now) == Status::Active;
    let until = record.previous.as_ref().map(|previous| previous.until);
    until.filter(|until| is_active && now < *until)
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
