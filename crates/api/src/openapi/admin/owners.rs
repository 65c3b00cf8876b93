//! Stubs of the routes of owners. For utoipa only, never called.
#![expect(dead_code, reason = "the attributes are the content")]

use super::super::responses::{
    Conflict, Internal, InvalidRequest, Limited, NoLeader, NotFound, OutOfScope,
    PreconditionFailed, RequestTimeout, TooLarge, Unauthenticated, UnsupportedMediaType,
};
use crate::records::{
    ChangeOwner, DeletedRecord, OwnerAnswer, OwnerList, OwnerRecord, RecordsQuery, SetOwner,
};

/// List owners
///
/// Those that have a record, in the order of their names.
#[utoipa::path(
    get,
    path = "/v1/owners",
    tag = "owners",
    params(RecordsQuery),
    responses(
        (status = 200, description = "One page.", body = OwnerList),
        (status = 400, response = InvalidRequest),
        (status = 401, response = Unauthenticated),
        (status = 403, response = OutOfScope),
        (status = 429, response = Limited),
        (status = 500, response = Internal),
        (status = 503, response = NoLeader),
    ),
    security(("bearer" = [])),
)]
pub(in crate::openapi) fn list_owners() {}

/// Read an owner's record
///
/// An admin key can read the record of its own owner.
#[utoipa::path(
    get,
    path = "/v1/owners/{owner}",
    tag = "owners",
    params(("owner" = String, Path, description = "The owner.", min_length = 1, max_length = 100)),
    responses(
        (status = 200, description = "The record.", body = OwnerRecord,
            headers(("ETag", description = "The record's revision, quoted."))),
        (status = 401, response = Unauthenticated),
        (status = 403, response = OutOfScope),
        (status = 404, response = NotFound),
        (status = 429, response = Limited),
        (status = 500, response = Internal),
        (status = 503, response = NoLeader),
    ),
    security(("bearer" = []), ("api_key" = [])),
)]
pub(in crate::openapi) fn read_owner() {}

/// Set an owner's record
///
/// Creates the record or replaces what it says. Answered after every node that holds a lease has
/// applied the change.
#[utoipa::path(
    put,
    path = "/v1/owners/{owner}",
    tag = "owners",
    params(
        ("owner" = String, Path, description = "The owner.", min_length = 1, max_length = 100),
        ("If-Match" = Option<String>, Header, description = "The revision that the change is based on, quoted."),
    ),
    request_body = SetOwner,
    responses(
        (status = 200, description = "The record after the change.", body = OwnerAnswer,
            headers(("ETag", description = "The record's revision, quoted."))),
        (status = 201, description = "The record, which is new.", body = OwnerAnswer,
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
pub(in crate::openapi) fn set_owner() {}

/// Change an owner's record
///
/// Answered after every node that holds a lease has applied the change.
#[utoipa::path(
    patch,
    path = "/v1/owners/{owner}",
    tag = "owners",
    params(
        ("owner" = String, Path, description = "The owner.", min_length = 1, max_length = 100),
        ("If-Match" = Option<String>, Header, description = "The revision that the change is based on, quoted."),
    ),
    request_body = ChangeOwner,
    responses(
        (status = 200, description = "The record after the change.", body = OwnerAnswer,
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
pub(in crate::openapi) fn change_owner() {}

/// Delete an owner's record
///
/// The keys stay, and keep the name of their owner. What the owner has used is not forgotten: it
/// counts until the end of the window if the record is made again.
#[utoipa::path(
    delete,
    path = "/v1/owners/{owner}",
    tag = "owners",
    params(
        ("owner" = String, Path, description = "The owner.", min_length = 1, max_length = 100),
        ("If-Match" = Option<String>, Header, description = "The revision that the change is based on, quoted."),
    ),
    responses(
        (status = 200, description = "The record was deleted.", body = DeletedRecord),
        (status = 400, response = InvalidRequest),
        (status = 401, response = Unauthenticated),
        (status = 403, response = OutOfScope),
        (status = 404, response = NotFound),
        (status = 408, response = RequestTimeout),
        (status = 412, response = PreconditionFailed),
        (status = 429, response = Limited),
        (status = 500, response = Internal),
        (status = 503, response = NoLeader),
    ),
    security(("bearer" = [])),
)]
pub(in crate::openapi) fn delete_owner() {}
