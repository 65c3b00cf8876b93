//! A restarted node spends and gives no share of a window that an earlier incarnation could have
//! used.

use std::collections::BTreeMap;

use fluxgate_engine::quota::CounterId;
use fluxgate_types::{BootId, NodeId};

use super::Invariant;
use crate::messages::{Charged, Seen};
use crate::world::World;

#[derive(Default)]
pub(super) struct Judge {
    // The incarnation that opened a counter with its share.
    opened: BTreeMap<(CounterId, NodeId), BootId>,
}

impl Invariant for Judge {
    fn name(&self) -> &'static str {
        "no_second_life"
    }

    fn see(&mut self, world: &World, node: NodeId, seen: &Seen) -> Result<(), String> {
        let counters: Vec<CounterId> = match seen {
            Seen::Decided { at, charged, .. } => {
                let of = |one: &Charged| -> Vec<CounterId> {
                    one.limits.specs.iter().map(|spec| one.counter(spec, *at)).collect()
                };
                charged.iter().flat_map(of).collect()
            }
            Seen::Moved(counter) => vec![*counter],
            Seen::Rejected(_)
            | Seen::Unavailable(_)
            | Seen::Wrote(..)
            | Seen::AppliedEntry(_)
            | Seen::Renewed(_)
            | Seen::Elected(_)
            | Seen::TookPart
            | Seen::Ended(_)
            | Seen::Stopped => return Ok(()),
        };
        let Some(process) = world.node(node) else { return Ok(()) };
        for counter in counters {
            let Some(seen) = process.shard.observe(&counter) else { continue };
            if !seen.usable || seen.share == 0 {
                continue;
            }
            let first = *self.opened.entry((counter, node)).or_insert(process.boot);
            if first != process.boot {
                return Err(format!(
                    "{counter:?}: node {node} uses its share in incarnation {}, and did in incarnation {}",
                    process.boot.0, first.0
                ));
            }
        }
        Ok(())
    }

    fn each_second(&mut self, world: &World) -> Result<(), String> {
        if self.opened.len() > 10_000 {
            let windows = &world.book.windows;
            self.opened.retain(|(c, _), _| windows.contains_key(&(c.subject, c.limit, c.window)));
        }
        Ok(())
    }
}
