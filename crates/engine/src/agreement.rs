//! Whether a node's state equals that of the other nodes.
//!
//! Answers for: what a node concludes from comparing digests of its state with those of others at
//! the same log position. Replicated states can differ only by a bug, damaged memory, or a disk
//! that was reset to an older state. Digests do not show which node is right, so a node continues
//! only while a majority of the members, itself included, has its state.

use std::collections::BTreeMap;

use fluxgate_types::NodeId;

/// How a node's state compares with the states of the others.
#[derive(Clone, Debug, Default)]
pub struct Agreement {
    // Whether the last comparable digest was equal.
    equal: BTreeMap<NodeId, bool>,
}

/// The consequence for this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// No compared state differs.
    Agrees,
    /// These nodes differ, and a majority of the members has this node's state: it continues.
    Majority(Vec<NodeId>),
    /// These nodes differ, and no majority is known to have this node's state: it must not answer.
    Minority(Vec<NodeId>),
}

impl Agreement {
    /// Records a comparison with a node at the same log position.
    pub fn note(&mut self, node: NodeId, equal: bool) {
        self.equal.insert(node, equal);
    }

    /// The consequence for this node; `others` are all other members.
    pub fn standing(&mut self, others: &[NodeId]) -> Standing {
        self.equal.retain(|node, _| others.contains(node));
        let different: Vec<NodeId> =
            self.equal.iter().filter(|(_, equal)| !**equal).map(|(node, _)| *node).collect();
        let with_me = 1 + self.equal.values().filter(|equal| **equal).count();
        if different.is_empty() {
            Standing::Agrees
        } else if with_me * 2 > others.len() + 1 {
            Standing::Majority(different)
        } else {
            Standing::Minority(different)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(others: &[u64], notes: &[(u64, bool)]) -> Standing {
        let mut agreement = Agreement::default();
        notes.iter().for_each(|(node, equal)| agreement.note(NodeId(*node), *equal));
        agreement.standing(&others.iter().map(|node| NodeId(*node)).collect::<Vec<_>>())
    }

    #[test]
    fn a_node_continues_only_with_a_majority_that_has_its_state() {
        let three = [2, 3];
        assert_eq!(standing(&three, &[]), Standing::Agrees);
        assert_eq!(standing(&three, &[(2, true)]), Standing::Agrees);
        assert_eq!(standing(&three, &[(2, true), (3, false)]), Standing::Majority(vec![NodeId(3)]));
        assert_eq!(
            standing(&three, &[(2, false), (3, false)]),
            Standing::Minority(vec![NodeId(2), NodeId(3)])
        );
        // The third node has not answered: no node knows which state is right.
        assert_eq!(standing(&three, &[(2, false)]), Standing::Minority(vec![NodeId(2)]));
        assert_eq!(standing(&[2], &[(2, false)]), Standing::Minority(vec![NodeId(2)]));
        let five = [(2, true), (3, true), (4, false), (5, false)];
        assert!(matches!(standing(&[2, 3, 4, 5], &five), Standing::Majority(_)));
    }

    #[test]
    fn a_node_that_was_removed_does_not_count() {
        assert_eq!(standing(&[2], &[(2, true), (3, false)]), Standing::Agrees);
    }

    #[test]
    fn a_later_comparison_takes_the_place_of_an_earlier_one() {
        assert_eq!(standing(&[2, 3], &[(2, false), (2, true)]), Standing::Agrees);
    }
}
