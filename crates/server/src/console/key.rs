//! One key: its page, and what can be done to it.

use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::State;
use axum::http::request::Parts;
use axum::http::{Request, Response, StatusCode};
use fluxgate_api::error::{ErrorBody, ErrorCode};
use fluxgate_api::keys::{KeyRecord, RotateKey, UpdateKey};
use fluxgate_api::text::{Period, Text};
use fluxgate_api::usage::AuditQuery;
use fluxgate_console::chart::Bars;
use fluxgate_console::form::{FieldError, Fields, KeyForm, reads_alike};
use fluxgate_console::page::{
    EditPage, KeyPage, Receipt, RevokePage, RevokedPage, RotatePage, Section, render,
};
use fluxgate_engine::state::record::KeyEntry;

use super::keys::is_once;
use super::visit::{SignedIn, status_of};
use super::{Console, EarlyResponse, Shared};
use crate::admin::keys::change::{self, Guards};
use crate::admin::keys::{managed, shown};
use crate::admin::listing::{During, find_audit};
use crate::admin::usage::usage_of;
use crate::shared::path::PathId;

/// Entries of the history on a key's page.
const HISTORY: usize = 10;

/// Stands above a form whose key is no longer the one that it was filled in from.
const CHANGED_MEANWHILE: &str = "Somebody changed this key meanwhile, so nothing of yours was saved. \
    This is the key as it is now: make your change again.";

/// A form about one key, and who sent it.
pub(super) struct Sent {
    pub(super) visit: SignedIn,
    pub(super) fields: Fields,
    pub(super) entry: Arc<KeyEntry>,
    pub(super) record: KeyRecord,
}

impl Console {
    /// The key of a path, for whoever manages it.
    fn key(&self, visit: &SignedIn, id: &str) -> Result<(Arc<KeyEntry>, KeyRecord), EarlyResponse> {
        let entry = managed(&self.state, &visit.caller.who, id);
        let entry = entry.map_err(|refused| Box::new(self.refused(visit, refused)))?;
        let record = shown(&self.state, &entry);
        Ok((entry, record))
    }

    pub(super) async fn sent(
        &self,
        id: &str,
        request: Request<Body>,
    ) -> Result<(Sent, Parts), EarlyResponse> {
        let (parts, body) = request.into_parts();
        let (visit, fields) = self.enter_form(&parts, body).await?;
        let (entry, record) = self.key(&visit, id)?;
        Ok((Sent { visit, fields, entry, record }, parts))
    }

    async fn key_page(
        &self,
        visit: &SignedIn,
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
        let asked =
            AuditQuery { key_id: Some(key.id), limit: Some(HISTORY), ..AuditQuery::default() };
        let history = find_audit(&self.state, &visit.caller.who, &asked, During::default());
        let history = history.await.unwrap_or_default();
        let mut frame = self.frame(Some(visit), &key.name, Section::Keys);
        if receipt.is_some() {
            frame.canonical = format!("/console/keys/{}", key.id);
        }
        let previous = entry.record.previous.as_ref().map(|previous| previous.until);
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
        self.show(visit, StatusCode::OK, render(&page))
    }

    /// The key's page after a change, with where it holds.
    async fn changed(
        &self,
        sent: &Sent,
        what: &str,
        change: UpdateKey,
        guard: Option<u64>,
    ) -> Result<Response<Body>, crate::shared::error::ApiError> {
        let (id, caller) = (sent.entry.record.id, &sent.visit.caller);
        let begun = Instant::now();
        let written = change::update(&self.state, caller, id, change, guard).await?;
        let receipt = Receipt::new(what, &written, begun.elapsed());
        let entry = self.state.shared.table.get(&id).unwrap_or_else(|| Arc::clone(&sent.entry));
        Ok(self.key_page(&sent.visit, &entry, Some(receipt)).await)
    }

    async fn switch(&self, id: &str, request: Request<Body>, on: bool) -> Response<Body> {
        let sent = match self.sent(id, request).await {
            Ok((sent, _)) => sent,
            Err(turned) => return *turned,
        };
        let change = UpdateKey { enabled: Some(on), ..UpdateKey::default() };
        let what = if on { "Enabled" } else { "Disabled" };
        let changed = self.changed(&sent, what, change, None).await;
        changed.unwrap_or_else(|refused| self.refused(&sent.visit, refused))
    }

    fn edit_page(
        &self,
        visit: &SignedIn,
        key: KeyRecord,
        form: KeyForm,
        error: Option<FieldError>,
    ) -> Response<Body> {
        let status = if error.is_some() { StatusCode::BAD_REQUEST } else { StatusCode::OK };
        let frame = self.frame(Some(visit), &format!("Edit {}", key.name), Section::Keys);
        self.show(visit, status, render(&EditPage { frame, key, form, error }))
    }

