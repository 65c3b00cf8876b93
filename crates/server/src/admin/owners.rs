//! The records of owners: what all keys of an owner may use together, and whether they are enabled.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::routing::get;
use fluxgate_api::error::ErrorCode;
use fluxgate_api::keys::LimitSpec;
use fluxgate_api::owners::{
    ChangeOwner, DeletedOwner, OwnerAnswer, OwnerList, OwnerRecord, OwnersQuery, SetOwner,
};
use fluxgate_api::paths;
use fluxgate_api::text::Text;
use fluxgate_engine::state::command::{Command, CommandError, Outcome};
use fluxgate_engine::state::named::{Definition, Named, NamedKind, NamedRow};
use fluxgate_node::state::NodeState;
use fluxgate_node::writes::Written;
use fluxgate_types::caps;

use super::keys::fields::{limits_or_none, metadata, text};
use super::keys::guards::if_match;
use super::keys::write::{not_written, rejected, write};
use super::paging::{named_cursor, named_place, page_size};
use crate::shared::auth::RequestContext;
use crate::shared::body::{parse, read_whole};
use crate::shared::error::ApiError;
use crate::shared::path::PathId;
use crate::shared::query::query;
use crate::shared::respond::{Json, Tagged};

/// How often a change is tried again whose record was changed by someone else meanwhile.
const CHANGE_TRIES: usize = 4;

pub(super) fn router() -> Router<Arc<NodeState>> {
    Router::new()
        .route(paths::OWNERS, get(list))
        .route(paths::OWNER, get(read).put(set).patch(change).delete(delete))
}

fn shown(row: &NamedRow) -> OwnerRecord {
    let pairs = row.definition.metadata.iter();
    OwnerRecord {
        owner: row.name.to_string(),
        limits: row.definition.limits.iter().map(LimitSpec::from).collect(),
        enabled: row.definition.enabled,
        metadata: pairs.map(|(name, value)| (name.to_string(), value.to_string())).collect(),
        created_at: Text(row.created_at),
        changed_at: Text(row.changed_at),
        revision: row.revision,
    }
}

fn only_operator(caller: &RequestContext) -> Result<(), ApiError> {
    caller.principal.only_operator("Records of owners require the operator token")
}

/// The record of an owner. A node without a lease may be behind, so it does not know that there is
/// none.
fn known(state: &NodeState, owner: &str) -> Result<Arc<Named>, ApiError> {
    let subject = state.shared.view().seed.map(|seed| NamedKind::Owner.subject(&seed, owner));
    subject.and_then(|subject| state.shared.named.get(&subject)).ok_or_else(|| {
        match state.not_ready() {
            Some(why) => ApiError::new(ErrorCode::Unavailable, why),
            None => ApiError::new(ErrorCode::NotFound, "this owner has no record"),
        }
    })
}

async fn list(
    State(state): State<Arc<NodeState>>,
    caller: RequestContext,
    uri: Uri,
) -> Result<Json<OwnerList>, ApiError> {
    only_operator(&caller)?;
    let OwnersQuery { limit, cursor } = query(&uri)?;
    let (size, after) = (page_size(limit)?, named_place(cursor.as_deref())?);
    let found = state.shared.named.page(NamedKind::Owner, after.as_deref(), size + 1);
    let last = found.get(size - 1).filter(|_| found.len() > size);
    let next_cursor = last.map(|last| named_cursor(&last.name));
    let owners = found.iter().take(size).map(|named| shown(&NamedRow::from(&**named))).collect();
    Ok(Json(StatusCode::OK, OwnerList { owners, next_cursor }))
}

async fn read(
    State(state): State<Arc<NodeState>>,
    caller: RequestContext,
    PathId(owner): PathId,
) -> Result<Tagged<OwnerRecord>, ApiError> {
    if !caller.principal.manages_owner(Some(&owner)) {
        only_operator(&caller)?;
    }
    let body = shown(&NamedRow::from(&*known(&state, &owner)?));
    Ok(Tagged { status: StatusCode::OK, revision: body.revision, body })
}

