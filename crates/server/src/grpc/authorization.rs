//! `envoy.service.auth.v3.Authorization`: what `/v1/authorize` is over HTTP.
//!
//! The gateway's configuration writes the requirement of a route into `context_extensions` under
//! `requirement`, which no client can set. A node that may not decide fails the call, so that Envoy
//! asks another node or fails closed.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use fluxgate_api::paths::header as names;
use fluxgate_api::verdict::GrpcCode;
use fluxgate_node::metrics::Endpoint;
use fluxgate_node::state::NodeState;
use fluxgate_types::Cost;
use tonic::Status;

use super::messages::{
    CheckRequest, CheckResponse, DeniedResponse, Header, HeaderOption, HttpRequest, HttpResponse,
    HttpStatus, OVERWRITE, OkResponse, RpcStatus,
};
use crate::gateway::authorize::{requirement, shape_plain};
use crate::gateway::validate::{InHeaders, in_headers, validate};

/// The headers of a request that count here.
const READ: [&str; 4] =
    ["authorization", names::X_API_KEY, names::X_FORWARDED_METHOD, names::X_ORIGINAL_METHOD];
/// The headers of an answer that are for the client; all others are for the application.
const FOR_CLIENT: [&str; 5] = [
    names::X_RATELIMIT_LIMIT,
    names::X_RATELIMIT_REMAINING,
    names::X_RATELIMIT_RESET,
    names::RATELIMIT,
    names::RATELIMIT_POLICY,
];

/// The service.
pub(super) struct Service(pub(super) Arc<NodeState>);

impl tonic::server::UnaryService<CheckRequest> for Service {
    type Response = CheckResponse;
    type Future =
        Pin<Box<dyn Future<Output = Result<tonic::Response<CheckResponse>, Status>> + Send>>;

    fn call(&mut self, request: tonic::Request<CheckRequest>) -> Self::Future {
        let state = Arc::clone(&self.0);
        Box::pin(async move {
            super::check_gateway(&state, request.metadata())?;
            let begun = Instant::now();
            let answer = check(&state, request.into_inner()).await;
            let status = answer.as_ref().map_or(503, |(status, _)| status.as_u16());
            state.metrics.served(super::CHECK, "POST", status, begun.elapsed());
            answer.map(|(_, response)| tonic::Response::new(response))
        })
    }
}

/// The headers that count, as a request over HTTP would have had them: from the map or, if Envoy
/// encodes raw headers, from the list, where each value of a name has an entry of its own.
fn headers_of(http: &HttpRequest) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let raw = http.header_map.iter().flat_map(|map| &map.headers);
    for name in READ {
        let mapped = http.headers.get(name).map(String::as_bytes);
        let listed = raw.clone().filter(|header| header.key.eq_ignore_ascii_case(name));
        let listed = listed.map(|header| match &*header.raw_value {
            [] => header.value.as_bytes(),
            raw => raw,
        });
        for value in mapped.into_iter().chain(listed) {
            // A value that no header can contain is replaced by one that matches no key.
            let value = HeaderValue::from_bytes(value);
            headers.append(name, value.unwrap_or(HeaderValue::from_static("?")));
        }
    }
    headers
}

async fn check(
    state: &NodeState,
    request: CheckRequest,
) -> Result<(StatusCode, CheckResponse), Status> {
    let attributes = request.attributes.unwrap_or_default();
    let http = attributes.request.and_then(|request| request.http).unwrap_or_default();
    let headers = headers_of(&http);
    let method = Method::try_from(http.method.as_str()).unwrap_or(Method::POST);
    let named = attributes.context_extensions.get("requirement").map(String::as_str);
    let required = requirement(named.unwrap_or_default(), &method, &headers);
    let InHeaders { presented, foreign } = in_headers(&headers);
    let answer = validate(state, presented, required, Cost::ONE, Endpoint::ExtAuthz).await;
    super::check_decided(&answer)?;
    let body = answer.error_body().map(|error| error.to_json()).unwrap_or_default();
    let shaped = shape_plain(&answer);
    let status = shaped.status();
    let code = answer.verdict().grpc_code();
    let all = shaped.headers().iter().filter(|(name, _)| **name != header::CONTENT_LENGTH);
    let http_response = if code == GrpcCode::Ok {
        let hidden = names::X_ENVOY_AUTH_HEADERS_TO_REMOVE;
        let (client, application): (Vec<_>, Vec<_>) = all
            .filter(|(name, _)| name.as_str() != hidden)
            .partition(|(name, _)| FOR_CLIENT.contains(&name.as_str()));
        HttpResponse::Ok(OkResponse {
            headers: application.into_iter().map(overwriting).collect(),
            headers_to_remove: to_remove(foreign.is_some()),
            response_headers_to_add: client.into_iter().map(overwriting).collect(),
        })
    } else {
        HttpResponse::Denied(DeniedResponse {
            status: Some(HttpStatus { code: i32::from(status.as_u16()) }),
            headers: all.map(overwriting).collect(),
            body,
        })
    };
    let response = CheckResponse {
        status: Some(RpcStatus { code: code.number() }),
        http_response: Some(http_response),
    };
    Ok((status, response))
}

/// The headers that may contain the key, which the application must not see.
fn to_remove(authorization_is_foreign: bool) -> Vec<String> {
    let authorization = (!authorization_is_foreign).then_some("authorization");
    authorization.into_iter().chain([names::X_API_KEY]).map(str::to_owned).collect()
}

fn overwriting((name, value): (&HeaderName, &HeaderValue)) -> HeaderOption {
    let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
    let header = Header { key: name.as_str().to_owned(), value, raw_value: Vec::new() };
    HeaderOption { header: Some(header), append_action: OVERWRITE }
}

#[cfg(test)]
mod tests {
    use super::super::messages::HeaderMap as Listed;
    use super::*;
    use crate::gateway::validate::PresentedCredential;

    fn listed(pairs: &[(&str, &[u8])]) -> HttpRequest {
        let header = |(key, raw): &(&str, &[u8])| Header {
            key: (*key).to_owned(),
            value: String::new(),
            raw_value: raw.to_vec(),
        };
        let headers = pairs.iter().map(header).collect();
        HttpRequest { header_map: Some(Listed { headers }), ..HttpRequest::default() }
    }

    #[test]
    fn raw_headers_count_like_mapped_ones() {
        let mut mapped = HttpRequest::default();
        mapped.headers.insert("x-api-key".to_owned(), "k1".to_owned());
        let cookie: (&str, &[u8]) = ("cookie", b"\xff");
        for http in
            [mapped, listed(&[cookie, ("x-api-key", b"k1")]), listed(&[("X-API-Key", b"k1")])]
        {
            let headers = headers_of(&http);
            assert!(
                matches!(in_headers(&headers).presented, PresentedCredential::One(b"k1")),
                "{http:?}"
            );
            assert_eq!(headers.len(), 1, "{http:?}");
        }
    }

    #[test]
    fn of_two_raw_headers_none_counts() {
        for (name, first, second) in
            [("x-api-key", &b"k1"[..], &b"k2"[..]), ("authorization", b"Bearer k1", b"Bearer k1")]
        {
            let headers = headers_of(&listed(&[(name, first), (name, second)]));
            assert!(matches!(in_headers(&headers).presented, PresentedCredential::Wrong), "{name}");
        }
        let headers = headers_of(&listed(&[("x-api-key", b"k\0")]));
        assert!(matches!(in_headers(&headers).presented, PresentedCredential::One(b"?")));
    }
}
