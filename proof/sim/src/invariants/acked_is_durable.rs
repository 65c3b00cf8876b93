//! Nothing that was answered is lost.

use fluxgate_engine::state::record::Status;

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
                let found = node.replica.shared.table.with(key, |entry| {
                    let limits = entry.own_limits();
                    (entry.status(at), limits.and_then(|all| Some(all.first()?.limit.tokens)))
                });
                let Some((status, tokens)) = found else {
                    return Err(format!("{key}: made, and not known at node {}", node.id));
                };
                if facts.ended.is_some() && status == Status::Active {
                    return Err(format!("{key}: ended, and active at node {}", node.id));
                }
                // If no change is pending, the newest one applies.
                let sure = facts.limits_sure.filter(|_| facts.limits_open == 0);
                if let Some((_, sure)) = sure.filter(|(_, sure)| tokens != Some(*sure)) {
                    return Err(format!("{key}: {tokens:?} at node {}, was {sure}", node.id));
                }
            }
        }
        Ok(())
    }
}
