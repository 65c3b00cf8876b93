//! Erasing the record of a key that has ended.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{Response, StatusCode};
use axum::routing::get;
use fluxgate_api::keys::KeyRecord;
use fluxgate_console::form::reads_alike;
use fluxgate_console::page::{ErasePage, Section, render};

use super::response::PageResult;
use super::signed_in::{SentForm, SignedIn};
use super::{Console, Shared};
use crate::admin::keys::change;
use crate::shared::path::PathId;

pub(super) fn router() -> Router<Arc<Console>> {
    Router::new().route("/console/keys/{id}/erase", get(ask).post(submit))
}

/// `GET /console/keys/{id}/erase`.
async fn ask(State(console): Shared, signed_in: SignedIn, PathId(id): PathId) -> PageResult {
    let (_, record) = console.key(&signed_in, &id)?;
    Ok(console.erase_page(&signed_in, record, ""))
}

/// `POST /console/keys/{id}/erase`.
async fn submit(State(console): Shared, PathId(id): PathId, form: SentForm) -> PageResult {
    let sent = console.key_form(&id, form)?;
    if !reads_alike(sent.fields.get("confirm"), &sent.record.name) {
        let error = "This is not the key’s name. Nothing was changed.";
        return Ok(console.erase_page(&sent.signed_in, sent.record, error));
    }
    let (id, caller) = (sent.entry.record.id, &sent.signed_in.caller);
    let erased = change::erase(&console.state, caller, &sent.entry, None).await;
    erased.map_err(|error| console.error_page(&sent.signed_in, &error))?;
    let text = format!(
        "The record of {id} is forgotten on every node. The audit log keeps the id, and who did what to \
         it when. Backups that were made before still have the record."
    );
    let audit = format!("/console/audit?key={id}");
    let links = [("/console/keys", "API Keys"), (audit.as_str(), "Entries of this id")];
    Ok(console.message(Some(&sent.signed_in), StatusCode::OK, "Erased", &text, &links))
}

impl Console {
    fn erase_page(&self, signed_in: &SignedIn, key: KeyRecord, error: &str) -> Response<Body> {
        let status = if error.is_empty() { StatusCode::OK } else { StatusCode::BAD_REQUEST };
        let frame = self.frame(Some(signed_in), &format!("Erase {}", key.name), Section::Keys);
        let page = ErasePage { frame, key, error: error.to_owned() };
        self.show(signed_in, status, render(&page))
    }
}
