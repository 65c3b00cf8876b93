//! The cluster: its nodes, what they serve, and how budgets are shared.

use askama::Template;
use fluxgate_api::cluster::{ClusterView, NodeView};
use serde::Serialize;

use super::frame::Frame;
use crate::chart::{Share, shares};
use crate::health::Problem;
use crate::moment::Moment;

/// Colours for nodes in the style and the script.
const COLOURS: u64 = 9;

/// What a node has answered since its process began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Served {
    /// Let through.
    pub admitted: u64,
    /// Over the limit (429).
    pub limited: u64,
    /// No valid key, or too small a scope (401, 403).
    pub refused: u64,
}

/// The same with the node's number; `None` where it did not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct NodeServed {
    /// The node.
    pub node: u64,
    /// What it served.
    pub served: Option<Served>,
}

/// The part of the cluster's page that changes while it is looked at.
#[derive(Clone, Debug, Template)]
#[template(path = "live.html")]
pub struct LivePanel {
    /// What is wrong.
    pub problems: Vec<Problem>,
    /// The cluster.
    pub view: ClusterView,
    /// What each node served.
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

/// The answer to a page that asks again and again.
#[derive(Clone, Debug, Serialize)]
pub struct LiveFigures {
    /// The panel as markup.
    pub html: String,
    /// What each node served.
    pub served: Vec<NodeServed>,
}

/// The cluster's page.
#[derive(Clone, Debug, Template)]
#[template(path = "cluster.html")]
pub struct ClusterPage {
    /// Around it.
    pub frame: Frame,
    /// What changes while it is looked at.
    pub panel: LivePanel,
}

/// The colour of a node, of those that the style has: ids are not used again, and rise.
const fn colour(node: &u64) -> u64 {
    node.saturating_sub(1) % COLOURS + 1
}

/// A number that may be unknown.
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
