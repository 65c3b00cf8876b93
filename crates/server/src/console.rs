//! The web console on the admin listener: pages below `/console/`.
//!
//! Answers for: which address shows which page, and what every answer of the console has in its
//! head. What can be done is what the JSON interface can do, by the same functions.

mod audit;
mod cluster;
mod erase;
mod files;
mod guard;
mod key;
mod keys;
mod sign_in;
mod visit;

use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, Request, Response, StatusCode, header};
use axum::middleware;
use axum::routing::{any, get, post};
use fluxgate_console::session::{SIGNING_KEY_BYTES, Signer};
use fluxgate_console::slowdown::Slowdown;
use fluxgate_node::config::Tokens;
use fluxgate_node::state::NodeState;

use crate::shared::respond;

const COOKIE: &str = "fluxgate_session";
/// The prefix makes browsers refuse it from a page without TLS.
const COOKIE_UNDER_TLS: &str = "__Secure-fluxgate_session";

/// What the console keeps beside the node.
#[derive(Debug)]
struct Console {
    state: Arc<NodeState>,
    signer: Signer,
    slowdown: Mutex<Slowdown>,
    failures: Mutex<sign_in::Failures>,
    // All callers speak TLS.
    is_secure: bool,
}

type Shared = State<Arc<Console>>;
/// An answer in place of the page that was asked for.
type EarlyResponse = Box<Response<Body>>;

impl Console {
    fn new(state: Arc<NodeState>) -> Self {
        let signer = match &state.config.cluster_secret {
            Some(secret) => Signer::of_secret(secret.expose().as_bytes()),
            None => Signer::of_random(own_key(&state)),
        };
        let tls = state.config.admin_tls.as_ref();
        let is_secure = tls.is_some_and(|tls| !tls.accept_plain);
        let (slowdown, failures) = (Mutex::default(), Mutex::default());
        Self { state, signer, slowdown, failures, is_secure }
    }

    fn slowdown(&self) -> std::sync::MutexGuard<'_, Slowdown> {
        self.slowdown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failures(&self) -> std::sync::MutexGuard<'_, sign_in::Failures> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cookie(&self) -> &'static str {
        if self.is_secure { COOKIE_UNDER_TLS } else { COOKIE }
    }
}

/// A signing key of this process alone, where no secret is shared.
fn own_key(state: &NodeState) -> [u8; SIGNING_KEY_BYTES] {
    let mut key = [0; SIGNING_KEY_BYTES];
    if let Err(error) = fluxgate_node::state::fill_random(&mut key) {
        // Still nothing that a stranger knows; without randomness there would be no keys either.
        tracing::error!(%error, "the console's sessions are sealed by the operator token");
        let tokens = state.config.operator_token.as_ref().map(Tokens::all);
        let tokens = tokens.iter().flat_map(|all| all.iter());
        let token: String = tokens.map(|token| token.expose()).collect();
        let secret = format!("{token} {:?} {:?} {}", state.boot(), state.dir_id, state.now());
        key = *fluxgate_types::Digest::of(secret.as_bytes()).as_bytes();
    }
    key
}

/// The console's routes.
pub(crate) fn router(state: Arc<NodeState>) -> Router {
    let console = Arc::new(Console::new(state));
    Router::new()
        .route("/console", get(|| async { redirect("/console/") }))
        .route("/console/", get(home))
        .route("/console/sign-in", get(sign_in::page).post(sign_in::submit))
        .route("/console/sign-out", post(sign_in::out))
        .route("/console/keys", get(keys::list).post(keys::create))
        .route("/console/keys/new", get(keys::new))
        .route("/console/keys/{id}", get(key::page))
        .route("/console/keys/{id}/edit", get(key::edit).post(key::save))
        .route("/console/keys/{id}/enable", post(key::enable))
        .route("/console/keys/{id}/disable", post(key::disable))
        .route("/console/keys/{id}/rotate", get(key::ask_rotate).post(key::rotate))
        .route("/console/keys/{id}/revoke", get(key::ask_revoke).post(key::revoke))
        .route("/console/keys/{id}/erase", get(erase::ask).post(erase::submit))
        .route("/console/audit", get(audit::page))
        .route("/console/audit/export", get(audit::export))
        .route("/console/cluster", get(cluster::page))
        .route("/console/api/cluster", get(cluster::live))
        .route("/console/api/usage", get(keys::uses))
        .route("/console/assets/{name}", get(files::asset))
        .route("/console/{*rest}", any(lost))
        .method_not_allowed_fallback(respond::method_not_allowed)
        .layer(middleware::from_fn_with_state(Arc::clone(&console), guard::check))
        .with_state(console)
}

async fn home() -> Response<Body> {
    redirect("/console/keys")
}

/// An address that leads nowhere.
async fn lost(State(console): Shared, request: Request<Body>) -> Response<Body> {
    let (parts, _) = request.into_parts();
    let visit = console.enter(&parts).ok();
    let links = [("/console/keys", "API Keys")];
    let text =
        "There is no page at this address. It may have been mistyped, or be of another version.";
    console.message(visit.as_ref(), StatusCode::NOT_FOUND, "No such page", text, &links)
}

/// Sends the reader on, with a GET.
fn redirect(to: &str) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SEE_OTHER;
    let to = HeaderValue::try_from(to).unwrap_or(HeaderValue::from_static("/console/"));
    response.headers_mut().insert(header::LOCATION, to);
    response
}

fn html(status: StatusCode, page: impl Into<Body>) -> Response<Body> {
    respond::bytes(status, "text/html; charset=utf-8", page.into())
}
