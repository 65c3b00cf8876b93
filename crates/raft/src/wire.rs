//! What travels between nodes and lies in the log, as types of our own.
//!
//! Answers for: every message and record has a frozen shape behind a version in its envelope;
//! openraft's own types are never written, since it adds fields to them that positional formats
//! cannot see. A new shape is a new version, read beside the old one.

mod grown;
mod message;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fluxgate_engine::state::command::{Batch, Outcome, Proposal};
use fluxgate_types::NodeId;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, TransferLeaderRequest, VoteRequest, VoteResponse,
};
use openraft::{BasicNode, EntryPayload, Membership};
use serde::{Deserialize, Serialize};

use crate::types::{Data, Entry, LogId, SnapshotMeta, StoredMembership, TypeConfig, Vote};

pub use grown::Grown;
pub(crate) use grown::version_for;
pub use message::{decode, decode_as, encode, encode_as, version_of};

/// The version of every record and message, but for those that only a cluster of level 2 knows.
pub const VERSION: u8 = 1;
/// The version of records and messages with content of level 2, and of the shapes that came with it.
pub const VERSION_2: u8 = 2;
/// The version of records and messages with content of level 3.
pub const VERSION_3: u8 = 3;

/// A vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct VoteV1 {
    term: u64,
    node: u64,
    committed: bool,
}

/// A log position with the leadership that wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LogIdV1 {
    term: u64,
    node: u64,
    index: u64,
}

/// The nodes of the cluster and which of them vote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MembershipV1 {
    configs: Vec<BTreeSet<u64>>,
    nodes: BTreeMap<u64, String>,
}

/// What an entry carries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum PayloadV1 {
    Blank,
    Batch(Arc<Batch>),
    Membership(MembershipV1),
}

/// A log entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EntryV1 {
    id: LogIdV1,
    payload: PayloadV1,
}

#[cfg(feature = "fuzzing")]
impl EntryV1 {
    pub(crate) fn of(term: u64, index: u64, batch: Batch) -> Self {
        let id = LogIdV1 { term, node: 1, index };
        Self { id, payload: PayloadV1::Batch(Arc::new(batch)) }
    }

    pub(crate) fn into_batch(self) -> Option<Batch> {
        match self.payload {
            PayloadV1::Batch(batch) => Some(Batch::clone(&batch)),
            PayloadV1::Blank | PayloadV1::Membership(_) => None,
        }
    }
}

/// Replication of entries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AppendV1 {
    vote: VoteV1,
    prev: Option<LogIdV1>,
    entries: Vec<EntryV1>,
    commit: Option<LogIdV1>,
}

impl AppendV1 {
    /// Whether it is more than a heartbeat.
    pub(crate) fn carries_entries(&self) -> bool {
        !self.entries.is_empty()
    }

    /// Whether entries that it carries are committed: the cluster has gone on without this node.
    pub(crate) fn carries_committed(&self) -> bool {
        let first = self.prev.as_ref().map_or(0, |prev| prev.index + 1);
        self.carries_entries() && self.commit.as_ref().is_some_and(|commit| commit.index >= first)
    }
}

/// The answer to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum AppendReplyV1 {
    Success,
    Partial(Option<LogIdV1>),
    Conflict,
    HigherVote(VoteV1),
}

/// A request for a vote, or for the promise of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct VoteCallV1 {
    vote: VoteV1,
    last: Option<LogIdV1>,
    transfer: bool,
}

/// The answer to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct VoteReplyV1 {
    vote: VoteV1,
    granted: bool,
    last: Option<LogIdV1>,
}

/// A leader asks a node to lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TransferV1 {
    from: VoteV1,
    to: u64,
    last: Option<LogIdV1>,
}

impl TransferV1 {
    /// Whether it asks this node.
    pub(crate) fn is_for(&self, node: NodeId) -> bool {
        self.to == node.0
    }
}

/// What a snapshot covers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SnapshotMetaV1 {
    last: Option<LogIdV1>,
    membership_at: Option<LogIdV1>,
    membership: MembershipV1,
}

/// One piece of a snapshot on its way to a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SnapshotPieceV1 {
    pub(crate) vote: VoteV1,
    pub(crate) meta: SnapshotMetaV1,
    /// Names one sending: a new one begins anew.
    pub(crate) stream: u64,
    pub(crate) offset: u64,
    pub(crate) bytes: Vec<u8>,
    pub(crate) last: bool,
}