async fn set(
    State(state): State<Arc<NodeState>>,
    caller: RequestContext,
    PathId(owner): PathId,
    headers: HeaderMap,
    body: Body,
) -> Result<Tagged<OwnerAnswer>, ApiError> {
    only_operator(&caller)?;
    let request: SetOwner = parse(&headers, &read_whole(&state, body).await?)?;
    let owner = text("owner", &owner, caps::OWNER_CHARS_MAX)?;
    let definition = Definition {
        limits: limits_or_none(request.limits)?,
        enabled: request.enabled,
        metadata: metadata(&request.metadata)?,
    };
    let if_revision = if_match(&headers)?;
    let body = put(&state, &caller, owner, definition, if_revision).await?;
    let body = body.map_err(|error| rejected(&error))?;
    let status = if body.record.revision == 1 { StatusCode::CREATED } else { StatusCode::OK };
    Ok(Tagged { status, revision: body.record.revision, body })
}

async fn change(
    State(state): State<Arc<NodeState>>,
    caller: RequestContext,
    PathId(owner): PathId,
    headers: HeaderMap,
    body: Body,
) -> Result<Tagged<OwnerAnswer>, ApiError> {
    only_operator(&caller)?;
    let request: ChangeOwner = parse(&headers, &read_whole(&state, body).await?)?;
    let limits = request.limits.map(limits_or_none).transpose()?;
    let metadata = request.metadata.as_ref().map(metadata).transpose()?;
    let asked = if_match(&headers)?;
    let mut tries = 0;
    let body = loop {
        let before = NamedRow::from(&*known(&state, &owner)?);
        let definition = Definition {
            limits: limits.clone().unwrap_or(before.definition.limits),
            enabled: request.enabled.unwrap_or(before.definition.enabled),
            metadata: metadata.clone().unwrap_or(before.definition.metadata),
        };
        tries += 1;
        let revision = Some(asked.unwrap_or(before.revision));
        match put(&state, &caller, before.name, definition, revision).await? {
            Ok(body) => break body,
            // It was changed since it was read: what the change leaves out may be new.
            Err(CommandError::Revision(_)) if asked.is_none() && tries < CHANGE_TRIES => {}
            Err(error) => return Err(rejected(&error)),
        }
    };
    Ok(Tagged { status: StatusCode::OK, revision: body.record.revision, body })
}

async fn delete(
    State(state): State<Arc<NodeState>>,
    caller: RequestContext,
    PathId(owner): PathId,
    headers: HeaderMap,
) -> Result<Json<DeletedOwner>, ApiError> {
    only_operator(&caller)?;
    let name = known(&state, &owner)?.name.clone();
    let if_revision = if_match(&headers)?;
    let command = Command::DeleteNamed { kind: NamedKind::Owner, name, if_revision };
    let Written { outcome, applied_on, waited_ms } = write(&state, &caller, command).await?;
    match outcome {
        Outcome::Done => {
            let applied_on = applied_on.iter().map(|node| node.0).collect();
            Ok(Json(StatusCode::OK, DeletedOwner { deleted: owner, applied_on, waited_ms }))
        }
        Outcome::Refused(error) => Err(rejected(&error)),
        Outcome::Key(_) | Outcome::Put(_) | Outcome::Named(_) => Err(internal()),
    }
}

/// Writes a record. The inner error is that of the replicated state.
async fn put(
    state: &NodeState,
    caller: &RequestContext,
    name: Box<str>,
    definition: Definition,
    if_revision: Option<u64>,
) -> Result<Result<OwnerAnswer, CommandError>, ApiError> {
    if state.shared.cluster().level < 4 {
        let message = "not before every node runs version 0.4 or later";
        return Err(ApiError::new(ErrorCode::ClusterTooOld, message));
    }
    state.writes.seed_names(state.config.request_timeout).await.map_err(not_written)?;
    let (kind, definition) = (NamedKind::Owner, Box::new(definition));
    let command = Command::PutNamed { kind, name, definition, if_revision };
    let Written { outcome, applied_on, waited_ms } = write(state, caller, command).await?;
    match outcome {
        Outcome::Named(row) => Ok(Ok(OwnerAnswer {
            record: shown(&row),
            applied_on: applied_on.iter().map(|node| node.0).collect(),
            waited_ms,
        })),
        Outcome::Refused(error) => Ok(Err(error)),
        Outcome::Key(_) | Outcome::Put(_) | Outcome::Done => Err(internal()),
    }
}

fn internal() -> ApiError {
    ApiError::new(ErrorCode::Internal, "internal error")
}
