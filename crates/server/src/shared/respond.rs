//! Answers. The one place where an error becomes HTTP.

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Response, StatusCode, header};
use fluxgate_api::ErrorBody;
use fluxgate_api::error::ErrorCode;
use serde::Serialize;

/// What a client waits after a 503, seconds.
const RETRY_AFTER_S: u64 = 1;

/// An answer of raw bytes.
pub(crate) fn bytes(status: StatusCode, media_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let media_type = HeaderValue::from_static(media_type);
    response.headers_mut().insert(header::CONTENT_TYPE, media_type);
    response
}

/// A JSON answer. Answers of the admin listener are not for caches.
pub(crate) fn json<T: Serialize>(status: StatusCode, body: &T) -> Response<Body> {
    match serde_json::to_vec(body) {
        Ok(text) => {
            let mut response = bytes(status, "application/json", text.into());
            let no_store = HeaderValue::from_static("no-store");
            response.headers_mut().insert(header::CACHE_CONTROL, no_store);
            response
        }
        Err(error) => {
            tracing::error!(%error, "an answer could not be written");
            self::error(&ErrorBody::new(ErrorCode::Internal, "internal error"))
        }
    }
}

/// A refusal with its status and the headers that always go with it.
pub(crate) fn error(body: &ErrorBody) -> Response<Body> {
    let status = StatusCode::from_u16(body.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = bytes(status, "application/json", body.to_json().into());
    if status == StatusCode::SERVICE_UNAVAILABLE {
        set(&mut response, header::RETRY_AFTER, RETRY_AFTER_S);
    }
    if status == StatusCode::UNAUTHORIZED {
        let bearer = HeaderValue::from_static("Bearer");
        response.headers_mut().insert(header::WWW_AUTHENTICATE, bearer);
    }
    if status == StatusCode::FORBIDDEN {
        let scope = HeaderValue::from_static("Bearer error=\"insufficient_scope\"");
        response.headers_mut().insert(header::WWW_AUTHENTICATE, scope);
    }
    response
}

/// A refusal by code and message.
pub(crate) fn refuse(code: ErrorCode, message: impl Into<String>) -> Response<Body> {
    error(&ErrorBody::new(code, message))
}

/// Sets a header to a number.
pub(crate) fn set(response: &mut Response<Body>, name: HeaderName, value: u64) {
    response.headers_mut().insert(name, HeaderValue::from(value));
}

/// No such path.
pub(crate) async fn not_found() -> Response<Body> {
    refuse(ErrorCode::NotFound, "no such path")
}

/// A path that does not know the method; axum adds `Allow`.
pub(crate) async fn method_not_allowed() -> Response<Body> {
    refuse(ErrorCode::MethodNotAllowed, "method not allowed on this path")
}
