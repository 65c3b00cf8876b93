//! Stubs of the routes of pools. For utoipa only, never called.
#![expect(dead_code, reason = "the attributes are the content")]

use super::super::responses::{
    Conflict, Internal, InvalidRequest, Limited, NoLeader, NotFound, OutOfScope,
    PreconditionFailed, RequestTimeout, TooLarge, Unauthenticated, UnsupportedMediaType,
};
use crate::records::{
    ChangePool, DeletedRecord, PoolAnswer, PoolList, PoolRecord, RecordsQuery, SetPool,
};

/// List pools
///
/// In the order of their names.
#[utoipa::path(
    get,
    path = "/v1/pools",
    tag = "pools",
    params(RecordsQuery),
    responses(
        (status = 200, description = "One page.", body = PoolList),
        (status = 400, response = InvalidRequest),
        (status = 401, response = Unauthenticated),
        (status = 403, response = OutOfScope),
        (status = 429, response = Limited),
        (status = 500, response = Internal),
        (status = 503, response = NoLeader),
    ),
    security(("bearer" = [])),
)]
pub(in crate::openapi) fn list_pools() {}

/// Read a pool
#[utoipa::path(
    get,
    path = "/v1/pools/{pool}",
    tag = "pools",
    params(("pool" = String, Path, description = "The pool.", pattern = "^[a-z0-9_.-]{1,64}$")),
    responses(
        (status = 200, description = "The record.", body = PoolRecord,
            headers(("ETag", description = "The record's revision, quoted."))),
        (status = 401, response = Unauthenticated),
        (status = 403, response = OutOfScope),
        (status = 404, response = NotFound),
        (status = 429, response = Limited),
        (status = 500, response = Internal),
        (status = 503, response = NoLeader),
    ),
    security(("bearer" = [])),
)]
pub(in crate::openapi) fn read_pool() {}

/// Set a pool
///
/// Creates it or replaces what it says. Answered after every node that holds a lease has
/// applied the change.
#[utoipa::path(
    put,
    path = "/v1/pools/{pool}",
    tag = "pools",
    params(
        ("pool" = String, Path, description = "The pool.", pattern = "^[a-z0-9_.-]{1,64}$"),
        ("If-Match" = Option<String>, Header, description = "The revision that the change is based on, quoted."),
    ),
    request_body = SetPool,
    responses(
        (status = 200, description = "The record after the change.", body = PoolAnswer,
            headers(("ETag", description = "The record's revision, quoted."))),
        (status = 201, description = "The record, which is new.", body = PoolAnswer,
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
    security(("bearer" = [])),
)]
pub(in crate::openapi) fn set_pool() {}

/// Change a pool
///
/// Answered after every node that holds a lease has applied the change.
#[utoipa::path(
    patch,
    path = "/v1/pools/{pool}",
    tag = "pools",
    params(
        ("pool" = String, Path, description = "The pool.", pattern = "^[a-z0-9_.-]{1,64}$"),
        ("If-Match" = Option<String>, Header, description = "The revision that the change is based on, quoted."),
    ),
    request_body = ChangePool,
    responses(
        (status = 200, description = "The record after the change.", body = PoolAnswer,
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
    security(("bearer" = [])),
)]
pub(in crate::openapi) fn change_pool() {}

/// Delete a pool
///
/// A pool that a key or a plan names cannot be deleted.
#[utoipa::path(
    delete,
    path = "/v1/pools/{pool}",
    tag = "pools",
    params(
        ("pool" = String, Path, description = "The pool.", pattern = "^[a-z0-9_.-]{1,64}$"),
        ("If-Match" = Option<String>, Header, description = "The revision that the change is based on, quoted."),
    ),
    responses(
        (status = 200, description = "The record was deleted.", body = DeletedRecord),
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
    security(("bearer" = [])),
)]
pub(in crate::openapi) fn delete_pool() {}
