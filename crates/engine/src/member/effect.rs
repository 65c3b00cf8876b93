//! What a member of the cluster asks its driver to do, and the answers that it gets.
//!
//! A driver carries every effect out in the order in which the steps produced them, outside the
//! lock of the member. An effect with a `call` is answered exactly once, by the handler that it
//! names, also if what it asked for failed: the driver bounds every call in time.

use std::collections::BTreeMap;

use fluxgate_types::{BootId, BootNs, DirId, LogIndex, NodeId};

use crate::clock::sync::{ClockAnswer, ClocksDiffer};
use crate::lease::{Grant, LeaseRefusal};
use crate::state::cluster_state::StartId;
use crate::state::command::{Command, Outcome, Proposal};

/// Connects an effect with its answer. Unique within one member.
pub type CallId = u64;

/// What a step asks for.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Record on the disk that this start is about to ask for its registration, or that it is
    /// registered. Answer with `handle_start_saved` once it is durable.
    SaveStart {
        /// The start.
        start: StartId,
        /// Whether it is registered by now.
        registered: bool,
    },
    /// Ask a leader for a lease. Answer with `handle_lease_answer` after [`LEASE_TIMEOUT_MS`] at
    /// the latest.
    RequestLease {
        /// The call.
        call: CallId,
        /// The leader, as far as this node knows.
        to: NodeId,
        /// The request.
        request: LeaseRequest,
    },
    /// A request for a lease is answered: give this to the one that made it.
    AnswerLease {
        /// The call that `handle_lease_request` was given.
        request: CallId,
        /// The answer.
        answer: LeaseAnswer,
    },
    /// Prove by a round to a quorum, which begins after this effect, that this node leads. Answer
    /// with `handle_proof` after [`LEASE_TIMEOUT_MS`] at the latest.
    ProveLeadership {
        /// The call.
        call: CallId,
    },
    /// Ask these nodes for their clocks, and for their last contact with a leader before this one in
    /// this term. Answer with `handle_clocks`, when each has answered or cannot be reached, when
    /// [`ClocksHeard::suffice`], or after [`LEASE_TIMEOUT_MS`].
    AskClocks {
        /// The call.
        call: CallId,
        /// The nodes.
        nodes: Vec<NodeId>,
        /// The term in which this node leads.
        term: u64,
        /// How many answers of nodes whose clocks a leader has set suffice; `None`: all must answer.
        enough: Option<usize>,
    },
    /// An attempt to renew the lease has ended: for logs and metrics.
    Renewed(Result<(), NotRenewed>),
    /// The lease was dropped, because this machine's clocks jumped: for the log.
    LeaseDropped(ClockJump),
    /// Count the starts of this directory on from this number, durably. Answer with
    /// `handle_counted_on`.
    CountOn(BootId),
    /// This node must stop: the leader's committed state says why.
    End(LeaseRefusal),
    /// This node has begun to lead: for logs and metrics.
    Elected {
        /// The term.
        term: u64,
        /// The leader before it, if another node led.
        previous: Option<NodeId>,
    },
    /// Propose a command of the cluster's own on this node, under a fresh request id. Answer with
    /// `handle_proposed`.
    Propose {
        /// The call.
        call: CallId,
        /// The command.
        command: Box<Command>,
    },
    /// A change of the members has stopped between its two steps: end it. The next look repeats
    /// this if the change has not ended by then.
    EndChange,
    /// This leader cannot write: hand the leadership over to this voter, which says that it can.
    HandOver {
        /// The voter; `None` if no voter says so, which is for the log.
        to: Option<NodeId>,
    },
    /// Propose a client's change on this node. Answer with `handle_submitted`.
    Submit {
        /// The call.
        call: CallId,
        /// The call that `handle_write` was given.
        write: CallId,
        /// The change.
        proposal: Box<Proposal>,
    },
    /// Send a client's change to the leader. Answer with `handle_forwarded` after `timeout_ms` at
    /// the latest.
    Forward {
        /// The call.
        call: CallId,
        /// The call that `handle_write` was given.
        write: CallId,
        /// The leader.
        to: NodeId,
        /// The change.
        proposal: Box<Proposal>,
        /// How long the leader may take, milliseconds.
        timeout_ms: u64,
    },
    /// Ask a peer to answer once it has applied this entry, or how far it has come after
    /// [`APPLIED_WAIT_MS`]. Answer with `handle_applied_answer`.
    AskApplied {
        /// The peer.
        peer: NodeId,
        /// The entry.
        index: LogIndex,
    },
    /// A write has passed the barrier: for metrics.
    BarrierPassed {
        /// How long it waited, nanoseconds.
        waited_ns: u64,
        /// Whether every node that held a lease has applied it; otherwise a lease ran out.
        all_applied: bool,
    },
    /// A client's change has ended: give this to the one that asked for it.
    AnswerWrite {
        /// The call that `handle_write` was given.
        write: CallId,
        /// The answer.
        result: Result<Written, SubmitError>,
    },
}

/// Longest wait for a leader's answer, for a proof of leadership, and for the clocks of others,
/// milliseconds.
pub const LEASE_TIMEOUT_MS: u64 = 500;
/// Longest wait of a peer for an entry to be applied there, milliseconds. An answer that is late
/// by more than the network needs counts as none.
pub const APPLIED_WAIT_MS: u64 = 2_000;

/// A node's request for a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseRequest {
    /// Which start of the node asks.
    pub start: StartId,
    /// Its data directory.
    pub dir_id: DirId,
    /// How far it has applied the log.
    pub applied: LogIndex,
}

