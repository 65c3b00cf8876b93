//! Messages between nodes, and what an observer sees of the nodes.

use fluxgate_engine::clock::sync::ClockAnswer;
use fluxgate_engine::join::{Introduction, JoinError};
use fluxgate_engine::lease::{LeaderId, LeaseRefusal};
use fluxgate_engine::member::{LeaseAnswer, LeaseRequest, SubmitError, Written};
use fluxgate_engine::quota::{
    CounterGossip, CounterId, Decision, Handoff, SubjectLimits, TransferReply, TransferRequest,
};
use fluxgate_engine::state::command::Proposal;
use fluxgate_engine::state::record::LimitSpec;
use fluxgate_types::{BootId, ClusterMs, KeyId, LogIndex, NodeId, Subject};

use crate::raft;
use fluxgate_plan::Us;

/// At the front of every message about counters.
#[derive(Clone, Copy, Debug)]
pub struct MessageHeader {
    /// The sender's incarnation.
    pub boot: BootId,
    /// The receiver's incarnation, as far as the sender knows.
    pub to: Option<BootId>,
}

/// What a peer said of itself with a gossip message.
#[derive(Clone, Copy, Debug)]
pub struct PeerSaid {
    /// It would answer requests.
    pub is_ready: bool,
    /// It can write new entries.
    pub can_write: bool,
    /// How far its wall clock is ahead of cluster time, nanoseconds.
    pub wall_offset_ns: i64,
}

/// A call: its number comes back in the answer.
pub type CallId = u64;

/// A message between nodes.
#[derive(Clone, Debug)]
pub enum Message {
    /// Consensus.
    Raft(raft::Message),
    /// Gossip: what was spent, and the incarnations that the sender knows.
    Gossip(MessageHeader, Vec<CounterGossip>, Vec<(NodeId, BootId)>, PeerSaid),
    /// The answer, with the incarnations that the other knows.
    Heard(MessageHeader, Vec<(NodeId, BootId)>, PeerSaid),
    /// A call.
    Call(CallId, Call),
    /// The answer to a call.
    Answer(CallId, Answer),
}

/// What a call asks for.
#[derive(Clone, Debug)]
pub enum Call {
    /// A lease.
    Lease(LeaseRequest),
    /// Tokens.
    Transfers(MessageHeader, Vec<TransferRequest>),
    /// To take tokens.
    Handoffs(MessageHeader, Vec<Handoff>),
    /// To wait until an entry is applied.
    Applied(LogIndex),
    /// The clocks of the node, and its last contact with a leader before this one.
    Clocks(LeaderId),
    /// The introduction of the node.
    Introduce,
    /// To propose a change, which may take this long, milliseconds.
    Propose(Box<Proposal>, u64),
}

/// The answer to a call.
#[derive(Clone, Debug)]
pub enum Answer {
    /// To [`Call::Lease`].
    Lease(Box<LeaseAnswer>),
    /// To [`Call::Transfers`].
    Transfers(MessageHeader, Vec<TransferReply>),
    /// To [`Call::Handoffs`]: which of them were taken.
    Handoffs(Vec<bool>),
    /// To [`Call::Applied`]: how far the node has applied.
    Applied(LogIndex),
    /// To [`Call::Clocks`]: also how long ago the contact was, nanoseconds.
    Clocks(ClockAnswer, Option<u64>),
    /// To [`Call::Introduce`].
    Introduction(Box<Introduction>),
    /// To [`Call::Propose`].
    Written(Box<Result<Written, SubmitError>>),
    /// No process listens at that node, or it does not take part yet.
    Refused,
}

/// The reason for which a node is woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timer {
    /// Consensus.
    Raft,
    /// A sync is done.
    Synced,
    /// Requests wait.
    Tick,
    /// Gossip is due.
    Gossip,
    /// Something of the node's part in the cluster is due.
    Member,
    /// Cluster time is saved to the disk.
    Save,
    /// A call has got no answer.
    Over(CallId),
    /// The thread that waits for a proof of leadership continues.
    Proven(CallId, LogIndex),
    /// The thread that is to propose a change continues.
    Submit(fluxgate_engine::member::CallId),
    /// The next part of an orderly stop.
    Stop,
    /// The next attempt to join.
    Join,
}

/// A request of a client.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// When the client sent it.
    pub began: Us,
    /// When the process took it, which may have been stopped when it was sent.
    pub taken: Us,
    /// The key.
    pub key: KeyId,
    /// The cost.
    pub cost: u64,
}

/// The limits of one subject that a request was charged to.
#[derive(Clone, Debug)]
pub struct Charged {
    /// The subject.
    pub subject: Subject,
    /// Its limits, as the node knew them.
    pub limits: SubjectLimits,
}

impl Charged {
    /// The counter of one of the limits at a moment.
    #[must_use]
    pub fn counter(&self, spec: &LimitSpec, at: ClusterMs) -> CounterId {
        let window = spec.limit.window_at(at).number;
        CounterId { subject: self.subject, limit: spec.tag, window }
    }

    /// The subject, and the limit, that decided.
    #[must_use]
    pub fn deciding<'a>(all: &'a [Self], decision: &Decision) -> Option<(&'a Self, &'a LimitSpec)> {
        let charged = all.get(decision.charge_at)?;
        Some((charged, charged.limits.specs.get(decision.limit_at)?))
    }
}

/// What an observer sees.
#[derive(Clone, Debug)]
pub enum Seen {
    /// A validate was decided.
    Decided {
        /// What was asked.
        request: Request,
        /// What was answered.
        decision: Decision,
        /// The node's cluster time at that moment.
        at: ClusterMs,
        /// What the node knew of the limits that the request was charged to: those of the key first.
        charged: Vec<Charged>,
    },
    /// The key was not accepted.
    Rejected(Request),
    /// The node had no lease.
    Unavailable(Request),
    /// A write was answered.
    Wrote(u64, Result<Written, SubmitError>),
    /// Tokens were received.
    Moved(CounterId),
    /// The node applied an entry.
    AppliedEntry(LogIndex),
    /// The node has renewed its lease, by a request that left at this time.
    Renewed(Us),
    /// The node has begun to lead in this term.
    Elected(u64),
    /// An orderly stop is over.
    Stopped,
    /// The directory takes part in consensus from now on.
    TookPart,
    /// The process ends: its directory must not continue.
    Ended(Ended),
}

/// Why a process ended by itself.
#[derive(Clone, Debug)]
pub enum Ended {
    /// Its directory must not take part.
    NotJoined(JoinError),
    /// Its directory must not get a lease.
    NoLease(LeaseRefusal),
}
