//! Request bodies: bounded, in time, and JSON with our own refusals.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, header};
use bytes::Bytes;
use fluxgate_api::ErrorBody;
use fluxgate_api::error::ErrorCode;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::de::DeserializeOwned;

/// Reads a whole body of at most `bytes_max` bytes.
pub(crate) async fn read_body(
    body: Body,
    bytes_max: usize,
    within: Duration,
) -> Result<Bytes, ErrorBody> {
    let read = Limited::new(body, bytes_max).collect();
    match tokio::time::timeout(within, read).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            let message = format!("the body is larger than {bytes_max} bytes");
            Err(ErrorBody::new(ErrorCode::TooLarge, message))
        }
        Ok(Err(_)) => Err(ErrorBody::new(ErrorCode::InvalidRequest, "the body ended early")),
        Err(_) => Err(ErrorBody::new(ErrorCode::RequestTimeout, "the body took too long")),
    }
}

/// Whether a body is announced as JSON; one without a type is taken for JSON.
fn is_json(headers: &HeaderMap) -> bool {
    let Some(media_type) = headers.get(header::CONTENT_TYPE) else { return true };
    let essence = media_type.to_str().unwrap_or_default().split(';').next().unwrap_or_default();
    essence.trim().eq_ignore_ascii_case("application/json")
}

/// Reads JSON of a body; an empty one is `None`.
pub(crate) fn parse_optional<T: DeserializeOwned>(
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Option<T>, ErrorBody> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(None);
    }
    if !is_json(headers) {
        let message = "the body must be application/json";
        return Err(ErrorBody::new(ErrorCode::UnsupportedMediaType, message));
    }
    serde_json::from_slice(body)
        .map(Some)
        .map_err(|error| ErrorBody::new(ErrorCode::InvalidRequest, describe(&error)))
}

/// Reads JSON of a body that must not be empty.
pub(crate) fn parse<T: DeserializeOwned>(headers: &HeaderMap, body: &[u8]) -> Result<T, ErrorBody> {
    let missing = || ErrorBody::new(ErrorCode::InvalidRequest, "a JSON body is required");
    parse_optional(headers, body)?.ok_or_else(missing)
}

/// What serde found, without echoing what the client sent: it may be a secret.
fn describe(error: &serde_json::Error) -> String {
    use serde_json::error::Category;
    let place = format!("at line {} column {}", error.line(), error.column());
    match error.classify() {
        Category::Io | Category::Eof | Category::Syntax => {
            format!("the body is not JSON: error {place}")
        }
        Category::Data => {
            let text = error.to_string();
            // Field and variant names come from our types or name an unknown field; values are cut.
            let named = ["unknown field", "missing field", "unknown variant", "duplicate field"];
            let what = text.split(" at line ").next().unwrap_or_default();
            if named.iter().any(|n| what.starts_with(n)) && what.len() <= 200 {
                what.to_owned()
            } else {
                let safe = what.split(": ").last().unwrap_or_default();
                let safe = safe.split(", expected ").nth(1).map(|e| format!("expected {e}"));
                format!("wrong value {place}{}", safe.map(|s| format!(": {s}")).unwrap_or_default())
            }
        }
    }
}
