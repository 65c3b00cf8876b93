//! The list of keys, their use, and a new key.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Response, StatusCode, Uri, header};
use axum::routing::get;
use fluxgate_api::error::ErrorCode;
use fluxgate_api::keys::{CreatedKey, KeyStatus, ListQuery};
use fluxgate_api::text::Period;
use fluxgate_console::form::{FieldError, Fields, KeyForm};
use fluxgate_console::page::{
    KeyFilter, KeysPage, NewKeyPage, RenderError, Section, ShownPage, render,
};
use fluxgate_console::session::{NONCE_BYTES, hex};
use fluxgate_engine::state::entry::KeyEntry;
use fluxgate_node::state::NodeState;
use fluxgate_peer::process;
use fluxgate_types::{KeyId, caps};
use tokio::sync::mpsc;

use super::key::again_with;
use super::page::status_of;
use super::response::{PageResult, html, streamed};
use super::signed_in::{SentForm, SignedIn};
use super::{Console, Shared};
use crate::admin::keys::change::{self, managed};
use crate::admin::listing::find_keys;
use crate::admin::usage::many::{ManyUses, uses_of};
use crate::shared::auth::Principal;
use crate::shared::error::ApiError;
use crate::shared::pipe::Pipe;
use crate::shared::respond::Json;

/// If a search takes longer than this, the page is sent in two pieces, the first without the result.
const PATIENCE: Duration = Duration::from_millis(40);

pub(super) fn router() -> Router<Arc<Console>> {
    Router::new()
        .route("/console/keys", get(list).post(create))
        .route("/console/keys/new", get(new))
        .route("/console/api/usage", get(usage))
}

/// The fields of a query.
pub(super) fn query(uri: &Uri) -> Result<Fields, ApiError> {
    let many = || ApiError::new(ErrorCode::InvalidRequest, "the address has too many fields");
    Fields::parse(uri.query().unwrap_or_default().as_bytes()).ok_or_else(many)
}

/// The status in a filter; `None` for every status.
fn key_status(text: &str) -> Result<Option<KeyStatus>, ApiError> {
    let known = KeyStatus::ALL.into_iter().find(|status| status.as_str() == text);
    let wrong = || ApiError::new(ErrorCode::InvalidRequest, "there is no such status");
    if text.is_empty() { Ok(None) } else { known.map(Some).ok_or_else(wrong) }
}

/// `GET /console/keys`.
async fn list(State(console): Shared, signed_in: SignedIn, uri: Uri) -> PageResult {
    let rejected = |error: ApiError| console.error_page(&signed_in, &error);
    let query = query(&uri).map_err(rejected)?;
    let text = |name| query.get(name).to_owned();
    let filter = KeyFilter {
        search: text("search"),
        owner: text("owner"),
        status: text("status"),
        cursor: text("cursor"),
    };
    let request = ListQuery {
        owner: query.given("owner"),
        search: query.given("search"),
        status: key_status(&filter.status).map_err(rejected)?,
        limit: Some(caps::LIST_PAGE_DEFAULT),
        cursor: query.given("cursor"),
        export: false,
    };
    let mut page = KeysPage {
        frame: console.frame(Some(&signed_in), "API Keys", Section::Keys),
        filter,
        keys: Vec::new(),
        next: None,
        total: signed_in.is_operator().then(|| console.state.shared.table.len()),
    };
    let (state, principal) = (Arc::clone(&console.state), signed_in.caller.principal.clone());
    let search = async move { find_keys(&state, &principal, &request).await };
    let mut search = tokio::spawn(process::bind(search));
    // An invalid query ends the search at once, so a search that takes long will have a result.
    let Ok(found) = tokio::time::timeout(PATIENCE, &mut search).await else {
        let above = match page.above() {
            Ok(above) => above,
            Err(error) => return Ok(html(StatusCode::OK, Err(error))),
        };
        let (pieces, pipe) = mpsc::channel(1);
        tokio::spawn(process::bind(async move {
            if pieces.send(above.into()).await.is_err() {
                return search.abort();
            }
            if let Ok(Ok(found)) = search.await {
                (page.keys, page.next) = (found.keys, found.next_cursor);
                send_below(&pieces, page.below()).await;
            }
        }));
        let response = streamed(StatusCode::OK, Body::new(Pipe::new(pipe)));
        return Ok(console.renewed(&signed_in, response));
    };
    let failed = |_| Err(ApiError::new(ErrorCode::Internal, "the search ended early"));
    let found = found.unwrap_or_else(failed).map_err(rejected)?;
    (page.keys, page.next) = (found.keys, found.next_cursor);
    Ok(console.show(&signed_in, StatusCode::OK, render(&page)))
}

/// Sends the second piece of a list. If it could not be rendered, the page ends after the first.
async fn send_below(pieces: &mpsc::Sender<bytes::Bytes>, below: Result<String, RenderError>) {
    match below {
        Ok(below) => drop(pieces.send(below.into()).await),
        Err(error) => tracing::error!(%error, "a page of the console could not be rendered"),
    }
}

/// `GET /console/keys/new`.
async fn new(State(console): Shared, signed_in: SignedIn) -> Response<Body> {
    console.new_key_page(&signed_in, StatusCode::OK, KeyForm::empty(), None)
}

