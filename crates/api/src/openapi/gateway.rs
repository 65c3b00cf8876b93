//! Stubs of the gateway listener's routes. For utoipa only, never called.
#![expect(dead_code, reason = "the attributes are the content")]

use super::responses::{
    Internal, InvalidRequest, RequestTimeout, TooLarge, Unavailable, UnsupportedMediaType,
    VerdictLimited, VerdictOutOfScope, VerdictUnauthenticated,
};
use crate::cluster::Health;
use crate::error::ErrorBody;
use crate::validate::{BatchAnswer, BatchRequest, ValidateAnswer, ValidateRequest};

/// Decide one request
///
/// The key is in `Authorization: Bearer`, in `X-API-Key` or in the body. Checks run in this order:
/// the key's shape and checksum, look-up, status, scope, limits. Only an admission spends tokens.
#[utoipa::path(
    post,
    path = "/v1/validate",
    tag = "validate",
    request_body(content = ValidateRequest, description = "Optional."),
    responses(
        (status = 200, description = "Admitted, and the cost is spent.", body = ValidateAnswer,
            headers(
                ("X-RateLimit-Limit" = u64, description = "Tokens in one window of the limit that has the smallest fraction left."),
                ("X-RateLimit-Remaining" = u64, description = "Tokens left in this window, after this request."),
                ("X-RateLimit-Reset" = u64, description = "When the window ends, Unix seconds."),
                ("X-RateLimit-Name", description = "The name of that limit, if several applied; one of the key's owner begins with `owner/`, that of a pool with `pool/`."),
                ("X-Auth-Key-Id", description = "The key's id."),
                ("X-Auth-Key-Name", description = "The key's name, percent-encoded."),
                ("X-Auth-Owner", description = "The key's owner, percent-encoded; absent if the key has none."),
                ("X-Auth-Scope", description = "The key's scope."),
            )),
        (status = 400, response = InvalidRequest),
        (status = 401, response = VerdictUnauthenticated),
        (status = 403, response = VerdictOutOfScope),
        (status = 408, response = RequestTimeout),
        (status = 413, response = TooLarge),
        (status = 415, response = UnsupportedMediaType),
        (status = 429, response = VerdictLimited),
        (status = 500, response = Internal),
        (status = 503, response = Unavailable),
    ),
    security(
        ("bearer" = []), ("api_key" = []),
        ("bearer" = [], "gateway_token" = []), ("api_key" = [], "gateway_token" = []),
        ("gateway_token" = []), (),
    ),
)]
pub(super) fn validate() {}

/// Decide many requests
///
/// At most 1 000, answered in order; entries for one key are counted one after another. Each result
/// has the status and the body that a single call would have. An entry that cannot be decided
/// within `http.request_timeout` is denied with 429 and spends nothing.
#[utoipa::path(
    post,
    path = "/v1/validate/batch",
    tag = "validate",
    request_body = BatchRequest,
    responses(
        (status = 200, description = "The verdicts, which may all be denials.", body = BatchAnswer),
        (status = 400, response = InvalidRequest),
        (status = 401, description = "`gateway_unauthorized`: the gateway's own token is missing or wrong.", body = ErrorBody),
        (status = 408, response = RequestTimeout),
        (status = 413, response = TooLarge),
        (status = 415, response = UnsupportedMediaType),
        (status = 500, response = Internal),
        (status = 503, response = Unavailable),
    ),
    security(("gateway_token" = []), ()),
)]
pub(super) fn validate_batch() {}

