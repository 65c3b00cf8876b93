//! No validate that began after a key's end was answered is admitted, on any node.

use fluxgate_types::NodeId;

use super::Invariant;
use crate::messages::Seen;
use crate::world::World;

pub(super) struct Judge;

impl Invariant for Judge {
    fn name(&self) -> &'static str {
        "revoked_means_revoked"
    }

    fn see(&mut self, world: &World, node: NodeId, seen: &Seen) -> Result<(), String> {
        let Seen::Decided { request, decision, .. } = seen else { return Ok(()) };
        let ended = world.book.keys.get(&request.key).and_then(|facts| facts.ended);
        match ended {
            Some(ended) if ended < request.began && !world.stood_still(node, request.taken) => {
                Err(format!(
                    "{}: ended at {ended}, {:?} at node {node} for a request of {}",
                    request.key, decision.verdict, request.began
                ))
            }
            _ => Ok(()),
        }
    }
}
