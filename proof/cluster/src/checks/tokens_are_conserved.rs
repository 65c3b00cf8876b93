//! A node never received more tokens from an incarnation of another node than that incarnation
//! gave.

use std::collections::BTreeMap;

use fluxgate_engine::quota::{CounterId, Observed, TransferTotals};
use fluxgate_types::NodeId;

use crate::world::{Running, Shared};

/// The number of newest keys to check: those in use are among them.
const KEYS: usize = 16;

pub(crate) fn look(world: &Shared) -> Result<(), String> {
    each_counter(world, |running, _, seen| compare(running, seen))
}

/// Logs the tokens that each node holds, to explain a violation.
pub(super) fn log_holdings(world: &Shared) {
    let said = each_counter(world, |_, counter, seen| {
        seen.iter()
            .for_each(|(id, seen)| world.say(|| format!("  node {id} {counter:?}: {seen:?}")));
        Ok(())
    });
    // The closure above never fails.
    said.ok();
}

fn each_counter(
    world: &Shared,
    mut work: impl FnMut(
        &BTreeMap<NodeId, Running>,
        &CounterId,
        &BTreeMap<NodeId, Observed>,
    ) -> Result<(), String>,
) -> Result<(), String> {
    let running: BTreeMap<NodeId, Running> = world.running().into_iter().collect();
    let Some((_, any)) = running.iter().next() else { return Ok(()) };
    let now = running.values().filter_map(|r| {
        let clocks = r.process.clocks();
        r.node.cluster_at(clocks.boot_ns())
    });
    let Some(now) = now.max() else { return Ok(()) };
    let state = any.node.shared();
    let view = state.view();
    for (_, key) in state.table.page(usize::MAX, KEYS) {
        let limits = state.table.with(&key, |entry| state.limits_of(&view, entry));
        for spec in limits.iter().flat_map(|limits| limits.iter()) {
            let window = spec.limit.window_at(now).number;
            let counter = CounterId { subject: key.into(), limit: spec.tag, window };
            let seen: BTreeMap<NodeId, Observed> = running
                .iter()
                .filter_map(|(id, r)| Some((*id, r.node.observe(&counter)?)))
                .collect();
            work(&running, &counter, &seen)?;
        }
    }
    Ok(())
}

fn compare(
    running: &BTreeMap<NodeId, Running>,
    seen: &BTreeMap<NodeId, Observed>,
) -> Result<(), String> {
    for (id, mine) in seen {
        for TransferTotals { node: from, boot, got, .. } in &mine.transfers {
            let Some(giver) = running.get(from).filter(|g| Some(g.node.boot()) == *boot) else {
                continue;
            };
            let theirs = running.get(id).zip(seen.get(from));
            let theirs = theirs.and_then(|(me, theirs)| theirs.with(*id, me.node.boot()));
            let given = theirs.map_or(0, |theirs| theirs.given);
            if *got > given {
                return Err(format!(
                    "node {id} received {got} from node {from}, incarnation {:?}, which gave {given}",
                    giver.node.boot()
                ));
            }
        }
    }
    Ok(())
}
