//! Why a start of a node gets no lease.

use fluxgate_engine::state::View;
use fluxgate_engine::state::cluster_state::{ClusterState, StartId};
use fluxgate_engine::state::command::CommandError;
use fluxgate_types::{DirId, NodeId};
use fluxgate_wire::peer::LeaseRefusal;

/// Why the current state would reject a start. Nothing is proposed then, however often the node
/// requests it.
pub(super) fn refused_by(
    view: &View,
    cluster: &ClusterState,
    node: NodeId,
    dir_id: DirId,
    started: StartId,
) -> Option<LeaseRefusal> {
    let known = view.nodes.get(&node)?;
    match (known.dir_id == dir_id, known.removed) {
        (true, true) => Some(LeaseRefusal::Removed(node)),
        (false, false) => Some(LeaseRefusal::OtherDirectory(node)),
        (true, false) => {
            let newest = cluster.start_ids.get(&node)?;
            (newest.boot >= started.boot)
                .then_some(LeaseRefusal::Older { node, newest: newest.boot })
        }
        (false, true) => None,
    }
}

/// Turns a rejection by the replicated state into the answer to the node.
pub(super) fn lease_refusal(refusal: CommandError, removed: bool) -> LeaseRefusal {
    match refusal {
        // A new directory in place of a removed one: its start number is too low, and it continues
        // above.
        CommandError::OlderStart { node, newest } if removed => {
            LeaseRefusal::CountOn { node, newest }
        }
        CommandError::OlderStart { node, newest } => LeaseRefusal::Older { node, newest },
        CommandError::Removed(node) => LeaseRefusal::Removed(node),
        CommandError::OtherDirectory(node) if removed => LeaseRefusal::Removed(node),
        CommandError::OtherDirectory(node) => LeaseRefusal::OtherDirectory(node),
        other @ (CommandError::NotFound
        | CommandError::IdTaken
        | CommandError::AlreadyDone(_)
        | CommandError::Revision(_)
        | CommandError::Revoked
        | CommandError::Invalid(_)
        | CommandError::OtherContent(_)
        | CommandError::NotEnded(_)
        | CommandError::Promised(_)
        | CommandError::Actor) => LeaseRefusal::Other(other.to_string()),
    }
}
