//! The console's files. Their names change with their content, so browsers keep them.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use fluxgate_api::error::ErrorCode;
use fluxgate_console::assets;

use crate::shared::path::PathId;
use crate::shared::respond;

/// `GET /console/assets/{name}`.
pub(super) async fn asset(PathId(name): PathId, headers: HeaderMap) -> Response<Body> {
    let Some(asset) = assets::find(&name) else {
        return respond::refuse(ErrorCode::NotFound, "no such file");
    };
    let tag = HeaderValue::try_from(format!("\"{}\"", asset.name));
    let is_known = tag.as_ref().is_ok_and(|tag| headers.get(header::IF_NONE_MATCH) == Some(tag));
    let mut response = if is_known {
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
    let kept = HeaderValue::from_static("public, max-age=31536000, immutable");
    response.headers_mut().insert(header::CACHE_CONTROL, kept);
    if let Ok(tag) = tag {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}
