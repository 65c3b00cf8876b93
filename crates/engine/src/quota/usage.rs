//! The usage of one key, for display: this node's numbers, to be added up over all nodes.

use std::collections::{BTreeMap, VecDeque};

use fluxgate_types::{KeyId, NodeId, caps};

use super::Shard;
use super::key::LimitCounter;

/// What this node spent in one window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowSpent {
    /// The window's number.
    pub window: u64,
    /// Tokens.
    pub spent: u64,
}

/// What this node knows of one limit of a key.
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

/// The newest windows that are over, in a compact form: within the bounds of limits, a window
/// number and its tokens fit into 32 bits each.
#[derive(Clone, Debug, Default)]
pub(super) struct Past {
    windows: VecDeque<(u32, u32)>,
}

impl Past {
    pub(super) fn push(&mut self, spent: WindowSpent) {
        let (Ok(window), Ok(spent)) = (u32::try_from(spent.window), u32::try_from(spent.spent))
        else {
            return;
        };
        if self.windows.len() == caps::USAGE_WINDOWS {
            self.windows.pop_front();
        }
        if self.windows.len() == self.windows.capacity() {
            // Grow by a quarter: doubling would leave half of it empty on every key.
            self.windows.reserve_exact(caps::USAGE_WINDOWS / 4);
        }
        self.windows.push_back((window, spent));
    }

    fn iter(&self) -> impl Iterator<Item = WindowSpent> + '_ {
        let spent = |(window, spent): &(u32, u32)| WindowSpent {
            window: u64::from(*window),
            spent: u64::from(*spent),
        };
        self.windows.iter().map(spent)
    }
}

impl Shard {
    /// What this node knows of a key's usage; empty for a key that is not in memory.
    #[must_use]
    pub fn usage(&self, me: NodeId, key: &KeyId) -> Vec<LimitUsage> {
        let Some(counters) = self.keys.get(key) else {
            return Vec::new();
        };
        let usage = |limit: &LimitCounter| {
            let open = limit.cells.iter().filter(|cell| cell.spent > 0);
            let open = open.map(|cell| WindowSpent { window: cell.window, spent: cell.spent });
            let mut series: Vec<WindowSpent> = limit.history.iter().chain(open).collect();
            series.sort_unstable_by_key(|point| point.window);
            let newest = limit.cells.iter().max_by_key(|cell| cell.window);
            LimitUsage {
                tag: limit.tag,
                series,
                by_node: newest.map(|cell| cell.spent_by(me)).unwrap_or_default(),
                window: newest.map_or(0, |cell| cell.window),
            }
        };
        counters.limits.iter().map(usage).collect()
    }
}
