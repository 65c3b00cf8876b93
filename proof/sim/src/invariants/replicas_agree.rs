//! The same applied index means the same state.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt::Write as _;

use fluxgate_engine::state::snapshot::Item;
use fluxgate_types::NodeId;
use fluxgate_types::id::mix64;

use super::Invariant;
use crate::node::Node;
use crate::world::World;
use fluxgate_plan::SECOND;

/// How often states are compared, beside the end.
const EVERY: u64 = 300 * SECOND;

#[derive(Default)]
pub(super) struct Judge {
    looked: u64,
}

/// A number for the whole state; when a key was last used is each node's own business.
fn digest(node: &Node) -> u64 {
    struct Fold(u64);
    impl std::fmt::Write for Fold {
        fn write_str(&mut self, text: &str) -> std::fmt::Result {
            self.0 = text
                .bytes()
                .fold(self.0, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
            Ok(())
        }
    }
    let mut fold = Fold(mix64(1));
    let written: Result<(), Infallible> = node.replica.registry.freeze().write(|item| {
        let item = match item {
            Item::Keys(mut rows) => {
                rows.iter_mut().for_each(|row| row.last_used = None);
                Item::Keys(rows)
            }
            other @ (Item::Head { .. }
            | Item::Cluster { .. }
            | Item::LimitTags(_)
            | Item::Audit(_)
            | Item::Idempotency(_)
            | Item::IdempotencyOf(_)
            | Item::Places(_)
            | Item::Seed(_)
            | Item::Named(_)
            | Item::KeyTerms(_)
            | Item::Outcomes(_)
            | Item::OutcomesAt(_)) => other,
        };
        // A fold cannot fail.
        write!(fold, "{item:?}").ok();
        Ok(())
    });
    match written {
        Ok(()) => fold.0,
        Err(never) => match never {},
    }
}

impl Invariant for Judge {
    fn name(&self) -> &'static str {
        "replicas_agree"
    }

    fn each_second(&mut self, world: &World) -> Result<(), String> {
        if world.now < self.looked + EVERY {
            return Ok(());
        }
        self.looked = world.now;
        self.at_end(world)
    }

    fn at_end(&mut self, world: &World) -> Result<(), String> {
        let mut by_index: BTreeMap<usize, (NodeId, u64)> = BTreeMap::new();
        for node in world.nodes() {
            let digest = digest(node);
            let (first, other) = *by_index.entry(node.replica.applied).or_insert((node.id, digest));
            if other != digest {
                return Err(format!(
                    "nodes {first} and {} differ at {}",
                    node.id, node.replica.applied
                ));
            }
        }
        Ok(())
    }
}
