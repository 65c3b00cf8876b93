//! The operations on keys over JSON: create, read, update, rotate, revoke, erase.

pub(crate) mod change;
pub(crate) mod fields;
pub(super) mod guards;
mod secret;
pub(crate) mod view;
pub(super) mod write;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use fluxgate_api::keys::{
    CreateKey, CreatedKey, DeleteKey, DeletedKey, Included, KeyRecord, ReadKey, RotateKey,
    UpdateKey, WriteAnswer,
};
use fluxgate_api::paths;
use fluxgate_node::state::NodeState;

use self::change::managed;
use self::guards::{idempotency_key, if_match};
use crate::shared::auth::RequestContext;
use crate::shared::body::{parse, parse_optional, read_whole};
use crate::shared::error::ApiError;
use crate::shared::path::PathId;
use crate::shared::query::query;
use crate::shared::respond::{Json, Tagged};

pub(crate) use self::guards::Guards;

pub(super) fn router() -> Router<Arc<NodeState>> {
    Router::new()
        .route(paths::KEYS, post(create))
        .route(paths::KEY, get(read).patch(update).delete(delete))
        .route(paths::KEY_ROTATE, post(rotate))
}

async fn create(
    State(state): State<Arc<NodeState>>,
    caller: RequestContext,
    headers: HeaderMap,
    body: Body,
) -> Result<Tagged<CreatedKey>, ApiError> {
    let request: CreateKey = parse(&headers, &read_whole(&state, body).await?)?;
    let key = idempotency_key(&headers)?;
    let body = change::create(&state, &caller, request, key).await?;
    Ok(Tagged { status: StatusCode::CREATED, revision: body.written.record.revision, body })
}

async fn read(
    State(state): State<Arc<NodeState>>,
    caller: RequestContext,
    PathId(id): PathId,
    uri: Uri,
) -> Result<Tagged<KeyRecord>, ApiError> {
    let entry = managed(&state, &caller.principal, &id)?;
    let ReadKey { include } = query(&uri)?;
    let mut body = view::shown(&state, &entry);
    body.effective = include.map(|Included::Effective| view::effective(&state.shared, &entry));
    Ok(Tagged { status: StatusCode::OK, revision: body.revision, body })
}

async fn update(
    State(state): State<Arc<NodeState>>,
    caller: RequestContext,
    PathId(id): PathId,
    headers: HeaderMap,
    body: Body,
) -> Result<Tagged<WriteAnswer>, ApiError> {
    let entry = managed(&state, &caller.principal, &id)?;
    let request: UpdateKey = parse(&headers, &read_whole(&state, body).await?)?;
    let if_revision = if_match(&headers)?;
    let body = change::update(&state, &caller, entry.id(), request, if_revision).await?;
    Ok(Tagged { status: StatusCode::OK, revision: body.record.revision, body })
}

async fn rotate(
    State(state): State<Arc<NodeState>>,
    caller: RequestContext,
    PathId(id): PathId,
    headers: HeaderMap,
    body: Body,
) -> Result<Tagged<CreatedKey>, ApiError> {
    let entry = managed(&state, &caller.principal, &id)?;
    let request: Option<RotateKey> = parse_optional(&headers, &read_whole(&state, body).await?)?;
    let guards = Guards::read(&headers)?;
    let request = request.unwrap_or_default();
    let body = change::rotate(&state, &caller, &entry, request, guards).await?;
    Ok(Tagged { status: StatusCode::OK, revision: body.written.record.revision, body })
}

/// Revokes a key or, with `erase`, erases the record of a key that has ended.
async fn delete(
    State(state): State<Arc<NodeState>>,
    caller: RequestContext,
    PathId(id): PathId,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let DeleteKey { erase } = query(&uri)?;
    let entry = managed(&state, &caller.principal, &id)?;
    let if_revision = if_match(&headers)?;
    if erase {
        let erased = change::erase(&state, &caller, &entry, if_revision).await?;
        return Ok(Json(StatusCode::OK, DeletedKey::Erased(erased)).into_response());
    }
    let body = change::revoke(&state, &caller, entry.id(), if_revision).await?;
    let revision = body.record.revision;
    Ok(Tagged { status: StatusCode::OK, revision, body }.into_response())
}
