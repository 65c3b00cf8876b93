//! The messages of `peer`: a new field needs a new version. Shapes whose names end in `V2`, and
//! `IntroduceReply`, came with level 2 and version 0.2.0; a node sends them only to nodes that know
//! them. A node that does not know `ClocksCall` is asked for its introduction.

use fluxgate_engine::join::{Introduction, RegisteredDirectory, Times};
use fluxgate_engine::lease::{Grant, LeaseRefusal, LeaseTerms};
use fluxgate_engine::quota::{
    CounterGossip, LimitUsage, TransferReply, TransferRequest, WindowSpent,
};
use fluxgate_engine::state::cluster_state::StartId;
use fluxgate_types::{BootId, ClusterMs, DirId, KeyId, LogIndex, NodeId};
use serde::{Deserialize, Serialize};

use crate::shape::{Shaped, shape};

/// The first field of every message about counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageHeader {
    /// The sender's incarnation.
    pub boot: BootId,
    /// The receiver's incarnation, as far as the sender knows.
    pub to: Option<BootId>,
}

/// A node's own state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    pub role: String,
    pub term: u64,
    pub applied: u64,
    pub lease_remaining_ms: u64,
    pub ready: bool,
    pub clock_offset_ms: i64,
    pub version: String,
    /// Cluster time at the receiver when this arrived.
    pub heard_ms: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AskMessage {
    pub head: MessageHeader,
    #[serde(with = "crate::shape")]
    pub asks: Vec<TransferRequest>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReplyMessage {
    pub head: MessageHeader,
    #[serde(with = "crate::shape")]
    pub replies: Vec<TransferReply>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GossipMessage {
    pub head: MessageHeader,
    #[serde(with = "crate::shape")]
    pub told: Vec<CounterGossip>,
    #[serde(rename = "lives")]
    pub incarnations: Vec<(NodeId, BootId)>,
    pub about: About,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GossipReply {
    pub head: MessageHeader,
    #[serde(rename = "lives")]
    pub incarnations: Vec<(NodeId, BootId)>,
    pub about: About,
}

/// A node's own state beyond [`About`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct More {
    /// The start of the sender.
    #[serde(with = "crate::shape", rename = "incarnation")]
    pub start_id: StartId,
    /// The newest entry with a command that it has applied, and the digest of its state then.
    pub digest: Option<(LogIndex, u64)>,
    /// Whether the node can write new entries.
    pub writes: Writes,
    /// Free bytes on the disk of its data directory.
    pub free_bytes: Option<u64>,
    /// The lease terms of its own configuration.
    #[serde(with = "crate::shape")]
    pub configured: LeaseTerms,
}

/// Whether a node can write new entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Writes {
    Fine,
    DiskFull,
    Stalled,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GossipMessageV2 {
    pub first: GossipMessage,
    pub more: More,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GossipReplyV2 {
    pub first: GossipReply,
    pub more: More,
}

/// The answer to [`IntroduceCall`], the first call between two nodes that know nothing of each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct IntroduceReply(#[serde(with = "crate::shape")] pub Introduction);

shape! {
    /// See [`Introduction`].
    struct IntroductionV1 of Introduction {
        node: NodeId,
        dir_id: DirId,
        #[serde(rename = "incarnation")]
        start_id: StartId,
        formed: bool,
        directories: Vec<RegisteredDirectory>,
        #[serde(rename = "incarnations")]
        start_ids: Vec<(NodeId, StartId)>,
        heard: Vec<(NodeId, BootId)>,
        time: Times,
    }
}

shape! {
    /// See [`Times`].
    struct TimesV1 of Times {
        #[serde(rename = "told_ns")]
        synced_ns: Option<u64>,
        stamp_ns: u64,
        carried_ns: Option<u64>,
        wall_ns: u64,
        plausible: bool,
    }
}

/// It was frozen as a tuple, as [`StatusReply`] has it too.
impl Shaped for RegisteredDirectory {
    type Shape = (NodeId, DirId, bool);

    fn to_shape(&self) -> Self::Shape {
        (self.node, self.dir_id, self.removed)
    }

    fn from_shape((node, dir_id, removed): Self::Shape) -> Self {
        Self { node, dir_id, removed }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GiveMessage {
    pub head: MessageHeader,
    #[serde(with = "crate::shape")]
    pub gifts: Vec<TransferReply>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GiveReply {
    pub taken: Vec<bool>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct LeaseCall {
    pub boot: BootId,
    pub dir_id: DirId,
    pub applied: LogIndex,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum LeaseReply {
    Granted(#[serde(with = "crate::shape")] Grant),
    NotLeader,
    Refused(String),
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct LeaseCallV2 {
    pub first: LeaseCall,
    pub nonce: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum LeaseReplyV2 {
    Granted(#[serde(with = "crate::shape")] Grant),
    NotLeader,
    Refused(#[serde(with = "crate::shape")] LeaseRefusal),
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct AppliedCall {
    pub index: LogIndex,
    pub wait_ms: u64,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct AppliedReply {
    pub applied: LogIndex,
}

/// Requests a [`StatusReply`].
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct StatusCall;

/// Requests a [`ServedReply`].
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct ServedCall;

/// Requests an [`IntroduceReply`].
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct IntroduceCall;

/// The leader of this term asks for a [`ClocksReply`].
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct ClocksCall {
    pub term: u64,
}

/// The clocks of a node, and its last contact with an earlier leader.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClocksReply {
    #[serde(with = "crate::shape")]
    pub time: Times,
    /// How long ago by its boot clock it can last have acknowledged a leader before the one that asks,
    /// nanoseconds; none if it may acknowledge one yet.
    pub contact_ago_ns: Option<u64>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct UsageCall {
    pub key: KeyId,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct UsageReply {
    #[serde(with = "crate::shape")]
    pub limits: Vec<LimitUsage>,
    pub last_used: Option<ClusterMs>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StatusReply {
    /// This node belongs to a cluster that may have acknowledged something.
    pub formed: bool,
    /// Data directories by node, as the replicated state has them.
    pub directories: Vec<(NodeId, DirId, bool)>,
    /// Cluster time if a leader has set it in this incarnation of the node, nanoseconds.
    #[serde(rename = "told_ns")]
    pub synced_ns: Option<u64>,
    /// Cluster time as carried on from the node's checkpoint, nanoseconds.
    #[serde(rename = "floor_ns")]
    pub lower_bound_ns: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum MembershipCall {
    Add { node: NodeId, address: String },
    Remove { node: NodeId },
    HandOver { to: Option<NodeId> },
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum MembershipCallV2 {
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

impl From<MembershipCall> for MembershipCallV2 {
    fn from(call: MembershipCall) -> Self {
        match call {
            MembershipCall::Add { node, address } => Self::Add { node, address },
            // A program of version 0.1 cannot force a removal.
            MembershipCall::Remove { node } => Self::Remove { node, force: false },
            MembershipCall::HandOver { to } => Self::HandOver { to },
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum MembershipReply {
    Done { leader: Option<NodeId> },
    NotLeader,
    Refused(String),
}

/// At most `caps::CONSOLE_USAGE_KEYS_MAX` keys.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct UsageManyCall {
    pub keys: Vec<KeyId>,
}

/// The tokens of one limit, by its tag, that a node spent in the newest windows.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LimitSpent {
    pub tag: u32,
    #[serde(with = "crate::shape")]
    pub windows: Vec<WindowSpent>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct KeySpent {
    pub key: KeyId,
    pub limits: Vec<LimitSpent>,
    pub last_used: Option<ClusterMs>,
}

/// Keys that this node has never counted are left out.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct UsageManyReply {
    pub keys: Vec<KeySpent>,
}

/// The counts of a node's answers to callers since its process began.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct ServedReply {
    pub admitted: u64,
    pub limited: u64,
    pub refused: u64,
}
