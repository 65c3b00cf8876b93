//! Forward authentication, for gateways that hand over the client's own request head.
//!
//! Statuses here are 200, 401, 403, 429 and 503 and no others, whatever comes in. What is required
//! stands in the path, which the gateway's configuration makes; a query or a header that a client
//! could forge configures nothing.

use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::State;
use axum::http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header,
};
use fluxgate_api::error::ErrorBody;
use fluxgate_api::paths::{self, header as names};
use fluxgate_node::metrics::Endpoint;
use fluxgate_node::state::NodeState;
use fluxgate_types::Scope;

use crate::gateway::check_gateway;
use crate::gateway::validate::{Answer, InHead, Requirement, in_head, unauthenticated, validate};
use crate::shared::respond;

const STATUS: HeaderName = HeaderName::from_static(names::X_AUTH_STATUS);
const BODY: HeaderName = HeaderName::from_static(names::X_AUTH_BODY);
const TO_REMOVE: HeaderName = HeaderName::from_static(names::X_ENVOY_AUTH_HEADERS_TO_REMOVE);

/// How a gateway wants its denials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flavour {
    Plain,
    /// Every denial is a bodiless 403 that says in headers what it really is.
    Nginx,
    /// The same, but a 503 stays one: nothing was counted, and nginx asks the next node only where
    /// it sees that.
    NginxRetry,
}

/// Serves any method on `/v1/authorize/…`.
pub(crate) async fn authorize(
    State(state): State<Arc<NodeState>>,
    request: Request<Body>,
) -> Response<Body> {
    let begun = Instant::now();
    let (parts, _) = request.into_parts();
    let rest = parts.uri.path().strip_prefix(paths::AUTHORIZE_PREFIX).unwrap_or_default();
    let (flavour, route, first) = match rest.strip_prefix("nginx") {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => {
            let rest = rest.trim_start_matches('/');
            match rest.strip_prefix("retry/") {
                Some(rest) => (Flavour::NginxRetry, paths::AUTHORIZE_NGINX, rest),
                None => (Flavour::Nginx, paths::AUTHORIZE_NGINX, rest),
            }
        }
        Some(_) | None => (Flavour::Plain, paths::AUTHORIZE, rest),
    };
    let name = first.split('/').next().unwrap_or_default();
    let requirement = requirement(name, &parts.method, &parts.headers);
    let span = fluxgate_node::telemetry::server_span(route, &parts.headers);
    let work = async {
        match check_gateway(&state, &parts.headers) {
            Ok(()) => {
                let InHead { presented, foreign } = in_head(&parts.headers);
                let answer = validate(&state, presented, requirement, 1, Endpoint::Authorize).await;
                shape(&state, flavour, &answer, foreign)
            }
            Err(error) => refused(flavour, &error),
        }
    };
    let response = fluxgate_node::telemetry::within(span, work).await;
    state.metrics.served(route, parts.method.as_str(), response.status().as_u16(), begun.elapsed());
    response
}

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
                // None at all, or several, of which a client may have added one.
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
pub(crate) fn shape_plain(state: &NodeState, answer: &Answer) -> Response<Body> {
    shape(state, Flavour::Plain, answer, None)
}

/// `foreign` is the application's own `Authorization`: it is said again in a yes, so that a gateway
/// can hand on what is in the answer, and never the key.
fn shape(
    state: &NodeState,
    flavour: Flavour,
    answer: &Answer,
    foreign: Option<&HeaderValue>,
) -> Response<Body> {
    let mut response = match answer.error_body() {
        // No body at all: nginx and Caddy open a new connection per request otherwise.
        None => {
            let mut response = Response::new(Body::empty());
            response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(0));
            let hidden = if let Some(foreign) = foreign {
                response.headers_mut().insert(header::AUTHORIZATION, foreign.clone());
                "x-api-key"
            } else {
                "authorization, x-api-key"
            };
            response.headers_mut().insert(TO_REMOVE, HeaderValue::from_static(hidden));
            response
        }
        Some(error) => refused(flavour, &error),
    };
    answer.add_headers(state, &mut response);
    response
}

fn refused(flavour: Flavour, error: &ErrorBody) -> Response<Body> {
    let mut response = respond::error(error);
    if flavour != Flavour::Plain {
        let status = response.status();
        if flavour == Flavour::Nginx || status != StatusCode::SERVICE_UNAVAILABLE {
            *response.status_mut() = StatusCode::FORBIDDEN;
        }
        *response.body_mut() = Body::empty();
        let headers = response.headers_mut();
        headers.remove(header::CONTENT_TYPE);
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(0));
        headers.insert(STATUS, HeaderValue::from(status.as_u16()));
        if let Ok(body) = HeaderValue::try_from(error.to_json()) {
            headers.insert(BODY, body);
        }
    }
    response
}

/// The whole answer to a request here that is not valid HTTP, as bytes: whoever sends it has shown
/// no key.
pub(crate) fn malformed(state: &NodeState, nginx: bool) -> Vec<u8> {
    let flavour = if nginx { Flavour::Nginx } else { Flavour::Plain };
    let answer = unauthenticated(state, false);
    let response = shape(state, flavour, &answer, None);
    let error = answer.error_body().map(|error| error.to_json()).unwrap_or_default();
    let body = if nginx { String::new() } else { error };
    let mut text = format!("HTTP/1.1 {}\r\n", response.status());
    for (name, value) in response.headers().iter().filter(|(n, _)| **n != header::CONTENT_LENGTH) {
        // Every value is our own text.
        text.push_str(&format!("{name}: {}\r\n", value.to_str().unwrap_or_default()));
    }
    text.push_str(&format!("connection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len()));
    text.into_bytes()
}
