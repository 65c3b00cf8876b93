//! What a node does beside serving: its peers' tasks, forming the cluster, slow metrics.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use fluxgate_engine::quota::CHECKPOINT_MS;
use fluxgate_peer::process;
use fluxgate_raft::Role;
use fluxgate_types::{ClusterMs, NodeId};
use tokio::task::JoinSet;

use crate::clock::boot_now;
use crate::counters;
use crate::state::NodeState;

/// How often to look whether cluster time must be recorded on disk: it leaps ahead after the machine
/// stood still, and no new window is opened then before it is recorded.
const CLOCK_LOOK: Duration = Duration::from_millis(50);
/// How often to check the members when no change was reported.
const LOOK_FOR_PEERS: Duration = Duration::from_secs(2);

/// Starts each peer's tasks when the peer appears.
pub(super) async fn run_peers(state: Arc<NodeState>) {
    let mut known: BTreeMap<NodeId, JoinSet<()>> = BTreeMap::new();
    let mut news = state.raft.subscribe();
    loop {
        let nodes = state.raft.status().nodes;
        let configured = state.config.members.iter().map(|(id, address)| (*id, address.clone()));
        let members: BTreeMap<NodeId, String> = if nodes.is_empty() {
            configured.collect()
        } else {
            nodes.into_iter().map(|(id, node)| (id, node.address)).collect()
        };
        let directories = state.shared.view();
        for (node, address) in members.iter().filter(|(node, _)| **node != state.me) {
            state.transport.set_address(*node, address);
            match directories.nodes.get(node) {
                Some(known) if !known.removed => state.transport.set_directory(*node, known.dir_id),
                // It comes back with a new directory, which is not known yet.
                Some(_) | None => state.transport.forget_directory(*node),
            }
            known.entry(*node).or_insert_with(|| {
                let mut tasks = JoinSet::new();
                let (counters, peers) = (Arc::clone(&state.counters), Arc::clone(&state.peers));
                let timeout_ms = state.config.transfer_timeout_ms;
                tasks.spawn(process::bind(counters::run_asks(counters, peers, *node, timeout_ms)));
                tasks
            });
        }
        // Stops the tasks of nodes that left.
        known.retain(|node, _| members.contains_key(node));
        let peers: Vec<NodeId> = known.keys().copied().collect();
        state.member.step(|member, _| member.set_peers(&peers));
        tokio::time::timeout(LOOK_FOR_PEERS, news.changed()).await.ok();
    }
}

/// Records cluster time on disk, so that no wall clock can set it back after a crash of all nodes, and
/// so that the next start knows how far this one can have come. If the disk rejects that, only the
/// stamps in the log and the wall clock remain.
pub(super) async fn run_clock_notes(state: Arc<NodeState>) {
    let mut every = tokio::time::interval(CLOCK_LOOK);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut failed = false;
    let mut next = ClusterMs(0);
    loop {
        every.tick().await;
        if !state.clock.is_synced() || state.published.now() < next {
            continue;
        }
        let (note, data) = (state.clock.note(), Arc::clone(&state.data));
        let at = ClusterMs(note.cluster_ms);
        next = at + CHECKPOINT_MS;
        let noted = process::blocking(move || data.write_clock(&note)).await;
        let error = noted.map_or_else(|e| Some(e.to_string()), |r| r.err().map(|e| e.to_string()));
        if let Some(error) = error.as_ref().filter(|_| !failed) {
            tracing::warn!(%error, "cluster time was not saved to the disk");
        }
        failed = error.is_some();
        state.published.publish_checkpoint((!failed).then_some(at));
    }
}

impl NodeState {
    /// Updates the gauges, for a scrape.
    pub fn refresh_metrics(&self) {
        let gauge = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        let status = self.raft.status();
        let m = &self.metrics;
        m.term.set(gauge(status.term));
        m.last_log.set(gauge(status.last_log.0));
        m.committed.set(gauge(status.committed.0));
        m.applied.set(gauge(status.applied.0));
        m.snapshot.set(gauge(status.snapshot.0));
        m.is_leader.set(i64::from(status.role == Role::Leader));
        m.has_leader.set(i64::from(status.leader.is_some()));
        m.voters.set(gauge(status.nodes.values().filter(|node| node.votes).count() as u64));
        m.counters.set(gauge(self.counters.count() as u64));
        let left = self.published.lease_until().since(boot_now());
        m.lease_remaining.set(Duration::from_nanos(left).as_secs_f64());
        let offset = Duration::from_millis(self.clock.offset_ms().unsigned_abs()).as_secs_f64();
        m.clock_offset.set(if self.clock.offset_ms() < 0 { -offset } else { offset });
    }
}
