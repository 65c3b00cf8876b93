//! The cluster as this node sees it, and the changes that the operator can make.

pub(crate) mod view;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{delete, get, post};
use fluxgate_api::cluster::{AddNode, ClusterChange, ClusterView, HandOver, RemoveNode, SetTime};
use fluxgate_api::error::ErrorCode;
use fluxgate_api::paths;
use fluxgate_api::text::Text;
use fluxgate_engine::state::audit::Action;
use fluxgate_engine::state::command::Actor;
use fluxgate_node::config::is_host_port;
use fluxgate_node::state::NodeState;
use fluxgate_raft::NodeStatus;
use fluxgate_types::{NodeId, caps};
use fluxgate_wire::peer::MembershipCallV2;

use self::view::cluster_view;
use crate::shared::auth::Operator;
use crate::shared::body::{parse, parse_optional, read_whole};
use crate::shared::error::ApiError;
use crate::shared::path::PathId;
use crate::shared::respond::Json;

/// The members after a change.
type Changed = Result<Json<ClusterChange>, ApiError>;

pub(super) fn router() -> Router<Arc<NodeState>> {
    Router::new()
        .route(paths::CLUSTER, get(read))
        .route(paths::CLUSTER_NODES, post(add))
        .route(paths::CLUSTER_NODE, delete(remove))
        .route(paths::CLUSTER_LEADER, post(hand_over))
        .route(paths::CLUSTER_TIME, post(set_time))
}

async fn read(State(state): State<Arc<NodeState>>, _: Operator) -> Json<ClusterView> {
    Json(StatusCode::OK, cluster_view(&state))
}

async fn add(
    State(state): State<Arc<NodeState>>,
    operator: Operator,
    headers: HeaderMap,
    body: Body,
) -> Changed {
    let request: AddNode = parse(&headers, &read_whole(&state, body).await?)?;
    let nodes = state.raft.status().nodes;
    if request.id == 0 || request.id > u64::from(u32::MAX) {
        return Err(invalid("id: must be a number from 1 on"));
    }
    if !is_host_port(&request.peer) {
        return Err(invalid("peer: must be a host and a port such as `10.0.0.4:7301`"));
    }
    if nodes.len() >= caps::NODES_MAX && !nodes.contains_key(&NodeId(request.id)) {
        return Err(invalid(format!("a cluster has at most {} nodes", caps::NODES_MAX)));
    }
    let node = NodeId(request.id);
    let removed = state.shared.view().nodes.get(&node).is_some_and(|known| known.removed);
    if removed && state.shared.cluster().level < 2 {
        return Err(conflict(
            "this id was used and removed: it can be used again once every node runs version 0.2",
        ));
    }
    if nodes.iter().any(|(id, member)| *id != node && member.address == request.peer) {
        return Err(conflict("another node has this address"));
    }
    let call = MembershipCallV2::Add { node, address: request.peer };
    change(&state, operator.client_addr, call).await
}

async fn remove(
    State(state): State<Arc<NodeState>>,
    operator: Operator,
    PathId(id): PathId,
    query: Result<Query<RemoveNode>, QueryRejection>,
) -> Changed {
    let Ok(Query(RemoveNode { force })) = query else {
        return Err(invalid("force: must be `true` or `false`"));
    };
    let is_known = |node: &NodeId| {
        state.raft.status().nodes.contains_key(node)
            // A node whose removal was not recorded can be removed again.
            || state.shared.view().nodes.get(node).is_some_and(|known| !known.removed)
    };
    let node = id.parse().ok().map(NodeId).filter(is_known);
    let node = node.ok_or_else(|| ApiError::new(ErrorCode::NotFound, "no such node"))?;
    change(&state, operator.client_addr, MembershipCallV2::Remove { node, force }).await
}

async fn hand_over(
    State(state): State<Arc<NodeState>>,
    operator: Operator,
    headers: HeaderMap,
    body: Body,
) -> Changed {
    let request: Option<HandOver> = parse_optional(&headers, &read_whole(&state, body).await?)?;
    let to = request.unwrap_or_default().to.map(NodeId);
    let nodes = state.raft.status().nodes;
    if to.is_some_and(|to| !nodes.get(&to).is_some_and(|member| member.votes)) {
        return Err(invalid("to: must be a voting node of the cluster"));
    }
    if let Some(leader) = to.filter(|_| to == state.raft.leader()) {
        return Err(conflict(format!("node {leader} is already the leader")));
    }
    change(&state, operator.client_addr, MembershipCallV2::HandOver { to }).await
}

async fn set_time(
    State(state): State<Arc<NodeState>>,
    operator: Operator,
    headers: HeaderMap,
    body: Body,
) -> Changed {
    let request: Option<SetTime> = parse_optional(&headers, &read_whole(&state, body).await?)?;
    let to = request.unwrap_or_default().to.map(|Text(to)| to);
    let from = operator.client_addr;
    change(&state, None, MembershipCallV2::SetTime { to, from }).await
}

fn invalid(message: impl Into<Cow<'static, str>>) -> ApiError {
    ApiError::new(ErrorCode::InvalidRequest, message)
}

fn conflict(message: impl Into<Cow<'static, str>>) -> ApiError {
    ApiError::new(ErrorCode::Conflict, message)
}

/// Makes a change, and records it in the audit trail.
async fn change(state: &NodeState, from: Option<Box<str>>, call: MembershipCallV2) -> Changed {
    let before = state.raft.status().nodes;
    let leader_before = state.raft.leader();
    match state.change_membership(call.clone()).await {
        Ok(leader) => {
            if let Some((action, details)) = audited(&call, &before, leader_before, leader) {
                state.writes.note(Actor::Operator, from, action, details).await;
            }
            let nodes = state.raft.status().nodes.keys().map(|id| id.0).collect();
            let leader = leader.or_else(|| state.raft.leader()).map(|id| id.0);
            Ok(Json(StatusCode::OK, ClusterChange { nodes, leader }))
        }
        Err(why) if why.is_empty() => {
            let message = "the cluster has no leader now; look before you try again";
            Err(ApiError::new(ErrorCode::NoLeader, message))
        }
        Err(why) => Err(conflict(why)),
    }
}

/// The entry of the audit trail for a change; `None` if the change made nothing new.
fn audited(
    call: &MembershipCallV2,
    before: &BTreeMap<NodeId, NodeStatus>,
    leader_before: Option<NodeId>,
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
            Some((Action::HandedOver, format!("{} → {}", name(leader_before), name(leader))))
        }
        // A command of the log, which records itself.
        MembershipCallV2::SetTime { .. } => None,
    }
}
