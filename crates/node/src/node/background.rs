//! What a node does beside serving: its peers' tasks, forming the cluster, slow figures.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use fluxgate_raft::{Call, Role, process};
use fluxgate_store::DataDir;
use fluxgate_types::NodeId;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::NodeError;
use crate::clock::boot_now;
use crate::core::Core;
use crate::peer::messages::StatusReply;
use crate::{counters, peer, writes};

/// Pause between two tries to form a cluster.
const FORM_RETRY: Duration = Duration::from_millis(200);
/// A node waits so long for those with lower ids before it forms the cluster itself.
const FORM_PATIENCE: Duration = Duration::from_secs(5);
/// A node that knows of no other listens so long before it forms a cluster of its own.
const FORM_ALONE: Duration = Duration::from_millis(500);
/// Longest wait for what another node says of itself.
const STATUS_TIMEOUT: Duration = Duration::from_millis(500);
/// How often cluster time is noted on the disk.
const CLOCK_NOTE: Duration = Duration::from_secs(1);
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
        let directories = core.shared.view();
        for (node, address) in members.iter().filter(|(node, _)| **node != core.me) {
            core.transport.set_address(*node, address);
            if let Some(known) = directories.nodes.get(node) {
                core.transport.set_directory(*node, known.dir_id);
            }
            known.entry(*node).or_insert_with(|| {
                let mut tasks = JoinSet::new();
                tasks.spawn(process::bind(counters::run_asks(Arc::clone(&core), *node)));
                let wanted = core.wanted.subscribe();
                let applied = writes::run_applied_calls(Arc::clone(&core), *node, wanted);
                tasks.spawn(process::bind(applied));
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

/// Takes part in the cluster, or forms it, once it is known that no other data directory did so
/// under this node's id: one that lost its disk has forgotten its votes and its part of the log, and
/// with them a majority could lose what was acknowledged.
///
/// A node with a log was there before. One without asks the others. Where there is a cluster, a
/// directory that ran under this id was registered on a majority, of which this node may have been
/// one: so many others must answer that at least one of that majority is among them, and none of
/// them may know the id with another directory. Where none of those that answer is in a cluster, a
/// majority of nodes without memory may form one; a node that formed it and waits to be elected has
/// no more memory than they ([`fluxgate_raft::Cluster::has_history`]), else one that was counted
/// when it formed would refuse it the vote. A node whose list of members names nobody else
/// listens for a moment whether somebody calls it by another directory ([`Core::refuse_directory`]).
pub(super) async fn join(core: Arc<Core>) -> Result<(), NodeError> {
    let members = &core.config.members;
    let first = members.keys().next().copied();
    let begun = Instant::now();
    let mut said = false;
    while !core.cluster.is_formed().await {
        let statuses = ask_all(&core, members.keys().filter(|node| **node != core.me)).await;
        let mut directories = statuses.values().flat_map(|status| &status.directories);
        if directories.any(|(id, dir, _)| *id == core.me && *dir != core.dir_id) {
            return Err(NodeError::OtherDirectory(core.me));
        }
        let formed_elsewhere = statuses.values().any(|status| status.formed);
        let others = members.keys().filter(|node| **node != core.me).count();
        let all = others + 1;
        let needed = if formed_elsewhere { all - all / 2 } else { all / 2 };
        let enough = statuses.len() >= needed && (others > 0 || begun.elapsed() > FORM_ALONE);
        if enough {
            core.allow_votes();
        } else if others > 0 && !std::mem::replace(&mut said, true) {
            tracing::info!("waiting to hear from the other nodes: this data directory is new");
        }
        // The lowest id does it; the next one only where that one does not come.
        let mine = first == Some(core.me)
            || (begun.elapsed() > FORM_PATIENCE && statuses.keys().all(|node| core.me < *node));
        let mine = mine && members.contains_key(&core.me);
        if enough && mine && !formed_elsewhere {
            match core.cluster.form(members).await {
                Ok(()) => tracing::info!(members = members.len(), "formed the cluster"),
                Err(error) => tracing::debug!(%error, "not formed here"),
            }
        }
        tokio::time::sleep(FORM_RETRY).await;
    }
    core.allow_votes();
    Ok(())
}

/// What the nodes that answer say of themselves.
async fn ask_all(
    core: &Arc<Core>,
    nodes: impl Iterator<Item = &NodeId>,
) -> BTreeMap<NodeId, StatusReply> {
    let mut asking = JoinSet::new();
    for node in nodes.copied() {
        let core = Arc::clone(core);
        asking.spawn(process::bind(async move {
            let reply = peer::call(&core, node, Call::Status, &(), STATUS_TIMEOUT).await;
            reply.ok().map(|reply| (node, reply))
        }));
    }
    asking.join_all().await.into_iter().flatten().collect()
}

/// Notes cluster time on the disk, so that no wall clock can set it back over a crash of all nodes.
/// Best effort: without a note only the stamps in the log and the wall clock stand for it.
pub(super) async fn run_clock_notes(core: Arc<Core>, data: Arc<DataDir>) {
    let mut every = tokio::time::interval(CLOCK_NOTE);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut failed = false;
    loop {
        every.tick().await;
        if !core.clock.is_synced() {
            continue;
        }
        let (note, data) = (core.clock.note(), Arc::clone(&data));
        let noted = process::blocking(move || data.write_clock(&note)).await;
        let error = noted.map_or_else(|e| Some(e.to_string()), |r| r.err().map(|e| e.to_string()));
        if let Some(error) = error.as_ref().filter(|_| !failed) {
            tracing::warn!(%error, "cluster time was not noted on the disk");
        }
        failed = error.is_some();
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
        m.voters.set(gauge(status.nodes.values().filter(|node| node.votes).count() as u64));
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
            match &self.config.peer_tls {
                None => warnings
                    .push("peer traffic is not encrypted and leaves this machine".to_owned()),
                Some(tls) if tls.accept_plain => warnings.push(
                    "peer traffic may be unencrypted: [peer] tls still has accept_plain".to_owned(),
                ),
                Some(_) => {}
            }
        }
        if self.config.operator_token.is_none() {
            warnings
                .push("no operator token is configured: only admin keys can administer".to_owned());
        }
        warnings
    }
}
