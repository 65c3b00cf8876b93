//! Signing in and out.
//!
//! Answers for: what was presented is checked as any call's credential is, failed tries cost time,
//! and afterwards the reader goes to a page of ours and nowhere else.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{ConnectInfo, State};
use axum::http::request::Parts;
use axum::http::{Request, Response, StatusCode, header};
use fluxgate_api::error::{ErrorBody, ErrorCode};
use fluxgate_console::form::Fields;
use fluxgate_console::page::{Section, SignInPage, render};
use fluxgate_console::session::{NONCE_BYTES, Session, SessionPrincipal};
use fluxgate_engine::state::audit::Action;
use fluxgate_engine::state::command::Actor;
use fluxgate_node::clock::boot_now;
use fluxgate_peer::process;
use fluxgate_types::{Digest, Scope, caps};

use super::visit::status_of;
use super::{Console, Shared, html, redirect};
use crate::gateway::validate::PresentedCredential;
use crate::shared::auth::{Principal, identify};
use crate::shared::error::ApiError;
use crate::shared::respond;

/// Longest way back after signing in, bytes.
const WAY_MAX: usize = 2_048;

/// A path and its query, as the value of a query.
pub(super) fn encoded(path: &str) -> String {
    path.replace('%', "%25").replace('&', "%26").replace('+', "%2B").replace('#', "%23")
}

/// Where to go after signing in: a page of ours, whatever the query says.
fn safe_way(to: &str) -> &str {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '_' | '-');
    let (path, query) = to.split_once('?').unwrap_or((to, ""));
    let is_query = |c: char| is_plain(c) || matches!(c, '=' | '&' | '%' | '+' | '.' | '~' | ',');
    let is_ours = path.starts_with("/console/") && !to.contains("//") && path.chars().all(is_plain);
    if is_ours && query.chars().all(is_query) && to.len() <= WAY_MAX { to } else { "" }
}

/// `GET /console/sign-in`.
pub(super) async fn page(State(console): Shared, request: Request<Body>) -> Response<Body> {
    let (parts, _) = request.into_parts();
    if console.enter(&parts).is_ok() {
        return redirect("/console/keys");
    }
    let query = Fields::parse(parts.uri.query().unwrap_or_default().as_bytes());
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
            to: safe_way(to).to_owned(),
            note: note.to_owned(),
        };
        html(status, render(&page))
    }

    fn refused_sign_in(&self, body: &ErrorBody, to: &str) -> Response<Body> {
        self.sign_in_page(status_of(body), to, "", &error_text(body.error, &body.message))
    }
}

fn address(parts: &Parts) -> IpAddr {
    let info = parts.extensions.get::<ConnectInfo<SocketAddr>>();
    info.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |info| info.0.ip())
}

/// `POST /console/sign-in`.
pub(super) async fn submit(State(console): Shared, request: Request<Body>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let fields = match console.fields(&parts, body).await {
        Ok(fields) => fields,
        Err(refused) => return console.refused_sign_in(&refused.body(), ""),
    };
    let (token, to) = (fields.get("token"), fields.get("to"));
    if token.is_empty() {
        let error = "Paste the operator token or an admin key.";
        return console.sign_in_page(StatusCode::BAD_REQUEST, to, "", error);
    }
    let from = address(&parts);
    let seconds = || boot_now().0 / 1_000_000_000;
    // In a statement of its own: the lock must not be held while the credential is checked.
    let begun = console.slowdown().begin(from, seconds());
    if let Err(wait_s) = begun {
        let error =
            format!("Too many failed tries from this address. Try again in {wait_s} seconds.");
        let mut response = console.sign_in_page(StatusCode::TOO_MANY_REQUESTS, to, "", &error);
        respond::set(&mut response, header::RETRY_AFTER, wait_s);
        return response;
    }
    let presented = PresentedCredential::One(token.as_bytes());
    let origin = || Some(from.to_string().into_boxed_str());
    match identify(&console.state, presented, Scope::Admin).await {
        Ok(who) => {
            console.slowdown().end(from, seconds(), true);
            console.note_success(&who, origin()).await;
            console.begin(&who, token, to)
        }
        Err(refused) => {
            let body = refused.body();
            console.note_failure(&body, origin(), seconds());
            // Only what proves a good key is no guess: a node that cannot check keys still compares
            // the operator token.
            let is_good =
                matches!(body.error, ErrorCode::InsufficientScope | ErrorCode::RateLimitExceeded);
            if is_good {
                console.slowdown().end(from, seconds(), false);
            }
            console.refused_sign_in(&body, to)
        }
    }
}

/// Failed tries to sign in, noted so that whoever guesses cannot wash the audit trail away.
#[derive(Debug, Default)]
pub(super) struct Failures {
    since_s: u64,
    noted: u32,
    left_out: u64,
}

impl Failures {
    /// A try failed at this moment: how many before it were left out, if it is one to note.
    fn note(&mut self, now_s: u64) -> Option<u64> {
        if now_s.saturating_sub(self.since_s) >= 60 {
            (self.since_s, self.noted) = (now_s, 0);
        }
        if self.noted == caps::SIGN_IN_FAILURES_NOTED_PER_MINUTE_MAX {
            self.left_out += 1;
            return None;
        }
        self.noted += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

/// Why a try failed; none where it could not be checked, which says nothing of who tried.
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
    /// Notes a sign-in: before the session begins, but for a node that cannot write now.
    async fn note_success(&self, who: &Principal, from: Option<Box<str>>) {
        let (state, actor) = (Arc::clone(&self.state), who.actor());
        let is_ready = state.not_ready().is_none();
        let noted = tokio::spawn(process::bind(async move {
            state.note(actor, from, Action::SignedIn, "signed in".into()).await;
        }));
        if is_ready {
            noted.await.ok();
        }
    }

    /// Notes a failed try. The answer does not wait for it: a node that cannot write still counts tries.
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
            state.note(Actor::System, from, Action::SignInFailed, details).await;
        }));
    }

    /// Begins a session.
    fn begin(&self, who: &Principal, token: &str, to: &str) -> Response<Body> {
        let mut nonce = [0; NONCE_BYTES];
        if fluxgate_node::state::fill_random(&mut nonce).is_err() {
            let message = "the operating system gives no randomness";
            return ApiError::new(ErrorCode::Unavailable, message).into_response(&self.state);
        }
        let now_s = self.now_s();
        let holder = match who {
            Principal::Operator => SessionPrincipal::Operator,
            Principal::Key { entry, .. } => SessionPrincipal::Key(entry.record.id),
        };
        let bound = self.signer.tag(&Digest::of(token.as_bytes()));
        let session = Session { holder, bound, begun_s: now_s, used_s: now_s, nonce };
        let to = Some(safe_way(to)).filter(|to| !to.is_empty()).unwrap_or("/console/keys");
        let mut response = redirect(to);
        self.keep(&mut response, &session, now_s);
        response
    }
}

/// `POST /console/sign-out`.
pub(super) async fn out(State(console): Shared, request: Request<Body>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    match console.enter_form(&parts, body).await {
        Ok(_) => {
            let mut response = redirect("/console/sign-in?note=out");
            console.forget(&mut response);
            response
        }
        Err(turned) => *turned,
    }
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
    fn nobody_is_sent_to_another_site() {
        for to in [
            "/console/keys",
            "/console/keys/key_Qm2xK9dA3f01/edit",
            "/console/keys?search=a%20b+c&status=active&cursor=c-1f",
        ] {
            assert_eq!(safe_way(to), to);
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
            assert_eq!(safe_way(to), "", "{to}");
        }
    }
}
