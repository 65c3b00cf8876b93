//! Lists: keys and the audit trail, newest first, a page at a time.

mod scan;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::request::Parts;
use axum::http::{Request, Response, StatusCode, Uri};
use fluxgate_api::error::ErrorCode;
use fluxgate_api::keys::{KeyList, ListQuery};
use fluxgate_api::text::Text;
use fluxgate_api::usage::{AuditEntry, AuditList, AuditQuery};
use fluxgate_engine::state::audit::{self, Action};
use fluxgate_engine::state::record::KeyEntry;
use fluxgate_node::state::NodeState;
use fluxgate_types::{ClusterMs, KeyId, Scope, caps};
use scan::Needle;
use serde::de::DeserializeOwned;

use crate::admin::keys::{actor_text, is_actor, shown, status};
use crate::admin::origin;
use crate::shared::auth::{Principal, authenticate};
use crate::shared::error::ApiError;
use crate::shared::respond;
use crate::shared::words::in_words;

/// Lines of the audit trail that are taken at one time.
const AUDIT_PIECE: usize = 1_024;
/// Every cursor begins so.
const CURSOR_PREFIX: &str = "c-";

pub(crate) fn query<T: DeserializeOwned>(parts: &Parts) -> Result<T, ApiError> {
    let read = |uri: &Uri| Query::<T>::try_from_uri(uri).map(|query| query.0);
    let said = |error: &QueryRejection| {
        let text = error.body_text();
        text.split_once(": ").map_or(text.clone(), |(_, said)| said.to_owned())
    };
    read(&parts.uri).map_err(|error| {
        // Which of them it is: the one that cannot be read by itself either.
        let pairs = parts.uri.query().unwrap_or_default().split('&');
        let alone = pairs.map(|pair| {
            let uri = Uri::try_from(format!("/?{pair}")).ok();
            let said = uri.and_then(|uri| read(&uri).err()).map(|error| said(&error))?;
            let name = pair.split('=').next().unwrap_or_default();
            let said =
                said.strip_prefix(name).and_then(|said| said.strip_prefix(": ")).unwrap_or(&said);
            Some(in_words(name, said))
        });
        let message = alone.flatten().next().unwrap_or_else(|| in_words("", &said(&error)));
        ApiError::new(ErrorCode::InvalidRequest, message)
    })
}

fn page_size(asked: Option<usize>) -> Result<usize, ApiError> {
    match asked.unwrap_or(caps::LIST_PAGE_DEFAULT) {
        size @ 1..=caps::LIST_PAGE_MAX => Ok(size),
        _ => {
            let message = format!("limit: must be 1 to {}", caps::LIST_PAGE_MAX);
            Err(ApiError::new(ErrorCode::InvalidRequest, message))
        }
    }
}

fn cursor(asked: Option<&str>) -> Result<Option<u64>, ApiError> {
    let wrong = || ApiError::new(ErrorCode::InvalidRequest, "cursor: not one that this list gave");
    let place = |text: &str| u64::from_str_radix(text.strip_prefix(CURSOR_PREFIX)?, 16).ok();
    asked.map(|text| place(text).ok_or_else(wrong)).transpose()
}

fn cursor_text(place: u64) -> String {
    format!("{CURSOR_PREFIX}{place:x}")
}

/// `GET /v1/keys`.
pub(crate) async fn list(
    State(state): State<Arc<NodeState>>,
    request: Request<Body>,
) -> Response<Body> {
    let (parts, _) = request.into_parts();
    let listed = list_keys(&state, &parts).await;
    listed.unwrap_or_else(|refused| refused.into_response(&state))
}

async fn list_keys(state: &NodeState, parts: &Parts) -> Result<Response<Body>, ApiError> {
    let who = authenticate(state, &parts.headers, Scope::Admin).await?;
    let asked: ListQuery = query(parts)?;
    if asked.export && asked.cursor.is_none() {
        let details = "export of key records".to_owned();
        state.note(who.actor(), origin(parts), Action::Exported, details).await;
    }
    Ok(respond::json(StatusCode::OK, &find_keys(state, &who, &asked).await?))
}

