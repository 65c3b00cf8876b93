//! The failures, each declared once with its headers, for reference from the routes.
//!
//! A failure of a verdict has the rate limit headers; the same failure of an admin call has not, so
//! there are two declarations.

use utoipa::ToResponse;

use crate::error::ErrorBody;

/// 400
#[derive(ToResponse)]
#[response(description = "`invalid_request`: the message names the field.")]
pub(super) struct InvalidRequest(#[expect(dead_code, reason = "a schema only")] ErrorBody);

/// 401 of an administrator
#[derive(ToResponse)]
#[response(
    description = "`authentication_failed`: no accepted credential.",
    headers(("WWW-Authenticate", description = "`Bearer`, with `error=\"invalid_token\"` when a credential was presented."))
)]
pub(super) struct Unauthenticated(#[expect(dead_code, reason = "a schema only")] ErrorBody);

/// 403 of an administrator
#[derive(ToResponse)]
#[response(
    description = "`insufficient_scope`: the credential may not do this.",
    headers(("WWW-Authenticate", description = "`Bearer error=\"insufficient_scope\", scope=\"admin\"`."))
)]
pub(super) struct OutOfScope(#[expect(dead_code, reason = "a schema only")] ErrorBody);

/// 429 of an administrator
#[derive(ToResponse)]
#[response(
    description = "`rate_limit_exceeded`: an admin key's calls count against its own limit.",
    headers(("Retry-After" = u64, description = "Seconds until the window ends."))
)]
pub(super) struct Limited(#[expect(dead_code, reason = "a schema only")] ErrorBody);

/// 401 of a verdict
#[derive(ToResponse)]
#[response(
    description = "`authentication_failed`: no key, or one that is malformed, unknown, wrong, \
        disabled, expired or revoked: the same answer for all. The rate limit headers show the default \
        limit and 0. `gateway_unauthorized`: the gateway's own token is missing or wrong.",
    headers(
        ("X-RateLimit-Limit" = u64, description = "The default limit."),
        ("X-RateLimit-Remaining" = u64, description = "0."),
        ("X-RateLimit-Reset" = u64, description = "When the window ends, Unix seconds."),
        ("WWW-Authenticate", description = "`Bearer`, with `error=\"invalid_token\"` when a key was presented (RFC 6750, section 3)."),
    )
)]
pub(super) struct VerdictUnauthenticated(#[expect(dead_code, reason = "a schema only")] ErrorBody);

/// 403 of a verdict
#[derive(ToResponse)]
#[response(
    description = "`insufficient_scope`: a valid key whose scope is insufficient. Nothing is spent.",
    headers(
        ("X-RateLimit-Limit" = u64, description = "Tokens in one window of the limit that decides."),
        ("X-RateLimit-Remaining" = u64, description = "Tokens left in this window."),
        ("X-RateLimit-Reset" = u64, description = "When the window ends, Unix seconds."),
        ("X-RateLimit-Name", description = "The name of that limit, if several applied; one of the key's owner begins with `owner/`, that of a pool with `pool/`."),
        ("WWW-Authenticate", description = "`Bearer error=\"insufficient_scope\", scope=\"write\"` (RFC 6750, section 3)."),
        ("X-Auth-Key-Id", description = "The key's id."),
        ("X-Auth-Key-Name", description = "The key's name, percent-encoded."),
        ("X-Auth-Owner", description = "The key's owner, percent-encoded; absent if the key has none."),
        ("X-Auth-Scope", description = "The key's scope."),
    )
)]
pub(super) struct VerdictOutOfScope(#[expect(dead_code, reason = "a schema only")] ErrorBody);

/// 429 of a verdict
#[derive(ToResponse)]
#[response(
    description = "`rate_limit_exceeded`: the window's tokens are spent.",
    headers(
        ("X-RateLimit-Limit" = u64, description = "Tokens in one window of the limit that denies."),
        ("X-RateLimit-Remaining" = u64, description = "Tokens left in this window."),
        ("X-RateLimit-Reset" = u64, description = "When the window ends, Unix seconds."),
        ("X-RateLimit-Name", description = "The name of that limit, if several applied; one of the key's owner begins with `owner/`, that of a pool with `pool/`."),
        ("Retry-After" = u64, description = "Seconds until then, rounded up, at least 1."),
        ("X-Auth-Key-Id", description = "The key's id."),
        ("X-Auth-Key-Name", description = "The key's name, percent-encoded."),
        ("X-Auth-Owner", description = "The key's owner, percent-encoded; absent if the key has none."),
        ("X-Auth-Scope", description = "The key's scope."),
    )
)]
pub(super) struct VerdictLimited(#[expect(dead_code, reason = "a schema only")] ErrorBody);

/// 503 of a verdict
#[derive(ToResponse)]
#[response(
    description = "`unavailable`: this node holds no lease. Nothing was counted; ask another node.",
    headers(("Retry-After" = u64, description = "Seconds until asking this node again makes sense."))
)]
pub(super) struct Unavailable(#[expect(dead_code, reason = "a schema only")] ErrorBody);

/// 503 of a write
#[derive(ToResponse)]
#[response(
    description = "`no_leader`: no leader is known; nothing was written. `unavailable`: this node holds no lease.",
    headers(("Retry-After" = u64, description = "Seconds until a retry makes sense."))
)]
pub(super) struct NoLeader(#[expect(dead_code, reason = "a schema only")] ErrorBody);

/// 404
#[derive(ToResponse)]
#[response(description = "`not_found`.")]
pub(super) struct NotFound(#[expect(dead_code, reason = "a schema only")] ErrorBody);

/// 409
#[derive(ToResponse)]
#[response(description = "`conflict`: the state does not permit the change. `already_done`: the \
        idempotency key was used before; the message names the key that it made. \
        `idempotency_key_reused`: it was used before, for a request with another content.")]
pub(super) struct Conflict(#[expect(dead_code, reason = "a schema only")] ErrorBody);

/// 412
#[derive(ToResponse)]
#[response(description = "`precondition_failed`: `If-Match` names an older revision.")]
pub(super) struct PreconditionFailed(#[expect(dead_code, reason = "a schema only")] ErrorBody);

/// 413
#[derive(ToResponse)]
#[response(description = "`too_large`: the body is too large.")]
pub(super) struct TooLarge(#[expect(dead_code, reason = "a schema only")] ErrorBody);

/// 415
#[derive(ToResponse)]
#[response(description = "`unsupported_media_type`: the body is not `application/json`.")]
pub(super) struct UnsupportedMediaType(#[expect(dead_code, reason = "a schema only")] ErrorBody);

/// 408
#[derive(ToResponse)]
#[response(
    description = "`request_timeout`: the request did not finish in time. A write may or may not have happened."
)]
pub(super) struct RequestTimeout(#[expect(dead_code, reason = "a schema only")] ErrorBody);

/// 500
#[derive(ToResponse)]
#[response(description = "`internal`: an internal error. A write may or may not have happened.")]
pub(super) struct Internal(#[expect(dead_code, reason = "a schema only")] ErrorBody);
