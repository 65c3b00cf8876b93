//! Guards around every page: which sites may send forms, and what a page may do in a browser.
//!
//! Answers for: no other site can make a signed-in browser change anything; no page loads anything
//! from other sites, sends anything to them, or is shown in a frame. The token of a form is checked
//! where the form is read.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};
use axum::middleware::Next;

use super::Shared;

/// A person sees this after following a forged link, or behind a proxy that changes the host name.
const FOREIGN: &str = "Nothing was changed. If you sent it from the console itself, the proxy between \
    your browser and this node gives it another host name: it must hand on Host as it came.";

const HEADERS: [(HeaderName, &str); 5] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
         img-src 'self' data:; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    // Not `no-referrer`: browsers would then send `Origin: null` with our own forms.
    (header::REFERRER_POLICY, "same-origin"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
];

/// Rejects forms of other sites, and adds the headers of every response.
pub(super) async fn check(State(console): Shared, request: Request, next: Next) -> Response<Body> {
    let mut response = if is_foreign(request.method(), request.headers()) {
        let heading = "This form was sent by another site";
        console.message(
            None,
            StatusCode::BAD_REQUEST,
            heading,
            FOREIGN,
            &[("/console/", "Console")],
        )
    } else {
        next.run(request).await
    };
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    let no_store = HeaderValue::from_static("no-store");
    response.headers_mut().entry(header::CACHE_CONTROL).or_insert(no_store);
    response
}

/// Whether a request that may change something comes from a page of another site.
fn is_foreign(method: &Method, headers: &HeaderMap) -> bool {
    if matches!(*method, Method::GET | Method::HEAD) {
        return false;
    }
    let text = |name: HeaderName| headers.get(name).map(|v| v.to_str().unwrap_or("null"));
    let site = text(HeaderName::from_static("sec-fetch-site"));
    if site.is_some_and(|site| !matches!(site, "same-origin" | "none")) {
        return true;
    }
    let host = text(header::HOST).unwrap_or_default();
    // A proxy may terminate TLS, so the scheme is not compared.
    let own = |origin: &str| {
        origin.split_once("://").is_some_and(|(_, name)| name.eq_ignore_ascii_case(host))
    };
    text(header::ORIGIN).is_some_and(|origin| !own(origin))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn foreign(pairs: &[(&'static str, &'static str)]) -> bool {
        let pairs = pairs.iter();
        let headers = pairs
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        is_foreign(&Method::POST, &headers.collect())
    }

    #[test]
    fn a_form_of_another_site_is_recognised() {
        for pairs in [
            &[("sec-fetch-site", "cross-site")][..],
            &[("sec-fetch-site", "same-site")],
            &[("origin", "http://evil.example"), ("host", "127.0.0.1:7201")],
            &[("origin", "http://127.0.0.1:7202"), ("host", "127.0.0.1:7201")],
            &[("origin", "null"), ("host", "127.0.0.1:7201")],
        ] {
            assert!(foreign(pairs), "{pairs:?}");
        }
        for pairs in [
            &[][..],
            &[("sec-fetch-site", "same-origin")],
            &[("sec-fetch-site", "none")],
            &[("origin", "http://127.0.0.1:7201"), ("host", "127.0.0.1:7201")],
            &[("origin", "https://keys.example"), ("host", "Keys.example")],
        ] {
            assert!(!foreign(pairs), "{pairs:?}");
        }
        assert!(!is_foreign(&Method::GET, &HeaderMap::new()));
    }
}
