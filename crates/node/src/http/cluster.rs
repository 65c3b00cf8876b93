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
use fluxgate_engine::registry::audit::Action;
use fluxgate_engine::registry::command::Actor;
use fluxgate_engine::share::ShareMap;
use fluxgate_raft::NodeStatus;
use fluxgate_types::{ClusterMs, NodeId, caps};
use serde::de::DeserializeOwned;

use super::auth::operator_only;
use super::body::{parse, parse_optional, read_body};
use super::path::PathId;
use super::refused::Refused;
use super::respond;
use crate::config::is_host_port;
use crate::core::Core;
use crate::peer::messages::{About, MembershipCallV2, More, Writes};

/// `GET /v1/cluster`.
pub(crate) async fn view(State(core): State<Arc<Core>>, headers: HeaderMap) -> Response<Body> {
    match operator_only(&core, &headers).await {
        Ok(()) => respond::json(StatusCode::OK, &cluster_view(&core)),
        Err(refused) => refused.into_response(&core),
    }
}

/// The cluster as this node sees it.
pub(crate) fn cluster_view(core: &Core) -> ClusterView {
    let status = core.cluster.status();
    let view = core.shared.view();
    let now = core.now();
    let current = view.map_at(now);
    let pending = view.share_maps.last().filter(|map| map.from > now);
    let heard = core.heard.read().unwrap_or_else(PoisonError::into_inner).clone();
    let committed = status.committed.max(status.applied);
    let nodes = status.nodes.iter().map(|(id, member)| {
        let about = if *id == core.me { Some(core.about()) } else { heard.get(id).cloned() };
        let fresh = about.filter(|about| *id == core.me || core.is_recent(about, now.0));
        let more = if *id == core.me { Some(core.more()) } else { core.more_of(*id) };
        let mut seen = node_view(*id, member, fresh, more, committed.0);
        if *id == core.me {
            seen.trouble = core.reason().map(|reason| reason.to_string());
        } else {
            seen.trouble = core.trouble_with(*id).filter(|_| !seen.reachable);
            seen.peer_tls = Some(core.transport.is_encrypted(*id));
        }
        seen
    });
    let terms = core.terms_in_force();
    let mut warnings = core.warnings();
    if !status.nodes.contains_key(&core.me) {
        // No row of the table describes this node, so its reason is given here.
        warnings.extend(core.reason().map(|reason| reason.to_string()));
    }
    ClusterView {
        cluster: core.config.cluster_name.clone(),
        node_id: core.me.0,
        leader: status.leader.map(|leader| leader.0),
        term: status.term,
        committed: committed.0,
        applied: status.applied.0,
        cluster_time: Text(now),
        clock_offset_ms: core.clock.offset_ms(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        share_map: current
            .map_or(ShareMapView { from: Text(ClusterMs(0)), nodes: Vec::new() }, map_view),
        pending_share_map: pending.map(map_view),
        nodes: nodes.collect(),
        lease_ms: terms.lease_ms,
        clock_error_max_ms: terms.clock_error_ms_max,
        certificates: certificates(core),
        warnings,
    }
}

fn certificates(core: &Core) -> Vec<CertificateView> {
    let of = |(listener, ends_s): (String, i64)| {
        let ends_ms = u64::try_from(ends_s).unwrap_or(0).saturating_mul(1_000);
        CertificateView { listener, ends_at: Text(ClusterMs(ends_ms)) }
    };
    core.metrics.certificates().into_iter().map(of).collect()
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
        start: more.map(|more| more.incarnation.boot.0),
    }
}

/// A request that only the operator may make, and where it came from.
async fn operators(
    core: &Core,
    request: Request<Body>,
) -> Result<(Request<Body>, Option<Box<str>>), Refused> {
    let headers = request.headers().clone();
    operator_only(core, &headers).await?;
    let (parts, content) = request.into_parts();
    let from = super::admin::origin(&parts);
    Ok((Request::from_parts(parts, content), from))
}

