//! The cluster as this node sees it, and the changes that the operator can ask for.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, Request, Response, StatusCode};
use fluxgate_api::cluster::{
    AddNode, CertificateView, ClusterChange, ClusterView, HandOver, NodeView, NodeWeight,
    RemoveNode, Role, SetTime, ShareMapView, WriteState,
};
use fluxgate_api::error::ErrorCode;
use fluxgate_api::text::Text;
use fluxgate_engine::share_map::ShareMap;
use fluxgate_engine::state::audit::Action;
use fluxgate_engine::state::command::Actor;
use fluxgate_node::config::is_host_port;
use fluxgate_node::state::NodeState;
use fluxgate_raft::NodeStatus;
use fluxgate_types::{ClusterMs, NodeId, caps};
use fluxgate_wire::peer::{About, MembershipCallV2, More, Writes};
use serde::de::DeserializeOwned;

use crate::shared::auth::operator_only;
use crate::shared::body::{parse, parse_optional, read_body};
use crate::shared::error::ApiError;
use crate::shared::path::PathId;
use crate::shared::respond;

/// `GET /v1/cluster`.
pub(crate) async fn view(
    State(state): State<Arc<NodeState>>,
    headers: HeaderMap,
) -> Response<Body> {
    match operator_only(&state, &headers).await {
        Ok(()) => respond::json(StatusCode::OK, &cluster_view(&state)),
        Err(refused) => refused.into_response(&state),
    }
}

