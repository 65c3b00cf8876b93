//! The upkeep of a node, five times a second: a leader erases old records; every node checks its disk,
//! its settings, and whether states differ.

use std::sync::Arc;
use std::time::Duration;

use fluxgate_engine::member::Submitted;
use fluxgate_engine::state::command::{Actor, Command, Outcome};
use fluxgate_engine::state::entry::KeyEntry;
use fluxgate_engine::state::governing::DEFAULT_PLAN;
use fluxgate_raft::WriteHealth;
use fluxgate_types::{ClusterMs, Limit, caps};

use crate::clock::boot_now;
use crate::metrics::SHARED_SETTINGS;
use crate::proposal::proposal;
use crate::state::NodeState;

/// How often to look.
const EVERY: Duration = Duration::from_millis(200);
/// Longest wait for the check whether the disk has room.
const LOOK_AT_DISK: Duration = Duration::from_millis(100);
/// Parts of the table that one round checks for records to erase: the whole table in half a minute.
const PURGED_PARTS: usize = 32;

/// Runs the periodic duties.
pub async fn run(state: Arc<NodeState>) {
    let mut every = tokio::time::interval(EVERY);
    let mut settings = Settings::default();
    let mut purged = 0;
    loop {
        every.tick().await;
        // Without a lease of its own this node may no longer be the leader: it erases nothing then.
        let leads = state.member.step(|member, step| member.leading_in(step)).is_some();
        if leads && state.published.is_leased(boot_now()) {
            purge(&state, &mut purged).await;
        }
        look_at_settings(&state, &mut settings);
        state.member.judge_state();
        // A disk that hangs must not block the node: the waiting appends then show that it cannot
        // write.
        tokio::time::timeout(LOOK_AT_DISK, state.raft.look_at_room()).await.ok();
        let can_write = state.raft.write_health() == WriteHealth::Fine;
        state.metrics.can_write.set(i64::from(can_write));
    }
}

/// Erases records of keys that ended long ago, if the configuration says so. Checks some parts of
/// the table at a time, from `next` on.
async fn purge(state: &NodeState, next: &mut usize) {
    let Some(age_ms) = state.config.purge_after_ms else { return };
    if state.shared.cluster().level < 3 {
        return;
    }
    let now = state.now();
    let before = ClusterMs(now.0.saturating_sub(age_ms));
    let is_old = |entry: &&KeyEntry| entry.ended_at(now).is_some_and(|ended| ended < before);
    let mut ids = Vec::new();
    let mut looked_at = 0;
    for part in state.shared.table.parts().skip(*next).take(PURGED_PARTS) {
        let room = caps::ERASED_AT_ONCE_MAX - ids.len();
        ids.extend(part.entries().filter(is_old).take(room).map(|entry| entry.id()));
        if ids.len() == caps::ERASED_AT_ONCE_MAX {
            // This part may hold more.
            break;
        }
        looked_at += 1;
    }
    *next = if looked_at == 0 && ids.is_empty() { 0 } else { *next + looked_at };
    if ids.is_empty() {
        return;
    }
    let count = ids.len();
    let command = Command::EraseKeys { ids, ended_before: Some(before) };
    let submitted = state.raft.submit(proposal(Actor::System, None, command)).await;
    if matches!(submitted, Ok(Submitted { outcome: Outcome::Done, .. })) {
        tracing::info!(keys = count, "erased records of keys that ended before {before}");
    }
}

fn default_limits(state: &NodeState) -> Vec<Limit> {
    state.shared.view().defaults.iter().map(|spec| spec.limit.clone()).collect()
}

/// How this node's configuration differs from the cluster's settings, as last logged.
#[derive(Default)]
struct Settings {
    differs: [bool; SHARED_SETTINGS.len()],
}

/// Logs where this node's configuration differs from the cluster's: the leader's settings apply.
fn look_at_settings(state: &NodeState, said: &mut Settings) {
    let Some(terms) = state.shared.cluster().terms() else { return };
    let own = state.config.lease_terms();
    let differs = [
        own.lease_ms != terms.lease_ms,
        own.clock_error_ms_max != terms.clock_error_ms_max,
        // Only its first value is in the file once there is a plan `default`.
        state.shared.plan(DEFAULT_PLAN).is_none()
            && default_limits(state) != state.config.default_limits,
    ];
    if differs == said.differs {
        return;
    }
    state.metrics.set_config_differs(differs);
    for (at, setting) in SHARED_SETTINGS.iter().enumerate() {
        if differs[at] && !said.differs[at] {
            tracing::warn!(
                setting,
                "this node's configuration differs from what the cluster runs by: keep the files alike"
            );
        }
    }
    said.differs = differs;
}
