//! What a caller without a certificate can use on a listener that requires one.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use fluxgate_api::error::{ErrorCode, NEEDS_CERTIFICATE};
use fluxgate_node::state::NodeState;

use super::metrics;
use crate::shared::client_addr::client_addr;
use crate::shared::error::ApiError;
use crate::shared::health;

/// The health checks and, with `with_metrics`, the metrics. All other requests are rejected like by a
/// node that may not decide, so that a gateway asks the next node or fails closed.
pub(crate) fn probes(state: Arc<NodeState>, with_metrics: bool) -> Router {
    let router = if with_metrics { metrics::router() } else { Router::new() };
    router.merge(health::router()).fallback(without_certificate).with_state(state)
}

/// Rejects a caller without a certificate, and logs that from time to time.
async fn without_certificate(State(state): State<Arc<NodeState>>, request: Request) -> ApiError {
    let (parts, _) = request.into_parts();
    if state.health.strangers.may_tell_of_missing_certificate() {
        let from = client_addr(&parts).map_or_else(|| "-".to_owned(), |from| from.to_string());
        tracing::warn!(
            from,
            "a caller without a client certificate was refused; further ones are not logged for a minute"
        );
    }
    ApiError::new(ErrorCode::Unavailable, NEEDS_CERTIFICATE)
}
