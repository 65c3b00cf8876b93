//! Why a start of a node gets no lease.

use fluxgate_engine::registry::View;
use fluxgate_engine::registry::cluster_state::{ClusterState, Incarnation};
use fluxgate_engine::registry::command::Refusal;
use fluxgate_types::{DirId, NodeId};

use crate::peer::messages::LeaseRefusal;

/// Why the state as it is would refuse a start: then nothing is proposed, however often it is asked.
pub(super) fn refused_by(
    view: &View,
    cluster: &ClusterState,
    node: NodeId,
    dir_id: DirId,
    started: Incarnation,
) -> Option<LeaseRefusal> {
    let known = view.nodes.get(&node)?;
    match (known.dir_id == dir_id, known.removed) {
        (true, true) => Some(LeaseRefusal::Removed(node)),
        (false, false) => Some(LeaseRefusal::OtherDirectory(node)),
        (true, false) => {
            let newest = cluster.incarnations.get(&node)?;
            (newest.boot >= started.boot)
                .then_some(LeaseRefusal::Older { node, newest: newest.boot })
        }
        (false, true) => None,
    }
}

/// Turns a refusal by the replicated state into the answer to the node.
pub(super) fn lease_refusal(refusal: Refusal, removed: bool) -> LeaseRefusal {
    match refusal {
        // A new directory in the place of a removed one: its number is too low, and it counts on.
        Refusal::OlderIncarnation { node, newest } if removed => {
            LeaseRefusal::CountOn { node, newest }
        }
        Refusal::OlderIncarnation { node, newest } => LeaseRefusal::Older { node, newest },
        Refusal::Removed(node) => LeaseRefusal::Removed(node),
        Refusal::OtherDirectory(node) if removed => LeaseRefusal::Removed(node),
        Refusal::OtherDirectory(node) => LeaseRefusal::OtherDirectory(node),
        other @ (Refusal::NotFound
        | Refusal::IdTaken
        | Refusal::AlreadyDone(_)
        | Refusal::Revision(_)
        | Refusal::Revoked
        | Refusal::Invalid(_)
        | Refusal::OtherContent(_)
        | Refusal::NotEnded(_)
        | Refusal::Promised(_)
        | Refusal::Actor) => LeaseRefusal::Other(other.to_string()),
    }
}
