//! The usage of one subject, for display: this node's numbers, to be added up over all nodes.

use std::collections::BTreeMap;

use fluxgate_types::{NodeId, Subject};

use super::Shard;
use super::past::WindowSpent;
use super::subject::LimitCounter;

/// What this node knows of one limit of a subject.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LimitUsage {
    /// The limit's tag.
    pub tag: u32,
    /// Spent here, by window, oldest first, the open ones included.
    pub series: Vec<WindowSpent>,
    /// Spent in the newest window per node, as far as this node knows.
    pub by_node: BTreeMap<NodeId, u64>,
    /// The newest window in memory.
    pub window: u64,
}

impl Shard {
    /// What this node knows of a subject's usage; empty for a subject that is not in memory.
    #[must_use]
    pub fn usage(&self, me: NodeId, subject: &Subject) -> Vec<LimitUsage> {
        let Some(counters) = self.subjects.get(subject) else {
            return Vec::new();
        };
        let usage = |limit: &LimitCounter| {
            let open = limit.cells.iter().filter(|cell| cell.spent() > 0);
            let open = open.map(|cell| WindowSpent { window: cell.window(), spent: cell.spent() });
            let mut series: Vec<WindowSpent> = limit.history.iter().chain(open).collect();
            series.sort_unstable_by_key(|point| point.window);
            let newest = limit.cells.iter().max_by_key(|cell| cell.window());
            LimitUsage {
                tag: limit.tag,
                series,
                by_node: newest.map(|cell| cell.spent_by(me)).unwrap_or_default(),
                window: newest.map_or(0, |cell| cell.window()),
            }
        };
        counters.limits.iter().map(usage).collect()
    }
}
