//! The revocation of a key.

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{Response, StatusCode};
use axum::routing::get;
use fluxgate_api::keys::KeyRecord;
use fluxgate_console::form::reads_alike;
use fluxgate_console::page::{Receipt, RevokePage, RevokedPage, Section, render};

use super::response::PageResult;
use super::signed_in::{SentForm, SignedIn};
use super::{Console, Shared};
use crate::admin::keys::change;
use crate::shared::path::PathId;

pub(super) fn router() -> Router<Arc<Console>> {
    Router::new().route("/console/keys/{id}/revoke", get(ask).post(submit))
}

/// `GET /console/keys/{id}/revoke`.
async fn ask(State(console): Shared, signed_in: SignedIn, PathId(id): PathId) -> PageResult {
    let (_, record) = console.key(&signed_in, &id)?;
    Ok(console.revoke_page(&signed_in, record, ""))
}

/// `POST /console/keys/{id}/revoke`.
async fn submit(State(console): Shared, PathId(id): PathId, form: SentForm) -> PageResult {
    let sent = console.key_form(&id, form)?;
    if !reads_alike(sent.fields.get("confirm"), &sent.record.name) {
        let error = "This is not the key’s name. Nothing was changed.";
        return Ok(console.revoke_page(&sent.signed_in, sent.record, error));
    }
    let (id, caller) = (sent.entry.record.id, &sent.signed_in.caller);
    let begun = Instant::now();
    let written = change::revoke(&console.state, caller, id, None).await;
    let written = written.map_err(|error| console.error_page(&sent.signed_in, &error))?;
    let receipt = Receipt::new("Revoked", &written, begun.elapsed());
    let nodes = console.state.raft.status().nodes;
    let missing = nodes.keys().map(|node| node.0).filter(|node| !receipt.nodes.contains(node));
    let mut frame = console.frame(Some(&sent.signed_in), "Revoked", Section::Keys);
    frame.canonical = format!("/console/keys/{id}");
    let page = RevokedPage { frame, key: written.record, missing: missing.collect(), receipt };
    Ok(console.show(&sent.signed_in, StatusCode::OK, render(&page)))
}

impl Console {
    fn revoke_page(&self, signed_in: &SignedIn, key: KeyRecord, error: &str) -> Response<Body> {
        let status = if error.is_empty() { StatusCode::OK } else { StatusCode::BAD_REQUEST };
        let frame = self.frame(Some(signed_in), &format!("Revoke {}", key.name), Section::Keys);
        let page = RevokePage { frame, key, error: error.to_owned() };
        self.show(signed_in, status, render(&page))
    }
}
