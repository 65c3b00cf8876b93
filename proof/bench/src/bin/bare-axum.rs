//! The floor under each answer: an axum server that decides nothing and answers the same bytes.
//!
//! Answers for: the status, headers and body of each answer, byte for byte in shape and length, over
//! HTTP/1.1 and HTTP/2, on the address given as the only argument (loopback). What Fluxgate costs
//! above this is what deciding costs. Must never depend on a crate of ours.

use std::io::{Error, ErrorKind, Result, Write as _};
use std::net::SocketAddr;

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{any, post};

/// A header by name and value; hyper adds the length and the date.
type Header = (&'static str, &'static str);

/// The key and the limit of every answer about a known key.
const OF_KEY: [Header; 7] = [
    ("x-ratelimit-limit", "1000000000"),
    ("x-ratelimit-remaining", "999999950"),
    ("x-ratelimit-reset", "1705747200"),
    ("x-auth-key-id", "key_Qm2xK9dA3f01"),
    ("x-auth-key-name", "Production%20Sync"),
    ("x-auth-owner", "user_42"),
    ("x-auth-scope", "write"),
];
const JSON: Header = ("content-type", "application/json");

const ADMITTED: &str = r#"{"valid":true,"key_id":"key_Qm2xK9dA3f01","name":"Production Sync","owner":"user_42","scope":"write","limit":1000000000,"remaining":999999950,"reset":1705747200}"#;
const UNAUTHENTICATED: &str =
    r#"{"error":"authentication_failed","message":"Invalid or missing API key"}"#;
const OUT_OF_SCOPE: &str =
    r#"{"error":"insufficient_scope","message":"This endpoint requires 'admin' scope"}"#;
const LIMITED: &str =
    r#"{"error":"rate_limit_exceeded","message":"Rate limit exceeded. Try again in 595 seconds."}"#;

fn answer(status: StatusCode, body: &'static str, before: &[Header], after: &[Header]) -> Response {
    let mut response = (status, body).into_response();
    let headers = response.headers_mut();
    headers.clear();
    for (name, value) in before.iter().chain(after) {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    response
}

async fn admitted() -> Response {
    answer(StatusCode::OK, ADMITTED, &[JSON], &OF_KEY)
}

async fn authorized() -> Response {
    let hidden = ("x-envoy-auth-headers-to-remove", "authorization, x-api-key");
    answer(StatusCode::OK, "", &[("content-length", "0"), hidden], &OF_KEY)
}

async fn unauthenticated() -> Response {
    let challenge = ("www-authenticate", "Bearer error=\"invalid_token\"");
    answer(StatusCode::UNAUTHORIZED, UNAUTHENTICATED, &[JSON, challenge], &OF_KEY[..3])
}

/// Its request has a body, which says the scope.
async fn out_of_scope(_: Bytes) -> Response {
    let challenge = ("www-authenticate", "Bearer error=\"insufficient_scope\", scope=\"admin\"");
    answer(StatusCode::FORBIDDEN, OUT_OF_SCOPE, &[JSON, challenge], &OF_KEY)
}

async fn limited() -> Response {
    let mut response = answer(StatusCode::TOO_MANY_REQUESTS, LIMITED, &[JSON], &OF_KEY);
    response.headers_mut().insert("retry-after", HeaderValue::from_static("595"));
    response
}

#[tokio::main]
async fn main() -> Result<()> {
    let wrong =
        || Error::new(ErrorKind::InvalidInput, "expected one argument: a loopback ADDRESS:PORT");
    let argument = std::env::args().nth(1).ok_or_else(wrong)?;
    let address: SocketAddr = argument.parse().map_err(|_| wrong())?;
    if !address.ip().is_loopback() {
        return Err(wrong());
    }
    let listener = tokio::net::TcpListener::bind(address).await?;
    writeln!(std::io::stdout(), "listening on {}", listener.local_addr()?)?;
    let app = Router::new()
        .route("/v1/validate", any(admitted))
        .route("/v1/authorize/{requirement}", any(authorized))
        .route("/401", any(unauthenticated))
        .route("/403", post(out_of_scope))
        .route("/429", any(limited));
    axum::serve(listener, app).await
}
