//! `GET /v1/keys`: the keys, newest first, a page at a time.

mod scan;

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::routing::get;
use fluxgate_api::error::ErrorCode;
use fluxgate_api::keys::{KeyList, ListQuery};
use fluxgate_api::paths;
use fluxgate_engine::state::audit::Action;
use fluxgate_engine::state::entry::KeyEntry;
use fluxgate_node::state::NodeState;
use fluxgate_types::caps;
use scan::Needle;

use super::keys::view::{key_view, status};
use super::paging::{cursor, page_size, place};
use crate::shared::auth::{Principal, RequestContext};
use crate::shared::error::ApiError;
use crate::shared::query::query;
use crate::shared::respond::Json;

pub(super) fn router() -> Router<Arc<NodeState>> {
    Router::new().route(paths::KEYS, get(list))
}

async fn list(
    State(state): State<Arc<NodeState>>,
    caller: RequestContext,
    uri: Uri,
) -> Result<Json<KeyList>, ApiError> {
    let request: ListQuery = query(&uri)?;
    if request.export && request.cursor.is_none() {
        let (actor, from) = (caller.principal.actor(), caller.client_addr_text());
        state.writes.note(actor, from, Action::Exported, "export of key records".to_owned()).await;
    }
    Ok(Json(StatusCode::OK, find_keys(&state, &caller.principal, &request).await?))
}

/// A page of the keys that an administrator manages.
pub(crate) async fn find_keys(
    state: &NodeState,
    principal: &Principal,
    request: &ListQuery,
) -> Result<KeyList, ApiError> {
    let size = page_size(request.limit)?;
    if request.search.as_ref().is_some_and(|s| s.chars().count() > caps::SEARCH_CHARS_MAX) {
        let message = format!("search: at most {} characters", caps::SEARCH_CHARS_MAX);
        return Err(ApiError::new(ErrorCode::InvalidRequest, message));
    }
    let before = match place(request.cursor.as_deref())? {
        Some(place) => usize::try_from(place).unwrap_or(usize::MAX),
        None => usize::MAX,
    };
    let search = request.search.as_deref().map(Needle::new);
    let now = state.now();
    let view = state.shared.view();
    let fits = |entry: &KeyEntry| {
        let owner =
            request.owner.as_ref().is_none_or(|owner| entry.owner() == Some(owner.as_str()));
        let status = request.status.is_none_or(|wanted| status(entry.status(now)) == wanted);
        let named = |needle: &Needle| needle.is_in(entry);
        owner && status && principal.manages(entry) && search.as_ref().is_none_or(named)
    };
    let found = scan::newest(&state.shared.table, before, size + 1, fits).await;
    // One more than fits on this page: the next page begins with it.
    let next_cursor = found.get(size).map(|next| cursor(u64::from(next.seq()) + 1));
    let keys =
        found.iter().take(size).map(|entry| key_view(&state.shared, &view, now, entry)).collect();
    Ok(KeyList { keys, next_cursor })
}
