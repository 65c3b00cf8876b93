//! `GET /openapi.json`: the contract as a document.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{Response, StatusCode};
use axum::routing::get;
use fluxgate_api::paths;
use fluxgate_node::state::NodeState;

use crate::shared::respond;

pub(super) fn router() -> Router<Arc<NodeState>> {
    Router::new().route(paths::OPENAPI, get(openapi))
}

async fn openapi() -> Response<Body> {
    let text = fluxgate_api::openapi::json();
    respond::bytes(StatusCode::OK, "application/json", text.into())
}
