//! Stubs of the routes of keys. For utoipa only, never called.
#![expect(dead_code, reason = "the attributes are the content")]

use super::super::responses::{
    Conflict, Internal, InvalidRequest, Limited, NoLeader, NotFound, OutOfScope,
    PreconditionFailed, RequestTimeout, TooLarge, Unauthenticated, UnsupportedMediaType,
};
use crate::bulk::BulkAnswer;
use crate::keys::{
    CreateKey, CreatedKey, DeleteKey, DeletedKey, KeyList, KeyRecord, ListQuery, ReadKey,
    RotateKey, UpdateKey, WriteAnswer,
};
use crate::usage::Usage;

/// Create a key
///
/// The answer shows the key, only this once. It is sent after every node that holds a lease accepts
/// the key.
#[utoipa::path(
    post,
    path = "/v1/keys",
    tag = "keys",
    params(("Idempotency-Key" = Option<String>, Header, max_length = 128,
        description = "A repeat within a day creates no second key and answers 409 `already_done`; a repeat with another content 409 `idempotency_key_reused`.")),
    request_body = CreateKey,
    responses(
        (status = 201, description = "The record and the key.", body = CreatedKey,
            headers(("ETag", description = "The record's revision, quoted."))),
        (status = 400, response = InvalidRequest),
        (status = 401, response = Unauthenticated),
        (status = 403, response = OutOfScope),
        (status = 408, response = RequestTimeout),
        (status = 409, response = Conflict),
        (status = 413, response = TooLarge),
        (status = 415, response = UnsupportedMediaType),
        (status = 429, response = Limited),
        (status = 500, response = Internal),
        (status = 503, response = NoLeader),
    ),
    security(("bearer" = []), ("api_key" = [])),
)]
pub(in crate::openapi) fn create_key() {}

/// List keys
///
/// Newest first, in a stable order. An admin key sees the keys of its own owner.
#[utoipa::path(
    get,
    path = "/v1/keys",
    tag = "keys",
    params(ListQuery),
    responses(
        (status = 200, description = "One page.", body = KeyList),
        (status = 400, response = InvalidRequest),
        (status = 401, response = Unauthenticated),
        (status = 403, response = OutOfScope),
        (status = 429, response = Limited),
        (status = 500, response = Internal),
        (status = 503, response = NoLeader),
    ),
    security(("bearer" = []), ("api_key" = [])),
)]
pub(in crate::openapi) fn list_keys() {}

/// Read a key's record
#[utoipa::path(
    get,
    path = "/v1/keys/{id}",
    tag = "keys",
    params(
        ("id" = String, Path, description = "The key's id.", pattern = "^key_[0-9A-Za-z]{12}$"),
        ReadKey,
    ),
    responses(
        (status = 200, description = "The record.", body = KeyRecord,
            headers(("ETag", description = "The record's revision, quoted."))),
        (status = 400, response = InvalidRequest),
        (status = 401, response = Unauthenticated),
        (status = 403, response = OutOfScope),
        (status = 404, response = NotFound),
        (status = 429, response = Limited),
        (status = 500, response = Internal),
        (status = 503, response = NoLeader),
    ),
    security(("bearer" = []), ("api_key" = [])),
)]
pub(in crate::openapi) fn read_key() {}

/// Change a key
///
/// Answered after every node that holds a lease has applied the change.
#[utoipa::path(
    patch,
    path = "/v1/keys/{id}",
    tag = "keys",
    params(
        ("id" = String, Path, description = "The key's id.", pattern = "^key_[0-9A-Za-z]{12}$"),
        ("If-Match" = Option<String>, Header, description = "The revision that the change is based on, quoted."),
    ),
    request_body = UpdateKey,
    responses(
        (status = 200, description = "The record after the change.", body = WriteAnswer,
            headers(("ETag", description = "The record's revision, quoted."))),
        (status = 400, response = InvalidRequest),
        (status = 401, response = Unauthenticated),
        (status = 403, response = OutOfScope),
        (status = 404, response = NotFound),
        (status = 408, response = RequestTimeout),
        (status = 409, response = Conflict),
        (status = 412, response = PreconditionFailed),
        (status = 413, response = TooLarge),
        (status = 415, response = UnsupportedMediaType),
        (status = 429, response = Limited),
        (status = 500, response = Internal),
        (status = 503, response = NoLeader),
    ),
    security(("bearer" = []), ("api_key" = [])),
)]
pub(in crate::openapi) fn update_key() {}