async fn body<T: DeserializeOwned>(
    core: &Core,
    request: Request<Body>,
    required: bool,
) -> Result<Option<T>, Refused> {
    let (parts, body) = request.into_parts();
    let config = &core.config;
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

fn bad(message: impl Into<String>) -> Refused {
    Refused::new(ErrorCode::InvalidRequest, message)
}

/// Makes a change of the operator's, and notes it.
async fn change(core: &Core, from: Option<Box<str>>, call: MembershipCallV2) -> Response<Body> {
    let before = core.cluster.status().nodes;
    let led = core.cluster.leader();
    match core.change_membership(call.clone()).await {
        Ok(leader) => {
            if let Some((action, details)) = noted(&call, &before, led, leader) {
                core.note(Actor::Operator, from, action, details).await;
            }
            let nodes = core.cluster.status().nodes.keys().map(|id| id.0).collect();
            let leader = leader.or_else(|| core.cluster.leader()).map(|id| id.0);
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
pub(crate) async fn add(State(core): State<Arc<Core>>, request: Request<Body>) -> Response<Body> {
    let added = add_node(&core, request).await;
    added.unwrap_or_else(|refused| refused.into_response(&core))
}

async fn add_node(core: &Core, request: Request<Body>) -> Result<Response<Body>, Refused> {
    let (request, from) = operators(core, request).await?;
    let asked: AddNode =
        body(core, request, true).await?.ok_or_else(|| bad("a JSON body is required"))?;
    let nodes = core.cluster.status().nodes;
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
    let conflict = |message: &str| Refused::new(ErrorCode::Conflict, message);
    let removed = core.shared.view().nodes.get(&node).is_some_and(|known| known.removed);
    if removed && core.shared.cluster().level < 2 {
        return Err(conflict(
            "this id was used and removed: it can be used again once every node runs version 0.2",
        ));
    }
    if nodes.iter().any(|(id, member)| *id != node && member.address == asked.peer) {
        return Err(conflict("another node has this address"));
    }
    Ok(change(core, from, MembershipCallV2::Add { node, address: asked.peer }).await)
}

/// `DELETE /v1/cluster/nodes/{id}`.
pub(crate) async fn remove(
    State(core): State<Arc<Core>>,
    PathId(id): PathId,
    query: Result<Query<RemoveNode>, QueryRejection>,
    request: Request<Body>,
) -> Response<Body> {
    let from = match operators(&core, request).await {
        Ok((_, from)) => from,
        Err(refused) => return refused.into_response(&core),
    };
    let node =
        id.parse().ok().map(NodeId).filter(|node| core.cluster.status().nodes.contains_key(node));
    let Ok(Query(RemoveNode { force })) = query else {
        return respond::refuse(ErrorCode::InvalidRequest, "force: must be `true` or `false`");
    };
    // One whose removal was not recorded is removed again.
    let known = id
        .parse()
        .ok()
        .map(NodeId)
        .filter(|node| core.shared.view().nodes.get(node).is_some_and(|known| !known.removed));
    match node.or(known) {
        Some(node) => change(&core, from, MembershipCallV2::Remove { node, force }).await,
        None => respond::refuse(ErrorCode::NotFound, "no such node"),
    }
}

/// `POST /v1/cluster/leader`.
pub(crate) async fn hand_over(
    State(core): State<Arc<Core>>,
    request: Request<Body>,
) -> Response<Body> {
    let handed = hand_over_to(&core, request).await;
    handed.unwrap_or_else(|refused| refused.into_response(&core))
}

async fn hand_over_to(core: &Core, request: Request<Body>) -> Result<Response<Body>, Refused> {
    let (request, from) = operators(core, request).await?;
    let asked: HandOver = body(core, request, false).await?.unwrap_or_default();
    let to = asked.to.map(NodeId);
    let nodes = core.cluster.status().nodes;
    if to.is_some_and(|to| !nodes.get(&to).is_some_and(|member| member.votes)) {
        return Err(bad("to: must be a voting node of the cluster"));
    }
    if to.is_some() && to == core.cluster.leader() {
        let leader = to.map_or(0, |to| to.0);
        let why = format!("node {leader} is already the leader");
        return Err(Refused::new(ErrorCode::Conflict, why));
    }
    Ok(change(core, from, MembershipCallV2::HandOver { to }).await)
}

/// `POST /v1/cluster/time`.
pub(crate) async fn set_time(
    State(core): State<Arc<Core>>,
    request: Request<Body>,
) -> Response<Body> {
    let set = set_time_to(&core, request).await;
    set.unwrap_or_else(|refused| refused.into_response(&core))
}

async fn set_time_to(core: &Core, request: Request<Body>) -> Result<Response<Body>, Refused> {
    let (request, from) = operators(core, request).await?;
    let asked: SetTime = body(core, request, false).await?.unwrap_or_default();
    let to = asked.to.map(|Text(to)| to);
    Ok(change(core, None, MembershipCallV2::SetTime { to, from }).await)
}
