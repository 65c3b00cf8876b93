//! After the faults stop every node is ready within a stated time ([`World::settle_time`]), and
//! everything else holds under demand on every node.

use super::Invariant;
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
        let leaders = world.nodes().filter(|node| node.is_leading()).count();
        if leaders != 1 { Err(format!("{leaders} leaders")) } else { Ok(()) }
    }

    fn at_end(&mut self, world: &World) -> Result<(), String> {
        self.healed(world)?;
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
