//! Signing in and out.
//!
//! Answers for: the credential is checked like that of any other call; failed tries cost time; after
//! signing in, the browser goes to a page of the console and to no other site.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{Request, Response, StatusCode, Uri, header};
use axum::response::IntoResponse as _;
use axum::routing::{get, post};
use fluxgate_api::error::{ErrorBody, ErrorCode};
use fluxgate_console::form::Fields;
use fluxgate_console::page::{Section, SignInPage, render};
use fluxgate_console::session::{NONCE_BYTES, Session, SessionPrincipal};
use fluxgate_engine::state::audit::Action;
use fluxgate_engine::state::command::Actor;
use fluxgate_node::clock::boot_now;
use fluxgate_peer::process;
use fluxgate_types::{Digest, Scope, caps};

use super::page::status_of;
use super::response::{EarlyResponse, html, redirect};
use super::signed_in::{SentForm, SignedIn};
use super::{Console, Shared};
use crate::gateway::validate::PresentedCredential;
use crate::shared::auth::{Principal, identify};
use crate::shared::client_addr::client_addr;
use crate::shared::error::ApiError;
use crate::shared::respond;

/// The longest address to return to after signing in, bytes.
const RETURN_BYTES_MAX: usize = 2_048;

pub(super) fn router() -> Router<Arc<Console>> {
    Router::new()
        .route("/console/sign-in", get(page).post(submit))
        .route("/console/sign-out", post(out))
}

/// The address to return to after signing in: a page of the console or, for any other address, nothing.
fn safe_return(to: &str) -> &str {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '_' | '-');
    let (path, query) = to.split_once('?').unwrap_or((to, ""));
    let is_query = |c: char| is_plain(c) || matches!(c, '=' | '&' | '%' | '+' | '.' | '~' | ',');
    let is_ours = path.starts_with("/console/") && !to.contains("//") && path.chars().all(is_plain);
    if is_ours && query.chars().all(is_query) && to.len() <= RETURN_BYTES_MAX { to } else { "" }
}

/// `GET /console/sign-in`.
async fn page(
    State(console): Shared,
    signed_in: Result<SignedIn, EarlyResponse>,
    uri: Uri,
) -> Response<Body> {
    if signed_in.is_ok() {
        return redirect("/console/keys");
    }
    let query = Fields::parse(uri.query().unwrap_or_default().as_bytes());
    let query = query.unwrap_or_default();
    let note = match query.get("note") {
        "out" => "You are signed out.",
        "ended" => "The session has ended. Sign in again.",
        _ => "",
    };
    console.sign_in_page(StatusCode::OK, query.get("to"), note, "")
}

impl Console {
    fn sign_in_page(
        &self,
        status: StatusCode,
        to: &str,
        note: &str,
        error: &str,
    ) -> Response<Body> {
        let page = SignInPage {
            frame: self.frame(None, "Sign in", Section::None),
            error: error.to_owned(),
            to: safe_return(to).to_owned(),
            note: note.to_owned(),
        };
        html(status, render(&page))
    }

    fn rejected_sign_in(&self, body: &ErrorBody, to: &str) -> Response<Body> {
        self.sign_in_page(status_of(body), to, "", &error_text(body.error, &body.message))
    }
}

/// `POST /console/sign-in`.
async fn submit(State(console): Shared, request: Request<Body>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let fields = match console.fields(&parts.headers, body).await {
        Ok(fields) => fields,
        Err(error) => return console.rejected_sign_in(&error.body(), ""),
    };
    let (token, to) = (fields.get("token"), fields.get("to"));
    if token.is_empty() {
        let error = "Paste the operator token or an admin key.";
        return console.sign_in_page(StatusCode::BAD_REQUEST, to, "", error);
    }
    let from = client_addr(&parts).unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let seconds = || boot_now().0 / 1_000_000_000;
    // A statement of its own: the lock must not be held while the credential is checked.
    let begun = console.slowdown().begin(from, seconds());
    if let Err(wait_s) = begun {
        let error =
            format!("Too many failed tries from this address. Try again in {wait_s} seconds.");
        let mut response = console.sign_in_page(StatusCode::TOO_MANY_REQUESTS, to, "", &error);
        respond::set(&mut response, header::RETRY_AFTER, wait_s);
        return response;
    }
    let presented = PresentedCredential::One(token.as_bytes());
    let from_text = || Some(from.to_string().into_boxed_str());
    match identify(&console.state, presented, Scope::Admin).await {
        Ok(principal) => {
            console.slowdown().end(from, seconds(), true);
            console.note_success(&principal, from_text()).await;
            console.begin(&principal, token, to)
        }
        Err(error) => {
            let body = error.body();
            console.note_failure(&body, from_text(), seconds());
            // A valid key was no guess. Any other failure counts as one, even if the node cannot
            // check keys: it still compares the operator token.
            let is_valid_key =
                matches!(body.error, ErrorCode::InsufficientScope | ErrorCode::RateLimitExceeded);
            if is_valid_key {
                console.slowdown().end(from, seconds(), false);
            }
            console.rejected_sign_in(&body, to)
        }
    }
}

/// Counts failed tries to sign in. Only some are recorded, so that guessing cannot fill the audit
/// trail.
#[derive(Debug, Default)]
pub(super) struct Failures {
    since_s: u64,
    recorded: u32,
    left_out: u64,
}

