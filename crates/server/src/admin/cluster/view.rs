//! The cluster as this node sees it.

use fluxgate_api::cluster::{
    CertificateView, ClusterView, NodeView, NodeWeight, Role, ShareMapView, WriteState,
};
use fluxgate_api::text::Text;
use fluxgate_engine::share_map::ShareMap;
use fluxgate_node::state::NodeState;
use fluxgate_raft::NodeStatus;
use fluxgate_types::{ClusterMs, NodeId};
use fluxgate_wire::peer::{About, More, Writes};

/// The cluster as this node sees it.
pub(crate) fn cluster_view(state: &NodeState) -> ClusterView {
    let status = state.raft.status();
    let view = state.shared.view();
    let now = state.now();
    let current = view.map_at(now);
    let pending = view.share_maps.last().filter(|map| map.from > now);
    let heard = state.heard.all();
    let committed = status.committed.max(status.applied);
    let nodes = status.nodes.iter().map(|(id, member)| {
        let about =
            if *id == state.me { Some(state.peers.about()) } else { heard.get(id).cloned() };
        let fresh = about.filter(|about| *id == state.me || state.heard.is_recent(about, now.0));
        let more =
            if *id == state.me { Some(state.peers.more()) } else { state.heard.more_of(*id) };
        let mut seen = node_view(*id, member, fresh, more, committed.0);
        if *id == state.me {
            seen.trouble = state.reason().map(|reason| reason.to_string());
        } else {
            seen.trouble = state.health.trouble_with(*id).filter(|_| !seen.reachable);
            seen.peer_tls = Some(state.transport.is_encrypted(*id));
        }
        seen
    });
    let terms = state.member.terms_in_force();
    let mut warnings = state.warnings();
    if !status.nodes.contains_key(&state.me) {
        // No row describes this node, so its reason becomes a warning.
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
