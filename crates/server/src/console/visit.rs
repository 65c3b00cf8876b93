//! One request of somebody who is signed in.
//!
//! Answers for: at every request, what the session was begun with is looked up anew in this node's
//! table, so that a session ends with its key on every node at once. Also for the frame around
//! pages, and for pages that say why there is no other.

use std::sync::Arc;

use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{HeaderValue, Response, StatusCode, header};
use fluxgate_api::error::{ErrorBody, ErrorCode};
use fluxgate_console::form::Fields;
use fluxgate_console::health::{self, Severity};
use fluxgate_console::page::{Frame, MessagePage, Section, Viewer, render};
use fluxgate_console::session::{Session, SessionPrincipal};
use fluxgate_engine::state::record::{KeyEntry, Status};
use fluxgate_node::config::Secret;
use fluxgate_types::{Digest, Scope};

use super::{Console, EarlyResponse, html, redirect};
use crate::admin::cluster::cluster_view;
use crate::admin::origin;
use crate::shared::auth::{Principal, RequestContext};
use crate::shared::body::read_body;
use crate::shared::error::ApiError;

/// Most cookies of our name that are looked at.
const COOKIES_MAX: usize = 8;

/// The status of a refusal.
pub(super) fn status_of(body: &ErrorBody) -> StatusCode {
    StatusCode::from_u16(body.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// Somebody who is signed in, at one request.
#[derive(Debug)]
pub(super) struct SignedIn {
    pub(super) caller: RequestContext,
    session: Session,
    now_s: u64,
}

/// The values of a cookie: another site of the same host may have set one before ours.
fn cookies<'a>(parts: &'a Parts, name: &'a str) -> impl Iterator<Item = &'a str> {
    let lines = parts.headers.get_all(header::COOKIE).iter();
    let pairs = lines.filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(';'));
    let pairs = pairs.filter_map(|pair| pair.trim().split_once('='));
    pairs.filter(move |(known, _)| *known == name).map(|(_, value)| value).take(COOKIES_MAX)
}

impl Console {
    pub(super) fn now_s(&self) -> u64 {
        self.state.now().0 / 1_000
    }

    /// Who asks, if the session is good; else the way to sign in.
    pub(super) fn enter(&self, parts: &Parts) -> Result<SignedIn, EarlyResponse> {
        let now_s = self.now_s();
        let session = cookies(parts, self.cookie()).find_map(|text| self.signer.open(text, now_s));
        let Some(session) = session else { return Err(Box::new(sign_in_again(parts))) };
        // A node that is behind might take a dead key for a live one.
        if let (SessionPrincipal::Key(_), Some(why)) = (session.holder, self.state.not_ready()) {
            let text = format!(
                "Not now: {why}. Open the console of another node; the session is good there too."
            );
            let status = StatusCode::SERVICE_UNAVAILABLE;
            return Err(Box::new(self.message(
                None,
                status,
                "This node cannot answer",
                &text,
                &[],
            )));
        }
        match self.holder(&session) {
            Some(who) => {
                Ok(SignedIn { caller: RequestContext { who, from: origin(parts) }, session, now_s })
            }
            None => Err(Box::new(sign_in_again(parts))),
        }
    }

    /// The administrator of a session, if what it was begun with is still good.
    fn holder(&self, session: &Session) -> Option<Principal> {
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

    /// The credential that a session was begun with, if it still opens the key and administers.
    fn presented(&self, entry: &KeyEntry, session: &Session) -> Option<Digest> {
        let (record, now) = (&entry.record, self.state.now());
        let previous = record.previous.as_ref().map(|previous| previous.digest);
        let digests = [Some(record.digest), previous];
        let presented = digests
            .into_iter()
            .flatten()
            .find(|digest| self.signer.tag(digest) == session.bound)?;
        let is_good = record.opens(&presented, now)
            && record.status(now) == Status::Active
            && record.scope.includes(Scope::Admin);
        is_good.then_some(presented)
    }

    /// The same for a form, which must carry its session's token.
    pub(super) async fn enter_form(
        &self,
        parts: &Parts,
        body: Body,
    ) -> Result<(SignedIn, Fields), EarlyResponse> {
        let visit = self.enter(parts)?;
        let fields = self.fields(parts, body).await;
        let fields = fields.map_err(|refused| Box::new(self.refused(&visit, refused)))?;
        if !self.signer.is_form_token(&visit.session, fields.get("form_token")) {
            let text = "Nothing was changed. Go back, reload the page and send the form again.";
            let heading = "This form is of another session";
            return Err(Box::new(self.message(
                Some(&visit),
                StatusCode::FORBIDDEN,
                heading,
                text,
                &[("/console/keys", "API Keys")],
            )));
        }
        Ok((visit, fields))
    }

    /// Reads a form.
    pub(super) async fn fields(&self, parts: &Parts, body: Body) -> Result<Fields, ApiError> {
        let config = &self.state.config;
        let body = read_body(body, config.max_body_bytes, config.request_timeout).await?;
        let media_type = parts.headers.get(header::CONTENT_TYPE);
        let essence = media_type.and_then(|value| value.to_str().ok()).unwrap_or_default();
        if !essence.starts_with("application/x-www-form-urlencoded") {
            let message = "the body must be a form";
            return Err(ApiError::new(ErrorCode::UnsupportedMediaType, message));
        }
        let many = || ApiError::new(ErrorCode::TooLarge, "the form has too many fields");
        Fields::parse(&body).ok_or_else(many)
    }

    /// What stands around a page.
    pub(super) fn frame(&self, visit: Option<&SignedIn>, title: &str, section: Section) -> Frame {
        let viewer = visit.map(|visit| {
            let (name, owner) = match &visit.caller.who {
                Principal::Operator => ("Operator".to_owned(), None),
                Principal::Key { entry, .. } => {
                    let owner = entry.record.owner.as_ref().map(ToString::to_string);
                    (entry.record.name.to_string(), owner)
                }
            };
            let form_token = self.signer.form_token(&visit.session);
            let own = visit.entry().map(|entry| entry.record.id.to_string());
            let own = own.unwrap_or_default();
            Viewer { name, owner, own, is_operator: visit.is_operator(), form_token }
        });
        let is_operator = viewer.as_ref().is_some_and(|viewer| viewer.is_operator);
        let problems = if is_operator {
            let mut problems = health::problems(&cluster_view(&self.state));
            problems.retain(|problem| problem.severity >= Severity::Degraded);
            problems
        } else {
            Vec::new()
        };
        Frame {
            title: title.to_owned(),
            section,
            viewer,
            node: self.state.me.0,
            cluster: self.state.config.cluster_name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            problems,
            canonical: String::new(),
        }
    }

    /// A page for a visit; the session is noted as in use.
    pub(super) fn show(
        &self,
        visit: &SignedIn,
        status: StatusCode,
        page: impl Into<Body>,
    ) -> Response<Body> {
        let mut response = html(status, page);
        if visit.session.is_stale(visit.now_s) {
            let session = Session { used_s: visit.now_s, ..visit.session };
            self.keep(&mut response, &session, visit.now_s);
        }
        response
    }

    /// Gives the browser a session.
    pub(super) fn keep(&self, response: &mut Response<Body>, session: &Session, now_s: u64) {
        self.set_cookie(response, &self.signer.seal(session), session.left_s(now_s));
    }

    /// Takes the session from the browser.
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

    /// A page that says one thing.
    pub(super) fn message(
        &self,
        visit: Option<&SignedIn>,
        status: StatusCode,
        heading: &str,
        text: &str,
        links: &[(&str, &str)],
    ) -> Response<Body> {
        let page = MessagePage {
            frame: self.frame(visit, heading, Section::None),
            heading: heading.to_owned(),
            text: text.to_owned(),
            links: links
                .iter()
                .map(|(to, words)| ((*to).to_owned(), (*words).to_owned()))
                .collect(),
        };
        html(status, render(&page))
    }

    /// A page that says why something was not done.
    pub(super) fn refused(&self, visit: &SignedIn, refused: ApiError) -> Response<Body> {
        let body = refused.body();
        let status = status_of(&body);
        let ErrorBody { error, message } = body;
        let (heading, advice) = match error {
            ErrorCode::AuthenticationFailed | ErrorCode::GatewayUnauthorized => {
                return redirect("/console/sign-in?note=ended");
            }
            ErrorCode::NotFound => ("No such key", "It may belong to another owner."),
            ErrorCode::Conflict => ("That is not possible now", "Reload the key and look."),
            ErrorCode::AlreadyDone => return self.already_done(visit, &message),
            ErrorCode::IdempotencyKeyReused => {
                ("This form was sent before, with another content", "Open it anew.")
            }
            ErrorCode::PreconditionFailed => {
                ("Somebody changed it meanwhile", "Reload the key and make your change again.")
            }
            ErrorCode::NoLeader | ErrorCode::Unavailable => {
                ("The cluster takes no changes now", "Try again in a few seconds.")
            }
            ErrorCode::RequestTimeout => {
                ("The outcome is not known", "Look at the key before you try again.")
            }
            ErrorCode::InsufficientScope => ("This is not yours to change", ""),
            ErrorCode::InvalidRequest
            | ErrorCode::RateLimitExceeded
            | ErrorCode::MethodNotAllowed
            | ErrorCode::TooLarge
            | ErrorCode::UnsupportedMediaType
            | ErrorCode::HeadersTooLarge
            | ErrorCode::Internal => ("That did not work", "Go back and try again."),
        };
        let text = format!("The node says: {message}. {advice}");
        self.message(Some(visit), status, heading, &text, &[("/console/keys", "API Keys")])
    }

    /// A form that was sent again: what it made is there, and its key was shown.
    fn already_done(&self, visit: &SignedIn, message: &str) -> Response<Body> {
        let id = message.split(' ').find(|word| word.starts_with("key_")).unwrap_or_default();
        let text = "This form was sent before, and its key was shown then, once. No second key \
            was made. If nobody kept it, rotate the key to get a new secret.";
        let key = format!("/console/keys/{id}");
        let rotate = format!("{key}/rotate");
        let links = [(key.as_str(), "See the key"), (rotate.as_str(), "Rotate it")];
        self.message(Some(visit), StatusCode::CONFLICT, "Already made", text, &links)
    }
}

impl SignedIn {
    pub(super) fn is_operator(&self) -> bool {
        matches!(self.caller.who, Principal::Operator)
    }

    /// The key that the session was begun with, if it was one.
    pub(super) fn entry(&self) -> Option<&Arc<KeyEntry>> {
        match &self.caller.who {
            Principal::Operator => None,
            Principal::Key { entry, .. } => Some(entry),
        }
    }
}

/// To the sign-in, and back here afterwards. A script is told by the status alone.
fn sign_in_again(parts: &Parts) -> Response<Body> {
    let (path, query) = (parts.uri.path(), parts.uri.query());
    if path.starts_with("/console/api/") {
        let body = ErrorBody::new(ErrorCode::AuthenticationFailed, "sign in again");
        return crate::shared::respond::error(&body);
    }
    let had_session = parts.headers.contains_key(header::COOKIE);
    let note = if had_session { "&note=ended" } else { "" };
    let is_page = parts.method == axum::http::Method::GET;
    // A file that is fetched is no page to go back to, but the one that has its link is.
    let path = if path == "/console/audit/export" { "/console/audit" } else { path };
    let to = match query {
        _ if !is_page || path == "/console/keys" && query.is_none() => String::new(),
        Some(query) => super::sign_in::encoded(&format!("{path}?{query}")),
        None => super::sign_in::encoded(path),
    };
    redirect(&format!("/console/sign-in?to={to}{note}"))
}
