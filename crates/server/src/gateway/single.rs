//! `POST /v1/validate`: the verdict on one request.

use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Request, Response};
use axum::response::IntoResponse as _;
use axum::routing::post;
use bytes::Bytes;
use fluxgate_api::paths;
use fluxgate_api::validate::ValidateRequest;
use fluxgate_node::metrics::Endpoint;
use fluxgate_node::state::NodeState;
use fluxgate_node::telemetry;
use fluxgate_types::Cost;

use crate::gateway::validate::{
    Answer, PresentedCredential, Requirement, in_headers, validate, validate_uncounted,
};
use crate::shared::body::{parse_optional, read_body};
use crate::shared::error::ApiError;
use crate::shared::gateway_token::check_gateway;
use crate::shared::reply::Reply;

pub(super) fn router() -> Router<Arc<NodeState>> {
    Router::new().route(paths::VALIDATE, post(route))
}

async fn route(State(state): State<Arc<NodeState>>, request: Request<Body>) -> Response<Body> {
    post_validate(&state, request).await.map(Body::from)
}

/// Serves `POST /v1/validate`.
pub(super) async fn post_validate<B>(state: &NodeState, request: Request<B>) -> Response<Reply>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    let begun = Instant::now();
    // Taken apart here, because an extractor of axum would copy the headers.
    let (parts, body) = request.into_parts();
    let span = telemetry::server_span("POST /v1/validate", &parts.headers);
    let is_whole = body.is_end_stream();
    let mut uncounted = None;
    let response = telemetry::within(
        span,
        pin!(async {
            match read(state, &parts.headers, body).await {
                Ok(request) => {
                    let arrived = if is_whole { begun } else { Instant::now() };
                    let presented = in_headers(&parts.headers).presented;
                    let (presented, requirement, cost) = question(presented, &request);
                    let of = (Endpoint::Validate, arrived);
                    let decided = validate_uncounted(state, presented, requirement, cost, of).await;
                    uncounted = Some(decided.1);
                    decided.0.into_reply(parts.headers)
                }
                Err(error) => error.into_response().map(Reply::Routed),
            }
        }),
    )
    .await;
    let now = Instant::now();
    uncounted.iter().for_each(|decided| decided.count(state, now));
    let status = response.status().as_u16();
    state.metrics.served_hot(&state.validate_route, status, now - begun);
    response
}

/// Reads the request of a gateway. The body may be empty: the key is then in the headers.
async fn read<B>(
    state: &NodeState,
    headers: &HeaderMap,
    body: B,
) -> Result<ValidateRequest, ApiError>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    let config = &state.config;
    check_gateway(config, headers)?;
    if body.is_end_stream() {
        return Ok(ValidateRequest::default());
    }
    let body = read_body(body, config.max_body_bytes, config.request_timeout).await?;
    Ok(parse_optional(headers, &body)?.unwrap_or_default())
}

/// Decides one request.
pub(super) async fn answer(
    state: &NodeState,
    in_headers: PresentedCredential<'_>,
    request: &ValidateRequest,
    endpoint: Endpoint,
) -> Answer {
    let (presented, requirement, cost) = question(in_headers, request);
    validate(state, presented, requirement, cost, endpoint).await
}

/// What a request asks: a key in the headers and a key in the body must be the same.
fn question<'a>(
    in_headers: PresentedCredential<'a>,
    request: &'a ValidateRequest,
) -> (PresentedCredential<'a>, Requirement, Cost) {
    let in_body = request.key.as_ref().map(|key| key.expose().as_bytes());
    let presented = match (in_headers, in_body) {
        (in_headers, None) => in_headers,
        (PresentedCredential::Nothing, Some(key)) => PresentedCredential::One(key),
        (PresentedCredential::One(a), Some(b)) if a == b => PresentedCredential::One(a),
        (PresentedCredential::One(_) | PresentedCredential::Wrong, Some(_)) => {
            PresentedCredential::Wrong
        }
    };
    let requirement = request.scope.map_or(Requirement::Any, Requirement::Scope);
    (presented, requirement, request.cost.map_or(Cost::ONE, Cost))
}
