//! The same applied index means the same state.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use fluxgate_engine::state::Shared as Replicated;
use fluxgate_types::id::mix64;

use crate::world::Shared;

/// Keys per read of the table.
const PAGE: usize = 1_000;

struct Fold(u64);

impl std::fmt::Write for Fold {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.0 = text
            .bytes()
            .fold(self.0, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        Ok(())
    }
}

/// A hash of all replicated state.
fn digest(state: &Replicated) -> u64 {
    let mut fold = Fold(mix64(1));
    // Writing to a fold cannot fail.
    write!(fold, "{:?} {:?}", state.view(), state.last_stamp()).ok();
    write!(fold, "{:?}", state.cluster()).ok();
    let mut before = usize::MAX;
    loop {
        let page = state.table.page(before, PAGE);
        let Some((last, _)) = page.last() else { break };
        before = *last;
        for (_, id) in page {
            state.table.with(&id, |entry| write!(fold, "{:?}", entry.record()).ok());
        }
    }
    fold.0
}

/// Compares all nodes at the same index; at the end all must be at the same index.
pub(crate) fn look(world: &Shared, end: bool) {
    let mut by_index = BTreeMap::new();
    for (id, running) in world.running() {
        let (at, digest) = (running.node.applied(), digest(running.node.shared()));
        let (first, other) = *by_index.entry(at).or_insert((id, digest));
        if other != digest {
            world.violate("replicas_agree", format!("nodes {first} and {id} differ at {at:?}"));
        }
        world.lock().observations.counts.compared += u64::from(first != id);
    }
    if end && by_index.len() != 1 {
        world.violate("replicas_agree", format!("not at the same index: {by_index:?}"));
    }
}
