//! The gateway listener: may a request pass?

pub(crate) mod authorize;
mod batch;
mod single;
pub(crate) mod validate;

use std::sync::Arc;

use axum::Router;
use fluxgate_node::state::NodeState;

use crate::shared::{health, respond};

pub(crate) fn router(state: Arc<NodeState>) -> Router {
    Router::new()
        .merge(single::router())
        .merge(batch::router())
        .merge(authorize::router())
        .merge(health::router())
        .fallback(respond::not_found)
        .method_not_allowed_fallback(respond::method_not_allowed)
        .with_state(state)
}
