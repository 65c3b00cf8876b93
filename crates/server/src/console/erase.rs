//! Erasing the record of a key that has ended.

use axum::body::Body;
use axum::extract::State;
use axum::http::{Request, Response, StatusCode};
use fluxgate_api::keys::KeyRecord;
use fluxgate_console::form::reads_alike;
use fluxgate_console::page::{ErasePage, Section, render};

use super::visit::SignedIn;
use super::{Console, EarlyResponse, Shared};
use crate::admin::keys::change;
use crate::shared::path::PathId;

impl Console {
    fn erase_page(&self, visit: &SignedIn, key: KeyRecord, error: &str) -> Response<Body> {
        let status = if error.is_empty() { StatusCode::OK } else { StatusCode::BAD_REQUEST };
        let frame = self.frame(Some(visit), &format!("Erase {}", key.name), Section::Keys);
        let page = ErasePage { frame, key, error: error.to_owned() };
        self.show(visit, status, render(&page))
    }

    async fn erase(
        &self,
        id: &str,
        request: Request<Body>,
    ) -> Result<Response<Body>, EarlyResponse> {
        let (sent, _) = self.sent(id, request).await?;
        if !reads_alike(sent.fields.get("confirm"), &sent.record.name) {
            let error = "This is not the key’s name. Nothing was changed.";
            return Err(Box::new(self.erase_page(&sent.visit, sent.record, error)));
        }
        let (id, caller) = (sent.entry.record.id, &sent.visit.caller);
        let erased = change::erase(&self.state, caller, &sent.entry, None).await;
        erased.map_err(|refused| Box::new(self.refused(&sent.visit, refused)))?;
        let text = format!(
            "The record of {id} is forgotten on every node. The audit log keeps the id, and who did what to \
             it when. Backups that were made before still have the record."
        );
        let audit = format!("/console/audit?key={id}");
        let links = [("/console/keys", "API Keys"), (audit.as_str(), "Entries of this id")];
        Ok(self.message(Some(&sent.visit), StatusCode::OK, "Erased", &text, &links))
    }
}

/// `GET /console/keys/{id}/erase`.
pub(super) async fn ask(
    State(console): Shared,
    PathId(id): PathId,
    request: Request<Body>,
) -> Response<Body> {
    console.about(&id, request, |visit, key| console.erase_page(visit, key, ""))
}

/// `POST /console/keys/{id}/erase`.
pub(super) async fn submit(
    State(console): Shared,
    PathId(id): PathId,
    request: Request<Body>,
) -> Response<Body> {
    console.erase(&id, request).await.unwrap_or_else(|turned| *turned)
}
