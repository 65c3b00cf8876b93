//! The admin listener's routes, and the health and metrics pages.

pub(crate) mod bulk;
pub(crate) mod cluster;
pub(crate) mod keys;
pub(crate) mod listing;
pub(crate) mod transfer;
pub(crate) mod usage;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, MatchedPath, Request, State};
use axum::http::{HeaderMap, Response, StatusCode};
use axum::middleware::{self, Next};
use axum::routing::{delete, get, post};
use fluxgate_api::cluster::Health;
use fluxgate_api::error::{ErrorCode, NEEDS_CERTIFICATE};
use fluxgate_api::paths;
use fluxgate_api::text::Text;
use fluxgate_api::usage::{CredentialKind, Whoami};
use fluxgate_node::state::NodeState;
use fluxgate_types::Scope;

use crate::console;
use crate::shared::auth::{Principal, authenticate};
use crate::shared::respond;

/// The routes of the admin listener.
pub(crate) fn router(state: Arc<NodeState>) -> Router {
    Router::new()
        .route(paths::KEYS, post(keys::create).get(listing::list))
        .route(paths::KEY, get(keys::read).patch(keys::update).delete(keys::revoke))
        .route(paths::KEY_ROTATE, post(keys::rotate))
        .route(paths::KEY_USAGE, get(usage::usage))
        .route(paths::AUDIT, get(listing::audit))
        .route(paths::WHOAMI, get(whoami))
        .route(paths::CLUSTER, get(cluster::view))
        .route(paths::CLUSTER_NODES, post(cluster::add))
        .route(paths::CLUSTER_NODE, delete(cluster::remove))
        .route(paths::CLUSTER_LEADER, post(cluster::hand_over))
        .route(paths::CLUSTER_TIME, post(cluster::set_time))
        .route(paths::KEYS_IMPORT, post(transfer::import))
        .route(paths::CLUSTER_BACKUP, get(transfer::backup))
        .route(paths::CLUSTER_RESTORE, post(transfer::restore))
        .route(paths::LIVEZ, get(livez))
        .route(paths::READYZ, get(readyz))
        .route(paths::METRICS, get(metrics))
        .route(paths::OPENAPI, get(openapi))
        .fallback(respond::not_found)
        .method_not_allowed_fallback(respond::method_not_allowed)
        .with_state(Arc::clone(&state))
        .merge(console::router(Arc::clone(&state)))
        .layer(middleware::from_fn_with_state(state, measure))
}

/// What a caller may ask who presents no certificate though the listener requires one: whether the node
/// lives and is ready. All else is refused as by a node that cannot be reached, so that gateways ask
/// the next one, or close.
pub(crate) fn probes(state: Arc<NodeState>, with_metrics: bool) -> Router {
    let mut router =
        Router::new().route(paths::LIVEZ, get(livez)).route(paths::READYZ, get(readyz));
    if with_metrics {
        router = router.route(paths::METRICS, get(metrics));
    }
    router.fallback(without_certificate).with_state(state)
}

/// Refuses a caller who presents no certificate, and says so in the log now and then.
async fn without_certificate(
    State(state): State<Arc<NodeState>>,
    request: Request,
) -> Response<Body> {
    let (parts, _) = request.into_parts();
    if state.strangers.may_tell_of_missing_certificate() {
        let from = origin(&parts);
        let from = from.as_deref().unwrap_or("-");
        tracing::warn!(
            from,
            "a caller without a client certificate was refused; others are for a minute without a word"
        );
    }
    respond::refuse(ErrorCode::Unavailable, NEEDS_CERTIFICATE)
}

/// Counts and times every request, and gives it a span.
async fn measure(
    State(state): State<Arc<NodeState>>,
    request: Request,
    next: Next,
) -> Response<Body> {
    let begun = Instant::now();
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let route = route.unwrap_or_else(|| "other".to_owned());
    let span = fluxgate_node::telemetry::server_span(&route, request.headers());
    let answered = async {
        let response = next.run(request).await;
        tracing::debug!(status = response.status().as_u16(), "answered");
        response
    };
    let response = fluxgate_node::telemetry::within(span, answered).await;
    state.metrics.served(&route, method.as_str(), response.status().as_u16(), begun.elapsed());
    response
}

/// The address that a request came from, for the audit trail.
pub(crate) fn origin(request: &axum::http::request::Parts) -> Option<Box<str>> {
    let info = request.extensions.get::<ConnectInfo<SocketAddr>>()?;
    Some(info.0.ip().to_string().into())
}

/// The process runs.
pub(crate) async fn livez(State(state): State<Arc<NodeState>>) -> Response<Body> {
    respond::json(StatusCode::OK, &Health::ok(state.me.0))
}

/// It would answer validates. What else is wrong with this node is in the body.
pub(crate) async fn readyz(State(state): State<Arc<NodeState>>) -> Response<Body> {
    match state.not_ready() {
        None => {
            let health = Health { warnings: state.own_warnings(), ..Health::ok(state.me.0) };
            respond::json(StatusCode::OK, &health)
        }
        Some(why) => {
            // An operator gets more detail than a caller.
            let why = state.reason().map_or_else(|| why.to_owned(), |reason| reason.to_string());
            respond::refuse(ErrorCode::Unavailable, why)
        }
    }
}

async fn metrics(State(state): State<Arc<NodeState>>) -> Response<Body> {
    state.refresh_metrics();
    match state.metrics.text() {
        Ok(text) => {
            respond::bytes(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text.into())
        }
        Err(code) => respond::refuse(code, "metrics cannot be written"),
    }
}

async fn openapi() -> Response<Body> {
    let text = fluxgate_api::openapi::json();
    respond::bytes(StatusCode::OK, "application/json", text.into())
}

async fn whoami(State(state): State<Arc<NodeState>>, headers: HeaderMap) -> Response<Body> {
    let who = match authenticate(&state, &headers, Scope::Read).await {
        Ok(who) => who,
        Err(denied) => return denied.into_response(&state),
    };
    let whoami = match who {
        Principal::Operator => Whoami {
            kind: CredentialKind::Operator,
            key_id: None,
            name: None,
            scope: Scope::Admin,
            owner: None,
        },
        Principal::Key { entry, .. } => Whoami {
            kind: CredentialKind::Key,
            key_id: Some(Text(entry.record.id)),
            name: Some(entry.record.name.to_string()),
            scope: entry.record.scope,
            owner: entry.record.owner.as_ref().map(ToString::to_string),
        },
    };
    respond::json(StatusCode::OK, &whoami)
}
