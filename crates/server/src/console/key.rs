//! The page of one key, and what the pages of changes share.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{Response, StatusCode};
use axum::routing::get;
use fluxgate_api::error::{ErrorBody, ErrorCode};
use fluxgate_api::keys::KeyRecord;
use fluxgate_api::text::Text;
use fluxgate_api::usage::AuditQuery;
use fluxgate_console::chart::Bars;
use fluxgate_console::form::{FieldError, Fields};
use fluxgate_console::page::{KeyPage, Receipt, Section, render};
use fluxgate_engine::state::entry::KeyEntry;

use super::response::{EarlyResponse, PageResult};
use super::signed_in::{SentForm, SignedIn};
use super::{Console, Shared};
use crate::admin::audit::{During, find_audit};
use crate::admin::keys::change::managed;
use crate::admin::keys::view::shown;
use crate::admin::usage::usage_of;
use crate::shared::path::PathId;

/// Entries of the history on a key's page.
const HISTORY: usize = 10;

pub(super) fn router() -> Router<Arc<Console>> {
    Router::new().route("/console/keys/{id}", get(page))
}

/// `GET /console/keys/{id}`.
async fn page(State(console): Shared, signed_in: SignedIn, PathId(id): PathId) -> PageResult {
    let (entry, _) = console.key(&signed_in, &id)?;
    Ok(console.key_page(&signed_in, &entry, None).await)
}

/// A form about one key.
pub(super) struct KeyForm {
    pub(super) signed_in: SignedIn,
    pub(super) fields: Fields,
    pub(super) entry: KeyEntry,
    pub(super) record: KeyRecord,
}

impl Console {
    /// The key of a path, if the person manages it.
    pub(super) fn key(
        &self,
        signed_in: &SignedIn,
        id: &str,
    ) -> Result<(KeyEntry, KeyRecord), EarlyResponse> {
        let entry = managed(&self.state, &signed_in.caller.principal, id);
        let entry = entry.map_err(|error| self.error_page(signed_in, &error))?;
        let record = shown(&self.state, &entry);
        Ok((entry, record))
    }

    /// A form, with the key of its path.
    pub(super) fn key_form(&self, id: &str, form: SentForm) -> Result<KeyForm, EarlyResponse> {
        let SentForm { signed_in, fields } = form;
        let (entry, record) = self.key(&signed_in, id)?;
        Ok(KeyForm { signed_in, fields, entry, record })
    }

    /// The page of a key; `receipt` describes the change that was just made.
    pub(super) async fn key_page(
        &self,
        signed_in: &SignedIn,
        entry: &KeyEntry,
        receipt: Option<Receipt>,
    ) -> Response<Body> {
        let mut key = shown(&self.state, entry);
        let usage = usage_of(&self.state, entry).await;
        key.last_used_at = usage.last_used_at.max(key.last_used_at);
        let now = self.state.now();
        let periods: Vec<u64> = key.limits.iter().map(|limit| limit.period.ms).collect();
        let bars = usage.limits.iter().zip(periods).map(|(usage, ms)| Bars::new(usage, ms, now));
        let answered = usage.limits.first().map(|limit| limit.per_node.as_slice());
        let answered = answered.unwrap_or_default();
        let nodes = self.state.raft.status().nodes;
        let silent = nodes.keys().map(|node| node.0);
        let silent = silent.filter(|node| answered.iter().all(|known| known.node != *node));
        let query =
            AuditQuery { key_id: Some(key.id), limit: Some(HISTORY), ..AuditQuery::default() };
        let principal = &signed_in.caller.principal;
        let history = find_audit(&self.state, principal, &query, During::default());
        let history = history.await.unwrap_or_default();
        let mut frame = self.frame(Some(signed_in), &key.name, Section::Keys);
        if receipt.is_some() {
            frame.canonical = format!("/console/keys/{}", key.id);
        }
        let previous = entry.previous().map(|previous| previous.until);
        let page = KeyPage {
            frame,
            old_until: previous.filter(|until| *until > now).map(Text),
            usage: bars.collect(),
            silent: silent.collect(),
            has_more: history.next_cursor.is_some(),
            history: history.entries,
            receipt,
            key,
        };
        self.show(signed_in, StatusCode::OK, render(&page))
    }
}

/// The message with which a form is shown again; `None` if showing it again would not help.
pub(super) fn again_with(body: &ErrorBody) -> Option<FieldError> {
    if body.error == ErrorCode::InvalidRequest {
        return Some(FieldError::of_message(&body.message));
    }
    body.error.retryable().then(|| {
        let text = "The cluster takes no changes now. Nothing is lost: send it again.";
        FieldError { field: String::new(), message: format!("{text} ({})", body.message) }
    })
}