/// The answer to a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum SnapshotReplyV1 {
    /// Send the piece at this offset next.
    Next(u64),
    /// Installed, or not needed: the vote that the receiver has.
    Done(VoteV1),
}

/// A proposal that a node carries to the leader.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProposeV1 {
    /// What is proposed.
    pub proposal: Proposal,
    /// How long the caller will wait, milliseconds.
    pub wait_ms: u64,
}

/// The leader's answer to a carried proposal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProposeReplyV1 {
    /// Committed, and past the write barrier.
    Done {
        /// What came of it.
        outcome: Box<Outcome>,
        /// The nodes known to have applied it.
        applied_on: Vec<NodeId>,
        /// How long the barrier took, milliseconds.
        waited_ms: u64,
    },
    /// Not proposed: this node does not lead.
    NotLeader,
    /// Not proposed: too much is queued.
    Busy,
    /// It may or may not have been committed.
    Unknown,
}

impl From<&Vote> for VoteV1 {
    fn from(vote: &Vote) -> Self {
        let id = vote.leader_id;
        Self { term: id.term, node: id.node_id, committed: vote.committed }
    }
}

impl From<VoteV1> for Vote {
    fn from(vote: VoteV1) -> Self {
        let new = if vote.committed { Self::new_committed } else { Self::new };
        new(vote.term, vote.node)
    }
}

impl From<&LogId> for LogIdV1 {
    fn from(id: &LogId) -> Self {
        Self { term: id.leader_id.term, node: id.leader_id.node_id, index: id.index }
    }
}

impl From<LogIdV1> for LogId {
    fn from(id: LogIdV1) -> Self {
        let leader = openraft::vote::leader_id_adv::LeaderId { term: id.term, node_id: id.node };
        Self::new(leader, id.index)
    }
}

impl From<&Membership<u64, BasicNode>> for MembershipV1 {
    fn from(membership: &Membership<u64, BasicNode>) -> Self {
        Self {
            configs: membership.get_joint_config().clone(),
            nodes: membership.nodes().map(|(id, node)| (*id, node.addr.clone())).collect(),
        }
    }
}

impl From<MembershipV1> for Membership<u64, BasicNode> {
    fn from(membership: MembershipV1) -> Self {
        let nodes: BTreeMap<u64, BasicNode> =
            membership.nodes.into_iter().map(|(id, addr)| (id, BasicNode { addr })).collect();
        Self::new_with_defaults_and(membership.configs, nodes)
    }
}

/// openraft builds a membership from node ids with default nodes, or fallibly from whole nodes.
trait NewWithNodes {
    fn new_with_defaults_and(configs: Vec<BTreeSet<u64>>, nodes: BTreeMap<u64, BasicNode>) -> Self;
}

impl NewWithNodes for Membership<u64, BasicNode> {
    fn new_with_defaults_and(configs: Vec<BTreeSet<u64>>, nodes: BTreeMap<u64, BasicNode>) -> Self {
        // A membership that openraft wrote names every voter; anything else becomes default nodes,
        // which cannot be reached, rather than a panic.
        let ids: Vec<u64> = nodes.keys().copied().collect();
        Self::new(configs.clone(), nodes).unwrap_or_else(|_| Self::new_with_defaults(configs, ids))
    }
}

impl From<&Entry> for EntryV1 {
    fn from(entry: &Entry) -> Self {
        let payload = match &entry.payload {
            EntryPayload::Blank => PayloadV1::Blank,
            EntryPayload::Normal(Data(batch)) => PayloadV1::Batch(Arc::clone(batch)),
            EntryPayload::Membership(membership) => PayloadV1::Membership(membership.into()),
        };
        Self { id: (&entry.log_id).into(), payload }
    }
}

impl From<EntryV1> for Entry {
    fn from(entry: EntryV1) -> Self {
        let payload = match entry.payload {
            PayloadV1::Blank => EntryPayload::Blank,
            PayloadV1::Batch(batch) => EntryPayload::Normal(Data(batch)),
            PayloadV1::Membership(membership) => EntryPayload::Membership(membership.into()),
        };
        Self { log_id: entry.id.into(), payload }
    }
}

