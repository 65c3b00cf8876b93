//! Requests of a person who is signed in.
//!
//! Answers for: every request looks up the credential of its session in this node's table, so that a
//! session ends on every node as soon as its key does; and a form is accepted only with the token of
//! its session.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use fluxgate_api::error::ErrorCode;
use fluxgate_console::form::Fields;
use fluxgate_console::session::{Session, SessionPrincipal};
use fluxgate_engine::state::entry::KeyEntry;
use fluxgate_engine::state::record::Status;
use fluxgate_node::config::Secret;
use fluxgate_types::{Digest, Scope};

use super::Console;
use super::response::{EarlyResponse, redirect};
use crate::shared::auth::{Principal, RequestContext};
use crate::shared::body::read_body;
use crate::shared::client_addr::client_addr;
use crate::shared::error::ApiError;
use crate::shared::respond;

/// Cookies of our name that are tried.
const COOKIES_MAX: usize = 8;

/// A request of a person who is signed in. As an argument of a handler it sends everyone else to the
/// sign-in page.
#[derive(Debug)]
pub(super) struct SignedIn {
    pub(super) caller: RequestContext,
    pub(super) session: Session,
    pub(super) now_s: u64,
}

impl FromRequestParts<Arc<Console>> for SignedIn {
    type Rejection = EarlyResponse;

    async fn from_request_parts(
        parts: &mut Parts,
        console: &Arc<Console>,
    ) -> Result<Self, EarlyResponse> {
        console.authenticate(parts)
    }
}

/// A form that a person who is signed in sent, with the token of the session.
#[derive(Debug)]
pub(super) struct SentForm {
    pub(super) signed_in: SignedIn,
    pub(super) fields: Fields,
}

impl FromRequest<Arc<Console>> for SentForm {
    type Rejection = EarlyResponse;

    async fn from_request(request: Request, console: &Arc<Console>) -> Result<Self, EarlyResponse> {
        let (parts, body) = request.into_parts();
        let signed_in = console.authenticate(&parts)?;
        let fields = console.fields(&parts.headers, body).await;
        let fields = fields.map_err(|error| console.error_page(&signed_in, &error))?;
        if console.signer.is_form_token(&signed_in.session, fields.get("form_token")) {
            return Ok(Self { signed_in, fields });
        }
        let text = "Nothing was changed. Go back, reload the page and send the form again.";
        let heading = "This form is of another session";
        let (status, links) = (StatusCode::FORBIDDEN, [("/console/keys", "API Keys")]);
        Err(console.message(Some(&signed_in), status, heading, text, &links).into())
    }
}

impl SignedIn {
    pub(super) fn is_operator(&self) -> bool {
        matches!(self.caller.principal, Principal::Operator)
    }

    /// The key of the session; `None` for the operator token.
    pub(super) fn entry(&self) -> Option<&KeyEntry> {
        match &self.caller.principal {
            Principal::Operator => None,
            Principal::Key { entry, .. } => Some(entry),
        }
    }
}

/// The values of a cookie. Another site on the same host may have set one with our name.
fn cookies<'a>(headers: &'a HeaderMap, name: &'a str) -> impl Iterator<Item = &'a str> {
    let lines = headers.get_all(header::COOKIE).iter();
    let pairs = lines.filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(';'));
    let pairs = pairs.filter_map(|pair| pair.trim().split_once('='));
    pairs.filter(move |(known, _)| *known == name).map(|(_, value)| value).take(COOKIES_MAX)
}

impl Console {
    pub(super) fn now_s(&self) -> u64 {
        self.state.now().0 / 1_000
    }

    /// Authenticates a request by its session.
    fn authenticate(&self, parts: &Parts) -> Result<SignedIn, EarlyResponse> {
        let now_s = self.now_s();
        let mut sealed = cookies(&parts.headers, self.cookie());
        let session = sealed.find_map(|text| self.signer.open(text, now_s));
        let session = session.ok_or_else(|| sign_in_again(parts))?;
        // A node that is behind might not know yet that a key has ended.
        if let (SessionPrincipal::Key(_), Some(why)) = (session.holder, self.state.not_ready()) {
            let text = format!(
                "Not now: {why}. Open the console of another node; the session is valid there too."
            );
            let status = StatusCode::SERVICE_UNAVAILABLE;
            return Err(self.message(None, status, "This node cannot answer", &text, &[]).into());
        }
        let principal = self.principal(&session).ok_or_else(|| sign_in_again(parts))?;
        let caller = RequestContext { principal, client_addr: client_addr(parts) };
        Ok(SignedIn { caller, session, now_s })
    }

