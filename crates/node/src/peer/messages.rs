//! The messages of `peer`: fields are only appended behind a new version. Shapes whose names end in
//! `V2`, and `Introduction`, came with level 2 and version 0.2.0; a node sends them only to nodes that
//! know them.

use fluxgate_engine::lease::{Grant, LeaseTerms};
use fluxgate_engine::quota::{
    CounterGossip, LimitUsage, TransferReply, TransferRequest, WindowSpent,
};
use fluxgate_engine::state::cluster_state::StartId;
use fluxgate_types::{BootId, ClusterMs, DirId, KeyId, LogIndex, NodeId};
use serde::{Deserialize, Serialize};

/// At the front of every message about counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MessageHeader {
    /// The sender's life.
    pub(crate) boot: BootId,
    /// The receiver's life, as far as the sender knows.
    pub(crate) to: Option<BootId>,
}

/// What a node says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct About {
    pub(crate) role: String,
    pub(crate) term: u64,
    pub(crate) applied: u64,
    pub(crate) lease_remaining_ms: u64,
    pub(crate) ready: bool,
    pub(crate) clock_offset_ms: i64,
    pub(crate) version: String,
    /// Cluster time at the receiver when it heard this.
    pub(crate) heard_ms: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct AskMessage {
    pub(crate) head: MessageHeader,
    pub(crate) asks: Vec<TransferRequest>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ReplyMessage {
    pub(crate) head: MessageHeader,
    pub(crate) replies: Vec<TransferReply>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct GossipMessage {
    pub(crate) head: MessageHeader,
    pub(crate) told: Vec<CounterGossip>,
    pub(crate) incarnations: Vec<(NodeId, BootId)>,
    pub(crate) about: About,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct GossipReply {
    pub(crate) head: MessageHeader,
    pub(crate) incarnations: Vec<(NodeId, BootId)>,
    pub(crate) about: About,
}

/// What a node says of itself beyond [`About`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct More {
    /// Which start of the node speaks.
    pub(crate) start_id: StartId,
    /// The newest entry with a command that it has applied, and the digest of its state then.
    pub(crate) digest: Option<(LogIndex, u64)>,
    /// Whether it can write new entries.
    pub(crate) writes: Writes,
    /// Bytes that are free on the disk of its data directory.
    pub(crate) free_bytes: Option<u64>,
    /// The lease terms of its own configuration.
    pub(crate) configured: LeaseTerms,
}

/// Whether a node can write new entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Writes {
    Fine,
    DiskFull,
    Stalled,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct GossipMessageV2 {
    pub(crate) first: GossipMessage,
    pub(crate) more: More,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct GossipReplyV2 {
    pub(crate) first: GossipReply,
    pub(crate) more: More,
}

/// Which start of which node answers, and what it knows of the cluster and of the time. Needs no
/// knowledge of each other: the first thing that is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Introduction {
    pub(crate) node: NodeId,
    pub(crate) dir_id: DirId,
    pub(crate) start_id: StartId,
    /// As for [`StatusReply`].
    pub(crate) formed: bool,
    pub(crate) directories: Vec<(NodeId, DirId, bool)>,
    /// The newest starts by node, as the replicated state has them.
    pub(crate) start_ids: Vec<(NodeId, StartId)>,
    /// The newest starts by node that it has heard of since it started itself.
    pub(crate) heard: Vec<(NodeId, BootId)>,
    pub(crate) time: Times,
}

/// What a node knows of the time, each as of when it answers, nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Times {
    /// Cluster time, where a leader has set it in this start of the node.
    pub(crate) synced_ns: Option<u64>,
    /// The newest stamp of the log that it has applied.
    pub(crate) stamp_ns: u64,
    /// What cluster time is by its own note from before, carried on by its clocks.
    pub(crate) carried_ns: Option<u64>,
    /// Its wall clock.
    pub(crate) wall_ns: u64,
    /// Whether its wall clock can be right: it is neither before its program was built nor before
    /// what the node noted earlier.
    pub(crate) plausible: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct GiveMessage {
    pub(crate) head: MessageHeader,
    pub(crate) gifts: Vec<TransferReply>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct GiveReply {
    pub(crate) taken: Vec<bool>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct LeaseCall {
    pub(crate) boot: BootId,
    pub(crate) dir_id: DirId,
    pub(crate) applied: LogIndex,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum LeaseReply {
    Granted(Grant),
    NotLeader,
    Refused(String),
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct LeaseCallV2 {
    pub(crate) first: LeaseCall,
    pub(crate) nonce: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum LeaseReplyV2 {
    Granted(Grant),
    NotLeader,
    Refused(LeaseRefusal),
}

/// Why a leader grants a node no lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub(crate) enum LeaseRefusal {
    #[error("this node has not applied what its last lease told it to: it must catch up first")]
    Behind,
    #[error(
        "node {0} was removed from the cluster: stop it, empty its data directory, and add it again"
    )]
    Removed(NodeId),
    #[error(
        "node {0} ran on another data directory: remove it from the cluster, and add it again with an empty one"
    )]
    OtherDirectory(NodeId),
    #[error(
        "start {newest} of node {node} is known: this data directory is older, or a copy of it runs elsewhere"
    )]
    Older { node: NodeId, newest: BootId },
    #[error("this node counts on above start {newest}, of an earlier directory of node {node}")]
    CountOn { node: NodeId, newest: BootId },
    #[error("the state of the leader differs from that of the other nodes")]
    Differs,
    #[error("{0}")]
    Other(String),
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct AppliedCall {
    pub(crate) index: LogIndex,
    pub(crate) wait_ms: u64,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct AppliedReply {
    pub(crate) applied: LogIndex,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct UsageCall {
    pub(crate) key: KeyId,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct UsageReply {
    pub(crate) limits: Vec<LimitUsage>,
    pub(crate) last_used: Option<ClusterMs>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct StatusReply {
    /// This node belongs to a cluster that may have acknowledged something.
    pub(crate) formed: bool,
    /// Data directories by node, as the replicated state has them.
    pub(crate) directories: Vec<(NodeId, DirId, bool)>,
    /// Cluster time, where a leader has set it in this life of the node, nanoseconds.
    pub(crate) synced_ns: Option<u64>,
    /// What cluster time has reached as far as the node knows by itself, nanoseconds.
    pub(crate) lower_bound_ns: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum MembershipCall {
    Add { node: NodeId, address: String },
    Remove { node: NodeId },
    HandOver { to: Option<NodeId> },
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum MembershipCallV2 {
    Add {
        node: NodeId,
        address: String,
    },
    Remove {
        node: NodeId,
        force: bool,
    },
    HandOver {
        to: Option<NodeId>,
    },
    /// Sets cluster time forward: to this moment, or to the median of the members' wall clocks.
    SetTime {
        to: Option<ClusterMs>,
        from: Option<Box<str>>,
    },
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum MembershipReply {
    Done { leader: Option<NodeId> },
    NotLeader,
    Refused(String),
}

/// At most `caps::CONSOLE_USAGE_KEYS_MAX` keys.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct UsageManyCall {
    pub(crate) keys: Vec<KeyId>,
}

/// What a node spent of one limit, by its tag, in the newest windows.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct LimitSpent {
    pub(crate) tag: u32,
    pub(crate) windows: Vec<WindowSpent>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct KeySpent {
    pub(crate) key: KeyId,
    pub(crate) limits: Vec<LimitSpent>,
    pub(crate) last_used: Option<ClusterMs>,
}

/// Keys that this node has never counted are left out.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct UsageManyReply {
    pub(crate) keys: Vec<KeySpent>,
}

/// What a node answered to callers since its process began.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct ServedReply {
    pub(crate) admitted: u64,
    pub(crate) limited: u64,
    pub(crate) refused: u64,
}