impl Failures {
    /// Counts a failed try. If it is to be recorded: how many tries before it were not.
    fn note(&mut self, now_s: u64) -> Option<u64> {
        if now_s.saturating_sub(self.since_s) >= 60 {
            (self.since_s, self.recorded) = (now_s, 0);
        }
        if self.recorded == caps::SIGN_IN_FAILURES_NOTED_PER_MINUTE_MAX {
            self.left_out += 1;
            return None;
        }
        self.recorded += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

/// Why a try failed; `None` if the node could not check the credential.
fn failure_text(body: &ErrorBody) -> Option<&'static str> {
    let why = [
        (ErrorCode::AuthenticationFailed, "neither the operator token nor an active admin key"),
        (ErrorCode::InsufficientScope, "a key without scope admin"),
        (ErrorCode::RateLimitExceeded, "an admin key over its limit"),
    ];
    why.into_iter().find(|(code, _)| *code == body.error).map(|(_, why)| why)
}

fn error_text(code: ErrorCode, message: &str) -> String {
    if code == ErrorCode::AuthenticationFailed {
        "This is neither the operator token nor an active admin key.".to_owned()
    } else if code == ErrorCode::InsufficientScope {
        "This key is good, but the console needs one of scope admin.".to_owned()
    } else if code == ErrorCode::Unavailable {
        format!("This node cannot check it now: {message}. Try another.")
    } else {
        message.to_owned()
    }
}

impl Console {
    /// Records a sign-in, BEFORE the session begins unless the node cannot write now.
    async fn note_success(&self, principal: &Principal, from: Option<Box<str>>) {
        let (state, actor) = (Arc::clone(&self.state), principal.actor());
        let is_ready = state.not_ready().is_none();
        let recorded = tokio::spawn(process::bind(async move {
            state.writes.note(actor, from, Action::SignedIn, "signed in".into()).await;
        }));
        if is_ready {
            recorded.await.ok();
        }
    }

    /// Records a failed try. The response does not wait for that: a node that cannot write must still
    /// count tries.
    fn note_failure(&self, body: &ErrorBody, from: Option<Box<str>>, now_s: u64) {
        let Some(details) = failure_text(body) else { return };
        // At most `SIGN_IN_FAILURES_PER_MINUTE_MAX` of these lines.
        tracing::warn!(
            from = from.as_deref().unwrap_or("-"),
            "a sign-in to the console failed: {details}"
        );
        let Some(left_out) = self.failures().note(now_s) else { return };
        let details = match left_out {
            0 => details.to_owned(),
            n => format!("{details}; {n} failed tries before this one have no line of their own"),
        };
        let state = Arc::clone(&self.state);
        tokio::spawn(process::bind(async move {
            state.writes.note(Actor::System, from, Action::SignInFailed, details).await;
        }));
    }

    /// Begins a session.
    fn begin(&self, principal: &Principal, token: &str, to: &str) -> Response<Body> {
        let mut nonce = [0; NONCE_BYTES];
        if fluxgate_node::random::fill_random(&mut nonce).is_err() {
            let message = "the operating system gives no randomness";
            return ApiError::new(ErrorCode::Unavailable, message).into_response();
        }
        let now_s = self.now_s();
        let holder = match principal {
            Principal::Operator => SessionPrincipal::Operator,
            Principal::Key { entry, .. } => SessionPrincipal::Key(entry.id()),
        };
        let bound = self.signer.tag(&Digest::of(token.as_bytes()));
        let session = Session { holder, bound, begun_s: now_s, used_s: now_s, nonce };
        let to = Some(safe_return(to)).filter(|to| !to.is_empty()).unwrap_or("/console/keys");
        let mut response = redirect(to);
        self.keep(&mut response, &session, now_s);
        response
    }
}

/// `POST /console/sign-out`.
async fn out(State(console): Shared, _: SentForm) -> Response<Body> {
    let mut response = redirect("/console/sign-in?note=out");
    console.forget(&mut response);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_failed_tries_leaves_some_lines_and_a_count() {
        let mut failures = Failures::default();
        let max = caps::SIGN_IN_FAILURES_NOTED_PER_MINUTE_MAX;
        let noted = (0..1_000).filter_map(|_| failures.note(1_000)).count();
        assert_eq!(noted, max as usize);
        assert_eq!(failures.note(1_060), Some(1_000 - u64::from(max)));
        assert_eq!(failures.note(1_060), Some(0));
    }

    #[test]
    fn no_sign_in_leads_to_another_site() {
        for to in [
            "/console/keys",
            "/console/keys/key_Qm2xK9dA3f01/edit",
            "/console/keys?search=a%20b+c&status=active&cursor=c-1f",
        ] {
            assert_eq!(safe_return(to), to);
        }
        for to in [
            "",
            "//evil.example",
            "https://evil.example/console/",
            "/console//evil.example",
            "/console/\r\nset-cookie: a=b",
            "/console/\\evil",
            "/v1/keys",
            "/v1/keys?to=/console/",
            "/console/keys?a=<b>",
            "/console/keys?a=b#c",
            "/console/keys?a=//evil.example",
        ] {
            assert_eq!(safe_return(to), "", "{to}");
        }
    }
}
