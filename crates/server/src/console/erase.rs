//! Erasing the record of a key that has ended.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use fluxgate_console::page::{ErasePage, render};

use super::confirm::Confirmation;
use super::response::PageResult;
use super::signed_in::{SentForm, SignedIn};
use super::{Console, Shared};
use crate::admin::keys::change;
use crate::shared::path::PathId;

const ERASE: Confirmation = Confirmation {
    verb: "Erase",
    render: |frame, key, error| render(&ErasePage { frame, key, error }),
};

pub(super) fn router() -> Router<Arc<Console>> {
    Router::new().route("/console/keys/{id}/erase", get(ask).post(submit))
}

/// `GET /console/keys/{id}/erase`.
async fn ask(State(console): Shared, signed_in: SignedIn, PathId(id): PathId) -> PageResult {
    ERASE.ask(&console, &signed_in, &id)
}

/// `POST /console/keys/{id}/erase`.
async fn submit(State(console): Shared, PathId(id): PathId, form: SentForm) -> PageResult {
    let sent = ERASE.confirmed(&console, &id, form)?;
    let (id, caller) = (sent.entry.id(), &sent.signed_in.caller);
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
