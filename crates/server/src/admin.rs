//! The admin listener: keys, the audit trail, the cluster and the console.

pub(crate) mod audit;
mod backup;
mod bulk;
pub(crate) mod cluster;
pub(crate) mod keys;
pub(crate) mod listing;
mod metrics;
mod openapi;
mod paging;
mod probes;
mod records;
mod transfer;
pub(crate) mod usage;
mod whoami;

use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::Response;
use axum::middleware::{self, Next};
use fluxgate_node::state::NodeState;

use crate::console;
use crate::shared::{health, respond};

pub(crate) use probes::probes;

/// The routes of the admin listener.
pub(crate) fn router(state: Arc<NodeState>) -> Router {
    Router::new()
        .merge(keys::router())
        .merge(records::router())
        .merge(listing::router())
        .merge(usage::router())
        .merge(transfer::router())
        .merge(audit::router())
        .merge(whoami::router())
        .merge(cluster::router())
        .merge(backup::router())
        .merge(health::router())
        .merge(metrics::router())
        .merge(openapi::router())
        .fallback(respond::not_found)
        .method_not_allowed_fallback(respond::method_not_allowed)
        .with_state(Arc::clone(&state))
        .merge(console::router(Arc::clone(&state)))
        .layer(middleware::from_fn_with_state(state, measure))
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
    let answered = pin!(async {
        let response = next.run(request).await;
        tracing::debug!(status = response.status().as_u16(), "answered");
        response
    });
    let response = fluxgate_node::telemetry::within(span, answered).await;
    state.metrics.served(&route, method.as_str(), response.status().as_u16(), begun.elapsed());
    response
}
