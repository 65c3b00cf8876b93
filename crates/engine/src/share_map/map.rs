//! How much of a budget each node has when a window opens.
//!
//! Answers for: the share map and the split of a budget by it. The shares of all nodes add up
//! to the budget for every map, budget and window; nothing here depends on time or messages.

use fluxgate_types::id::mix64;
use fluxgate_types::{ClusterMs, NodeId, Subject};

/// How budgets are split, from one moment on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ShareMap {
    /// Windows that begin at or after this moment are opened under this map.
    pub from: ClusterMs,
    /// The nodes that have shares, by id, with their weights (1 and up).
    pub nodes: Vec<(NodeId, u32)>,
}

/// The salt of one window of one limit of one subject, for every rendezvous hash.
#[must_use]
pub fn salt(subject: &Subject, limit_tag: u32, window: u64) -> u64 {
    mix64(subject.mix() ^ mix64(u64::from(limit_tag)) ^ window.rotate_left(32))
}

/// The rendezvous weight of a node under a salt (Thaler and Ravishankar, 1998).
#[must_use]
pub const fn rendezvous(salt: u64, node: NodeId) -> u64 {
    mix64(salt ^ mix64(node.0))
}

/// Whether `a` ranks before `b` under a salt: a total order, the same on every node.
#[must_use]
pub fn outranks(salt: u64, a: NodeId, b: NodeId) -> bool {
    (rendezvous(salt, a), a) > (rendezvous(salt, b), b)
}

impl ShareMap {
    /// The tokens of `budget` that `node` has when the window opens; 0 for a node outside the map.
    ///
    /// Each node gets the integer part of its weight's portion. The remainder of the rounding goes,
    /// one token each, to the first nodes in the rendezvous order of the salt, so that the one
    /// token of a limit of 1 is not always at the same node.
    #[must_use]
    pub fn share(&self, node: NodeId, budget: u64, salt: u64) -> u64 {
        let Some(&(_, weight)) = self.nodes.iter().find(|(id, _)| *id == node) else {
            return 0;
        };
        let total: u64 = self.nodes.iter().map(|(_, w)| u64::from(*w)).sum();
        let portion = |w: u32| {
            u64::try_from(u128::from(budget) * u128::from(w) / u128::from(total.max(1)))
                .unwrap_or(0)
        };
        let dealt: u64 = self.nodes.iter().map(|(_, w)| portion(*w)).sum();
        let before = self.nodes.iter().filter(|(id, _)| outranks(salt, *id, node)).count();
        portion(weight) + u64::from((before as u64) < budget - dealt)
    }

    /// Whether the map is usable: nodes in ascending order, each once, every weight at least 1.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        !self.nodes.is_empty()
            && self.nodes.iter().all(|(_, weight)| *weight > 0)
            && self.nodes.windows(2).all(|pair| pair[0].0 < pair[1].0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn map(nodes: &[(u64, u32)]) -> ShareMap {
        let nodes = nodes.iter().map(|&(id, weight)| (NodeId(id), weight)).collect();
        ShareMap { from: ClusterMs(0), nodes }
    }

    #[test]
    fn a_hundred_over_three_is_34_33_33() {
        let three = map(&[(1, 1), (2, 1), (3, 1)]);
        let mut shares: Vec<u64> = (1..=3).map(|n| three.share(NodeId(n), 100, 7)).collect();
        shares.sort_unstable();
        assert_eq!(shares, [33, 33, 34]);
        assert_eq!(three.share(NodeId(4), 100, 7), 0);
    }

    #[test]
    fn the_one_token_of_a_limit_of_one_wanders() {
        let three = map(&[(1, 1), (2, 1), (3, 1)]);
        let mut seen = [0; 3];
        for window in 0..300 {
            let at = (1..=3).find(|n| three.share(NodeId(*n), 1, mix64(window)) == 1).unwrap();
            seen[usize::try_from(at).unwrap() - 1] += 1;
        }
        assert!(seen.iter().all(|&n| n > 60), "{seen:?}");
    }

    proptest! {
        #[test]
        fn shares_add_up_to_the_budget(
            weights in proptest::collection::vec(1u32..5, 1..9),
            budget in 0u64..1_000_000_000, salt: u64,
        ) {
            let nodes: Vec<(u64, u32)> = weights.iter().enumerate().map(|(n, w)| (n as u64 + 1, *w)).collect();
            let map = map(&nodes);
            prop_assert!(map.is_sound());
            let sum: u64 = nodes.iter().map(|(n, _)| map.share(NodeId(*n), budget, salt)).sum();
            prop_assert_eq!(sum, budget);
        }

        #[test]
        fn with_equal_weights_a_larger_budget_shrinks_no_share(
            nodes in 1u64..9, budget in 0u64..10_000, salt: u64,
        ) {
            let map = map(&(1..=nodes).map(|n| (n, 1)).collect::<Vec<_>>());
            for n in 1..=nodes {
                prop_assert!(map.share(NodeId(n), budget, salt) <= map.share(NodeId(n), budget + 1, salt));
            }
        }
    }
}
