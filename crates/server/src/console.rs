//! The web console on the admin listener: the pages below `/console/`.
//!
//! Answers for: which address shows which page, and the headers that every response of the console
//! has. The console can do what the JSON interface can do, by the same functions, and nothing else.

mod audit;
mod cluster;
mod confirm;
mod edit;
mod erase;
mod files;
mod guard;
mod key;
mod keys;
mod page;
mod response;
mod revoke;
mod rotate;
mod sign_in;
mod signed_in;

use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{Response, StatusCode};
use axum::middleware;
use axum::routing::{any, get};
use fluxgate_console::session::{SIGNING_KEY_BYTES, Signer};
use fluxgate_console::slowdown::Slowdown;
use fluxgate_node::config::Tokens;
use fluxgate_node::state::NodeState;

use self::response::{EarlyResponse, redirect};
use self::signed_in::SignedIn;
use crate::shared::respond;

const COOKIE: &str = "fluxgate_session";
/// Browsers accept a cookie with this prefix only over TLS.
const COOKIE_UNDER_TLS: &str = "__Secure-fluxgate_session";

/// The state of the console.
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

/// A signing key for this process alone, for a node without a cluster secret.
fn own_key(state: &NodeState) -> [u8; SIGNING_KEY_BYTES] {
    let mut key = [0; SIGNING_KEY_BYTES];
    if let Err(error) = fluxgate_node::random::fill_random(&mut key) {
        // Strangers do not know the operator token either. Without randomness there are no keys.
        tracing::error!(%error, "the operating system gives no randomness: the operator token seals the console's sessions");
        let tokens = state.config.operator_token.as_ref().map(Tokens::all);
        let tokens = tokens.iter().flat_map(|all| all.iter());
        let token: String = tokens.map(|token| token.expose()).collect();
        let secret =
            format!("{token} {:?} {:?} {}", state.start.boot(), state.start.dir_id, state.now());
        key = *fluxgate_types::Digest::of(secret.as_bytes()).as_bytes();
    }
    key
}

/// The console's routes.
pub(crate) fn router(state: Arc<NodeState>) -> Router {
    let console = Arc::new(Console::new(state));
    Router::new()
        .route("/console", get(|| async { redirect("/console/") }))
        .route("/console/", get(|| async { redirect("/console/keys") }))
        .merge(sign_in::router())
        .merge(keys::router())
        .merge(key::router())
        .merge(edit::router())
        .merge(rotate::router())
        .merge(revoke::router())
        .merge(erase::router())
        .merge(audit::router())
        .merge(cluster::router())
        .merge(files::router())
        .route("/console/{*rest}", any(not_found))
        .method_not_allowed_fallback(respond::method_not_allowed)
        .layer(middleware::from_fn_with_state(Arc::clone(&console), guard::check))
        .with_state(console)
}

/// The response for an address that has no page.
async fn not_found(
    State(console): Shared,
    signed_in: Result<SignedIn, EarlyResponse>,
) -> Response<Body> {
    let links = [("/console/keys", "API Keys")];
    let text = "There is no page at this address. Check it for a typing error; another version of the \
        console may have had a page here.";
    let signed_in = signed_in.ok();
    console.message(signed_in.as_ref(), StatusCode::NOT_FOUND, "No such page", text, &links)
}
