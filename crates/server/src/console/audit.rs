//! The audit trail: a page, and all of it as a file.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::request::Parts;
use axum::http::{HeaderValue, Request, Response, StatusCode, header};
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
use super::visit::SignedIn;
use super::{Console, EarlyResponse, Shared};
use crate::admin::listing::{During, find_audit};
use crate::shared::auth::Principal;
use crate::shared::error::ApiError;
use crate::shared::pipe::Pipe;

/// Pieces of an export that wait for a slow reader.
const PIECES_MAX: usize = 4;
/// A reader that takes nothing for so long has gone.
const STALLED: Duration = Duration::from_secs(60);

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

/// A time as the script wrote it, or else as it was typed, in UTC.
fn moment(utc: &str, typed: &str, end: &str) -> Result<Option<ClusterMs>, String> {
    if utc.is_empty() && typed.is_empty() {
        return Ok(None);
    }
    let typed = format!("{typed}:{end}Z");
    let text = if utc.is_empty() { &typed } else { utc };
    let at: Time = text.parse().map_err(|_| "The time cannot be read.".to_owned())?;
    Ok(Some(at.0))
}

/// What a filter asks for.
fn asked(filter: &AuditFilter) -> Result<(AuditQuery, During), String> {
    let given = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let key_id = given(&filter.key).map(|key| key.parse());
    let key_id =
        key_id.transpose().map_err(|_| "A key id looks like key_Qm2xK9dA3f01.".to_owned())?;
    let during = During {
        since: moment(&filter.since_utc, &filter.since, "00")?,
        // The whole minute that was named.
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
pub(super) async fn page(State(console): Shared, request: Request<Body>) -> Response<Body> {
    let (parts, _) = request.into_parts();
    console.audit(&parts).await.unwrap_or_else(|turned| *turned)
}

impl Console {
    async fn audit(&self, parts: &Parts) -> Result<Response<Body>, EarlyResponse> {
        let visit = self.enter(parts)?;
        let query = query(parts).map_err(|refused| Box::new(self.refused(&visit, refused)))?;
        let filter = filter_of(&query);
        let found = match asked(&filter) {
            Ok((query, during)) => find_audit(&self.state, &visit.caller.who, &query, during)
                .await
                .map_err(|refused| refused.body().message),
            Err(why) => Err(why),
        };
        let (found, error) = match found {
            Ok(found) => (found, String::new()),
            Err(error) => (fluxgate_api::usage::AuditList::default(), error),
        };
        let status = if error.is_empty() { StatusCode::OK } else { StatusCode::BAD_REQUEST };
        let page = AuditPage {
            frame: self.frame(Some(&visit), "Audit log", Section::Audit),
            filter,
            actions: Action::ALL.map(Action::as_str).to_vec(),
            entries: found.entries,
            next: found.next_cursor,
            error,
        };
        Ok(self.show(&visit, status, render(&page)))
    }
}

/// `GET /console/audit/export`.
pub(super) async fn export(State(console): Shared, request: Request<Body>) -> Response<Body> {
    let (parts, _) = request.into_parts();
    let visit: SignedIn = match console.enter(&parts) {
        Ok(visit) => visit,
        Err(turned) => return *turned,
    };
    let query = match query(&parts) {
        Ok(query) => query,
        Err(refused) => return console.refused(&visit, refused),
    };
    let filter = AuditFilter { cursor: String::new(), ..filter_of(&query) };
    let format = Format::from_name(query.get("format")).unwrap_or(Format::JsonLines);
    let (mut query, during) = match asked(&filter) {
        Ok(asked) => asked,
        Err(why) => {
            return console.refused(&visit, ApiError::new(ErrorCode::InvalidRequest, why));
        }
    };
    query.limit = Some(caps::EXPORT_PIECE_ENTRIES);
    let (actor, from) = (visit.caller.who.actor(), visit.caller.from.clone());
    let details = "export of the audit trail".to_owned();
    console.state.note(actor, from, Action::Exported, details).await;
    let (pieces, pipe) = mpsc::channel(PIECES_MAX);
    let (state, who) = (Arc::clone(&console.state), visit.caller.who);
    tokio::spawn(process::bind(async move {
        write(&state, &who, query, during, format, &pieces).await;
    }));
    let mut response = Response::new(Body::new(Pipe::new(pipe)));
    let media_type = HeaderValue::from_static(format.media_type());
    response.headers_mut().insert(header::CONTENT_TYPE, media_type);
    let name = format!("attachment; filename=\"{}\"", format.file_name());
    if let Ok(name) = HeaderValue::try_from(name) {
        response.headers_mut().insert(header::CONTENT_DISPOSITION, name);
    }
    response
}

/// Writes page after page, as fast as the reader takes them.
async fn write(
    state: &NodeState,
    who: &Principal,
    mut query: AuditQuery,
    during: During,
    format: Format,
    pieces: &mpsc::Sender<Bytes>,
) {
    let mut piece = format.head().to_owned();
    loop {
        let Ok(found) = find_audit(state, who, &query, during).await else { return };
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
    fn a_minute_is_meant_whole() {
        let filter = AuditFilter {
            since: "2024-01-20T11:20".to_owned(),
            until: "2024-01-20T11:20".to_owned(),
            ..AuditFilter::default()
        };
        let (_, during) = asked(&filter).unwrap();
        assert_eq!(during.since, Some(ClusterMs(1_705_749_600_000)));
        assert_eq!(during.until, Some(ClusterMs(1_705_749_659_999)));
        let wrong = AuditFilter { key: "x".to_owned(), ..AuditFilter::default() };
        assert!(asked(&wrong).is_err());
    }
}
