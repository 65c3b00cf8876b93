//! Stubs of the admin listener's routes, except those of keys. For utoipa only, never called.
#![expect(dead_code, reason = "the attributes are the content")]

pub(super) mod keys;
pub(super) mod owners;
pub(super) mod plans;
pub(super) mod pools;

use super::responses::{
    Conflict, Internal, InvalidRequest, Limited, NoLeader, NotFound, OutOfScope, RequestTimeout,
    TooLarge, Unauthenticated, Unavailable, UnsupportedMediaType,
};
use crate::bulk::{BackupQuery, BulkAnswer};
use crate::cluster::{AddNode, ClusterChange, ClusterView, HandOver, SetTime};
use crate::usage::{AuditList, AuditQuery, Whoami};

/// Read the audit trail
///
/// Newest first. An admin key sees the entries about keys of its own owner.
#[utoipa::path(
    get,
    path = "/v1/audit",
    tag = "keys",
    params(AuditQuery),
    responses(
        (status = 200, description = "One page.", body = AuditList),
        (status = 400, response = InvalidRequest),
        (status = 401, response = Unauthenticated),
        (status = 403, response = OutOfScope),
        (status = 429, response = Limited),
        (status = 500, response = Internal),
        (status = 503, response = NoLeader),
    ),
    security(("bearer" = []), ("api_key" = [])),
)]
pub(super) fn list_audit() {}

/// Read the presented credential
#[utoipa::path(
    get,
    path = "/v1/whoami",
    tag = "keys",
    responses(
        (status = 200, description = "The credential.", body = Whoami),
        (status = 401, response = Unauthenticated),
        (status = 429, response = Limited),
        (status = 500, response = Internal),
        (status = 503, response = NoLeader),
    ),
    security(("bearer" = []), ("api_key" = [])),
)]
pub(super) fn whoami() {}

/// The cluster, as this node sees it
#[utoipa::path(
    get,
    path = "/v1/cluster",
    tag = "cluster",
    responses(
        (status = 200, description = "The cluster.", body = ClusterView),
        (status = 401, response = Unauthenticated),
        (status = 403, response = OutOfScope),
        (status = 429, response = Limited),
        (status = 500, response = Internal),
        (status = 503, response = Unavailable),
    ),
    security(("bearer" = [])),
)]
pub(super) fn read_cluster() {}

/// Add a node to the cluster, or move one
///
/// A new node first receives the log and votes once it has caught up. The id of a member together
/// with a new address moves that member, if it answers at that address; otherwise nothing is
/// changed.
#[utoipa::path(
    post,
    path = "/v1/cluster/nodes",
    tag = "cluster",
    request_body = AddNode,
    responses(
        (status = 200, description = "The node belongs to the cluster.", body = ClusterChange),
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
    security(("bearer" = [])),
)]
pub(super) fn add_node() {}

/// Remove a node from the cluster
///
/// Rejected if the remaining voters that are up would not be a majority, unless `force` is set. The
/// id can be used again with an empty data directory.
#[utoipa::path(
    delete,
    path = "/v1/cluster/nodes/{id}",
    tag = "cluster",
    params(
        ("id" = u64, Path, description = "The node's id."),
        ("force" = Option<bool>, Query, description = "Remove it even if the cluster stops."),
    ),
    responses(
        (status = 200, description = "The node no longer belongs to the cluster.", body = ClusterChange),
        (status = 400, response = InvalidRequest),
        (status = 401, response = Unauthenticated),
        (status = 403, response = OutOfScope),
        (status = 404, response = NotFound),
        (status = 408, response = RequestTimeout),
        (status = 409, response = Conflict),
        (status = 429, response = Limited),
        (status = 500, response = Internal),
        (status = 503, response = NoLeader),
    ),
    security(("bearer" = [])),
)]
pub(super) fn remove_node() {}

/// Hand leadership over
#[utoipa::path(
    post,
    path = "/v1/cluster/leader",
    tag = "cluster",
    request_body(content = HandOver, description = "Optional."),
    responses(
        (status = 200, description = "Another node leads.", body = ClusterChange),
        (status = 400, response = InvalidRequest),
        (status = 401, response = Unauthenticated),
        (status = 403, response = OutOfScope),
        (status = 404, response = NotFound),
        (status = 408, response = RequestTimeout),
        (status = 409, response = Conflict),
        (status = 413, response = TooLarge),
        (status = 415, response = UnsupportedMediaType),
        (status = 429, response = Limited),
        (status = 500, response = Internal),
        (status = 503, response = NoLeader),
    ),
    security(("bearer" = [])),
)]
pub(super) fn hand_over() {}

/// Move cluster time forward
///
/// For a cluster whose time lags: it becomes `to`, or the time of the members' wall clocks. Time
/// never moves back. Keys that expire in between are expired from then on.
#[utoipa::path(
    post,
    path = "/v1/cluster/time",
    tag = "cluster",
    request_body(content = SetTime, description = "Optional."),
    responses(
        (status = 200, description = "Cluster time was moved.", body = ClusterChange),
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
    security(("bearer" = [])),
)]
pub(super) fn set_time() {}

/// Back up the state of the running cluster
///
/// JSON lines: a `begin` line, keys with their digests, audit entries, and an `end` line with the
/// SHA-256 of every byte before it; without that line the backup is invalid. It contains every key
/// whose creation was answered before this request.
#[utoipa::path(
    get,
    path = "/v1/cluster/backup",
    tag = "cluster",
    params(BackupQuery),
    responses(
        (status = 200, description = "The backup.", body = String, content_type = "application/x-ndjson"),
        (status = 400, response = InvalidRequest),
        (status = 401, response = Unauthenticated),
        (status = 403, response = OutOfScope),
        (status = 409, response = Conflict),
        (status = 429, response = Limited),
        (status = 500, response = Internal),
        (status = 503, response = NoLeader),
    ),
    security(("bearer" = [])),
)]
pub(super) fn backup() {}

/// Restore keys and audit entries of a backup
///
/// The JSON lines of a backup without the first and the last. Existing records are left unchanged,
/// so all lines may be sent again. `fluxgate cluster restore` checks the backup first.
#[utoipa::path(
    post,
    path = "/v1/cluster/restore",
    tag = "cluster",
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
pub(super) fn restore() {}

/// Metrics in Prometheus text
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "health",
    responses((status = 200, description = "The metrics.", body = String, content_type = "text/plain; version=0.0.4")),
    security(()),
)]
pub(super) fn metrics() {}

/// Read this document
#[utoipa::path(
    get,
    path = "/openapi.json",
    tag = "health",
    responses((status = 200, description = "OpenAPI 3.1.", content_type = "application/json")),
    security(()),
)]
pub(super) fn openapi_json() {}