    async fn save(
        &self,
        id: &str,
        request: Request<Body>,
    ) -> Result<Response<Body>, EarlyResponse> {
        let (sent, _) = self.sent(id, request).await?;
        let form = KeyForm::read(&sent.fields);
        let Ok(guard) = form.revision.parse() else {
            let error =
                FieldError::of_message("The form was incomplete. This is the key as it is.");
            let form = KeyForm::of(&sent.record);
            return Ok(self.edit_page(&sent.visit, sent.record, form, Some(error)));
        };
        let again = |error| {
            Box::new(self.edit_page(&sent.visit, sent.record.clone(), form.clone(), Some(error)))
        };
        let change = form.update(self.state.now(), &sent.record).map_err(again)?;
        self.changed(&sent, "Saved", change, Some(guard)).await.map_err(|refused| {
            let body = refused.body();
            let mut turned = if let Some(error) = again_with(&body) {
                again(error)
            } else if body.error == ErrorCode::PreconditionFailed {
                let now = self.key(&sent.visit, id).map(|(_, record)| record);
                let record = now.unwrap_or_else(|_| sent.record.clone());
                let error = FieldError::of_message(CHANGED_MEANWHILE);
                let form = KeyForm::of(&record);
                Box::new(self.edit_page(&sent.visit, record, form, Some(error)))
            } else {
                return Box::new(self.refused(&sent.visit, refused));
            };
            *turned.status_mut() = status_of(&body);
            turned
        })
    }

    fn rotate_page(&self, visit: &SignedIn, key: KeyRecord, error: &str) -> Response<Body> {
        let status = if error.is_empty() { StatusCode::OK } else { StatusCode::BAD_REQUEST };
        let frame = self.frame(Some(visit), &format!("Rotate {}", key.name), Section::Keys);
        let page = RotatePage { frame, key, once: Self::once(), error: error.to_owned() };
        self.show(visit, status, render(&page))
    }

    async fn rotate(
        &self,
        id: &str,
        request: Request<Body>,
    ) -> Result<Response<Body>, EarlyResponse> {
        let (sent, parts) = self.sent(id, request).await?;
        let grace: Option<Period> = sent.fields.get("grace").parse().ok();
        let once = sent.fields.given("once").filter(|once| is_once(once));
        let (Some(grace), Some(once)) = (grace, once) else {
            let error = "Choose how long the old secret stays valid.";
            return Err(Box::new(self.rotate_page(&sent.visit, sent.record, error)));
        };
        let guards = Guards { if_revision: None, idempotency_key: Some(once) };
        // The page has said what that ends.
        let asked = RotateKey { grace: Some(grace), end_previous: Some(true) };
        let (caller, entry) = (&sent.visit.caller, &sent.entry);
        let begun = Instant::now();
        let rotated = change::rotate(&self.state, caller, entry, asked, guards).await;
        let rotated = rotated.map_err(|refused| Box::new(self.refused(&sent.visit, refused)))?;
        let took = begun.elapsed();
        let grace = if grace.ms == 0 { String::new() } else { grace_text(grace.ms) };
        Ok(self.show_key(&sent.visit, &parts, rotated, took, Some(grace)))
    }

    fn revoke_page(&self, visit: &SignedIn, key: KeyRecord, error: &str) -> Response<Body> {
        let status = if error.is_empty() { StatusCode::OK } else { StatusCode::BAD_REQUEST };
        let frame = self.frame(Some(visit), &format!("Revoke {}", key.name), Section::Keys);
        let page = RevokePage { frame, key, error: error.to_owned() };
        self.show(visit, status, render(&page))
    }

    async fn revoke(
        &self,
        id: &str,
        request: Request<Body>,
    ) -> Result<Response<Body>, EarlyResponse> {
        let (sent, _) = self.sent(id, request).await?;
        if !reads_alike(sent.fields.get("confirm"), &sent.record.name) {
            let error = "This is not the key’s name. Nothing was changed.";
            return Err(Box::new(self.revoke_page(&sent.visit, sent.record, error)));
        }
        let (id, caller) = (sent.entry.record.id, &sent.visit.caller);
        let begun = Instant::now();
        let written = change::revoke(&self.state, caller, id, None).await;
        let written = written.map_err(|refused| Box::new(self.refused(&sent.visit, refused)))?;
        let receipt = Receipt::new("Revoked", &written, begun.elapsed());
        let nodes = self.state.raft.status().nodes;
        let missing = nodes.keys().map(|node| node.0).filter(|node| !receipt.nodes.contains(node));
        let mut frame = self.frame(Some(&sent.visit), "Revoked", Section::Keys);
        frame.canonical = format!("/console/keys/{id}");
        let page = RevokedPage { frame, key: written.record, missing: missing.collect(), receipt };
        Ok(self.show(&sent.visit, StatusCode::OK, render(&page)))
    }

