//! The table of keys, their use, and a new one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::State;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Request, Response, StatusCode, header};
use fluxgate_api::error::ErrorCode;
use fluxgate_api::keys::{CreatedKey, KeyStatus, ListQuery};
use fluxgate_api::text::Period;
use fluxgate_console::form::{FieldError, Fields, KeyForm};
use fluxgate_console::page::{KeyFilter, KeysPage, NewKeyPage, Section, ShownPage, render};
use fluxgate_console::session::{NONCE_BYTES, hex};
use fluxgate_peer::process;
use fluxgate_types::{KeyId, caps};
use tokio::sync::mpsc;

use super::key::again_with;
use super::visit::SignedIn;
use super::{Console, EarlyResponse, Shared};
use crate::http::auth::Principal;
use crate::http::keys::{change, managed};
use crate::http::listing::find_keys;
use crate::http::pipe::Pipe;
use crate::http::refused::ApiError;
use crate::http::respond;
use crate::http::usage::many;

/// A search that takes longer is announced, and the page is sent in two pieces.
const PATIENCE: Duration = Duration::from_millis(40);

/// `GET /console/keys`.
pub(super) async fn list(State(console): Shared, request: Request<Body>) -> Response<Body> {
    let (parts, _) = request.into_parts();
    console.list(&parts).await.unwrap_or_else(|turned| *turned)
}

/// The fields of a query.
pub(super) fn query(parts: &Parts) -> Result<Fields, ApiError> {
    let many = || ApiError::new(ErrorCode::InvalidRequest, "the address has too many fields");
    Fields::parse(parts.uri.query().unwrap_or_default().as_bytes()).ok_or_else(many)
}

/// The status that a filter names; none: every one.
fn status_of(text: &str) -> Result<Option<KeyStatus>, ApiError> {
    let known = KeyStatus::ALL.into_iter().find(|status| status.as_str() == text);
    let wrong = || ApiError::new(ErrorCode::InvalidRequest, "there is no such status");
    if text.is_empty() { Ok(None) } else { known.map(Some).ok_or_else(wrong) }
}

impl Console {
    async fn list(&self, parts: &Parts) -> Result<Response<Body>, EarlyResponse> {
        let visit = self.enter(parts)?;
        let refused = |refused| Box::new(self.refused(&visit, refused));
        let query = query(parts).map_err(refused)?;
        let text = |name| query.get(name).to_owned();
        let filter = KeyFilter {
            search: text("search"),
            owner: text("owner"),
            status: text("status"),
            cursor: text("cursor"),
        };
        let asked = ListQuery {
            owner: query.given("owner"),
            search: query.given("search"),
            status: status_of(&filter.status).map_err(refused)?,
            limit: Some(caps::LIST_PAGE_DEFAULT),
            cursor: query.given("cursor"),
            export: false,
        };
        let mut page = KeysPage {
            frame: self.frame(Some(&visit), "API Keys", Section::Keys),
            filter,
            keys: Vec::new(),
            next: None,
            total: visit.is_operator().then(|| self.state.shared.table.len()),
        };
        let (state, who) = (Arc::clone(&self.state), visit.caller.who.clone());
        let mut search =
            tokio::spawn(process::bind(async move { find_keys(&state, &who, &asked).await }));
        let Ok(found) = tokio::time::timeout(PATIENCE, &mut search).await else {
            // What is wrong with a question is said at once: this one is only a long one.
            let (pieces, pipe) = mpsc::channel(1);
            let above = page.above();
            tokio::spawn(process::bind(async move {
                if pieces.send(above.into()).await.is_err() {
                    return search.abort();
                }
                if let Ok(Ok(found)) = search.await {
                    (page.keys, page.next) = (found.keys, found.next_cursor);
                    pieces.send(page.below().into()).await.ok();
                }
            }));
            return Ok(self.show(&visit, StatusCode::OK, Body::new(Pipe::new(pipe))));
        };
        let failed = |_| Err(ApiError::new(ErrorCode::Internal, "the search ended early"));
        let found = found.unwrap_or_else(failed);
        let found = found.map_err(refused)?;
        (page.keys, page.next) = (found.keys, found.next_cursor);
        Ok(self.show(&visit, StatusCode::OK, render(&page)))
    }

    /// Makes a form good for one key. Without randomness no key could be made either.
    pub(super) fn once() -> String {
        let mut nonce = [0; NONCE_BYTES];
        crate::state::fill_random(&mut nonce).ok();
        format!("console-{}", hex(&nonce))
    }

    fn new_key_page(
        &self,
        visit: &SignedIn,
        status: StatusCode,
        mut form: KeyForm,
        error: Option<FieldError>,
    ) -> Response<Body> {
        if let Some(entry) = visit.entry() {
            form.owner = entry.record.owner.as_ref().map(ToString::to_string).unwrap_or_default();
        }
        let defaults = Arc::clone(&self.state.shared.view().defaults);
        let limit = |limit: &fluxgate_types::Limit| {
            format!("{} in each {}", limit.tokens, Period::from_ms(limit.period_ms))
        };
        let limits: Vec<String> = defaults.iter().map(|spec| limit(&spec.limit)).collect();
        let page = NewKeyPage {
            frame: self.frame(Some(visit), "Create API Key", Section::Keys),
            form,
            error,
            once: Self::once(),
            default_limit: limits.join(", "),
        };
        self.show(visit, status, render(&page))
    }

