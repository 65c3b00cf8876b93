//! However far one machine's wall clock goes ahead, cluster time is at most as far as the second
//! fastest one was, carried on by a clock that is as fast as may be.

use fluxgate_sim::plan::{MS, Us};

use crate::world::Shared;

/// How fast cluster time may run against true time: drift and steering, percent.
const FASTER_PERCENT: u64 = 2;
/// What a node's look at its own clock may be late by.
const LATE: Us = MS;

/// From now on it is judged: one clock is about to go ahead. What cluster time is already, by the
/// clocks of the first start, it stays.
pub(crate) fn begin(world: &Shared) {
    let times = world.running().into_iter().filter_map(|(_, running)| {
        let boot_ns = running.process.clocks().boot_ns();
        running.node.cluster_at(boot_ns)
    });
    let most_ns = times.map(|time| time.0.saturating_mul(1_000_000)).max().unwrap_or(0);
    let now = world.now();
    world.lock().time_max = (now, most_ns);
    note(world);
}

/// Notes how far cluster time may be now. To be called before a wall clock jumps.
pub(crate) fn note(world: &Shared) -> u64 {
    let now = world.now();
    let mut state = world.lock();
    let slots = state.slots.values().filter(|slot| !slot.gone);
    let mut walls: Vec<u64> = slots.map(|slot| slot.clocks.wall_ns()).collect();
    walls.sort_unstable();
    let second = walls.iter().rev().nth(1).or(walls.last()).copied().unwrap_or(u64::MAX);
    let (at, before) = state.time_max;
    let elapsed_ns = (now - at) * 1_000;
    let carried_on = before.saturating_add(elapsed_ns + elapsed_ns * FASTER_PERCENT / 100);
    let most = second.max(carried_on);
    state.time_max = (now, most);
    most
}

pub(super) fn look(world: &Shared) -> Result<(), String> {
    if !world.lock().ahead {
        return Ok(());
    }
    let most_ns = note(world);
    let error_ms = world.plan.base.terms.clock_error_ms_max + LATE / MS;
    let most_ms = (most_ns / 1_000_000).saturating_add(error_ms);
    for (id, running) in world.running() {
        let boot_ns = running.process.clocks().boot_ns();
        let Some(time) = running.node.cluster_at(boot_ns) else { continue };
        if time.0 > most_ms {
            let ahead = time.0 - most_ms;
            return Err(format!("node {id} is {ahead} ms ahead of what any clock but one allows"));
        }
    }
    Ok(())
}
