//! The revocation of a key.

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use fluxgate_console::page::{Receipt, RevokePage, RevokedPage, Section, render};

use super::confirm::Confirmation;
use super::response::PageResult;
use super::signed_in::{SentForm, SignedIn};
use super::{Console, Shared};
use crate::admin::keys::change;
use crate::shared::path::PathId;

const REVOKE: Confirmation = Confirmation {
    verb: "Revoke",
    render: |frame, key, error| render(&RevokePage { frame, key, error }),
};

pub(super) fn router() -> Router<Arc<Console>> {
    Router::new().route("/console/keys/{id}/revoke", get(ask).post(submit))
}

/// `GET /console/keys/{id}/revoke`.
async fn ask(State(console): Shared, signed_in: SignedIn, PathId(id): PathId) -> PageResult {
    REVOKE.ask(&console, &signed_in, &id)
}

/// `POST /console/keys/{id}/revoke`.
async fn submit(State(console): Shared, PathId(id): PathId, form: SentForm) -> PageResult {
    let sent = REVOKE.confirmed(&console, &id, form)?;
    let (id, caller) = (sent.entry.id(), &sent.signed_in.caller);
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
