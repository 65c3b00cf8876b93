//! No validate that began after a key's creation was answered is refused as unknown.

use fluxgate_types::NodeId;

use super::Invariant;
use crate::messages::Seen;
use crate::world::World;

pub(super) struct Judge;

impl Invariant for Judge {
    fn name(&self) -> &'static str {
        "created_means_usable"
    }

    fn see(&mut self, world: &World, node: NodeId, seen: &Seen) -> Result<(), String> {
        let Seen::Rejected(request) = seen else { return Ok(()) };
        let Some(facts) = world.book.keys.get(&request.key) else { return Ok(()) };
        let created = facts.created.is_some_and(|created| created <= request.began);
        if created && facts.ending.is_none() && !world.stood_still(node, request.taken) {
            return Err(format!("{}: made, and refused at node {node}", request.key));
        }
        Ok(())
    }
}
