//! The gateway listener: validate and health. `batch` and `authorize` have their own files.

pub(crate) mod authorize;
pub(crate) mod batch;
pub(crate) mod validate;

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Request, Response};
use axum::routing::{any, get, post};
use fluxgate_api::error::ErrorBody;
use fluxgate_api::paths::{self, header as names};
use fluxgate_api::validate::ValidateRequest;
use fluxgate_node::metrics::Endpoint;
use fluxgate_node::state::NodeState;

use crate::admin;
use crate::gateway::validate::{Answer, PresentedCredential, Requirement, in_head, validate};
use crate::shared::body::{parse_optional, read_body};
use crate::shared::respond;

pub(crate) fn router(state: Arc<NodeState>) -> Router {
    Router::new()
        .route(paths::VALIDATE, post(post_validate))
        .route(paths::VALIDATE_BATCH, post(batch::batch))
        .route("/v1/authorize/{*rest}", any(authorize::authorize))
        .route("/v1/authorize", any(authorize::authorize))
        .route("/v1/authorize/", any(authorize::authorize))
        .route(paths::LIVEZ, get(admin::livez))
        .route(paths::READYZ, get(admin::readyz))
        .fallback(respond::not_found)
        .method_not_allowed_fallback(respond::method_not_allowed)
        .with_state(state)
}

/// Rejects a request without the gateway token, if one is configured.
pub(crate) fn check_gateway(state: &NodeState, headers: &HeaderMap) -> Result<(), ErrorBody> {
    let Some(token) = &state.config.gateway_token else { return Ok(()) };
    let presented = headers.get(names::X_GATEWAY_TOKEN);
    if presented.is_some_and(|value| token.matches(value.as_bytes())) {
        return Ok(());
    }
    Err(ErrorBody::gateway_unauthorized())
}

async fn post_validate(
    State(state): State<Arc<NodeState>>,
    request: Request<Body>,
) -> Response<Body> {
    let begun = Instant::now();
    let (parts, body) = request.into_parts();
    let span = fluxgate_node::telemetry::server_span("POST /v1/validate", &parts.headers);
    let work = validate_request(&state, &parts.headers, body);
    let response = fluxgate_node::telemetry::within(span, work).await;
    let status = response.status().as_u16();
    state.metrics.served_hot(&state.validate_route, status, begun.elapsed());
    response
}

async fn validate_request(state: &NodeState, headers: &HeaderMap, body: Body) -> Response<Body> {
    if let Err(error) = check_gateway(state, headers) {
        return respond::error(&error);
    }
    let asked: ValidateRequest = if hyper::body::Body::is_end_stream(&body) {
        ValidateRequest::default()
    } else {
        let config = &state.config;
        let read = read_body(body, config.max_body_bytes, config.request_timeout).await;
        match read.and_then(|body| parse_optional(headers, &body)) {
            Ok(asked) => asked.unwrap_or_default(),
            Err(error) => {
                return respond::error(&error);
            }
        }
    };
    answer(state, in_head(headers).presented, &asked, Endpoint::Validate).await.into_response(state)
}

/// Decides one entry: a key in the headers and a key in the body must be the same.
pub(crate) async fn answer(
    state: &NodeState,
    in_head: PresentedCredential<'_>,
    asked: &ValidateRequest,
    endpoint: Endpoint,
) -> Answer {
    let in_body = asked.key.as_ref().map(|key| key.expose().as_bytes());
    let presented = match (in_head, in_body) {
        (in_head, None) => in_head,
        (PresentedCredential::Nothing, Some(key)) => PresentedCredential::One(key),
        (PresentedCredential::One(a), Some(b)) if a == b => PresentedCredential::One(a),
        (PresentedCredential::One(_) | PresentedCredential::Wrong, Some(_)) => {
            PresentedCredential::Wrong
        }
    };
    let requirement = asked.scope.map_or(Requirement::Any, Requirement::Scope);
    validate(state, presented, requirement, asked.cost.unwrap_or(1), endpoint).await
}
