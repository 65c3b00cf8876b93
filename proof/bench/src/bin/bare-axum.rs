//! The floor under validate: an axum server that decides nothing and answers the same bytes.
//!
//! Answers for: the status, headers and body of an admission, byte for byte in shape and length,
//! on the address given as the only argument (loopback). What Fluxgate costs above this is what
//! deciding costs. Must never depend on a crate of ours.

use std::io::{Error, ErrorKind, Result, Write as _};
use std::net::SocketAddr;

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, HeaderValue};
use axum::response::{IntoResponse as _, Response};
use axum::routing::any;

/// The body of an admission, as `http-api.md` has it.
const BODY: &str = r#"{"valid":true,"key_id":"key_Qm2xK9dA3f01","name":"Production Sync","owner":"user_42","scope":"write","limit":1000000000,"remaining":999999950,"reset":1705747200}"#;

/// Its headers; hyper adds the length and the date.
const HEADERS: [(&str, &str); 7] = [
    ("x-ratelimit-limit", "1000000000"),
    ("x-ratelimit-remaining", "999999950"),
    ("x-ratelimit-reset", "1705747200"),
    ("x-auth-key-id", "key_Qm2xK9dA3f01"),
    ("x-auth-key-name", "Production%20Sync"),
    ("x-auth-owner", "user_42"),
    ("x-auth-scope", "write"),
];

async fn answer() -> Response {
    let mut response = BODY.into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    for (name, value) in HEADERS {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
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
        .route("/v1/validate", any(answer))
        .route("/v1/authorize/{requirement}", any(answer));
    axum::serve(listener, app).await
}
