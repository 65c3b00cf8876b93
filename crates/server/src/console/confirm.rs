//! The form that a person confirms with the key's name, before a change that cannot be undone.

use axum::body::Body;
use axum::http::{Response, StatusCode};
use fluxgate_api::keys::KeyRecord;
use fluxgate_console::form::reads_alike;
use fluxgate_console::page::{Frame, RenderError, Section};

use super::Console;
use super::key::KeyForm;
use super::response::{EarlyResponse, PageResult};
use super::signed_in::{SentForm, SignedIn};

/// A change that cannot be undone.
pub(super) struct Confirmation {
    /// The first word of the page's title.
    pub(super) verb: &'static str,
    /// Renders the form; the text says why the form was rejected.
    pub(super) render: fn(Frame, KeyRecord, String) -> Result<String, RenderError>,
}

impl Confirmation {
    /// The empty form for the key of a path.
    pub(super) fn ask(&self, console: &Console, signed_in: &SignedIn, id: &str) -> PageResult {
        let (_, record) = console.key(signed_in, id)?;
        Ok(self.page(console, signed_in, record, ""))
    }

    /// The form that was sent, if it has the key's name. Otherwise the form again.
    pub(super) fn confirmed(
        &self,
        console: &Console,
        id: &str,
        form: SentForm,
    ) -> Result<KeyForm, EarlyResponse> {
        let sent = console.key_form(id, form)?;
        if reads_alike(sent.fields.get("confirm"), &sent.record.name) {
            return Ok(sent);
        }
        let error = "This is not the key’s name. Nothing was changed.";
        Err(self.page(console, &sent.signed_in, sent.record, error).into())
    }

    fn page(
        &self,
        console: &Console,
        signed_in: &SignedIn,
        key: KeyRecord,
        error: &str,
    ) -> Response<Body> {
        let status = if error.is_empty() { StatusCode::OK } else { StatusCode::BAD_REQUEST };
        let title = format!("{} {}", self.verb, key.name);
        let frame = console.frame(Some(signed_in), &title, Section::Keys);
        console.show(signed_in, status, (self.render)(frame, key, error.to_owned()))
    }
}
