//! A new secret for a key.

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Response, StatusCode};
use axum::routing::get;
use fluxgate_api::keys::{KeyRecord, RotateKey};
use fluxgate_api::text::Period;
use fluxgate_console::page::{RotatePage, Section, render};

use super::keys::is_once;
use super::response::PageResult;
use super::signed_in::{SentForm, SignedIn};
use super::{Console, Shared};
use crate::admin::keys::{Guards, change};
use crate::shared::path::PathId;

pub(super) fn router() -> Router<Arc<Console>> {
    Router::new().route("/console/keys/{id}/rotate", get(ask).post(submit))
}

/// `GET /console/keys/{id}/rotate`.
async fn ask(State(console): Shared, signed_in: SignedIn, PathId(id): PathId) -> PageResult {
    let (_, record) = console.key(&signed_in, &id)?;
    Ok(console.rotate_page(&signed_in, record, ""))
}

/// `POST /console/keys/{id}/rotate`.
async fn submit(
    State(console): Shared,
    PathId(id): PathId,
    headers: HeaderMap,
    form: SentForm,
) -> PageResult {
    let sent = console.key_form(&id, form)?;
    let grace: Option<Period> = sent.fields.get("grace").parse().ok();
    let once = sent.fields.given("once").filter(|once| is_once(once));
    let (Some(grace), Some(once)) = (grace, once) else {
        let error = "Choose how long the old secret stays valid.";
        return Ok(console.rotate_page(&sent.signed_in, sent.record, error));
    };
    let guards = Guards { if_revision: None, idempotency_key: Some(once) };
    // The form said that this ends the previous secret.
    let request = RotateKey { grace: Some(grace), end_previous: Some(true) };
    let (caller, entry) = (&sent.signed_in.caller, &sent.entry);
    let begun = Instant::now();
    let rotated = change::rotate(&console.state, caller, entry, request, guards).await;
    let rotated = rotated.map_err(|error| console.error_page(&sent.signed_in, &error))?;
    let took = begun.elapsed();
    let grace = if grace.ms == 0 { String::new() } else { grace_text(grace.ms) };
    Ok(console.show_key(&sent.signed_in, &headers, rotated, took, Some(grace)))
}

impl Console {
    fn rotate_page(&self, signed_in: &SignedIn, key: KeyRecord, error: &str) -> Response<Body> {
        let status = if error.is_empty() { StatusCode::OK } else { StatusCode::BAD_REQUEST };
        let frame = self.frame(Some(signed_in), &format!("Rotate {}", key.name), Section::Keys);
        let page = RotatePage { frame, key, once: Self::once(), error: error.to_owned() };
        self.show(signed_in, status, render(&page))
    }
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
