//! Records with a name: owners, plans and pools. What they say is in [`kinds`].

pub(super) mod kinds;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::routing::get;
use fluxgate_api::error::ErrorCode;
use fluxgate_api::records::{DeletedRecord, RecordsQuery};
use fluxgate_engine::state::command::{Command, CommandError, Outcome};
use fluxgate_engine::state::named::{Definition, Named, NamedRow};
use fluxgate_node::state::NodeState;
use fluxgate_node::writes::Written;

use self::kinds::{Kind, Owners, Plans, Pools};
use super::keys::change::check_level;
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
    routes::<Owners>().merge(routes::<Plans>()).merge(routes::<Pools>())
}

fn routes<K: Kind>() -> Router<Arc<NodeState>> {
    Router::new()
        .route(K::LIST, get(list::<K>))
        .route(K::ONE, get(read::<K>).put(set::<K>).patch(change::<K>).delete(delete::<K>))
}

fn only_operator<K: Kind>(caller: &RequestContext) -> Result<(), ApiError> {
    caller.principal.only_operator(K::ONLY_OPERATOR)
}

/// The record with this name. A node without a lease may be behind, so it does not know that there is
/// none.
fn known<K: Kind>(state: &NodeState, name: &str) -> Result<Arc<Named>, ApiError> {
    state.shared.record(K::KIND, name).ok_or_else(|| match state.not_ready() {
        Some(why) => ApiError::new(ErrorCode::Unavailable, why),
        None => ApiError::new(ErrorCode::NotFound, K::UNKNOWN),
    })
}

fn shown<K: Kind>(state: &NodeState, row: &NamedRow) -> K::Record {
    K::shown(row, state.shared.uses(K::KIND, &row.name))
}

async fn list<K: Kind>(
    State(state): State<Arc<NodeState>>,
    caller: RequestContext,
    uri: Uri,
) -> Result<Json<K::List>, ApiError> {
    only_operator::<K>(&caller)?;
    let RecordsQuery { limit, cursor } = query(&uri)?;
    let (size, after) = (page_size(limit)?, named_place(cursor.as_deref())?);
    let found = state.shared.named.page(K::KIND, after.as_deref(), size + 1);
    let last = found.get(size - 1).filter(|_| found.len() > size);
    let next_cursor = last.map(|last| named_cursor(&last.name));
    let page = found.iter().take(size);
    let records = page.map(|named| shown::<K>(&state, &NamedRow::from(&**named))).collect();
    Ok(Json(StatusCode::OK, K::list(records, next_cursor)))
}

async fn read<K: Kind>(
    State(state): State<Arc<NodeState>>,
    caller: RequestContext,
    PathId(name): PathId,
) -> Result<Tagged<K::Record>, ApiError> {
    if !K::may_read(&caller.principal, &name) {
        only_operator::<K>(&caller)?;
    }
    let row = NamedRow::from(&*known::<K>(&state, &name)?);
    Ok(Tagged { status: StatusCode::OK, revision: row.revision, body: shown::<K>(&state, &row) })
}

async fn set<K: Kind>(
    State(state): State<Arc<NodeState>>,
    caller: RequestContext,
    PathId(name): PathId,
    headers: HeaderMap,
    body: Body,
) -> Result<Tagged<K::Answer>, ApiError> {
    only_operator::<K>(&caller)?;
    let request: K::Set = parse(&headers, &read_whole(&state, body).await?)?;
    let name = K::name(&name)?;
    let definition = K::definition(request)?;
    let if_revision = if_match(&headers)?;
    let (revision, body) = put::<K>(&state, &caller, name, definition, if_revision)
        .await?
        .map_err(|error| rejected_by::<K>(&error))?;
    let status = if revision == 1 { StatusCode::CREATED } else { StatusCode::OK };
    Ok(Tagged { status, revision, body })
}

async fn change<K: Kind>(
    State(state): State<Arc<NodeState>>,
    caller: RequestContext,
    PathId(name): PathId,
    headers: HeaderMap,
    body: Body,
) -> Result<Tagged<K::Answer>, ApiError> {
    only_operator::<K>(&caller)?;
    let request: K::Change = parse(&headers, &read_whole(&state, body).await?)?;
    let asked = if_match(&headers)?;
    let mut tries = 0;
    let (revision, body) = loop {
        let before = NamedRow::from(&*known::<K>(&state, &name)?);
        let definition = K::changed(&request, before.definition)?;
        tries += 1;
        let expected = Some(asked.unwrap_or(before.revision));
        match put::<K>(&state, &caller, before.name, definition, expected).await? {
            Ok(written) => break written,
            // It was changed since it was read: what the change leaves out may be new.
            Err(CommandError::Revision(_)) if asked.is_none() && tries < CHANGE_TRIES => {}
            Err(error) => return Err(rejected_by::<K>(&error)),
        }
    };
    Ok(Tagged { status: StatusCode::OK, revision, body })
}

async fn delete<K: Kind>(
    State(state): State<Arc<NodeState>>,
    caller: RequestContext,
    PathId(name): PathId,
    headers: HeaderMap,
) -> Result<Json<DeletedRecord>, ApiError> {
    only_operator::<K>(&caller)?;
    let known = known::<K>(&state, &name)?.name.clone();
    let if_revision = if_match(&headers)?;
    let command = Command::DeleteNamed { kind: K::KIND, name: known, if_revision };
    let Written { outcome, applied_on, waited_ms } = write(&state, &caller, command).await?;
    match outcome {
        Outcome::Done => {
            let applied_on = applied_on.iter().map(|node| node.0).collect();
            Ok(Json(StatusCode::OK, DeletedRecord { deleted: name, applied_on, waited_ms }))
        }
        Outcome::Refused(error) => Err(rejected_by::<K>(&error)),
        Outcome::Key(_) | Outcome::Put(_) | Outcome::Named(_) => Err(internal()),
    }
}

/// A record that was written, with its revision.
type Put<K> = (u64, <K as Kind>::Answer);

/// Writes a record. The inner error is that of the replicated state.
async fn put<K: Kind>(
    state: &NodeState,
    caller: &RequestContext,
    name: Box<str>,
    definition: Definition,
    if_revision: Option<u64>,
) -> Result<Result<Put<K>, CommandError>, ApiError> {
    check_level(state, false)?;
    state.writes.seed_names(state.config.request_timeout).await.map_err(not_written)?;
    let (kind, definition) = (K::KIND, Box::new(definition));
    let command = Command::PutNamed { kind, name, definition, if_revision };
    let Written { outcome, applied_on, waited_ms } = write(state, caller, command).await?;
    match outcome {
        Outcome::Named(row) => {
            let applied_on = applied_on.iter().map(|node| node.0).collect();
            let record = shown::<K>(state, &row);
            Ok(Ok((row.revision, K::answer(record, applied_on, waited_ms))))
        }
        Outcome::Refused(error) => Ok(Err(error)),
        Outcome::Key(_) | Outcome::Put(_) | Outcome::Done => Err(internal()),
    }
}

fn rejected_by<K: Kind>(error: &CommandError) -> ApiError {
    if *error == CommandError::NotFound {
        return ApiError::new(ErrorCode::NotFound, K::UNKNOWN);
    }
    rejected(error)
}

fn internal() -> ApiError {
    ApiError::new(ErrorCode::Internal, "internal error")
}
