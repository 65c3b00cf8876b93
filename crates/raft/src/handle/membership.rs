//! The members of the cluster, and its leader.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use fluxgate_engine::state::command::Registration;
use fluxgate_types::NodeId;
use openraft::error::{ChangeMembershipError, ClientWriteError, RaftError};
use openraft::{BasicNode, ChangeMembers};

use super::{HANDED, RaftHandle, Role};
use crate::log;
use crate::types::TypeConfig;
use fluxgate_engine::member::SubmitError;

/// Why the membership was not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MembershipError {
    #[error("this node does not lead")]
    NotLeader,
    #[error("{0}")]
    Refused(String),
}

/// How often a waiting hand-over checks again.
const LOOK: Duration = Duration::from_millis(100);

impl RaftHandle {
    /// Whether this node knows of a cluster: it has a log, or a leader contacted it.
    pub async fn is_formed(&self) -> bool {
        self.inner.raft.is_initialized().await.unwrap_or(false)
    }

    /// Whether this node knows of a cluster that may have acknowledged something. An incarnation
    /// that formed a cluster, and has neither led nor voted for another node since, does not: its
    /// log is only the list of members, and its vote is the one for itself from forming. After a
    /// restart it may have missed what the others did, and counts as a node that knows.
    pub async fn has_history(&self) -> bool {
        if !self.is_formed().await {
            return false;
        }
        if !self.inner.formed_here.load(Ordering::Relaxed) {
            return true;
        }
        let me = self.me().0;
        let metrics = self.inner.raft.metrics();
        let metrics = openraft::async_runtime::watch::WatchReceiver::borrow_watched(&metrics);
        let vote = metrics.vote;
        let (term, to) = (vote.leader_id.term, vote.leader_id.node_id);
        // Later terms need a majority that would vote, so such a majority exists (pre-vote).
        let own = term == 0 || term == 1 && to == me && !vote.committed;
        // The list of members is the entry with index 0, which no leader ever writes.
        !(own && metrics.last_log_index == Some(0) && metrics.snapshot.is_none())
    }