/// `POST /console/keys`.
async fn create(State(console): Shared, headers: HeaderMap, sent: SentForm) -> PageResult {
    let SentForm { signed_in, fields } = sent;
    let form = KeyForm::read(&fields);
    let again = |error| {
        console.new_key_page(&signed_in, StatusCode::BAD_REQUEST, form.clone(), Some(error))
    };
    // The idempotency key of the form: without it, a reload would create another key.
    let once = fields
        .given("once")
        .filter(|once| is_once(once))
        .ok_or_else(|| again(FieldError::of_message("The form was incomplete. Send it again.")))?;
    let request = form.create(console.state.now()).map_err(again)?;
    let begun = Instant::now();
    match change::create(&console.state, &signed_in.caller, request, Some(once)).await {
        Ok(created) => Ok(console.show_key(&signed_in, &headers, created, begun.elapsed(), None)),
        Err(error) => {
            let body = error.body();
            let Some(message) = again_with(&body) else {
                return Ok(console.error_page(&signed_in, &error));
            };
            let mut page = again(message);
            *page.status_mut() = status_of(&body);
            Ok(page)
        }
    }
}

/// `GET /console/api/usage`.
async fn usage(
    State(console): Shared,
    signed_in: SignedIn,
    uri: Uri,
) -> Result<Json<ManyUses>, ApiError> {
    let entries =
        managed_all(&console.state, &signed_in.caller.principal, query(&uri)?.get("ids"))?;
    Ok(Json(StatusCode::OK, uses_of(&console.state, &entries).await))
}

/// The keys of a list of ids. An unknown key, or one that the person does not manage, is left out.
fn managed_all(
    state: &NodeState,
    principal: &Principal,
    ids: &str,
) -> Result<Vec<KeyEntry>, ApiError> {
    let ids: Vec<&str> = ids.split(',').filter(|id| !id.is_empty()).collect();
    if ids.len() > caps::CONSOLE_USAGE_KEYS_MAX || ids.iter().any(|id| id.parse::<KeyId>().is_err())
    {
        let message = format!("ids: at most {} ids", caps::CONSOLE_USAGE_KEYS_MAX);
        return Err(ApiError::new(ErrorCode::InvalidRequest, message));
    }
    Ok(ids.iter().filter_map(|id| managed(state, principal, id).ok()).collect())
}

impl Console {
    /// The idempotency key of a new form. Without randomness no key could be created either.
    pub(super) fn once() -> String {
        let mut nonce = [0; NONCE_BYTES];
        fluxgate_node::random::fill_random(&mut nonce).ok();
        format!("console-{}", hex(&nonce))
    }

    fn new_key_page(
        &self,
        signed_in: &SignedIn,
        status: StatusCode,
        mut form: KeyForm,
        error: Option<FieldError>,
    ) -> Response<Body> {
        if let Some(entry) = signed_in.entry() {
            form.owner = entry.owner().unwrap_or_default().to_owned();
        }
        let defaults = Arc::clone(&self.state.shared.view().defaults);
        let limit = |limit: &fluxgate_types::Limit| {
            format!("{} in each {}", limit.tokens, Period::from_ms(limit.period_ms))
        };
        let limits: Vec<String> = defaults.iter().map(|spec| limit(&spec.limit)).collect();
        let page = NewKeyPage {
            frame: self.frame(Some(signed_in), "Create API Key", Section::Keys),
            form,
            error,
            once: Self::once(),
            default_limit: limits.join(", "),
        };
        self.show(signed_in, status, render(&page))
    }

    /// The page that shows a key, only this once. `grace`: how long the previous secret of a rotated key
    /// stays valid; `None` for a new key.
    pub(super) fn show_key(
        &self,
        signed_in: &SignedIn,
        headers: &HeaderMap,
        created: CreatedKey,
        took: Duration,
        grace: Option<String>,
    ) -> Response<Body> {
        let record = &created.written.record;
        let title = format!("Key {}", record.prefix);
        let mut frame = self.frame(Some(signed_in), &title, Section::Keys);
        // A reload shows the record and does not send the form again.
        frame.canonical = format!("/console/keys/{}", record.id);
        let page = ShownPage {
            frame,
            created,
            is_rotated: grace.is_some(),
            took,
            grace: grace.unwrap_or_default(),
            gateway: self.gateway_url(headers),
        };
        self.show(signed_in, StatusCode::OK, render(&page))
    }

    /// The URL of the gateway listener, as the person can reach it.
    fn gateway_url(&self, headers: &HeaderMap) -> String {
        let config = &self.state.config;
        let scheme = if config.gateway_tls.is_some() { "https" } else { "http" };
        let listen = config.gateway_listen;
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
        // An IPv6 address has colons of its own.
        let without_port = |host| match str::rsplit_once(host, ':') {
            Some((name, port)) if !port.ends_with(']') => name,
            _ => host,
        };
        let host = host.map(without_port);
        // A node that listens on all addresses is reached at the one that the person used.
        match host.filter(|_| listen.ip().is_unspecified()) {
            Some(host) => format!("{scheme}://{host}:{}", listen.port()),
            None => format!("{scheme}://{listen}"),
        }
    }
}

/// Whether a text may be the idempotency key of a form.
pub(super) fn is_once(text: &str) -> bool {
    let is_plain = text.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-');
    is_plain && text.len() <= caps::IDEMPOTENCY_KEY_CHARS_MAX
}