/// A page of the keys that an administrator manages.
pub(crate) async fn find_keys(
    state: &NodeState,
    who: &Principal,
    asked: &ListQuery,
) -> Result<KeyList, ApiError> {
    let size = page_size(asked.limit)?;
    if asked.search.as_ref().is_some_and(|s| s.chars().count() > caps::SEARCH_CHARS_MAX) {
        let message = format!("search: at most {} characters", caps::SEARCH_CHARS_MAX);
        return Err(ApiError::new(ErrorCode::InvalidRequest, message));
    }
    let before = match cursor(asked.cursor.as_deref())? {
        Some(place) => usize::try_from(place).unwrap_or(usize::MAX),
        None => usize::MAX,
    };
    let search = asked.search.as_deref().map(Needle::new);
    let now = state.now();
    let fits = |entry: &KeyEntry| {
        let record = &entry.record;
        let owner = asked.owner.as_ref().is_none_or(|owner| record.owner.as_deref() == Some(owner));
        let status = asked.status.is_none_or(|wanted| status(record.status(now)) == wanted);
        let named = |needle: &Needle| needle.is_in(record);
        owner && status && who.manages(record) && search.as_ref().is_none_or(named)
    };
    let found = scan::newest(&state.shared.table, before, size + 1, fits).await;
    // One more than is shown begins the next page.
    let next_cursor = found.get(size).map(|next| cursor_text(u64::from(next.record.seq) + 1));
    let keys = found.iter().take(size).map(|entry| shown(state, entry)).collect();
    Ok(KeyList { keys, next_cursor })
}

/// `GET /v1/audit`.
pub(crate) async fn audit(
    State(state): State<Arc<NodeState>>,
    request: Request<Body>,
) -> Response<Body> {
    let (parts, _) = request.into_parts();
    let listed = list_audit(&state, &parts).await;
    listed.unwrap_or_else(|refused| refused.into_response(&state))
}

async fn list_audit(state: &NodeState, parts: &Parts) -> Result<Response<Body>, ApiError> {
    let who = authenticate(state, &parts.headers, Scope::Admin).await?;
    let asked: AuditQuery = query(parts)?;
    let is_known = |action: &String| Action::ALL.iter().any(|known| known.as_str() == action);
    if asked.action.as_ref().is_some_and(|action| !is_known(action)) {
        let known = Action::ALL.map(|action| format!("`{}`", action.as_str())).join(", ");
        let message = format!("action: must be one of {known}");
        return Err(ApiError::new(ErrorCode::InvalidRequest, message));
    }
    let is_actor = |actor: &String| {
        matches!(actor.as_str(), "operator" | "system") || actor.parse::<KeyId>().is_ok()
    };
    if asked.actor.as_ref().is_some_and(|actor| !is_actor(actor)) {
        let message = "actor: must be `operator`, `system` or the id of a key";
        return Err(ApiError::new(ErrorCode::InvalidRequest, message));
    }
    let during = During::default();
    Ok(respond::json(StatusCode::OK, &find_audit(state, &who, &asked, during).await?))
}

/// A span of time, both ends included.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct During {
    /// From here.
    pub(crate) since: Option<ClusterMs>,
    /// To here.
    pub(crate) until: Option<ClusterMs>,
}

/// A page of the audit entries that an administrator may see.
///
/// The trail is looked at in pieces: whoever writes to it waits for none of them, and for the lock
/// only as long as it takes to copy the places of one.
pub(crate) async fn find_audit(
    state: &NodeState,
    who: &Principal,
    asked: &AuditQuery,
    during: During,
) -> Result<AuditList, ApiError> {
    let size = page_size(asked.limit)?;
    let before = cursor(asked.cursor.as_deref())?.unwrap_or(u64::MAX);
    let visible = |entry: &audit::AuditEntry| match (who, entry.key_id) {
        (Principal::Operator, _) => true,
        (Principal::Key { .. }, Some(id)) => {
            state.shared.table.with(&id, |key| who.manages(&key.record)).unwrap_or(false)
        }
        (Principal::Key { .. }, None) => false,
    };
    let wanted = |entry: &audit::AuditEntry| {
        let lists = |id: KeyId| {
            // A purge names the keys that it erased.
            entry.action == Action::Erased && entry.details.contains(&id.to_string())
        };
        let key = asked.key_id.is_none_or(|id| entry.key_id == Some(id.0) || lists(id.0));
        let action = asked.action.as_ref().is_none_or(|action| entry.action.as_str() == action);
        let actor = asked.actor.as_ref().is_none_or(|actor| is_actor(entry.actor, actor));
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
    let next_cursor = found.get(size).map(|next| cursor_text(next.seq + 1));
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
