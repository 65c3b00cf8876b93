//! Shapes of consensus: its log, its messages, and proposals that are forwarded to the leader.
//!
//! openraft's own types are never written: it adds fields to them that formats by position cannot
//! detect. `crates/raft` converts between them and these shapes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fluxgate_engine::state::command::{Batch, Outcome, Proposal};
use fluxgate_types::NodeId;
use serde::{Deserialize, Serialize};

/// A vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VoteV1 {
    pub term: u64,
    pub node: u64,
    pub committed: bool,
}

/// A log position with the leadership that wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogIdV1 {
    pub term: u64,
    pub node: u64,
    pub index: u64,
}

/// The nodes of the cluster and which of them vote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MembershipV1 {
    pub configs: Vec<BTreeSet<u64>>,
    pub nodes: BTreeMap<u64, String>,
}

/// The content of an entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PayloadV1 {
    Blank,
    Batch(#[serde(with = "crate::shape")] Arc<Batch>),
    Membership(MembershipV1),
}

/// A log entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryV1 {
    pub id: LogIdV1,
    pub payload: PayloadV1,
}

impl EntryV1 {
    /// Makes an entry with a batch.
    #[must_use]
    pub fn of(term: u64, index: u64, batch: Batch) -> Self {
        let id = LogIdV1 { term, node: 1, index };
        Self { id, payload: PayloadV1::Batch(Arc::new(batch)) }
    }

    /// The batch of such an entry.
    #[must_use]
    pub fn into_batch(self) -> Option<Batch> {
        match self.payload {
            PayloadV1::Batch(batch) => Some(Batch::clone(&batch)),
            PayloadV1::Blank | PayloadV1::Membership(_) => None,
        }
    }
}

/// Replication of entries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppendV1 {
    pub vote: VoteV1,
    pub prev: Option<LogIdV1>,
    pub entries: Vec<EntryV1>,
    pub commit: Option<LogIdV1>,
}

impl AppendV1 {
    /// Whether it is more than a heartbeat.
    #[must_use]
    pub fn carries_entries(&self) -> bool {
        !self.entries.is_empty()
    }

    /// Whether some of its entries are committed: the cluster has continued without this node.
    #[must_use]
    pub fn carries_committed(&self) -> bool {
        let first = self.prev.as_ref().map_or(0, |prev| prev.index + 1);
        self.carries_entries() && self.commit.as_ref().is_some_and(|commit| commit.index >= first)
    }
}

/// The answer to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AppendReplyV1 {
    Success,
    Partial(Option<LogIdV1>),
    Conflict,
    HigherVote(VoteV1),
}

/// A request for a vote, or for the promise of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VoteCallV1 {
    pub vote: VoteV1,
    pub last: Option<LogIdV1>,
    pub transfer: bool,
}

/// The answer to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VoteReplyV1 {
    pub vote: VoteV1,
    pub granted: bool,
    pub last: Option<LogIdV1>,
}

/// A leader asks a node to lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransferV1 {
    pub from: VoteV1,
    pub to: u64,
    pub last: Option<LogIdV1>,
}

impl TransferV1 {
    /// Whether it is for this node.
    #[must_use]
    pub fn is_for(&self, node: NodeId) -> bool {
        self.to == node.0
    }
}

/// The log position and the members that a snapshot covers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotMetaV1 {
    pub last: Option<LogIdV1>,
    pub membership_at: Option<LogIdV1>,
    pub membership: MembershipV1,
}

/// One piece of a snapshot for another node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotPieceV1 {
    pub vote: VoteV1,
    pub meta: SnapshotMetaV1,
    /// Identifies one transmission; another one starts at offset 0.
    pub stream: u64,
    pub offset: u64,
    pub bytes: Vec<u8>,
    pub last: bool,
}

/// The answer to a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SnapshotReplyV1 {
    /// Send the piece at this offset next.
    Next(u64),
    /// Installed, or not needed; with the receiver's vote.
    Done(VoteV1),
}

/// A proposal that a node forwards to the leader.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProposeV1 {
    /// The proposal.
    #[serde(with = "crate::shape")]
    pub proposal: Proposal,
    /// How long the caller waits, milliseconds.
    pub wait_ms: u64,
}

/// The leader's answer to a forwarded proposal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProposeReplyV1 {
    /// Committed, and past the write barrier.
    Done {
        /// The result of the command.
        #[serde(with = "crate::shape")]
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
