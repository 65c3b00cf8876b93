//! Stubs of the routes of plans. For utoipa only, never called.
#![expect(dead_code, reason = "the attributes are the content")]

use super::super::responses::{
    Conflict, Internal, InvalidRequest, Limited, NoLeader, NotFound, OutOfScope,
    PreconditionFailed, RequestTimeout, TooLarge, Unauthenticated, UnsupportedMediaType,
};
use crate::records::{
    ChangePlan, DeletedRecord, PlanAnswer, PlanList, PlanRecord, RecordsQuery, SetPlan,
};

/// List plans
///
/// In the order of their names.
#[utoipa::path(
    get,
    path = "/v1/plans",
    tag = "plans",
    params(RecordsQuery),
    responses(
        (status = 200, description = "One page.", body = PlanList),
        (status = 400, response = InvalidRequest),
        (status = 401, response = Unauthenticated),
        (status = 403, response = OutOfScope),
        (status = 429, response = Limited),
        (status = 500, response = Internal),
        (status = 503, response = NoLeader),
    ),
    security(("bearer" = [])),
)]
pub(in crate::openapi) fn list_plans() {}

/// Read a plan
#[utoipa::path(
    get,
    path = "/v1/plans/{plan}",
    tag = "plans",
    params(("plan" = String, Path, description = "The plan.", pattern = "^[a-z0-9_.-]{1,64}$")),
    responses(
        (status = 200, description = "The record.", body = PlanRecord,
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
pub(in crate::openapi) fn read_plan() {}

/// Set a plan
///
/// Creates it or replaces what it says. Answered after every node that holds a lease has
/// applied the change.
#[utoipa::path(
    put,
    path = "/v1/plans/{plan}",
    tag = "plans",
    params(
        ("plan" = String, Path, description = "The plan.", pattern = "^[a-z0-9_.-]{1,64}$"),
        ("If-Match" = Option<String>, Header, description = "The revision that the change is based on, quoted."),
    ),
    request_body = SetPlan,
    responses(
        (status = 200, description = "The record after the change.", body = PlanAnswer,
            headers(("ETag", description = "The record's revision, quoted."))),
        (status = 201, description = "The record, which is new.", body = PlanAnswer,
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
pub(in crate::openapi) fn set_plan() {}

/// Change a plan
///
/// Answered after every node that holds a lease has applied the change.
#[utoipa::path(
    patch,
    path = "/v1/plans/{plan}",
    tag = "plans",
    params(
        ("plan" = String, Path, description = "The plan.", pattern = "^[a-z0-9_.-]{1,64}$"),
        ("If-Match" = Option<String>, Header, description = "The revision that the change is based on, quoted."),
    ),
    request_body = ChangePlan,
    responses(
        (status = 200, description = "The record after the change.", body = PlanAnswer,
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
pub(in crate::openapi) fn change_plan() {}

/// Delete a plan
///
/// A plan that a key or an owner names cannot be deleted, and `default` never.
#[utoipa::path(
    delete,
    path = "/v1/plans/{plan}",
    tag = "plans",
    params(
        ("plan" = String, Path, description = "The plan.", pattern = "^[a-z0-9_.-]{1,64}$"),
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
pub(in crate::openapi) fn delete_plan() {}
