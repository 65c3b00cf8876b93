//! The cluster's page, for the operator, and the figures that it asks for again and again.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{Request, Response, StatusCode};
use fluxgate_api::error::ErrorCode;
use fluxgate_console::health;
use fluxgate_console::page::{
    ClusterPage, LiveFigures, LivePanel, NodeServed, Section, Served, render,
};
use fluxgate_node::peer;
use fluxgate_node::state::NodeState;
use fluxgate_types::NodeId;
use fluxgate_wire::peer::{ServedCall, ServedReply};

use super::Shared;
use crate::admin::cluster::cluster_view;
use crate::shared::respond;

/// How long another node may take to say what it served.
const TIMEOUT: Duration = Duration::from_millis(500);

async fn panel(state: &Arc<NodeState>) -> LivePanel {
    let mut replies = peer::ask_all(state, &ServedCall, TIMEOUT).await;
    replies.push((state.me, Some(state.metrics.served_totals())));
    replies.sort_by_key(|(node, _)| *node);
    let served = |(node, reply): (NodeId, Option<ServedReply>)| NodeServed {
        node: node.0,
        served: reply.map(|ServedReply { admitted, limited, refused }| Served {
            admitted,
            limited,
            refused,
        }),
    };
    let view = cluster_view(state);
    LivePanel {
        problems: health::problems(&view),
        view,
        served: replies.into_iter().map(served).collect(),
    }
}

/// `GET /console/cluster`.
pub(super) async fn page(State(console): Shared, request: Request<Body>) -> Response<Body> {
    let (parts, _) = request.into_parts();
    let visit = match console.enter(&parts) {
        Ok(visit) => visit,
        Err(turned) => return *turned,
    };
    if !visit.is_operator() {
        let text = "An admin key manages the keys of its owner. Sign in with the operator token \
            to look at the nodes.";
        let heading = "The cluster is the operator’s";
        let links = [("/console/keys", "API Keys")];
        return console.message(Some(&visit), StatusCode::FORBIDDEN, heading, text, &links);
    }
    let frame = console.frame(Some(&visit), "Cluster", Section::Cluster);
    let page = ClusterPage { frame, panel: panel(&console.state).await };
    console.show(&visit, StatusCode::OK, render(&page))
}

/// `GET /console/api/cluster`. Being looked at is no use of the session: it is not renewed.
pub(super) async fn live(State(console): Shared, request: Request<Body>) -> Response<Body> {
    let (parts, _) = request.into_parts();
    match console.enter(&parts) {
        Ok(visit) if visit.is_operator() => {
            let panel = panel(&console.state).await;
            let figures = LiveFigures { html: render(&panel), served: panel.served };
            respond::json(StatusCode::OK, &figures)
        }
        Ok(_) => respond::refuse(ErrorCode::InsufficientScope, "this requires the operator token"),
        Err(turned) => *turned,
    }
}