    /// The directories and starts that entries register which this node has not applied.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub async fn registrations_not_applied(&self) -> std::io::Result<Vec<Registration>> {
        log::registrations(&self.inner.store, self.applied()).await
    }

    /// Forms a new cluster of these members. Call it on one fresh node only.
    ///
    /// # Errors
    /// When there is a cluster already.
    pub async fn bootstrap(
        &self,
        members: &BTreeMap<NodeId, String>,
    ) -> Result<(), MembershipError> {
        let nodes: BTreeMap<u64, BasicNode> =
            members.iter().map(|(id, addr)| (id.0, BasicNode { addr: addr.clone() })).collect();
        let formed = self.inner.raft.initialize(nodes).await;
        formed.map_err(|error| MembershipError::Refused(error.to_string()))?;
        self.inner.formed_here.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Gives a member another address. The caller must have checked that this same node answers
    /// there. Only on the leader.
    ///
    /// # Errors
    /// When this node does not lead, or another change is under way.
    pub async fn move_node(&self, node: NodeId, address: &str) -> Result<(), MembershipError> {
        self.must_lead()?;
        let info = BTreeMap::from([(node.0, BasicNode { addr: address.to_owned() })]);
        self.change(ChangeMembers::SetNodes(info)).await?;
        self.inner.transport.set_address(node, address);
        Ok(())
    }

    /// Adds a node: first it catches up, within `at_most`, then it votes. A node that cannot be
    /// reached or does not catch up is removed again. Only on the leader.
    ///
    /// # Errors
    /// When this node does not lead, the node does not catch up, or another change is under way.
    pub async fn add_node(
        &self,
        node: NodeId,
        address: &str,
        at_most: Duration,
    ) -> Result<(), MembershipError> {
        self.must_lead()?;
        let known = self.status().nodes.get(&node).cloned();
        if let Some(member) = known.as_ref().filter(|member| member.votes) {
            let why = format!("node {node} is a member at {}", member.address);
            return Err(MembershipError::Refused(why));
        }
        if known.is_some() {
            // Left over from a change that did not end.
            self.move_node(node, address).await?;
        } else {
            self.inner.transport.set_address(node, address);
            let info = BTreeMap::from([(node.0, BasicNode { addr: address.to_owned() })]);
            self.change(ChangeMembers::AddNodes(info)).await?;
        }
        let goal = self.status().last_log;
        let caught_up = async {
            while self.status().nodes.get(&node).is_none_or(|n| n.matched < Some(goal)) {
                tokio::time::sleep(LOOK).await;
            }
        };
        if tokio::time::timeout(at_most, caught_up).await.is_err() {
            self.change(ChangeMembers::RemoveNodes(BTreeSet::from([node.0]))).await.ok();
            let why =
                format!("node {node} at {address} did not catch up in time; it was not added");
            return Err(MembershipError::Refused(why));
        }
        let mut voters = self.voters();
        voters.insert(node.0);
        self.change(ChangeMembers::ReplaceAllVoters(voters)).await
    }

    /// Removes a node, whether it votes or not. Only on the leader.
    ///
    /// # Errors
    /// When this node does not lead, it is the last one, or another change is under way.
    pub async fn remove_node(&self, node: NodeId) -> Result<(), MembershipError> {
        self.must_lead()?;
        let mut voters = self.voters();
        if !voters.remove(&node.0) {
            return self.change(ChangeMembers::RemoveNodes(BTreeSet::from([node.0]))).await;
        }
        if voters.is_empty() {
            return Err(MembershipError::Refused("the last node cannot be removed".to_owned()));
        }
        self.change(ChangeMembers::ReplaceAllVoters(voters)).await
    }

    async fn change(&self, change: ChangeMembers<u64, BasicNode>) -> Result<(), MembershipError> {
        let changed = self.inner.raft.change_membership(change, false).await;
        changed.map(drop).map_err(in_words)
    }

    /// Ends a change of the members that another leader began and did not end. Only on the leader;
    /// does nothing if there is none, or it is not committed yet.
    ///
    /// # Errors
    /// As for any change.
    pub async fn end_change(&self) -> Result<(), MembershipError> {
        let status = self.status();
        let Some((_, new)) = status.changing else { return Ok(()) };
        self.must_lead()?;
        let voters = new.into_iter().map(|node| node.0).collect();
        self.change(ChangeMembers::ReplaceAllVoters(voters)).await
    }

    /// Hands the leadership to `to`, or to the follower with the longest log, and waits until
    /// another node leads.
    ///
    /// # Errors
    /// When this node does not lead, there is no node to hand over to, or none took over in time.
    pub async fn transfer_leadership(
        &self,
        to: Option<NodeId>,
        at_most: Duration,
    ) -> Result<NodeId, MembershipError> {
        self.must_lead()?;
        let status = self.status();
        let me = self.me();
        let others = status.nodes.iter().filter(|(id, node)| **id != me && node.votes);
        let best = others.max_by_key(|(_, node)| node.matched).map(|(id, _)| *id);
        let target = to.or(best).filter(|id| *id != me && status.nodes.contains_key(id));
        let target =
            target.ok_or_else(|| MembershipError::Refused("no other node can lead".to_owned()))?;
        let trigger = self.inner.raft.trigger().transfer_leader(target.0).await;
        trigger.map_err(|error| MembershipError::Refused(error.to_string()))?;
        let taken = async {
            let mut news = self.subscribe();
            loop {
                match self.leader() {
                    Some(leader) if leader != me => return leader,
                    Some(_) | None => drop(tokio::time::timeout(LOOK, news.changed()).await),
                }
            }
        };
        let leader = tokio::time::timeout(at_most, taken).await.map_err(|_| {
            MembershipError::Refused(format!("node {target} did not take over in time"))
        })?;
        if to.is_some_and(|to| to != leader) {
            let why = format!("node {target} did not take over; node {leader} leads now");
            return Err(MembershipError::Refused(why));
        }
        Ok(leader)
    }

    pub(super) fn note_handed(&self) {
        let now = Some(tokio::time::Instant::now());
        *self.inner.handed.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }

    /// Whether the leadership that this node has just begun was handed to it. True once per
    /// hand-over.
    #[must_use]
    pub fn was_handed(&self) -> bool {
        let asked = self.inner.handed.lock().unwrap_or_else(PoisonError::into_inner).take();
        asked.is_some_and(|asked| asked.elapsed() < HANDED)
    }

    fn must_lead(&self) -> Result<(), MembershipError> {
        if self.status().role == Role::Leader { Ok(()) } else { Err(MembershipError::NotLeader) }
    }

    fn voters(&self) -> BTreeSet<u64> {
        self.status().nodes.iter().filter(|(_, n)| n.votes).map(|(id, _)| id.0).collect()
    }
}

/// Why a change was not made, for the operator.
fn in_words<E>(error: RaftError<TypeConfig, E>) -> MembershipError
where
    E: Into<ClientWriteError<TypeConfig>>,
{
    let refused = |why: &str| MembershipError::Refused(why.to_owned());
    let RaftError::APIError(error) = error else {
        return refused("consensus has stopped on the leader");
    };
    match error.into() {
        ClientWriteError::ForwardToLeader(_) => MembershipError::NotLeader,
        ClientWriteError::LogEntryDiscarded(_) => refused(
            "the leader changed meanwhile; look at the cluster's status before you try again",
        ),
        ClientWriteError::ChangeMembershipError(error) => match error {
            ChangeMembershipError::InProgress(_)
            | ChangeMembershipError::UncommittedLeaderLog(_) => refused(
                "another change of the members is under way and has not been committed: it ends \
                     once a majority of the members, old and new, is up",
            ),
            ChangeMembershipError::EmptyMembership(_) => refused("the last node cannot be removed"),
            ChangeMembershipError::LearnerNotFound(_) => refused("no such node"),
            ChangeMembershipError::UnsupportedMembershipTransition(_)
            | ChangeMembershipError::NodeMetadataChanged(_) => {
                refused("this change of the members is not possible")
            }
        },
        ClientWriteError::PreconditionFailed(_) => refused("the members changed meanwhile"),
    }
}

impl From<SubmitError> for MembershipError {
    fn from(error: SubmitError) -> Self {
        match error {
            SubmitError::NotLeader => Self::NotLeader,
            SubmitError::Busy
            | SubmitError::DiskFull
            | SubmitError::Unknown
            | SubmitError::Stopped => Self::Refused(error.to_string()),
        }
    }
}
