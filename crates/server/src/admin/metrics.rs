//! `GET /metrics`: the metrics for Prometheus.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{Response, StatusCode};
use axum::routing::get;
use fluxgate_api::paths;
use fluxgate_node::state::NodeState;

use crate::shared::error::ApiError;
use crate::shared::respond;

pub(super) fn router() -> Router<Arc<NodeState>> {
    Router::new().route(paths::METRICS, get(metrics))
}

async fn metrics(State(state): State<Arc<NodeState>>) -> Result<Response<Body>, ApiError> {
    state.refresh_metrics();
    let text = state.metrics.text();
    let text = text.map_err(|code| ApiError::new(code, "metrics cannot be written"))?;
    Ok(respond::bytes(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text.into()))
}