/// The cluster as this node sees it.
pub(crate) fn cluster_view(state: &NodeState) -> ClusterView {
    let status = state.raft.status();
    let view = state.shared.view();
    let now = state.now();
    let current = view.map_at(now);
    let pending = view.share_maps.last().filter(|map| map.from > now);
    let heard = state.heard.read().unwrap_or_else(PoisonError::into_inner).clone();
    let committed = status.committed.max(status.applied);
    let nodes = status.nodes.iter().map(|(id, member)| {
        let about = if *id == state.me { Some(state.about()) } else { heard.get(id).cloned() };
        let fresh = about.filter(|about| *id == state.me || state.is_recent(about, now.0));
        let more = if *id == state.me { Some(state.more()) } else { state.more_of(*id) };
        let mut seen = node_view(*id, member, fresh, more, committed.0);
        if *id == state.me {
            seen.trouble = state.reason().map(|reason| reason.to_string());
        } else {
            seen.trouble = state.trouble_with(*id).filter(|_| !seen.reachable);
            seen.peer_tls = Some(state.transport.is_encrypted(*id));
        }
        seen
    });
    let terms = state.terms_in_force();
    let mut warnings = state.warnings();
    if !status.nodes.contains_key(&state.me) {
        // No row of the table describes this node, so its reason is given here.
        warnings.extend(state.reason().map(|reason| reason.to_string()));
    }
    ClusterView {
        cluster: state.config.cluster_name.clone(),
        node_id: state.me.0,
        leader: status.leader.map(|leader| leader.0),
        term: status.term,
        committed: committed.0,
        applied: status.applied.0,
        cluster_time: Text(now),
        clock_offset_ms: state.clock.offset_ms(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        share_map: current
            .map_or(ShareMapView { from: Text(ClusterMs(0)), nodes: Vec::new() }, map_view),
        pending_share_map: pending.map(map_view),
        nodes: nodes.collect(),
        lease_ms: terms.lease_ms,
        clock_error_max_ms: terms.clock_error_ms_max,
        certificates: certificates(state),
        warnings,
    }
}

fn certificates(state: &NodeState) -> Vec<CertificateView> {
    let of = |(listener, ends_s): (String, i64)| {
        let ends_ms = u64::try_from(ends_s).unwrap_or(0).saturating_mul(1_000);
        CertificateView { listener, ends_at: Text(ClusterMs(ends_ms)) }
    };
    state.metrics.certificates().into_iter().map(of).collect()
}

fn map_view(map: &ShareMap) -> ShareMapView {
    let node = |(id, weight): &(NodeId, u32)| NodeWeight { node: id.0, weight: u64::from(*weight) };
    ShareMapView { from: Text(map.from), nodes: map.nodes.iter().map(node).collect() }
}

fn node_view(
    id: NodeId,
    member: &NodeStatus,
    about: Option<About>,
    more: Option<More>,
    committed: u64,
) -> NodeView {
    let role = match about.as_ref().map(|about| about.role.as_str()) {
        Some("leader") => Role::Leader,
        Some("candidate") => Role::Candidate,
        Some("learner") => Role::Learner,
        Some(_) if !member.votes => Role::Learner,
        Some(_) => Role::Follower,
        None => Role::Unreachable,
    };
    let (about, more) = (about.as_ref(), more.as_ref());
    NodeView {
        id: id.0,
        peer: member.address.clone(),
        role,
        term: about.map(|a| a.term),
        applied: about.map(|a| a.applied),
        lag: about.map(|a| committed.saturating_sub(a.applied)),
        lease_remaining_ms: about.map(|a| a.lease_remaining_ms),
        ready: about.map(|a| a.ready),
        reachable: about.is_some(),
        trouble: None,
        peer_tls: None,
        clock_offset_ms: about.map(|a| a.clock_offset_ms),
        version: about.map(|a| a.version.clone()),
        writes: more.map(|more| match more.writes {
            Writes::Fine => WriteState::Ok,
            Writes::DiskFull => WriteState::DiskFull,
            Writes::Stalled => WriteState::Stalled,
        }),
        free_bytes: more.and_then(|more| more.free_bytes),
        configured_lease_ms: more.map(|more| more.configured.lease_ms),
        start: more.map(|more| more.start_id.boot.0),
    }
}

/// A request that only the operator may make, and where it came from.
async fn operators(
    state: &NodeState,
    request: Request<Body>,
) -> Result<(Request<Body>, Option<Box<str>>), ApiError> {
    let headers = request.headers().clone();
    operator_only(state, &headers).await?;
    let (parts, content) = request.into_parts();
    let from = crate::admin::origin(&parts);
    Ok((Request::from_parts(parts, content), from))
}

async fn body<T: DeserializeOwned>(
    state: &NodeState,
    request: Request<Body>,
    required: bool,
) -> Result<Option<T>, ApiError> {
    let (parts, body) = request.into_parts();
    let config = &state.config;
    let read = read_body(body, config.max_body_bytes, config.request_timeout).await;
    let parsed = read.and_then(|bytes| {
        if required {
            parse(&parts.headers, &bytes).map(Some)
        } else {
            parse_optional(&parts.headers, &bytes)
        }
    });
    Ok(parsed?)
}

fn bad(message: impl Into<String>) -> ApiError {
    ApiError::new(ErrorCode::InvalidRequest, message)
}

/// Makes a change of the operator's, and notes it.
async fn change(
    state: &NodeState,
    from: Option<Box<str>>,
    call: MembershipCallV2,
) -> Response<Body> {
    let before = state.raft.status().nodes;
    let led = state.raft.leader();
    match state.change_membership(call.clone()).await {
        Ok(leader) => {
            if let Some((action, details)) = noted(&call, &before, led, leader) {
                state.note(Actor::Operator, from, action, details).await;
            }
            let nodes = state.raft.status().nodes.keys().map(|id| id.0).collect();
            let leader = leader.or_else(|| state.raft.leader()).map(|id| id.0);
            respond::json(StatusCode::OK, &ClusterChange { nodes, leader })
        }
        Err(why) if why.is_empty() => respond::refuse(
            ErrorCode::NoLeader,
            "the cluster has no leader now; look before you try again",
        ),
        Err(why) => respond::refuse(ErrorCode::Conflict, why),
    }
}

/// What the audit trail says of a change that was made.
fn noted(
    call: &MembershipCallV2,
    before: &BTreeMap<NodeId, NodeStatus>,
    led: Option<NodeId>,
    leader: Option<NodeId>,
) -> Option<(Action, String)> {
    let name =
        |node: Option<NodeId>| node.map_or("no leader".to_owned(), |node| format!("node {node}"));
    match call {
        MembershipCallV2::Add { node, address } => {
            let details = match before.get(node) {
                Some(known) if known.address == *address => return None,
                Some(known) => format!("node {node} moved: {} → {address}", known.address),
                None => format!("node {node} added at {address}"),
            };
            Some((Action::MembersChanged, details))
        }
        MembershipCallV2::Remove { node, force } => {
            let was = before.get(node).map(|known| format!(", which was at {}", known.address));
            let how = if *force { ", by force" } else { "" };
            let details = format!("node {node} removed{how}{}", was.unwrap_or_default());
            Some((Action::MembersChanged, details))
        }
        MembershipCallV2::HandOver { .. } => {
            Some((Action::HandedOver, format!("{} → {}", name(led), name(leader))))
        }
        // It is a change of the state, and notes itself.
        MembershipCallV2::SetTime { .. } => None,
    }
}

/// `POST /v1/cluster/nodes`.
pub(crate) async fn add(
    State(state): State<Arc<NodeState>>,
    request: Request<Body>,
) -> Response<Body> {
    let added = add_node(&state, request).await;
    added.unwrap_or_else(|refused| refused.into_response(&state))
}

async fn add_node(state: &NodeState, request: Request<Body>) -> Result<Response<Body>, ApiError> {
    let (request, from) = operators(state, request).await?;
    let asked: AddNode =
        body(state, request, true).await?.ok_or_else(|| bad("a JSON body is required"))?;
    let nodes = state.raft.status().nodes;
    if asked.id == 0 || asked.id > u64::from(u32::MAX) {
        return Err(bad("id: must be a number from 1 on"));
    }
    if !is_host_port(&asked.peer) {
        return Err(bad("peer: must be a host and a port such as `10.0.0.4:7301`"));
    }
    if nodes.len() >= caps::NODES_MAX && !nodes.contains_key(&NodeId(asked.id)) {
        return Err(bad(format!("a cluster has at most {} nodes", caps::NODES_MAX)));
    }
    let node = NodeId(asked.id);
    let conflict = |message: &str| ApiError::new(ErrorCode::Conflict, message);
    let removed = state.shared.view().nodes.get(&node).is_some_and(|known| known.removed);
    if removed && state.shared.cluster().level < 2 {
        return Err(conflict(
            "this id was used and removed: it can be used again once every node runs version 0.2",
        ));
    }
    if nodes.iter().any(|(id, member)| *id != node && member.address == asked.peer) {
        return Err(conflict("another node has this address"));
    }
    Ok(change(state, from, MembershipCallV2::Add { node, address: asked.peer }).await)
}

/// `DELETE /v1/cluster/nodes/{id}`.
pub(crate) async fn remove(
    State(state): State<Arc<NodeState>>,
    PathId(id): PathId,
    query: Result<Query<RemoveNode>, QueryRejection>,
    request: Request<Body>,
) -> Response<Body> {
    let from = match operators(&state, request).await {
        Ok((_, from)) => from,
        Err(refused) => return refused.into_response(&state),
    };
    let node =
        id.parse().ok().map(NodeId).filter(|node| state.raft.status().nodes.contains_key(node));
    let Ok(Query(RemoveNode { force })) = query else {
        return respond::refuse(ErrorCode::InvalidRequest, "force: must be `true` or `false`");
    };
    // One whose removal was not recorded is removed again.
    let known = id
        .parse()
        .ok()
        .map(NodeId)
        .filter(|node| state.shared.view().nodes.get(node).is_some_and(|known| !known.removed));
    match node.or(known) {
        Some(node) => change(&state, from, MembershipCallV2::Remove { node, force }).await,
        None => respond::refuse(ErrorCode::NotFound, "no such node"),
    }
}

/// `POST /v1/cluster/leader`.
pub(crate) async fn hand_over(
    State(state): State<Arc<NodeState>>,
    request: Request<Body>,
) -> Response<Body> {
    let handed = hand_over_to(&state, request).await;
    handed.unwrap_or_else(|refused| refused.into_response(&state))
}

async fn hand_over_to(
    state: &NodeState,
    request: Request<Body>,
) -> Result<Response<Body>, ApiError> {
    let (request, from) = operators(state, request).await?;
    let asked: HandOver = body(state, request, false).await?.unwrap_or_default();
    let to = asked.to.map(NodeId);
    let nodes = state.raft.status().nodes;
    if to.is_some_and(|to| !nodes.get(&to).is_some_and(|member| member.votes)) {
        return Err(bad("to: must be a voting node of the cluster"));
    }
    if to.is_some() && to == state.raft.leader() {
        let leader = to.map_or(0, |to| to.0);
        let why = format!("node {leader} is already the leader");
        return Err(ApiError::new(ErrorCode::Conflict, why));
    }
    Ok(change(state, from, MembershipCallV2::HandOver { to }).await)
}

/// `POST /v1/cluster/time`.
pub(crate) async fn set_time(
    State(state): State<Arc<NodeState>>,
    request: Request<Body>,
) -> Response<Body> {
    let set = set_time_to(&state, request).await;
    set.unwrap_or_else(|refused| refused.into_response(&state))
}

async fn set_time_to(
    state: &NodeState,
    request: Request<Body>,
) -> Result<Response<Body>, ApiError> {
    let (request, from) = operators(state, request).await?;
    let asked: SetTime = body(state, request, false).await?.unwrap_or_default();
    let to = asked.to.map(|Text(to)| to);
    Ok(change(state, None, MembershipCallV2::SetTime { to, from }).await)
}
