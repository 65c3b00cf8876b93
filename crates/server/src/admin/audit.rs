//! `GET /v1/audit`: the audit trail, newest first, a page at a time.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::routing::get;
use fluxgate_api::error::ErrorCode;
use fluxgate_api::paths;
use fluxgate_api::text::Text;
use fluxgate_api::usage::{AuditEntry, AuditList, AuditQuery};
use fluxgate_engine::state::audit::{self, Action};
use fluxgate_node::state::NodeState;
use fluxgate_types::{ClusterMs, KeyId};

use super::keys::view::{actor_text, is_actor};
use super::paging::{cursor, page_size, place};
use crate::shared::auth::{Principal, RequestContext};
use crate::shared::error::ApiError;
use crate::shared::query::query;
use crate::shared::respond::Json;

/// Entries of the audit trail that are copied under its lock at a time.
const AUDIT_PIECE: usize = 1_024;

pub(super) fn router() -> Router<Arc<NodeState>> {
    Router::new().route(paths::AUDIT, get(list))
}

async fn list(
    State(state): State<Arc<NodeState>>,
    caller: RequestContext,
    uri: Uri,
) -> Result<Json<AuditList>, ApiError> {
    let request: AuditQuery = query(&uri)?;
    let is_known = |action: &String| Action::ALL.iter().any(|known| known.as_str() == action);
    if request.action.as_ref().is_some_and(|action| !is_known(action)) {
        let known = Action::ALL.map(|action| format!("`{}`", action.as_str())).join(", ");
        let message = format!("action: must be one of {known}");
        return Err(ApiError::new(ErrorCode::InvalidRequest, message));
    }
    let is_actor = |actor: &String| {
        matches!(actor.as_str(), "operator" | "system") || actor.parse::<KeyId>().is_ok()
    };
    if request.actor.as_ref().is_some_and(|actor| !is_actor(actor)) {
        let message = "actor: must be `operator`, `system` or the id of a key";
        return Err(ApiError::new(ErrorCode::InvalidRequest, message));
    }
    let during = During::default();
    let found = find_audit(&state, &caller.principal, &request, during).await?;
    Ok(Json(StatusCode::OK, found))
}

/// A span of time, both ends included.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct During {
    /// The first moment.
    pub(crate) since: Option<ClusterMs>,
    /// The last moment.
    pub(crate) until: Option<ClusterMs>,
}

/// A page of the audit entries that an administrator may see.
///
/// Reads the trail in pieces, so that a writer waits for its lock only while one piece is copied.
pub(crate) async fn find_audit(
    state: &NodeState,
    principal: &Principal,
    request: &AuditQuery,
    during: During,
) -> Result<AuditList, ApiError> {
    let size = page_size(request.limit)?;
    let before = place(request.cursor.as_deref())?.unwrap_or(u64::MAX);
    let visible = |entry: &audit::AuditEntry| match (principal, entry.key_id) {
        (Principal::Operator, _) => true,
        (Principal::Key { .. }, Some(id)) => {
            state.shared.table.with(&id, |key| principal.manages(key)).unwrap_or(false)
        }
        (Principal::Key { .. }, None) => false,
    };
    let wanted = |entry: &audit::AuditEntry| {
        let lists = |id: KeyId| {
            // A purge names the keys that it erased.
            entry.action == Action::Erased && entry.details.contains(&id.to_string())
        };
        let key = request.key_id.is_none_or(|id| entry.key_id == Some(id.0) || lists(id.0));
        let action = request.action.as_ref().is_none_or(|action| entry.action.as_str() == action);
        let actor = request.actor.as_ref().is_none_or(|actor| is_actor(entry.actor, actor));
        let since = during.since.is_none_or(|since| entry.at >= since);
        let until = during.until.is_none_or(|until| entry.at <= until);
        key && action && actor && since && until
    };
    let mut found: Vec<Arc<audit::AuditEntry>> = Vec::new();
    let mut reached = before;
    while found.len() <= size {
        let piece = state.shared.with_audit(|log| log.page(reached, AUDIT_PIECE));
        let Some(oldest) = piece.last() else { break };
        reached = oldest.seq;
        found.extend(piece.into_iter().filter(|entry| wanted(entry) && visible(entry)));
        tokio::task::yield_now().await;
    }
    found.truncate(size + 1);
    let next_cursor = found.get(size).map(|next| cursor(next.seq + 1));
    let entry = |entry: &Arc<audit::AuditEntry>| AuditEntry {
        seq: entry.seq,
        at: Text(entry.at),
        action: entry.action.as_str().to_owned(),
        key_id: entry.key_id.map(Text),
        actor: actor_text(entry.actor),
        from: entry.from.as_ref().map(ToString::to_string),
        details: [("summary".to_owned(), entry.details.to_string())].into(),
    };
    let entries = found.iter().take(size).map(entry).collect();
    Ok(AuditList { entries, next_cursor })
}
