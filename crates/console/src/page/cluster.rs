//! The cluster page: its nodes, the requests they answered, and how budgets are shared.

use askama::Template;
use fluxgate_api::cluster::{ClusterView, NodeView};
use serde::Serialize;

use super::frame::Frame;
use crate::chart::{Share, shares};
use crate::health::Problem;
use crate::moment::Moment;

/// Number of node colours in the style and the script.
const COLOURS: u64 = 9;

/// The requests that a node has answered since its process started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Served {
    /// Admitted.
    pub admitted: u64,
    /// Over the limit (429).
    pub limited: u64,
    /// Without a valid key, or with an insufficient scope (401, 403).
    pub refused: u64,
}

/// The requests that one node answered; `None` if the node did not report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct NodeServed {
    /// Id of the node.
    pub node: u64,
    /// Its answered requests.
    pub served: Option<Served>,
}

/// The part of the page that is updated while it is open.
#[derive(Clone, Debug, Template)]
#[template(path = "live.html")]
pub struct LivePanel {
    /// Problems of the cluster.
    pub problems: Vec<Problem>,
    /// The view of the answering node.
    pub view: ClusterView,
    /// The requests that each node answered.
    pub served: Vec<NodeServed>,
}

impl LivePanel {
    fn share_of(&self, node: &u64) -> Option<Share> {
        shares(&self.view.share_map.nodes).into_iter().find(|share| share.node == *node)
    }

    fn shares(&self) -> Vec<Share> {
        shares(&self.view.share_map.nodes)
    }

    fn served_of(&self, node: &u64) -> Option<Served> {
        self.served.iter().find(|served| served.node == *node).and_then(|served| served.served)
    }
}

/// The answer to a page that polls.
#[derive(Clone, Debug, Serialize)]
pub struct LiveFigures {
    /// The updated part as HTML.
    pub html: String,
    /// The requests that each node answered.
    pub served: Vec<NodeServed>,
}

/// The cluster page.
#[derive(Clone, Debug, Template)]
#[template(path = "cluster.html")]
pub struct ClusterPage {
    /// Title, navigation and status around the page.
    pub frame: Frame,
    /// The part that is updated while the page is open.
    pub panel: LivePanel,
}

/// The colour of a node. Node ids rise and are not reused, so colours repeat after the last one.
const fn colour(node: &u64) -> u64 {
    node.saturating_sub(1) % COLOURS + 1
}

/// A number, or a dash if it is unknown.
fn known<T: ToString>(number: Option<&T>) -> String {
    number.map_or_else(|| "–".to_owned(), ToString::to_string)
}

fn lease_text(node: &NodeView) -> String {
    match node.lease_remaining_ms {
        None => "–".to_owned(),
        Some(0) => "none".to_owned(),
        // In tenths of a second, rounded down.
        Some(ms) => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
    }
}
