//! Responses. Every error of the JSON interface becomes HTTP here.

use std::borrow::Cow;

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Response, StatusCode, header};
use axum::response::IntoResponse;
use fluxgate_api::ErrorBody;
use fluxgate_api::error::ErrorCode;
use serde::Serialize;

/// How long a client should wait after a 503, seconds.
pub(crate) const RETRY_AFTER_S: u64 = 1;

/// A response with raw bytes.
pub(crate) fn bytes(status: StatusCode, media_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let media_type = HeaderValue::from_static(media_type);
    response.headers_mut().insert(header::CONTENT_TYPE, media_type);
    response
}

/// A status and a body as JSON. Caches must not keep answers of the admin listener.
#[derive(Debug)]
pub(crate) struct Json<T>(pub(crate) StatusCode, pub(crate) T);

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response<Body> {
        let Self(status, body) = self;
        match serde_json::to_vec(&body) {
            Ok(text) => {
                let mut response = bytes(status, "application/json", text.into());
                let no_store = HeaderValue::from_static("no-store");
                response.headers_mut().insert(header::CACHE_CONTROL, no_store);
                response
            }
            Err(error) => {
                tracing::error!(%error, "a response could not be written as JSON");
                reject(ErrorCode::Internal, "internal error")
            }
        }
    }
}

/// A body as JSON, with the revision of its record as the `ETag`.
#[derive(Debug)]
pub(crate) struct Tagged<T> {
    pub(crate) status: StatusCode,
    pub(crate) revision: u64,
    pub(crate) body: T,
}

impl<T: Serialize> IntoResponse for Tagged<T> {
    fn into_response(self) -> Response<Body> {
        let mut response = Json(self.status, self.body).into_response();
        if let Ok(tag) = HeaderValue::try_from(format!("\"{}\"", self.revision)) {
            response.headers_mut().insert(header::ETAG, tag);
        }
        response
    }
}

/// The status of an error.
pub(crate) fn status_of(error: &ErrorBody) -> StatusCode {
    StatusCode::from_u16(error.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// An error with its status and the headers that always belong to that status.
pub(crate) fn error(body: &ErrorBody) -> Response<Body> {
    let status = status_of(body);
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

/// An error by code and message.
pub(crate) fn reject(code: ErrorCode, message: impl Into<Cow<'static, str>>) -> Response<Body> {
    error(&ErrorBody::new(code, message))
}

/// Sets a header to a number.
pub(crate) fn set(response: &mut Response<Body>, name: HeaderName, value: u64) {
    response.headers_mut().insert(name, HeaderValue::from(value));
}

/// The response for a path that no route has.
pub(crate) async fn not_found() -> Response<Body> {
    reject(ErrorCode::NotFound, "no such path")
}

/// The response for a path that does not have the method; axum adds `Allow`.
pub(crate) async fn method_not_allowed() -> Response<Body> {
    reject(ErrorCode::MethodNotAllowed, "method not allowed on this path")
}
