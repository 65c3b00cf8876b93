//! However far one machine's wall clock goes ahead, cluster time stays below the second fastest
//! wall clock so far, extrapolated at the fastest allowed rate.

use fluxgate_plan::{MS, Us};

use crate::world::Shared;

/// How fast cluster time may run against true time: drift and slewing, percent.
const FASTER_PERCENT: u64 = 2;
/// How late a node's reading of its own clock may be.
const LATE: Us = MS;

/// Starts the check, before one clock goes ahead. Cluster time may already be ahead by the clocks
/// of the first start; that lead stays allowed.
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

/// Updates the bound of cluster time and returns it. Call BEFORE a wall clock jumps.
pub(crate) fn note(world: &Shared) -> u64 {
    let now = world.now();
    let mut state = world.lock();
    let hosts = state.hosts.values().filter(|host| !host.removed);
    let mut walls: Vec<u64> = hosts.map(|host| host.clocks.wall_ns()).collect();
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
            return Err(format!("node {id} is {ahead} ms ahead of the second fastest clock"));
        }
    }
    Ok(())
}
