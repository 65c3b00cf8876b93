//! After the faults stop every node is ready within a stated time ([`World::settle_time`]), and
//! everything else holds under demand on every node. No request waits longer than it may.

use super::Invariant;
use crate::plan::MS;
use crate::world::World;

pub(super) struct Judge;

impl Invariant for Judge {
    fn name(&self) -> &'static str {
        "cluster_heals"
    }

    fn healed(&mut self, world: &World) -> Result<(), String> {
        for (place, slot) in world.slots.iter().enumerate() {
            let id = place + 1;
            let Some(node) = &slot.node else { return Err(format!("node {id} does not run")) };
            if !node.is_leased(world.now) {
                return Err(format!("node {id} has no lease"));
            }
        }
        let leaders = world.nodes().filter(|node| node.in_office()).count();
        if leaders != 1 { Err(format!("{leaders} leaders")) } else { Ok(()) }
    }

    fn at_end(&mut self, world: &World) -> Result<(), String> {
        self.healed(world)?;
        // Ticks come late by one at most, and a step may wait for its turn.
        let patience = (world.plan.waits.patience_ms() + 100) * MS + 2 * world.plan.tick;
        for node in world.nodes() {
            if let Some(request) = node.waits_longest().filter(|r| r.began + patience < world.now) {
                return Err(format!("node {}: {request:?} waits at {}", node.id, world.now));
            }
        }
        let all: Vec<_> = (1..=world.plan.nodes).collect();
        for node in world.nodes() {
            let view = node.view();
            let nodes = view.share_maps.last().map(|map| map.nodes.iter().map(|n| n.0.0).collect());
            if nodes.as_ref() != Some(&all) {
                return Err(format!("node {} knows a map of {nodes:?}", node.id));
            }
        }
        Ok(())
    }
}