impl From<&AppendEntriesRequest<TypeConfig>> for AppendV1 {
    fn from(rpc: &AppendEntriesRequest<TypeConfig>) -> Self {
        Self {
            vote: (&rpc.vote).into(),
            prev: rpc.prev_log_id.as_ref().map(Into::into),
            entries: rpc.entries.iter().map(Into::into).collect(),
            commit: rpc.leader_commit.as_ref().map(Into::into),
        }
    }
}

impl From<AppendV1> for AppendEntriesRequest<TypeConfig> {
    fn from(rpc: AppendV1) -> Self {
        Self {
            vote: rpc.vote.into(),
            prev_log_id: rpc.prev.map(Into::into),
            entries: rpc.entries.into_iter().map(Into::into).collect(),
            leader_commit: rpc.commit.map(Into::into),
        }
    }
}

impl From<&AppendEntriesResponse<TypeConfig>> for AppendReplyV1 {
    fn from(reply: &AppendEntriesResponse<TypeConfig>) -> Self {
        match reply {
            AppendEntriesResponse::Success => Self::Success,
            AppendEntriesResponse::PartialSuccess(at) => Self::Partial(at.as_ref().map(Into::into)),
            AppendEntriesResponse::Conflict => Self::Conflict,
            AppendEntriesResponse::HigherVote(vote) => Self::HigherVote(vote.into()),
        }
    }
}

impl From<AppendReplyV1> for AppendEntriesResponse<TypeConfig> {
    fn from(reply: AppendReplyV1) -> Self {
        match reply {
            AppendReplyV1::Success => Self::Success,
            AppendReplyV1::Partial(at) => Self::PartialSuccess(at.map(Into::into)),
            AppendReplyV1::Conflict => Self::Conflict,
            AppendReplyV1::HigherVote(vote) => Self::HigherVote(vote.into()),
        }
    }
}

impl From<&VoteRequest<TypeConfig>> for VoteCallV1 {
    fn from(rpc: &VoteRequest<TypeConfig>) -> Self {
        let last = rpc.last_log_id.as_ref().map(Into::into);
        Self { vote: (&rpc.vote).into(), last, transfer: rpc.leadership_transfer }
    }
}

impl From<VoteCallV1> for VoteRequest<TypeConfig> {
    fn from(rpc: VoteCallV1) -> Self {
        let mut request = Self::new(rpc.vote.into(), rpc.last.map(Into::into));
        request.leadership_transfer = rpc.transfer;
        request
    }
}

impl From<&VoteResponse<TypeConfig>> for VoteReplyV1 {
    fn from(reply: &VoteResponse<TypeConfig>) -> Self {
        let last = reply.last_log_id.as_ref().map(Into::into);
        Self { vote: (&reply.vote).into(), granted: reply.vote_granted, last }
    }
}

impl From<VoteReplyV1> for VoteResponse<TypeConfig> {
    fn from(reply: VoteReplyV1) -> Self {
        Self::new(Vote::from(reply.vote), reply.last.map(Into::into), reply.granted)
    }
}

impl From<&TransferLeaderRequest<TypeConfig>> for TransferV1 {
    fn from(rpc: &TransferLeaderRequest<TypeConfig>) -> Self {
        let last = rpc.last_log_id().map(Into::into);
        Self { from: rpc.from_leader().into(), to: *rpc.to_node_id(), last }
    }
}

impl From<TransferV1> for TransferLeaderRequest<TypeConfig> {
    fn from(rpc: TransferV1) -> Self {
        Self::new(rpc.from.into(), rpc.to, rpc.last.map(Into::into))
    }
}

impl From<&SnapshotMeta> for SnapshotMetaV1 {
    fn from(meta: &SnapshotMeta) -> Self {
        Self {
            last: meta.last_log_id.as_ref().map(Into::into),
            membership_at: meta.last_membership.log_id().as_ref().map(Into::into),
            membership: meta.last_membership.membership().into(),
        }
    }
}

impl From<SnapshotMetaV1> for SnapshotMeta {
    fn from(meta: SnapshotMetaV1) -> Self {
        Self {
            last_log_id: meta.last.map(Into::into),
            last_membership: StoredMembership::new(
                meta.membership_at.map(Into::into),
                meta.membership.into(),
            ),
        }
    }
}
