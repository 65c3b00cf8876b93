//! Forward authentication, for gateways that send us the headers of the client's own request.
//!
//! The statuses are 200, 401, 403, 429 and 503 and no others, whatever comes in. The gateway's
//! configuration writes the requirement into the path; a query or a header that a client could forge
//! configures nothing.

use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header,
};
use axum::routing::any;
use bytes::Bytes;
use fluxgate_api::error::ErrorBody;
use fluxgate_api::paths::{self, header as names};
use fluxgate_api::verdict::Verdict;
use fluxgate_node::metrics::Endpoint;
use fluxgate_node::state::NodeState;
use fluxgate_node::telemetry;
use fluxgate_types::{Cost, Scope};

use crate::gateway::validate::{
    Answer, InHeaders, Requirement, in_headers, unauthenticated, validate_uncounted,
};
use crate::shared::flavour::Flavour;
use crate::shared::gateway_token::check_gateway;
use crate::shared::reply::Reply;
use crate::shared::respond;

const STATUS: HeaderName = HeaderName::from_static(names::X_AUTH_STATUS);
const BODY: HeaderName = HeaderName::from_static(names::X_AUTH_BODY);
const ZERO: HeaderValue = HeaderValue::from_static("0");
const TO_REMOVE: HeaderName = HeaderName::from_static(names::X_ENVOY_AUTH_HEADERS_TO_REMOVE);

pub(super) fn router() -> Router<Arc<NodeState>> {
    Router::new()
        .route("/v1/authorize/{*rest}", any(route))
        .route("/v1/authorize", any(route))
        .route("/v1/authorize/", any(route))
}

async fn route(State(state): State<Arc<NodeState>>, request: Request<Body>) -> Response<Body> {
    authorize(&state, request).await.map(Body::from)
}

/// Whether this path is `/v1/authorize` or below it.
pub(super) fn has_path(path: &str) -> bool {
    path.starts_with(paths::AUTHORIZE_PREFIX)
        || paths::AUTHORIZE_PREFIX.strip_suffix('/') == Some(path)
}

/// Serves any method on `/v1/authorize/…`.
pub(super) async fn authorize<B>(state: &NodeState, request: Request<B>) -> Response<Reply> {
    let begun = Instant::now();
    let (parts, _) = request.into_parts();
    let rest = parts.uri.path().strip_prefix(paths::AUTHORIZE_PREFIX).unwrap_or_default();
    let (flavour, first) = Flavour::of_path(rest);
    let route = match flavour {
        Flavour::Plain => paths::AUTHORIZE,
        Flavour::Nginx | Flavour::NginxRetry => paths::AUTHORIZE_NGINX,
    };
    let name = first.split('/').next().unwrap_or_default();
    let requirement = requirement(name, &parts.method, &parts.headers);
    let span = telemetry::server_span(route, &parts.headers);
    let mut uncounted = None;
    let response = telemetry::within(
        span,
        pin!(async {
            match check_gateway(&state.config, &parts.headers) {
                Ok(()) => {
                    let InHeaders { presented, foreign } = in_headers(&parts.headers);
                    let foreign = foreign.cloned();
                    let of = (Endpoint::Authorize, begun);
                    let decided =
                        validate_uncounted(state, presented, requirement, Cost::ONE, of).await;
                    uncounted = Some(decided.1);
                    shape(flavour, &decided.0, foreign, parts.headers)
                }
                Err(error) => unauthorized(flavour, &error),
            }
        }),
    )
    .await;
    let now = Instant::now();
    uncounted.iter().for_each(|decided| decided.count(state, now));
    let status = response.status().as_u16();
    match flavour {
        _ if parts.method != Method::GET => {
            state.metrics.served(route, parts.method.as_str(), status, now - begun);
        }
        Flavour::Plain => state.metrics.served_hot(&state.authorize_route, status, now - begun),
        Flavour::Nginx | Flavour::NginxRetry => {
            state.metrics.served_hot(&state.authorize_nginx_route, status, now - begun);
        }
    }
    response
}

/// What the gateway requires, by the name that it gives in the path or the context.
pub(crate) fn requirement(name: &str, method: &Method, headers: &HeaderMap) -> Requirement {
    match name {
        "any" => Requirement::Any,
        "by-method" => by_method(method.as_str()),
        "by-forwarded-method" => {
            let mut named = [names::X_FORWARDED_METHOD, names::X_ORIGINAL_METHOD]
                .into_iter()
                .flat_map(|name| headers.get_all(name));
            match (named.next().and_then(|value| value.to_str().ok()), named.next()) {
                (Some(method), None) => by_method(method),
                // No header, or several: a client may have added one of them.
                (_, Some(_)) | (None, None) => Requirement::Unknown,
            }
        }
        scope => scope.parse::<Scope>().map_or(Requirement::Unknown, Requirement::Scope),
    }
}

