//! The health checks, which the gateway and admin listeners serve to every caller.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use fluxgate_api::cluster::Health;
use fluxgate_api::error::ErrorCode;
use fluxgate_api::paths;
use fluxgate_node::state::NodeState;

use crate::shared::error::ApiError;
use crate::shared::respond::Json;

pub(crate) fn router() -> Router<Arc<NodeState>> {
    Router::new().route(paths::LIVEZ, get(livez)).route(paths::READYZ, get(readyz))
}

/// `GET /livez`: the process runs.
async fn livez(State(state): State<Arc<NodeState>>) -> Json<Health> {
    Json(StatusCode::OK, Health::ok(state.me.0))
}

/// `GET /readyz`: the node would answer validates. The body has warnings, which do not change that.
async fn readyz(State(state): State<Arc<NodeState>>) -> Result<Json<Health>, ApiError> {
    let Some(why) = state.not_ready() else {
        let health = Health { warnings: state.own_warnings(), ..Health::ok(state.me.0) };
        return Ok(Json(StatusCode::OK, health));
    };
    // Operators get more detail here than callers get from a validate.
    let why = state.reason().map_or_else(|| why.to_owned(), |reason| reason.to_string());
    Err(ApiError::new(ErrorCode::Unavailable, why))
}
