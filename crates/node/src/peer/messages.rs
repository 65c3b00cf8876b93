//! The messages of `peer`, version 1: fields are only appended behind a new version.

use fluxgate_engine::counters::{Ask, LimitUsage, Reply, Told, WindowSpent};
use fluxgate_engine::lease::Grant;
use fluxgate_types::{BootId, ClusterMs, DirId, KeyId, LogIndex, NodeId};
use serde::{Deserialize, Serialize};

/// At the front of every message about counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Head {
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
    pub(crate) head: Head,
    pub(crate) asks: Vec<Ask>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ReplyMessage {
    pub(crate) head: Head,
    pub(crate) replies: Vec<Reply>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct GossipMessage {
    pub(crate) head: Head,
    pub(crate) told: Vec<Told>,
    pub(crate) lives: Vec<(NodeId, BootId)>,
    pub(crate) about: About,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct GossipReply {
    pub(crate) head: Head,
    pub(crate) lives: Vec<(NodeId, BootId)>,
    pub(crate) about: About,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct GiveMessage {
    pub(crate) head: Head,
    pub(crate) gifts: Vec<Reply>,
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
    pub(crate) told_ns: Option<u64>,
    /// What cluster time has reached as far as the node knows by itself, nanoseconds.
    pub(crate) floor_ns: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum MembershipCall {
    Add { node: NodeId, address: String },
    Remove { node: NodeId },
    HandOver { to: Option<NodeId> },
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
