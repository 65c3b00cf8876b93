//! Stubs of the admin listener's routes, those of keys apart. Read by utoipa, called by nobody.
#![expect(dead_code, reason = "the attributes are the content")]

pub(super) mod keys;

use super::responses::{
    Conflict, Internal, InvalidRequest, Limited, NoLeader, NotFound, OutOfScope, RequestTimeout,
    TooLarge, Unauthenticated, UnsupportedMediaType,
};
use crate::bulk::{BackupQuery, BulkAnswer};
use crate::cluster::{AddNode, ClusterChange, ClusterView, HandOver, SetTime};
use crate::usage::{AuditList, AuditQuery, Whoami};

/// Who did what to which key
///
/// Newest first. An admin key sees what concerns the keys of its own owner.
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

/// Which credential this is
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
        (status = 200, description = "The view.", body = ClusterView),
        (status = 401, response = Unauthenticated),
        (status = 403, response = OutOfScope),
        (status = 500, response = Internal),
    ),
    security(("bearer" = [])),
)]
pub(super) fn read_cluster() {}

/// Add a node to the cluster, or move one
///
/// A new node receives the log first and votes once it has caught up. The id of a member with a new
/// address moves that member, if it answers there itself; else nothing is changed.
#[utoipa::path(
    post,
    path = "/v1/cluster/nodes",
    tag = "cluster",
    request_body = AddNode,
    responses(
        (status = 200, description = "It belongs to the cluster.", body = ClusterChange),
        (status = 400, response = InvalidRequest),
        (status = 401, response = Unauthenticated),
        (status = 403, response = OutOfScope),
        (status = 408, response = RequestTimeout),
        (status = 409, response = Conflict),
        (status = 413, response = TooLarge),
        (status = 415, response = UnsupportedMediaType),
        (status = 500, response = Internal),
        (status = 503, response = NoLeader),
    ),
    security(("bearer" = [])),
)]
pub(super) fn add_node() {}

/// Remove a node from the cluster
///
/// Refused where the remaining voters that are up would be no majority, unless `force` is set. The
/// id may be used again with an empty data directory.
#[utoipa::path(
    delete,
    path = "/v1/cluster/nodes/{id}",
    tag = "cluster",
    params(
        ("id" = u64, Path, description = "The node's id."),
        ("force" = Option<bool>, Query, description = "Also where the cluster would stop."),
    ),
    responses(
        (status = 200, description = "It no longer belongs to the cluster.", body = ClusterChange),
        (status = 400, response = InvalidRequest),
        (status = 401, response = Unauthenticated),
        (status = 403, response = OutOfScope),
        (status = 404, response = NotFound),
        (status = 408, response = RequestTimeout),
        (status = 409, response = Conflict),
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
        (status = 500, response = Internal),
        (status = 503, response = NoLeader),
    ),
    security(("bearer" = [])),
)]
pub(super) fn hand_over() {}

/// Set cluster time forward
///
/// For a cluster whose time is behind: it is set to `to`, or to what the wall clocks of the members
/// say. It never goes back. Keys whose end lies between are expired from then on.
#[utoipa::path(
    post,
    path = "/v1/cluster/time",
    tag = "cluster",
    request_body(content = SetTime, description = "Optional."),
    responses(
        (status = 200, description = "Cluster time was set.", body = ClusterChange),
        (status = 400, response = InvalidRequest),
        (status = 401, response = Unauthenticated),
        (status = 403, response = OutOfScope),
        (status = 408, response = RequestTimeout),
        (status = 409, response = Conflict),
        (status = 413, response = TooLarge),
        (status = 415, response = UnsupportedMediaType),
        (status = 500, response = Internal),
        (status = 503, response = NoLeader),
    ),
    security(("bearer" = [])),
)]
pub(super) fn set_time() {}

/// The state of the cluster, while it works on
///
/// JSON lines: a `begin` line, keys with their digests, audit entries, and an `end` line with the
/// SHA-256 of every byte before it, without which it is none. It holds every key whose creation
/// was answered before this was asked.
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
        (status = 500, response = Internal),
        (status = 503, response = NoLeader),
    ),
    security(("bearer" = [])),
)]
pub(super) fn backup() {}

/// Take in keys and audit entries of a backup
///
/// JSON lines as a backup has them, without its first and last. What is there already stays as it
/// is, so all of it may be sent again. `fluxgate cluster restore` checks the backup first.
#[utoipa::path(
    post,
    path = "/v1/cluster/restore",
    tag = "cluster",
    request_body(content = String, content_type = "application/x-ndjson"),
    responses(
        (status = 200, description = "What came of the lines.", body = BulkAnswer),
        (status = 400, response = InvalidRequest),
        (status = 401, response = Unauthenticated),
        (status = 403, response = OutOfScope),
        (status = 408, response = RequestTimeout),
        (status = 415, response = UnsupportedMediaType),
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

/// This document
#[utoipa::path(
    get,
    path = "/openapi.json",
    tag = "health",
    responses((status = 200, description = "OpenAPI 3.1.", content_type = "application/json")),
    security(()),
)]
pub(super) fn openapi_json() {}
