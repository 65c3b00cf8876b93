//! Nothing that was answered is lost.

use fluxgate_engine::registry::record::Status;

use super::Invariant;
use crate::world::World;

pub(super) struct Judge;

impl Invariant for Judge {
    fn name(&self) -> &'static str {
        "acked_is_durable"
    }

    fn at_end(&mut self, world: &World) -> Result<(), String> {
        for (key, facts) in &world.book.keys {
            if facts.created.is_none() {
                continue;
            }
            for node in world.nodes() {
                let at = node.cluster_now(world.now);
                let status = node.shared.table.with(key, |entry| entry.record.status(at));
                let Some(status) = status else {
                    return Err(format!("{key}: made, and not known at node {}", node.id));
                };
                if facts.ended.is_some() && status == Status::Active {
                    return Err(format!("{key}: ended, and active at node {}", node.id));
                }
            }
        }
        Ok(())
    }
}