fn by_method(method: &str) -> Requirement {
    let reads = matches!(method, "GET" | "HEAD" | "OPTIONS");
    Requirement::Scope(if reads { Scope::Read } else { Scope::Write })
}

/// An answer in its own status, with its headers.
pub(crate) fn shape_plain(answer: &Answer) -> Response<Reply> {
    shape(Flavour::Plain, answer, None, HeaderMap::new())
}

/// An answer as this flavour of gateway reads it, in the memory of these headers. An admission
/// repeats `foreign`, the application's own `Authorization`, so that a gateway can forward the headers
/// of the answer and never the key.
fn shape(
    flavour: Flavour,
    answer: &Answer,
    foreign: Option<HeaderValue>,
    mut headers: HeaderMap,
) -> Response<Reply> {
    headers.clear();
    let texts = answer.texts();
    if answer.verdict() == Verdict::Admitted {
        // Without an explicit length, nginx and Caddy open a new connection for each request.
        headers.insert(header::CONTENT_LENGTH, ZERO);
        let hidden = match foreign {
            Some(foreign) => {
                headers.insert(header::AUTHORIZATION, foreign);
                "x-api-key"
            }
            None => "authorization, x-api-key",
        };
        headers.insert(TO_REMOVE, HeaderValue::from_static(hidden));
        return answer.respond(StatusCode::OK, Answer::buffer(), texts, headers);
    }
    let (status, body) = answer.body(texts);
    if flavour == Flavour::Plain {
        answer.begin_headers(true, &mut headers);
        return answer.respond(status, body, texts, headers);
    }
    answer.begin_headers(false, &mut headers);
    let keeps_status = flavour == Flavour::NginxRetry && answer.is_retryable();
    let status = for_nginx(status, body, keeps_status, &mut headers);
    answer.respond(status, Answer::buffer(), texts, headers)
}

/// A denial for nginx, which reads no body: the status and the body in headers. Returns the status
/// that nginx gets.
fn for_nginx(
    status: StatusCode,
    body: Vec<u8>,
    keeps_status: bool,
    headers: &mut HeaderMap,
) -> StatusCode {
    headers.insert(header::CONTENT_LENGTH, ZERO);
    headers.insert(STATUS, HeaderValue::from(status.as_u16()));
    if let Ok(body) = HeaderValue::from_maybe_shared(Bytes::from(body)) {
        headers.insert(BODY, body);
    }
    if keeps_status { status } else { StatusCode::FORBIDDEN }
}

/// The answer to a gateway that did not present its token.
fn unauthorized(flavour: Flavour, error: &ErrorBody) -> Response<Reply> {
    let mut response = respond::error(error).map(Reply::Routed);
    if flavour == Flavour::Plain {
        return response;
    }
    let keeps_status = flavour == Flavour::NginxRetry && error.error.retryable();
    let (status, body) = (response.status(), error.to_json().into_bytes());
    *response.body_mut() = Reply::empty();
    response.headers_mut().remove(header::CONTENT_TYPE);
    *response.status_mut() = for_nginx(status, body, keeps_status, response.headers_mut());
    response
}

/// The whole response, as bytes, to a request below `/v1/authorize` that is not valid HTTP: it
/// presents no credential that we could read.
pub(crate) fn malformed(state: &NodeState, flavour: Flavour) -> Vec<u8> {
    let answer = unauthenticated(state, false);
    let response = shape(flavour, &answer, None, HeaderMap::new());
    let body = match flavour {
        Flavour::Plain => answer.error_body().map(|error| error.to_json()).unwrap_or_default(),
        Flavour::Nginx | Flavour::NginxRetry => String::new(),
    };
    let mut text = format!("HTTP/1.1 {}\r\n", response.status());
    for (name, value) in response.headers().iter().filter(|(n, _)| **n != header::CONTENT_LENGTH) {
        // We wrote every value, all of it ASCII.
        text.push_str(&format!("{name}: {}\r\n", value.to_str().unwrap_or_default()));
    }
    text.push_str(&format!("connection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len()));
    text.into_bytes()
}