    /// The administrator of a session, if its credential is still valid.
    fn principal(&self, session: &Session) -> Option<Principal> {
        match session.holder {
            SessionPrincipal::Operator => {
                let tokens = self.state.config.operator_token.as_ref()?.all();
                let tag = |token: &Secret| self.signer.tag(&Digest::of(token.expose().as_bytes()));
                let is_accepted = tokens.iter().any(|token| tag(token) == session.bound);
                is_accepted.then_some(Principal::Operator)
            }
            SessionPrincipal::Key(id) => {
                let entry = self.state.shared.table.get(&id)?;
                let digest = self.presented(&entry, session)?;
                Some(Principal::Key { entry, digest })
            }
        }
    }

    /// The credential of a session, if it still opens the key and the key may still administer.
    fn presented(&self, entry: &KeyEntry, session: &Session) -> Option<Digest> {
        let now = self.state.now();
        let previous = entry.previous().map(|previous| previous.digest);
        let digests = [Some(*entry.digest()), previous];
        let presented = digests
            .into_iter()
            .flatten()
            .find(|digest| self.signer.tag(digest) == session.bound)?;
        let is_valid = entry.opens(&presented, now)
            && entry.status(now) == Status::Active
            && entry.scope().includes(Scope::Admin);
        is_valid.then_some(presented)
    }

    /// Reads a form.
    pub(super) async fn fields(&self, headers: &HeaderMap, body: Body) -> Result<Fields, ApiError> {
        let config = &self.state.config;
        let body = read_body(body, config.max_body_bytes, config.request_timeout).await?;
        let media_type = headers.get(header::CONTENT_TYPE);
        let essence = media_type.and_then(|value| value.to_str().ok()).unwrap_or_default();
        if !essence.starts_with("application/x-www-form-urlencoded") {
            let message = "the body must be a form";
            return Err(ApiError::new(ErrorCode::UnsupportedMediaType, message));
        }
        let too_many = || ApiError::new(ErrorCode::TooLarge, "the form has too many fields");
        Fields::parse(&body).ok_or_else(too_many)
    }

    /// Stores a session in the browser.
    pub(super) fn keep(&self, response: &mut Response<Body>, session: &Session, now_s: u64) {
        self.set_cookie(response, &self.signer.seal(session), session.left_s(now_s));
    }

    /// Removes the session from the browser.
    pub(super) fn forget(&self, response: &mut Response<Body>) {
        self.set_cookie(response, "", 0);
    }

    fn set_cookie(&self, response: &mut Response<Body>, value: &str, age_s: u64) {
        let name = self.cookie();
        let secure = if self.is_secure { "; Secure" } else { "" };
        let cookie = format!(
            "{name}={value}; Path=/console/; Max-Age={age_s}; HttpOnly; SameSite=Strict{secure}"
        );
        if let Ok(mut cookie) = HeaderValue::try_from(cookie) {
            cookie.set_sensitive(true);
            response.headers_mut().append(header::SET_COOKIE, cookie);
        }
    }
}

/// Sends a person to the sign-in page and back here afterwards. A script gets a 401.
fn sign_in_again(parts: &Parts) -> Response<Body> {
    let (path, query) = (parts.uri.path(), parts.uri.query());
    if path.starts_with("/console/api/") {
        return respond::reject(ErrorCode::AuthenticationFailed, "sign in again");
    }
    let had_session = parts.headers.contains_key(header::COOKIE);
    let note = if had_session { "&note=ended" } else { "" };
    let is_page = parts.method == axum::http::Method::GET;
    // An export is a file; the page with its link is the one to come back to.
    let path = if path == "/console/audit/export" { "/console/audit" } else { path };
    let to = match query {
        _ if !is_page || path == "/console/keys" && query.is_none() => String::new(),
        Some(query) => encoded(&format!("{path}?{query}")),
        None => encoded(path),
    };
    redirect(&format!("/console/sign-in?to={to}{note}"))
}

/// A path and its query, encoded as the value of a query.
fn encoded(path: &str) -> String {
    path.replace('%', "%25").replace('&', "%26").replace('+', "%2B").replace('#', "%23")
}
