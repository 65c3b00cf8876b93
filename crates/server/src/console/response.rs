//! Responses of the console: pages, redirects, and responses in place of the requested page.

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use axum::response::IntoResponse;
use fluxgate_console::page::RenderError;

use crate::shared::respond;

const HTML: &str = "text/html; charset=utf-8";
/// The page when the requested page cannot be rendered.
const CANNOT_BE_SHOWN: &str = "<!doctype html><html lang=\"en\"><title>Internal error</title>\
    <p>This page cannot be shown. The node’s log has the reason.</p></html>\n";

/// A response in place of the requested page.
#[derive(Debug)]
pub(super) struct EarlyResponse(Box<Response<Body>>);

/// A page, or a response in place of it.
pub(super) type PageResult = Result<Response<Body>, EarlyResponse>;

impl From<Response<Body>> for EarlyResponse {
    fn from(response: Response<Body>) -> Self {
        Self(Box::new(response))
    }
}

impl IntoResponse for EarlyResponse {
    fn into_response(self) -> Response<Body> {
        *self.0
    }
}

/// A redirect that the browser follows with a GET.
pub(super) fn redirect(to: &str) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SEE_OTHER;
    let to = HeaderValue::try_from(to).unwrap_or(HeaderValue::from_static("/console/"));
    response.headers_mut().insert(header::LOCATION, to);
    response
}

/// A rendered page. If rendering failed, a 500, and the reason in the log.
pub(super) fn html(status: StatusCode, page: Result<String, RenderError>) -> Response<Body> {
    match page {
        Ok(page) => streamed(status, page.into()),
        Err(error) => {
            tracing::error!(%error, "a page of the console could not be rendered");
            streamed(StatusCode::INTERNAL_SERVER_ERROR, CANNOT_BE_SHOWN.into())
        }
    }
}

/// A page whose body another task may produce.
pub(super) fn streamed(status: StatusCode, body: Body) -> Response<Body> {
    respond::bytes(status, HTML, body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_page_that_cannot_be_rendered_is_a_500() {
        let response = html(StatusCode::OK, Err(RenderError::Fmt));
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
        assert_eq!(body, CANNOT_BE_SHOWN);
    }
}
