//! Changes of a key: its fields, and whether it is enabled.

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{Response, StatusCode};
use axum::routing::{get, post};
use fluxgate_api::error::ErrorCode;
use fluxgate_api::keys::{KeyRecord, UpdateKey};
use fluxgate_console::form::{self, FieldError};
use fluxgate_console::page::{EditPage, Receipt, Section, render};

use super::key::{KeyForm, again_with};
use super::page::status_of;
use super::response::PageResult;
use super::signed_in::{SentForm, SignedIn};
use super::{Console, Shared};
use crate::admin::keys::change;
use crate::shared::error::ApiError;
use crate::shared::path::PathId;

/// The message above a form whose key has changed since the form was opened.
const CHANGED_MEANWHILE: &str = "Somebody changed this key meanwhile, so nothing of yours was saved. \
    This is the key as it is now: make your change again.";

pub(super) fn router() -> Router<Arc<Console>> {
    Router::new()
        .route("/console/keys/{id}/edit", get(edit).post(save))
        .route("/console/keys/{id}/enable", post(enable))
        .route("/console/keys/{id}/disable", post(disable))
}

/// `GET /console/keys/{id}/edit`.
async fn edit(State(console): Shared, signed_in: SignedIn, PathId(id): PathId) -> PageResult {
    let (_, record) = console.key(&signed_in, &id)?;
    let form = form::KeyForm::of(&record);
    Ok(console.edit_page(&signed_in, record, form, None))
}

/// `POST /console/keys/{id}/edit`.
async fn save(State(console): Shared, PathId(id): PathId, form: SentForm) -> PageResult {
    let sent = console.key_form(&id, form)?;
    let form = form::KeyForm::read(&sent.fields);
    let Ok(revision) = form.revision.parse() else {
        let error = FieldError::of_message("The form was incomplete. This is the key as it is.");
        let form = form::KeyForm::of(&sent.record);
        return Ok(console.edit_page(&sent.signed_in, sent.record, form, Some(error)));
    };
    let again =
        |error| console.edit_page(&sent.signed_in, sent.record.clone(), form.clone(), Some(error));
    let change = form.update(console.state.now(), &sent.record).map_err(again)?;
    let error = match console.changed(&sent, "Saved", change, Some(revision)).await {
        Ok(page) => return Ok(page),
        Err(error) => error,
    };
    let body = error.body();
    let mut page = if let Some(error) = again_with(&body) {
        again(error)
    } else if body.error == ErrorCode::PreconditionFailed {
        let now = console.key(&sent.signed_in, &id).map(|(_, record)| record);
        let record = now.unwrap_or_else(|_| sent.record.clone());
        let error = FieldError::of_message(CHANGED_MEANWHILE);
        let form = form::KeyForm::of(&record);
        console.edit_page(&sent.signed_in, record, form, Some(error))
    } else {
        return Ok(console.error_page(&sent.signed_in, &error));
    };
    *page.status_mut() = status_of(&body);
    Ok(page)
}

/// `POST /console/keys/{id}/enable`.
async fn enable(State(console): Shared, PathId(id): PathId, form: SentForm) -> PageResult {
    let sent = console.key_form(&id, form)?;
    Ok(console.switch(&sent, true).await)
}

/// `POST /console/keys/{id}/disable`.
async fn disable(State(console): Shared, PathId(id): PathId, form: SentForm) -> PageResult {
    let sent = console.key_form(&id, form)?;
    Ok(console.switch(&sent, false).await)
}

impl Console {
    async fn switch(&self, sent: &KeyForm, on: bool) -> Response<Body> {
        let change = UpdateKey { enabled: Some(on), ..UpdateKey::default() };
        let what = if on { "Enabled" } else { "Disabled" };
        let changed = self.changed(sent, what, change, None).await;
        changed.unwrap_or_else(|error| self.error_page(&sent.signed_in, &error))
    }

    /// Makes a change, and returns the page of the key with the nodes that have applied it.
    async fn changed(
        &self,
        sent: &KeyForm,
        what: &str,
        change: UpdateKey,
        if_revision: Option<u64>,
    ) -> Result<Response<Body>, ApiError> {
        let (id, caller) = (sent.entry.id(), &sent.signed_in.caller);
        let begun = Instant::now();
        let written = change::update(&self.state, caller, id, change, if_revision).await?;
        let receipt = Receipt::new(what, &written, begun.elapsed());
        let entry = self.state.shared.table.get(&id).unwrap_or_else(|| sent.entry.clone());
        Ok(self.key_page(&sent.signed_in, &entry, Some(receipt)).await)
    }

    fn edit_page(
        &self,
        signed_in: &SignedIn,
        key: KeyRecord,
        form: form::KeyForm,
        error: Option<FieldError>,
    ) -> Response<Body> {
        let status = if error.is_some() { StatusCode::BAD_REQUEST } else { StatusCode::OK };
        let frame = self.frame(Some(signed_in), &format!("Edit {}", key.name), Section::Keys);
        self.show(signed_in, status, render(&EditPage { frame, key, form, error }))
    }
}
