//! The state of consensus as this node knows it, and whether it can write.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use fluxgate_peer::process;
use fluxgate_types::{LogIndex, NodeId};
use openraft::ServerState;

use super::RaftHandle;

/// An append that the disk has not confirmed for this long counts as stalled.
const STALLED: Duration = Duration::from_secs(2);

/// Whether a node can write new entries to its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteHealth {
    Fine,
    DiskFull,
    /// The oldest append has waited too long for the disk.
    Stalled,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Leader,
    /// Follows, and votes.
    Follower,
    Candidate,
    /// Follows without a vote.
    Learner,
    Stopped,
}

impl Role {
    /// The name, as shown to people.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Leader => "leader",
            Self::Follower => "follower",
            Self::Candidate => "candidate",
            Self::Learner => "learner",
            Self::Stopped => "stopped",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeStatus {
    pub address: String,
    pub votes: bool,
    /// How far the leader has replicated to it; known on the leader only.
    pub matched: Option<LogIndex>,
}

/// What this node knows of consensus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    pub role: Role,
    pub term: u64,
    /// The leader, as far as this node knows.
    pub leader: Option<NodeId>,
    pub last_log: LogIndex,
    /// Last entry known to be committed.
    pub committed: LogIndex,
    /// Last entry applied on this node.
    pub applied: LogIndex,
    /// Last entry covered by a snapshot.
    pub snapshot: LogIndex,
    pub nodes: BTreeMap<NodeId, NodeStatus>,
    /// The voters before and after a change that is under way: until it ends, everything needs a
    /// majority of both.
    pub changing: Option<(Vec<NodeId>, Vec<NodeId>)>,
    /// Why consensus has stopped, if it has.
    pub fatal: Option<String>,
}

impl RaftHandle {
    /// Bytes of the log on its disk, and free bytes there, if known. Takes as long as the disk
    /// does.
    pub async fn look_at_disk(&self) -> (u64, Option<u64>) {
        self.inner.disk.has_room().await;
        let store = self.inner.store.clone();
        let log = process::blocking(move || store.size_on_disk()).await.unwrap_or(0);
        (log, self.inner.disk.free_bytes())
    }

    /// Queries the disk for room, for [`RaftHandle::write_health`]. Takes as long as the disk does.
    pub async fn look_at_room(&self) {
        if self.inner.disk.has_room().await {
            self.inner.lacks_entries.store(false, Ordering::Relaxed);
        }
    }

    /// Whether this node lacks committed entries because its disk is full. With a lease it would
    /// delay every write until the lease ends.
    #[must_use]
    pub fn lacks_entries(&self) -> bool {
        self.inner.lacks_entries.load(Ordering::Relaxed)
    }

    /// Free bytes on the disk of the data directory at the last query.
    #[must_use]
    pub fn free_bytes(&self) -> Option<u64> {
        self.inner.disk.free_bytes()
    }

    /// Whether this node can write new entries, as far as it knows.
    #[must_use]
    pub fn write_health(&self) -> WriteHealth {
        if !self.inner.disk.had_room() {
            WriteHealth::DiskFull
        } else if self.inner.appends.oldest().is_some_and(|waits| waits > STALLED) {
            WriteHealth::Stalled
        } else {
            WriteHealth::Fine
        }
    }

    /// What this node knows of consensus.
    #[must_use]
    pub fn status(&self) -> Status {
        let metrics = self.inner.raft.metrics();
        let metrics = openraft::async_runtime::watch::WatchReceiver::borrow_watched(&metrics);
        let index = |id: &Option<crate::types::LogId>| LogIndex(id.as_ref().map_or(0, |i| i.index));
        let fatal = metrics.running_state.as_ref().err().map(ToString::to_string);
        let role = match metrics.state {
            _ if fatal.is_some() => Role::Stopped,
            ServerState::Leader => Role::Leader,
            ServerState::Follower => Role::Follower,
            ServerState::Candidate => Role::Candidate,
            ServerState::Learner => Role::Learner,
            ServerState::Shutdown => Role::Stopped,
        };
        let membership = metrics.membership_config.membership();
        let voters: std::collections::BTreeSet<u64> = membership.voter_ids().collect();
        let matched = |id: &u64| {
            let at = metrics.replication.as_ref()?.get(id)?.as_ref()?;
            Some(LogIndex(at.index))
        };
        let node = |(id, node): (&u64, &openraft::BasicNode)| {
            let (address, votes) = (node.addr.clone(), voters.contains(id));
            (NodeId(*id), NodeStatus { address, votes, matched: matched(id) })
        };
        let configs = membership.get_joint_config();
        let ids = |voters: &std::collections::BTreeSet<u64>| -> Vec<NodeId> {
            voters.iter().copied().map(NodeId).collect()
        };
        let changing = match configs.as_slice() {
            [old, .., new] => Some((ids(old), ids(new))),
            _ => None,
        };
        Status {
            role,
            changing,
            term: metrics.current_term,
            leader: metrics.current_leader.map(NodeId),
            last_log: LogIndex(metrics.last_log_index.unwrap_or(0)),
            committed: index(&metrics.local_committed).max(index(&metrics.cluster_committed)),
            applied: self.applied(),
            snapshot: index(&metrics.snapshot),
            nodes: membership.nodes().map(node).collect(),
            fatal,
        }
    }

    /// The sets of voters by which this node was elected in this term: a majority of each. Empty if
    /// it does not lead in it, or an entry of its own has changed the members since.
    #[must_use]
    pub fn electorate(&self, term: u64) -> Vec<Vec<NodeId>> {
        let metrics = self.inner.raft.metrics();
        let metrics = openraft::async_runtime::watch::WatchReceiver::borrow_watched(&metrics);
        let leads = metrics.state == ServerState::Leader && metrics.current_term == term;
        let members = &metrics.membership_config;
        let own = |id: &crate::types::LogId| {
            (id.leader_id.term, id.leader_id.node_id) == (term, self.inner.me.0)
        };
        if !leads || members.log_id().as_ref().is_none_or(own) {
            return Vec::new();
        }
        let sets = members.membership().get_joint_config().iter();
        sets.map(|voters| voters.iter().copied().map(NodeId).collect()).collect()
    }

    /// The term in which this node leads, if it does.
    #[must_use]
    pub fn leads_in(&self) -> Option<u64> {
        let metrics = self.inner.raft.metrics();
        let metrics = openraft::async_runtime::watch::WatchReceiver::borrow_watched(&metrics);
        (metrics.state == ServerState::Leader).then_some(metrics.current_term)
    }

    /// The leader, as far as this node knows.
    #[must_use]
    pub fn leader(&self) -> Option<NodeId> {
        let metrics = self.inner.raft.metrics();
        openraft::async_runtime::watch::WatchReceiver::borrow_watched(&metrics)
            .current_leader
            .map(NodeId)
    }
}
