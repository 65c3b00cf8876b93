//! The audit trail: a page, and an export of all entries as a file.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::routing::get;
use bytes::Bytes;
use fluxgate_api::Time;
use fluxgate_api::error::ErrorCode;
use fluxgate_api::usage::AuditQuery;
use fluxgate_console::export::Format;
use fluxgate_console::form::Fields;
use fluxgate_console::page::{AuditFilter, AuditPage, Section, render};
use fluxgate_engine::state::audit::Action;
use fluxgate_node::state::NodeState;
use fluxgate_peer::process;
use fluxgate_types::{ClusterMs, caps};
use tokio::sync::mpsc;

use super::keys::query;
use super::response::PageResult;
use super::signed_in::SignedIn;
use super::{Console, Shared};
use crate::admin::audit::{During, find_audit};
use crate::shared::auth::Principal;
use crate::shared::error::ApiError;
use crate::shared::pipe::Pipe;
use crate::shared::respond;

/// Pieces of an export that wait for a slow reader.
const PIECES_MAX: usize = 4;
/// A reader that takes no piece for this long is considered gone.
const STALLED: Duration = Duration::from_secs(60);

pub(super) fn router() -> Router<Arc<Console>> {
    Router::new().route("/console/audit", get(page)).route("/console/audit/export", get(export))
}

fn filter_of(query: &Fields) -> AuditFilter {
    let text = |name| query.get(name).to_owned();
    AuditFilter {
        key: text("key"),
        action: text("action"),
        actor: text("actor"),
        since: text("since"),
        until: text("until"),
        since_utc: text("since_utc"),
        until_utc: text("until_utc"),
        cursor: text("cursor"),
    }
}

/// A time in UTC: as the script wrote it or, without the script, as the person typed it.
fn moment(utc: &str, typed: &str, end: &str) -> Result<Option<ClusterMs>, String> {
    if utc.is_empty() && typed.is_empty() {
        return Ok(None);
    }
    let typed = format!("{typed}:{end}Z");
    let text = if utc.is_empty() { &typed } else { utc };
    let at: Time = text.parse().map_err(|_| "The time cannot be read.".to_owned())?;
    Ok(Some(at.0))
}

/// The query for a filter.
fn query_of(filter: &AuditFilter) -> Result<(AuditQuery, During), String> {
    let given = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let key_id = given(&filter.key).map(|key| key.parse());
    let key_id =
        key_id.transpose().map_err(|_| "A key id looks like key_Qm2xK9dA3f01.".to_owned())?;
    let during = During {
        since: moment(&filter.since_utc, &filter.since, "00")?,
        // The end of the minute that the person typed.
        until: moment(&filter.until_utc, &filter.until, "00")?.map(|at| at + 59_999),
    };
    let query = AuditQuery {
        key_id,
        action: given(&filter.action),
        actor: given(&filter.actor),
        limit: Some(caps::LIST_PAGE_DEFAULT),
        cursor: given(&filter.cursor),
    };
    Ok((query, during))
}

/// `GET /console/audit`.
async fn page(State(console): Shared, signed_in: SignedIn, uri: Uri) -> PageResult {
    let query = query(&uri).map_err(|error| console.error_page(&signed_in, &error))?;
    let filter = filter_of(&query);
    let found = match query_of(&filter) {
        Ok((query, during)) => {
            let principal = &signed_in.caller.principal;
            let found = find_audit(&console.state, principal, &query, during).await;
            found.map_err(|error| error.body().message.into_owned())
        }
        Err(why) => Err(why),
    };
    let (found, error) = match found {
        Ok(found) => (found, String::new()),
        Err(error) => (fluxgate_api::usage::AuditList::default(), error),
    };
    let status = if error.is_empty() { StatusCode::OK } else { StatusCode::BAD_REQUEST };
    let page = AuditPage {
        frame: console.frame(Some(&signed_in), "Audit log", Section::Audit),
        filter,
        actions: Action::ALL.map(Action::as_str).to_vec(),
        entries: found.entries,
        next: found.next_cursor,
        error,
    };
    Ok(console.show(&signed_in, status, render(&page)))
}

/// `GET /console/audit/export`.
async fn export(State(console): Shared, signed_in: SignedIn, uri: Uri) -> PageResult {
    let rejected = |error: ApiError| console.error_page(&signed_in, &error);
    let query = query(&uri).map_err(rejected)?;
    let filter = AuditFilter { cursor: String::new(), ..filter_of(&query) };
    let format = Format::from_name(query.get("format")).unwrap_or(Format::JsonLines);
    let (mut query, during) =
        query_of(&filter).map_err(|why| rejected(ApiError::new(ErrorCode::InvalidRequest, why)))?;
    query.limit = Some(caps::EXPORT_PIECE_ENTRIES);
    let caller = signed_in.caller;
    let details = "export of the audit trail".to_owned();
    let (actor, from) = (caller.principal.actor(), caller.client_addr_text());
    console.state.writes.note(actor, from, Action::Exported, details).await;
    let (pieces, pipe) = mpsc::channel(PIECES_MAX);
    let (state, principal) = (Arc::clone(&console.state), caller.principal);
    tokio::spawn(process::bind(async move {
        write(&state, &principal, query, during, format, &pieces).await;
    }));
    let body = Body::new(Pipe::new(pipe));
    let mut response = respond::bytes(StatusCode::OK, format.media_type(), body);
    let name = format!("attachment; filename=\"{}\"", format.file_name());
    if let Ok(name) = HeaderValue::try_from(name) {
        response.headers_mut().insert(header::CONTENT_DISPOSITION, name);
    }
    Ok(response)
}

/// Sends page after page, as fast as the reader takes them.
async fn write(
    state: &NodeState,
    principal: &Principal,
    mut query: AuditQuery,
    during: During,
    format: Format,
    pieces: &mpsc::Sender<Bytes>,
) {
    let mut piece = format.head().to_owned();
    loop {
        let Ok(found) = find_audit(state, principal, &query, during).await else { return };
        found.entries.iter().for_each(|entry| piece += &format.line(entry));
        query.cursor = found.next_cursor;
        let sent = tokio::time::timeout(STALLED, pieces.send(std::mem::take(&mut piece).into()));
        if !matches!(sent.await, Ok(Ok(()))) || query.cursor.is_none() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_minute_of_a_filter_is_included_whole() {
        let filter = AuditFilter {
            since: "2024-01-20T11:20".to_owned(),
            until: "2024-01-20T11:20".to_owned(),
            ..AuditFilter::default()
        };
        let (_, during) = query_of(&filter).unwrap();
        assert_eq!(during.since, Some(ClusterMs(1_705_749_600_000)));
        assert_eq!(during.until, Some(ClusterMs(1_705_749_659_999)));
        let wrong = AuditFilter { key: "x".to_owned(), ..AuditFilter::default() };
        assert!(query_of(&wrong).is_err());
    }
}
