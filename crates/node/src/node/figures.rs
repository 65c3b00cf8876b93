//! Metrics that are too expensive to gather at each scrape, or that wait for a disk.

use std::sync::Arc;
use std::time::Duration;

use fluxgate_engine::state::record::Status;

use crate::state::NodeState;

/// How often they are updated.
const REFRESH: Duration = Duration::from_secs(5);

/// Updates the number of keys by status, and counts changes of the leader.
pub(super) async fn run_refresh(state: Arc<NodeState>) {
    let mut every = tokio::time::interval(REFRESH);
    let mut leader = None;
    loop {
        every.tick().await;
        let now = state.now();
        let counts = loop {
            match state.shared.table.count_by_status(now) {
                Some(counts) => break counts,
                // Many keys expire at once: yield so that other tasks run meanwhile.
                None => tokio::task::yield_now().await,
            }
        };
        for (status, count) in Status::ALL.into_iter().zip(counts) {
            state.metrics.set_keys(status, count);
        }
        let current = state.raft.leader();
        if current != leader && current.is_some() {
            state.metrics.leader_changes.inc();
            leader = current;
        }
    }
}

/// Updates the size of the log and the free space. A separate task, because a disk may hang: the
/// last values then remain.
pub(super) async fn run_storage(state: Arc<NodeState>) {
    let mut every = tokio::time::interval(REFRESH);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let gauge = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    loop {
        every.tick().await;
        let (log, free) = state.raft.look_at_disk().await;
        state.metrics.storage_bytes.set(gauge(log));
        // If the disk does not answer, the gauge keeps its last value, or 0, which fires the alert.
        if let Some(free) = free {
            state.metrics.storage_free.set(gauge(free));
        }
    }
}
