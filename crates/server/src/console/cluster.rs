//! The page of the cluster, for the operator, and the live figures that it polls.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{Response, StatusCode};
use axum::routing::get;
use fluxgate_api::error::ErrorCode;
use fluxgate_console::health;
use fluxgate_console::page::{
    ClusterPage, LiveFigures, LivePanel, NodeServed, Section, Served, render,
};
use fluxgate_node::state::NodeState;
use fluxgate_types::NodeId;
use fluxgate_wire::peer::{ServedCall, ServedReply};

use super::signed_in::SignedIn;
use super::{Console, Shared};
use crate::admin::cluster::view::cluster_view;
use crate::shared::error::ApiError;
use crate::shared::respond::Json;

/// How long the answer of another node may take.
const TIMEOUT: Duration = Duration::from_millis(500);

pub(super) fn router() -> Router<Arc<Console>> {
    Router::new().route("/console/cluster", get(page)).route("/console/api/cluster", get(live))
}

/// The figures of the cluster now.
async fn panel(state: &Arc<NodeState>) -> LivePanel {
    let mut replies = state.peers.ask_all(&ServedCall, TIMEOUT).await;
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
async fn page(State(console): Shared, signed_in: SignedIn) -> Response<Body> {
    if !signed_in.is_operator() {
        let text = "An admin key manages the keys of its owner. Sign in with the operator token \
            to look at the nodes.";
        let heading = "The cluster is the operator’s";
        let links = [("/console/keys", "API Keys")];
        return console.message(Some(&signed_in), StatusCode::FORBIDDEN, heading, text, &links);
    }
    let frame = console.frame(Some(&signed_in), "Cluster", Section::Cluster);
    let page = ClusterPage { frame, panel: panel(&console.state).await };
    console.show(&signed_in, StatusCode::OK, render(&page))
}

/// `GET /console/api/cluster`. An open page polls this, so it does not renew the session.
async fn live(State(console): Shared, signed_in: SignedIn) -> Result<Json<LiveFigures>, ApiError> {
    if !signed_in.is_operator() {
        let message = "this requires the operator token";
        return Err(ApiError::new(ErrorCode::InsufficientScope, message));
    }
    let panel = panel(&console.state).await;
    let html = render(&panel).map_err(|error| {
        tracing::error!(%error, "a part of a page of the console could not be rendered");
        ApiError::new(ErrorCode::Internal, "internal error")
    })?;
    Ok(Json(StatusCode::OK, LiveFigures { html, served: panel.served }))
}
