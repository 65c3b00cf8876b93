//! What a node does beside serving: its peers' tasks, forming the cluster, slow figures.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use fluxgate_engine::registry::record::Status;
use fluxgate_raft::{Call, Role};
use fluxgate_types::{DirId, NodeId};
use tokio::task::JoinSet;

use super::NodeError;
use crate::clock::boot_now;
use crate::core::Core;
use crate::peer::messages::StatusReply;
use crate::{counters, peer, writes};

/// Pause between two tries to form a cluster.
const FORM_RETRY: Duration = Duration::from_millis(200);
/// How often slow figures are brought up to date.
const REFRESH: Duration = Duration::from_secs(5);
/// How often the members are looked at when nothing told of a change.
const LOOK_FOR_PEERS: Duration = Duration::from_secs(2);

/// Starts what is done for each peer, as peers come.
pub(super) async fn run_peers(core: Arc<Core>) {
    let mut known: BTreeMap<NodeId, JoinSet<()>> = BTreeMap::new();
    let mut news = core.cluster.news();
    loop {
        let nodes = core.cluster.status().nodes;
        let configured = core.config.members.iter().map(|(id, address)| (*id, address.clone()));
        let members: BTreeMap<NodeId, String> = if nodes.is_empty() {
            configured.collect()
        } else {
            nodes.into_iter().map(|(id, node)| (id, node.address)).collect()
        };
        for (node, address) in members.iter().filter(|(node, _)| **node != core.me) {
            core.transport.set_address(*node, address);
            known.entry(*node).or_insert_with(|| {
                let mut tasks = JoinSet::new();
                tasks.spawn(counters::run_asks(Arc::clone(&core), *node));
                tasks.spawn(writes::run_applied_calls(
                    Arc::clone(&core),
                    *node,
                    core.wanted.subscribe(),
                ));
                tasks
            });
        }
        // Nodes that left take their tasks with them.
        known.retain(|node, _| members.contains_key(node));
        let peers: Vec<NodeId> = known.keys().copied().collect();
        core.change_life(|life| {
            let before: Vec<NodeId> = life.peers.iter().map(|(node, _)| *node).collect();
            if before == peers {
                return false;
            }
            let reachable =
                |node: &NodeId| life.peers.iter().find(|p| p.0 == *node).is_none_or(|p| p.1);
            life.peers = peers.iter().map(|node| (*node, reachable(node))).collect();
            true
        });
        tokio::time::timeout(LOOK_FOR_PEERS, news.changed()).await.ok();
    }
}

/// Forms the cluster of the configured members, once, from the first of them.
pub(super) async fn form(core: Arc<Core>) {
    let first = core.config.members.keys().next().copied();
    while !core.cluster.is_formed().await {
        let mut formed_elsewhere = false;
        for (peer, _) in core.life().peers.clone() {
            let status = peer::call::<_, StatusReply>(
                &core,
                peer,
                Call::Status,
                &(),
                Duration::from_millis(500),
            );
            if let Ok(status) = status.await {
                formed_elsewhere |= status.formed;
                let other =
                    |(id, dir, _): &&(NodeId, DirId, bool)| *id == core.me && *dir != core.dir_id;
                if status.directories.iter().find(other).is_some() {
                    tracing::error!("{}", NodeError::OtherDirectory(core.me));
                }
            }
        }
        if !formed_elsewhere && first == Some(core.me) {
            match core.cluster.form(&core.config.members).await {
                Ok(()) => tracing::info!(members = core.config.members.len(), "formed the cluster"),
                Err(error) => tracing::debug!(%error, "not formed here"),
            }
        }
        tokio::time::sleep(FORM_RETRY).await;
    }
}

/// Figures that are too dear to gather at each scrape.
pub(super) async fn run_refresh(core: Arc<Core>) {
    let mut every = tokio::time::interval(REFRESH);
    let mut leader = None;
    loop {
        every.tick().await;
        let now = core.now();
        let mut counts = [0usize; Status::ALL.len()];
        for id in core.shared.table.order().iter() {
            let status = core.shared.table.with(id, |entry| entry.record.status(now));
            counts[status.unwrap_or(Status::Active) as usize] += 1;
        }
        for status in Status::ALL {
            core.metrics.set_keys(status, counts[status as usize]);
        }
        let current = core.cluster.leader();
        if current != leader && current.is_some() {
            core.metrics.leader_changes.inc();
            leader = current;
        }
    }
}

impl Core {
    /// Brings the gauges up to date, for a scrape.
    pub(crate) fn refresh_metrics(&self) {
        let gauge = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        let status = self.cluster.status();
        let m = &self.metrics;
        m.term.set(gauge(status.term));
        m.last_log.set(gauge(status.last_log.0));
        m.committed.set(gauge(status.committed.0));
        m.applied.set(gauge(status.applied.0));
        m.snapshot.set(gauge(status.snapshot.0));
        m.is_leader.set(i64::from(status.role == Role::Leader));
        m.has_leader.set(i64::from(status.leader.is_some()));
        m.storage_bytes.set(gauge(self.cluster.log_bytes()));
        m.counters.set(gauge(self.counters.count() as u64));
        let left = self.lease_until().since(boot_now());
        m.lease_remaining.set(Duration::from_nanos(left).as_secs_f64());
        let offset = Duration::from_millis(self.clock.offset_ms().unsigned_abs()).as_secs_f64();
        m.clock_offset.set(if self.clock.offset_ms() < 0 { -offset } else { offset });
    }

    /// What an operator should know.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.config.members.len() > 1 && !self.config.peer_listen.ip().is_loopback() {
            warnings.push("peer traffic is not encrypted and leaves this machine".to_owned());
        }
        if self.config.operator_token.is_none() {
            warnings
                .push("no operator token is configured: only admin keys can administer".to_owned());
        }
        warnings
    }
}
