//! An incarnation has never received more from another than that one has given; both only grow.

use std::collections::BTreeMap;

use fluxgate_engine::quota::{CounterId, TransferTotals};
use fluxgate_types::{BootId, NodeId};

use super::Invariant;
use crate::messages::Seen;
use crate::world::World;

#[derive(Default)]
pub(super) struct Judge {
    // All that one incarnation got from another, at the last look.
    got: BTreeMap<(CounterId, NodeId, BootId, NodeId, BootId), u64>,
}

impl Invariant for Judge {
    fn name(&self) -> &'static str {
        "tokens_are_conserved"
    }

    fn see(&mut self, world: &World, node: NodeId, seen: &Seen) -> Result<(), String> {
        let Seen::Moved(counter) = seen else { return Ok(()) };
        let Some(receiver) = world.node(node) else { return Ok(()) };
        let Some(mine) = receiver.shard.observe(counter) else { return Ok(()) };
        for TransferTotals { node: from, boot, got, .. } in mine.transfers {
            let Some(from_boot) = boot else { continue };
            let slot = self.got.entry((*counter, node, receiver.boot, from, from_boot));
            let before = slot.or_default();
            if got < *before {
                return Err(format!(
                    "{counter:?}: node {node} got {got} from node {from}, {before} before"
                ));
            }
            *before = got;
            let Some(giver) = world.node(from).filter(|giver| giver.boot == from_boot) else {
                continue;
            };
            // A window that is over may be forgotten by the one and not yet by the other.
            let Some(theirs) = giver.shard.observe(counter) else { continue };
            let given = theirs.with(node, receiver.boot).map_or(0, |theirs| theirs.given);
            if got > given {
                return Err(format!(
                    "{counter:?}: node {node} got {got} from node {from}, which gave {given}"
                ));
            }
        }
        Ok(())
    }

    fn each_second(&mut self, world: &World) -> Result<(), String> {
        if self.got.len() > 10_000 {
            let windows = &world.book.windows;
            self.got.retain(|(c, ..), _| windows.contains_key(&(c.subject, c.limit, c.window)));
        }
        Ok(())
    }
}