/// Replace a key's secret
///
/// The id, the counters and the history stay. `grace` keeps the old secret valid for a time.
#[utoipa::path(
    post,
    path = "/v1/keys/{id}/rotate",
    tag = "keys",
    params(
        ("id" = String, Path, description = "The key's id.", pattern = "^key_[0-9A-Za-z]{12}$"),
        ("If-Match" = Option<String>, Header, description = "The revision that the change is based on, quoted."),
        ("Idempotency-Key" = Option<String>, Header, max_length = 128,
            description = "A repeat within a day creates no second secret and answers 409 `already_done`; a repeat with another content 409 `idempotency_key_reused`."),
    ),
    request_body(content = RotateKey, description = "Optional."),
    responses(
        (status = 200, description = "The record and the new key.", body = CreatedKey,
            headers(("ETag", description = "The record's revision, quoted."))),
        (status = 400, response = InvalidRequest),
        (status = 401, response = Unauthenticated),
        (status = 403, response = OutOfScope),
        (status = 404, response = NotFound),
        (status = 408, response = RequestTimeout),
        (status = 409, response = Conflict),
        (status = 412, response = PreconditionFailed),
        (status = 413, response = TooLarge),
        (status = 415, response = UnsupportedMediaType),
        (status = 429, response = Limited),
        (status = 500, response = Internal),
        (status = 503, response = NoLeader),
    ),
    security(("bearer" = []), ("api_key" = [])),
)]
pub(in crate::openapi) fn rotate_key() {}

/// Revoke a key permanently, or erase its record
///
/// The record of a revoked key stays readable. Once this is answered no node accepts the key. With
/// `erase` the record of a revoked or expired key is erased, also from snapshots; the audit trail
/// keeps its id and the entries about it.
#[utoipa::path(
    delete,
    path = "/v1/keys/{id}",
    tag = "keys",
    params(
        ("id" = String, Path, description = "The key's id.", pattern = "^key_[0-9A-Za-z]{12}$"),
        ("If-Match" = Option<String>, Header, description = "The revision that the change is based on, quoted."),
        DeleteKey,
    ),
    responses(
        (status = 200, description = "The record of the revoked key, or the id of the erased one.", body = DeletedKey),
        (status = 400, response = InvalidRequest),
        (status = 401, response = Unauthenticated),
        (status = 403, response = OutOfScope),
        (status = 404, response = NotFound),
        (status = 408, response = RequestTimeout),
        (status = 409, response = Conflict),
        (status = 412, response = PreconditionFailed),
        (status = 429, response = Limited),
        (status = 500, response = Internal),
        (status = 503, response = NoLeader),
    ),
    security(("bearer" = []), ("api_key" = [])),
)]
pub(in crate::openapi) fn revoke_key() {}

/// Read a key's usage
#[utoipa::path(
    get,
    path = "/v1/keys/{id}/usage",
    tag = "keys",
    params(("id" = String, Path, description = "The key's id.", pattern = "^key_[0-9A-Za-z]{12}$")),
    responses(
        (status = 200, description = "The usage.", body = Usage),
        (status = 401, response = Unauthenticated),
        (status = 403, response = OutOfScope),
        (status = 404, response = NotFound),
        (status = 429, response = Limited),
        (status = 500, response = Internal),
        (status = 503, response = NoLeader),
    ),
    security(("bearer" = []), ("api_key" = [])),
)]
pub(in crate::openapi) fn read_usage() {}

/// Import keys of another system
///
/// JSON lines, each an `ImportKey` with the SHA-256 of a key instead of the key itself. A key of
/// any shape is accepted by its digest from then on. Each line is independent; existing keys are
/// left unchanged, so all lines may be sent again. Needs the operator token.
#[utoipa::path(
    post,
    path = "/v1/keys/import",
    tag = "keys",
    request_body(content = String, content_type = "application/x-ndjson"),
    responses(
        (status = 200, description = "The outcome of the lines.", body = BulkAnswer),
        (status = 400, response = InvalidRequest),
        (status = 401, response = Unauthenticated),
        (status = 403, response = OutOfScope),
        (status = 408, response = RequestTimeout),
        (status = 415, response = UnsupportedMediaType),
        (status = 429, response = Limited),
        (status = 500, response = Internal),
        (status = 503, response = NoLeader),
    ),
    security(("bearer" = [])),
)]
pub(super) fn import_keys() {}