/// Forward authentication
///
/// Any method, this path and any path below it; the body is ignored, and the key is read from the
/// headers only. For Envoy `ext_authz`, Traefik, Caddy, HAProxy and APISIX. Answers only with 200,
/// 401, 403, 429 or 503.
#[utoipa::path(
    get,
    path = "/v1/authorize/{requirement}",
    tag = "validate",
    params(
        ("requirement" = String, Path,
            description = "What the protected endpoint requires: `any`, `read`, `write`, \
                `admin`, `by-method` (GET, HEAD and OPTIONS need `read`, all others `write`) or \
                `by-forwarded-method` (the same, by a header that the gateway sets).",
            pattern = "^(any|read|write|admin|by-method|by-forwarded-method)$"),
        ("X-Forwarded-Method" = Option<String>, Header, description = "For `by-forwarded-method`; `X-Original-Method` is read as well."),
    ),
    responses(
        (status = 200, description = "Admitted. No body.",
            headers(
                ("X-RateLimit-Limit" = u64, description = "Tokens in one window of the limit that has the smallest fraction left."),
                ("X-RateLimit-Remaining" = u64, description = "Tokens left in this window, after this request."),
                ("X-RateLimit-Reset" = u64, description = "When the window ends, Unix seconds."),
                ("X-RateLimit-Name", description = "The name of that limit, if several applied; one of the key's owner begins with `owner/`, that of a pool with `pool/`."),
                ("X-Auth-Key-Id", description = "The key's id."),
                ("X-Auth-Key-Name", description = "The key's name, percent-encoded."),
                ("X-Auth-Owner", description = "The key's owner, percent-encoded; absent if the key has none."),
                ("X-Auth-Scope", description = "The key's scope."),
                ("x-envoy-auth-headers-to-remove", description = "`authorization, x-api-key`; only `x-api-key` if `Authorization` belongs to the application."),
                ("Authorization", description = "The application's own `Authorization` that came together with an `X-API-Key`, repeated for gateways that forward the headers of this answer; absent if there was none."),
            )),
        (status = 401, response = VerdictUnauthenticated),
        (status = 403, response = VerdictOutOfScope),
        (status = 429, response = VerdictLimited),
        (status = 503, response = Unavailable),
    ),
    security(
        ("bearer" = []), ("api_key" = []),
        ("bearer" = [], "gateway_token" = []), ("api_key" = [], "gateway_token" = []),
    ),
)]
pub(super) fn authorize() {}

/// Forward authentication for nginx
///
/// nginx's `auth_request` turns a 429 into a 500 and drops bodies. Every denial is therefore a 403
/// without a body, and two headers contain the answer that nginx must give. With `retry/` before
/// the requirement a 503 stays a 503, so that `proxy_next_upstream http_503` asks the next node.
#[utoipa::path(
    get,
    path = "/v1/authorize/nginx/{requirement}",
    tag = "validate",
    params(
        ("requirement" = String, Path,
            description = "As for `/v1/authorize/{requirement}`.",
            pattern = "^(any|read|write|admin|by-method|by-forwarded-method)$"),
        ("X-Forwarded-Method" = Option<String>, Header, description = "For `by-forwarded-method`; `X-Original-Method` is read as well."),
    ),
    responses(
        (status = 200, description = "Admitted. No body.",
            headers(
                ("X-RateLimit-Limit" = u64, description = "Tokens in one window of the limit that has the smallest fraction left."),
                ("X-RateLimit-Remaining" = u64, description = "Tokens left in this window, after this request."),
                ("X-RateLimit-Reset" = u64, description = "When the window ends, Unix seconds."),
                ("X-RateLimit-Name", description = "The name of that limit, if several applied; one of the key's owner begins with `owner/`, that of a pool with `pool/`."),
                ("X-Auth-Key-Id", description = "The key's id."),
                ("X-Auth-Key-Name", description = "The key's name, percent-encoded."),
                ("X-Auth-Owner", description = "The key's owner, percent-encoded; absent if the key has none."),
                ("X-Auth-Scope", description = "The key's scope."),
            )),
        (status = 403, description = "Denied for any reason. No body.",
            headers(
                ("X-Auth-Status" = u16, description = "The status to answer with: 401, 403, 429 or 503."),
                ("X-Auth-Body", description = "The body to answer with, JSON."),
                ("X-RateLimit-Limit" = u64, description = "As for the denial; absent on 503."),
                ("X-RateLimit-Remaining" = u64, description = "As for the denial; absent on 503."),
                ("X-RateLimit-Reset" = u64, description = "As for the denial; absent on 503."),
                ("X-RateLimit-Name", description = "The name of that limit, if several applied; one of the key's owner begins with `owner/`, that of a pool with `pool/`."),
                ("Retry-After" = u64, description = "On 429 and 503."),
                ("WWW-Authenticate", description = "On 401 and 403."),
            )),
        (status = 503, description = "Only with `retry/` before the requirement: this node holds no lease. Nothing was counted; ask another node. No body.",
            headers(
                ("X-Auth-Status" = u16, description = "503."),
                ("X-Auth-Body", description = "The body to answer with, JSON."),
                ("Retry-After" = u64, description = "Seconds until asking this node again makes sense."),
            )),
    ),
    security(
        ("bearer" = []), ("api_key" = []),
        ("bearer" = [], "gateway_token" = []), ("api_key" = [], "gateway_token" = []),
    ),
)]
pub(super) fn authorize_nginx() {}

/// Check that the process runs
#[utoipa::path(
    get,
    path = "/livez",
    tag = "health",
    responses((status = 200, description = "The process runs.", body = Health)),
    security(()),
)]
pub(super) fn livez() {}

/// Check that the node would answer validate requests
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "health",
    responses(
        (status = 200, description = "The node holds a lease.", body = Health),
        (status = 503, response = Unavailable),
    ),
    security(()),
)]
pub(super) fn readyz() {}