    /// A page about one key that a GET asks for.
    pub(super) fn about(
        &self,
        id: &str,
        request: Request<Body>,
        page: impl FnOnce(&SignedIn, KeyRecord) -> Response<Body>,
    ) -> Response<Body> {
        let (parts, _) = request.into_parts();
        let asked = self.enter(&parts).and_then(|visit| {
            let (_, record) = self.key(&visit, id)?;
            Ok(page(&visit, record))
        });
        asked.unwrap_or_else(|turned| *turned)
    }
}

/// What stands above or within a form that is shown again; none: it would be of no use.
pub(super) fn again_with(body: &ErrorBody) -> Option<FieldError> {
    if body.error == ErrorCode::InvalidRequest {
        return Some(FieldError::of_message(&body.message));
    }
    let is_for_now = matches!(body.error, ErrorCode::NoLeader | ErrorCode::Unavailable);
    is_for_now.then(|| {
        let text = "The cluster takes no changes now. Nothing is lost: send it again.";
        FieldError { field: String::new(), message: format!("{text} ({})", body.message) }
    })
}

/// A duration in the largest unit that fits.
fn grace_text(ms: u64) -> String {
    let (count, unit) = match ms / 1_000 {
        s if s % 86_400 == 0 => (s / 86_400, "day"),
        s if s % 3_600 == 0 => (s / 3_600, "hour"),
        s => (s, "second"),
    };
    if count == 1 { format!("one {unit}") } else { format!("{count} {unit}s") }
}

/// `GET /console/keys/{id}`.
pub(super) async fn page(
    State(console): Shared,
    PathId(id): PathId,
    request: Request<Body>,
) -> Response<Body> {
    let (parts, _) = request.into_parts();
    let asked = async {
        let visit = console.enter(&parts)?;
        let (entry, _) = console.key(&visit, &id)?;
        Ok(console.key_page(&visit, &entry, None).await)
    };
    asked.await.unwrap_or_else(|turned: EarlyResponse| *turned)
}

/// `GET /console/keys/{id}/edit`.
pub(super) async fn edit(
    State(console): Shared,
    PathId(id): PathId,
    request: Request<Body>,
) -> Response<Body> {
    console.about(&id, request, |visit, key| {
        let form = KeyForm::of(&key);
        console.edit_page(visit, key, form, None)
    })
}

/// `POST /console/keys/{id}/edit`.
pub(super) async fn save(
    State(console): Shared,
    PathId(id): PathId,
    request: Request<Body>,
) -> Response<Body> {
    console.save(&id, request).await.unwrap_or_else(|turned| *turned)
}

/// `POST /console/keys/{id}/enable`.
pub(super) async fn enable(
    State(console): Shared,
    PathId(id): PathId,
    request: Request<Body>,
) -> Response<Body> {
    console.switch(&id, request, true).await
}

/// `POST /console/keys/{id}/disable`.
pub(super) async fn disable(
    State(console): Shared,
    PathId(id): PathId,
    request: Request<Body>,
) -> Response<Body> {
    console.switch(&id, request, false).await
}

/// `GET /console/keys/{id}/rotate`.
pub(super) async fn ask_rotate(
    State(console): Shared,
    PathId(id): PathId,
    request: Request<Body>,
) -> Response<Body> {
    console.about(&id, request, |visit, key| console.rotate_page(visit, key, ""))
}

/// `POST /console/keys/{id}/rotate`.
pub(super) async fn rotate(
    State(console): Shared,
    PathId(id): PathId,
    request: Request<Body>,
) -> Response<Body> {
    console.rotate(&id, request).await.unwrap_or_else(|turned| *turned)
}

/// `GET /console/keys/{id}/revoke`.
pub(super) async fn ask_revoke(
    State(console): Shared,
    PathId(id): PathId,
    request: Request<Body>,
) -> Response<Body> {
    console.about(&id, request, |visit, key| console.revoke_page(visit, key, ""))
}

/// `POST /console/keys/{id}/revoke`.
pub(super) async fn revoke(
    State(console): Shared,
    PathId(id): PathId,
    request: Request<Body>,
) -> Response<Body> {
    console.revoke(&id, request).await.unwrap_or_else(|turned| *turned)
}