    async fn create(&self, parts: &Parts, body: Body) -> Result<Response<Body>, EarlyResponse> {
        let (visit, fields) = self.enter_form(parts, body).await?;
        let form = KeyForm::read(&fields);
        let again = |error| {
            Box::new(self.new_key_page(&visit, StatusCode::BAD_REQUEST, form.clone(), Some(error)))
        };
        // Each form makes one key: without its name a reload would make another.
        let once = fields.given("once").filter(|once| is_once(once)).ok_or_else(|| {
            again(FieldError::of_message("The form was incomplete. Send it again."))
        })?;
        let asked = form.create(self.state.now()).map_err(again)?;
        let begun = Instant::now();
        let created = change::create(&self.state, &visit.caller, asked, Some(once)).await;
        match created {
            Ok(created) => Ok(self.show_key(&visit, parts, created, begun.elapsed(), None)),
            Err(refused) => {
                let body = refused.body();
                let Some(error) = again_with(&body) else {
                    return Err(Box::new(self.refused(&visit, refused)));
                };
                let mut turned = again(error);
                *turned.status_mut() = super::visit::status_of(&body);
                Err(turned)
            }
        }
    }

    /// Shows a key, this once; `grace` where it was rotated.
    pub(super) fn show_key(
        &self,
        visit: &SignedIn,
        parts: &Parts,
        created: CreatedKey,
        took: Duration,
        grace: Option<String>,
    ) -> Response<Body> {
        let record = &created.written.record;
        let title = format!("Key {}", record.prefix);
        let mut frame = self.frame(Some(visit), &title, Section::Keys);
        // What a reload asks for: the record, and no second key.
        frame.canonical = format!("/console/keys/{}", record.id);
        let page = ShownPage {
            frame,
            created,
            is_rotated: grace.is_some(),
            took,
            grace: grace.unwrap_or_default(),
            gateway: self.gateway(&parts.headers),
        };
        self.show(visit, StatusCode::OK, render(&page))
    }

    /// Where gateways ask this node, as the reader can reach it.
    fn gateway(&self, headers: &HeaderMap) -> String {
        let config = &self.state.config;
        let scheme = if config.gateway_tls.is_some() { "https" } else { "http" };
        let listen = config.gateway_listen;
        let asked = headers.get(header::HOST).and_then(|host| host.to_str().ok());
        // An IPv6 address has colons of its own.
        let without_port = |host| match str::rsplit_once(host, ':') {
            Some((name, port)) if !port.ends_with(']') => name,
            _ => host,
        };
        let host = asked.map(without_port);
        // Listening everywhere says no address: the one that the reader used will do.
        match host.filter(|_| listen.ip().is_unspecified()) {
            Some(host) => format!("{scheme}://{host}:{}", listen.port()),
            None => format!("{scheme}://{listen}"),
        }
    }
}

/// Whether a text may name a form.
pub(super) fn is_once(text: &str) -> bool {
    let is_plain = text.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-');
    is_plain && text.len() <= caps::IDEMPOTENCY_KEY_CHARS_MAX
}

/// `GET /console/keys/new`.
pub(super) async fn new(State(console): Shared, request: Request<Body>) -> Response<Body> {
    let (parts, _) = request.into_parts();
    match console.enter(&parts) {
        Ok(visit) => console.new_key_page(&visit, StatusCode::OK, KeyForm::empty(), None),
        Err(turned) => *turned,
    }
}

/// `POST /console/keys`.
pub(super) async fn create(State(console): Shared, request: Request<Body>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    console.create(&parts, body).await.unwrap_or_else(|turned| *turned)
}

/// `GET /console/api/usage`.
pub(super) async fn uses(State(console): Shared, request: Request<Body>) -> Response<Body> {
    let (parts, _) = request.into_parts();
    let visit = match console.enter(&parts) {
        Ok(visit) => visit,
        Err(turned) => return *turned,
    };
    let asked =
        query(&parts).and_then(|query| managed_all(&console, &visit.caller.who, query.get("ids")));
    match asked {
        Ok(entries) => {
            respond::json(StatusCode::OK, &many::uses_of(&console.state, &entries).await)
        }
        Err(refused) => refused.into_response(&console.state),
    }
}

type Entries = Vec<Arc<fluxgate_engine::state::record::KeyEntry>>;

/// The keys of a list of ids. One that is not there, or another's, is left out.
fn managed_all(console: &Console, who: &Principal, ids: &str) -> Result<Entries, ApiError> {
    let ids: Vec<&str> = ids.split(',').filter(|id| !id.is_empty()).collect();
    if ids.len() > caps::CONSOLE_USAGE_KEYS_MAX || ids.iter().any(|id| id.parse::<KeyId>().is_err())
    {
        let message = format!("ids: at most {} ids", caps::CONSOLE_USAGE_KEYS_MAX);
        return Err(ApiError::new(ErrorCode::InvalidRequest, message));
    }
    Ok(ids.iter().filter_map(|id| managed(&console.state, who, id).ok()).collect())
}