/// The answer to a request for a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseAnswer {
    /// The lease.
    Granted(Grant),
    /// The node that was asked does not lead, or cannot prove it.
    NotLeader,
    /// It leads, and grants this node none.
    Refused(LeaseRefusal),
    /// No answer came in time. The text says why.
    NoAnswer(String),
}

/// The clocks of other nodes, one answer of each, as they arrive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClocksHeard {
    answers: Vec<(ClockAnswer, BootNs)>,
    contacts: BTreeMap<NodeId, BootNs>,
}

impl ClocksHeard {
    /// A node's answer arrived at `at`, by the boot clock of this one. It may say how long ago, by its
    /// own clock, its last contact with an earlier leader was.
    pub fn add(&mut self, answer: ClockAnswer, contact_ago_ns: Option<u64>, at: BootNs) {
        let contact = contact_ago_ns.map(|ago_ns| BootNs(at.0.saturating_sub(ago_ns)));
        self.contacts.extend(contact.map(|contact| (answer.node, contact)));
        self.answers.push((answer, at));
    }

    pub(super) fn contacts(&self) -> &BTreeMap<NodeId, BootNs> {
        &self.contacts
    }

    /// Whether so many answers came from nodes whose clocks a leader has set. The others show nothing
    /// to a leader whose own clock was set.
    #[must_use]
    pub fn suffice(&self, enough: Option<usize>) -> bool {
        let synced = self.answers.iter().filter(|(answer, _)| answer.synced_ns.is_some()).count();
        enough.is_some_and(|enough| synced >= enough)
    }

    /// The answers, brought forward from when they arrived: none is ahead of the clock that it reports.
    pub(super) fn at(&self, now: BootNs) -> Vec<ClockAnswer> {
        let carried = |(answer, at): &(ClockAnswer, BootNs)| answer.carried_to(now.since(*at));
        self.answers.iter().map(carried).collect()
    }
}

/// Why an attempt to renew the lease brought none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotRenewed {
    /// It is not known yet whether this directory may act for its node.
    #[error("this node has not heard from enough other nodes yet")]
    NotJoined,
    /// It would delay every write.
    #[error("its disk is full, and it lacks entries that are committed")]
    LacksEntries,
    /// There is none, as far as this node knows.
    #[error("no leader is known")]
    NoLeader,
    /// The disk does not take it.
    #[error("this start cannot be saved to the disk")]
    StartNotSaved,
    /// The node that was asked does not lead.
    #[error("node {0} is not the leader")]
    NotLeader(NodeId),
    /// This node leads, and its first entry is not committed yet.
    #[error("this node does not lead yet")]
    NotLeading,
    /// The leader said why.
    #[error("{0}")]
    Refused(LeaseRefusal),
    /// The call failed.
    #[error("{0}")]
    NoAnswer(String),
    /// No quorum confirmed that this node leads.
    #[error("no quorum answered")]
    NoQuorum,
    /// The time that the answer took is unknown: the next request decides.
    #[error("the clock jumped meanwhile")]
    ClockJumped,
    /// This leader must compare its clock with others, and too few nodes answer.
    #[error("no quorum says what time the cluster has reached")]
    NoQuorumOfClocks,
    /// No leader has set this leader's clock, and the clocks of a new cluster differ.
    #[error("the wall clocks of the members differ")]
    ClocksDiffer(ClocksDiffer),
}

impl NotRenewed {
    /// Whether a leader was asked, rather than something missing before that.
    #[must_use]
    pub fn was_asked(&self) -> bool {
        match self {
            Self::NotLeader(_)
            | Self::NotLeading
            | Self::Refused(_)
            | Self::NoAnswer(_)
            | Self::NoQuorum
            | Self::ClockJumped => true,
            Self::NotJoined
            | Self::LacksEntries
            | Self::NoLeader
            | Self::StartNotSaved
            | Self::NoQuorumOfClocks
            | Self::ClocksDiffer(_) => false,
        }
    }
}

/// How this machine's clocks misbehaved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockJump {
    /// The wall clock jumped against the boot clock, by this many nanoseconds.
    Wall(i64),
    /// Cluster time ran on by this many nanoseconds while the clocks here stood still.
    StoodStill(i64),
}

/// A committed and applied proposal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submitted {
    /// The term in which it was written.
    pub term: u64,
    /// Its position in the log.
    pub index: LogIndex,
    /// What it did.
    pub outcome: Outcome,
}

/// Why a proposal was not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// Not proposed: another node leads, or none.
    #[error("this node does not lead")]
    NotLeader,
    /// Not proposed: too much is queued.
    #[error("too many proposals are queued")]
    Busy,
    /// Not proposed: the leader's disk has no room.
    #[error("the disk is full")]
    DiskFull,
    /// It may or may not be committed.
    #[error("the outcome is unknown")]
    Unknown,
    /// Consensus has stopped. It may or may not be committed.
    #[error("consensus has stopped")]
    Stopped,
}

/// A write that is past the barrier: every node that answers has applied it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// What it did.
    pub outcome: Outcome,
    /// The nodes known to have applied it.
    pub applied_on: Vec<NodeId>,
    /// How long it waited for the others, milliseconds.
    pub waited_ms: u64,
}

/// One term of leadership, as its entries passed this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeenLeadership {
    /// The term.
    pub term: u64,
    /// The node that led.
    pub node: NodeId,
    /// When this node applied its first entry: after the leadership began.
    pub since: BootNs,
}
