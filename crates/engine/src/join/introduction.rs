//! What nodes say to each other before they know each other.

use std::collections::BTreeMap;

use fluxgate_types::{BootId, BootNs, DirId, NodeId};

use crate::clock::sync::ClockAnswer;
use crate::state::View;
use crate::state::cluster_state::{ClusterState, StartId};
use crate::state::command::Registration;

/// Which start of which node answers, and what it knows of the cluster and of the time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Introduction {
    /// The node that answers.
    pub node: NodeId,
    /// Its data directory.
    pub dir_id: DirId,
    /// Its start.
    pub start_id: StartId,
    /// It belongs to a cluster that may have acknowledged something. A node that formed the cluster
    /// in this start, and has neither led nor voted for another node since, does not say so.
    pub formed: bool,
    /// The data directories of the nodes ([`registered`]).
    pub directories: Vec<RegisteredDirectory>,
    /// The newest starts by node ([`registered`]).
    pub start_ids: Vec<(NodeId, StartId)>,
    /// The newest starts by node that messages have named since it started itself.
    pub heard: Vec<(NodeId, BootId)>,
    /// What it knows of the time.
    pub time: Times,
}

/// A data directory that the replicated state knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegisteredDirectory {
    /// The node that ran on it.
    pub node: NodeId,
    /// The directory.
    pub dir_id: DirId,
    /// The node was removed from the cluster since.
    pub removed: bool,
}

/// What a node knows of directories and of the newest starts: what it has applied, and what its log
/// holds beyond that. After a stop of all nodes no entry need be applied anywhere, and a directory
/// that is registered must be known nevertheless.
#[must_use]
pub fn registered(
    view: &View,
    cluster: &ClusterState,
    not_applied: impl IntoIterator<Item = Registration>,
) -> (Vec<RegisteredDirectory>, Vec<(NodeId, StartId)>) {
    let applied = view.nodes.iter().map(|(node, of)| RegisteredDirectory {
        node: *node,
        dir_id: of.dir_id,
        removed: of.removed,
    });
    let mut directories: Vec<RegisteredDirectory> = applied.collect();
    let mut start_ids: BTreeMap<NodeId, StartId> =
        cluster.start_ids.iter().map(|(node, of)| (*node, *of)).collect();
    for Registration { node, dir_id, start_id } in not_applied {
        if !directories.iter().any(|known| known.node == node && known.dir_id == dir_id) {
            // A leader registers another directory of a node only once the earlier one is removed;
            // that removal need not be applied here either.
            directories.iter_mut().filter(|of| of.node == node).for_each(|of| of.removed = true);
            directories.push(RegisteredDirectory { node, dir_id, removed: false });
        }
        if let Some(start_id) = start_id {
            let newest = start_ids.entry(node).or_insert(start_id);
            *newest = start_id.max(*newest);
        }
    }
    (directories, start_ids.into_iter().collect())
}

/// What a node knows of the time, each as of when it answers, nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// Cluster time, if a leader has set it in this start of the node.
    pub synced_ns: Option<u64>,
    /// The newest stamp of the log that it has applied.
    pub stamp_ns: u64,
    /// Its own checkpoint of cluster time from an earlier start, carried on by its clocks.
    pub carried_ns: Option<u64>,
    /// Its wall clock.
    pub wall_ns: u64,
    /// Whether its wall clock can be right: it is neither before its program was built nor before
    /// what the node noted earlier.
    pub plausible: bool,
}

impl Times {
    /// These times, true at `at`, as a node's answer at `now`.
    #[must_use]
    pub fn answer(&self, node: NodeId, at: BootNs, now: BootNs) -> ClockAnswer {
        let Self { synced_ns, stamp_ns, carried_ns, wall_ns, plausible } = *self;
        let answer = ClockAnswer { node, synced_ns, stamp_ns, carried_ns, wall_ns, plausible };
        answer.carried_to(now.since(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::NodeRecord;

    #[test]
    fn a_registration_counts_before_it_is_applied() {
        let node = NodeId(3);
        let start = |boot| StartId { boot: BootId(boot), nonce: boot };
        let nodes = [(node, NodeRecord { dir_id: DirId(1), removed: true })].into();
        let view = View { defaults: [].into(), share_maps: Vec::new(), nodes, ..View::default() };
        let mut cluster = ClusterState::default();
        cluster.start_ids.insert(node, start(4));
        let known = |dir_id, removed| RegisteredDirectory { node, dir_id: DirId(dir_id), removed };
        assert_eq!(
            registered(&view, &cluster, []),
            (vec![known(1, true)], vec![(node, start(4))]),
            "everything is applied"
        );
        let of = |boot| Registration { node, dir_id: DirId(2), start_id: Some(start(boot)) };
        let (directories, start_ids) = registered(&view, &cluster, [of(6), of(5)]);
        assert_eq!(directories, [known(1, true), known(2, false)]);
        assert_eq!(start_ids, [(node, start(6))], "the newest start");
    }

    #[test]
    fn a_registration_that_is_not_applied_implies_that_the_earlier_directory_was_removed() {
        let (node, other) = (NodeId(3), NodeId(2));
        let record = |dir_id| NodeRecord { dir_id: DirId(dir_id), removed: false };
        let nodes = [(node, record(1)), (other, record(7))].into();
        let view = View { defaults: [].into(), share_maps: Vec::new(), nodes, ..View::default() };
        let new = Registration { node, dir_id: DirId(2), start_id: None };
        let (directories, _) = registered(&view, &ClusterState::default(), [new]);
        let of =
            |node, dir_id, removed| RegisteredDirectory { node, dir_id: DirId(dir_id), removed };
        assert_eq!(directories, [of(other, 7, false), of(node, 1, true), of(node, 2, false)]);
    }
}
