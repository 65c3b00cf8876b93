//! The console's files. A name changes with the content, so browsers may cache the files for good.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use axum::routing::get;
use fluxgate_api::error::ErrorCode;
use fluxgate_console::assets;

use super::Console;
use crate::shared::error::ApiError;
use crate::shared::path::PathId;
use crate::shared::respond;

pub(super) fn router() -> Router<Arc<Console>> {
    Router::new().route("/console/assets/{name}", get(asset))
}

/// `GET /console/assets/{name}`.
async fn asset(PathId(name): PathId, headers: HeaderMap) -> Result<Response<Body>, ApiError> {
    let Some(asset) = assets::find(&name) else {
        return Err(ApiError::new(ErrorCode::NotFound, "no such file"));
    };
    let tag = HeaderValue::try_from(format!("\"{}\"", asset.name));
    let is_cached = tag.as_ref().is_ok_and(|tag| headers.get(header::IF_NONE_MATCH) == Some(tag));
    let mut response = if is_cached {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        respond::bytes(
            StatusCode::OK,
            asset.media_type,
            bytes::Bytes::from_static(&asset.bytes).into(),
        )
    };
    let cached = HeaderValue::from_static("public, max-age=31536000, immutable");
    response.headers_mut().insert(header::CACHE_CONTROL, cached);
    if let Ok(tag) = tag {
        response.headers_mut().insert(header::ETAG, tag);
    }
    Ok(response)
}
