//! Callers that were rejected before they were known: what is remembered of them for the operator.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use fluxgate_types::{BootNs, NodeId, caps};

use crate::clock::{boot_now, nanos};

/// The shortest time between two log lines about calls with another cluster secret.
const LOG_STRANGERS_EVERY: Duration = Duration::from_secs(60);
/// How long after such a call the operator is warned of its node.
const WARN_OF_STRANGERS: Duration = Duration::from_secs(10);

/// Callers that were rejected: nodes with another cluster secret, and callers without a
/// certificate.
#[derive(Debug, Default)]
pub struct Strangers {
    nodes: Mutex<BTreeMap<NodeId, Stranger>>,
    /// When a caller without a certificate was last logged.
    without_certificate: Mutex<Option<BootNs>>,
}

/// A node with another cluster secret: its last call, and the last log line about it.
#[derive(Debug)]
struct Stranger {
    called: BootNs,
    logged: Option<BootNs>,
}

impl Strangers {
    /// Whether a caller without a certificate may be logged again.
    pub fn may_tell_of_missing_certificate(&self) -> bool {
        let now = boot_now();
        let mut logged = self.without_certificate.lock().unwrap_or_else(PoisonError::into_inner);
        let may = logged.is_none_or(|logged| now.since(logged) > nanos(LOG_STRANGERS_EVERY));
        if may {
            *logged = Some(now);
        }
        may
    }

    /// Records a call in the name of a node of this cluster that was rejected for its secret.
    pub fn note(&self, node: NodeId) {
        let now = boot_now();
        let mut seen = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= caps::NODES_MAX && !seen.contains_key(&node) {
            return;
        }
        let stranger = seen.entry(node).or_insert(Stranger { called: now, logged: None });
        stranger.called = now;
        if stranger.logged.is_none_or(|logged| now.since(logged) > nanos(LOG_STRANGERS_EVERY)) {
            stranger.logged = Some(now);
            tracing::warn!(
                node = node.0,
                "wrong cluster secret: a caller that claims to be this node presented another one"
            );
        }
    }

    /// The nodes that recently called with another secret.
    pub fn lately(&self) -> Vec<NodeId> {
        let now = boot_now();
        let seen = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        let is_recent = |of: &Stranger| now.since(of.called) < nanos(WARN_OF_STRANGERS);
        let lately = seen.iter().filter(|(_, stranger)| is_recent(stranger));
        lately.map(|(node, _)| *node).collect()
    }
}
