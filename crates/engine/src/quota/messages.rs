//! The messages between nodes about counters. Their shapes are frozen: versions exchange them.

use std::collections::BTreeSet;

use fluxgate_types::{BootId, NodeId, Subject};

/// One limit of one subject in one window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CounterId {
    /// The subject.
    pub subject: Subject,
    /// The limit's tag.
    pub limit: u32,
    /// The window's number.
    pub window: u64,
}

/// A node's own report on one counter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CounterReport {
    /// What this incarnation has spent. Only grows.
    pub spent: u64,
    /// Tokens that no node can use because an incarnation ended: the share that the sender may not
    /// use since its restart, plus what it gave to ended incarnations, minus what it received from
    /// them. Counts only between nodes that agree on the incarnations and on the limit; then it
    /// never falls.
    pub burned: i64,
    /// The limit that `burned` was computed from: an unusable share is a part of it.
    pub limit: u64,
    /// The [`Incarnations::tag`] that `burned` was computed under. It is part of the report and not
    /// of the enclosing message, because the sender may know more incarnations when it sends.
    pub incarnations: u64,
    /// The sender's balance: a hint for choosing the peer to ask.
    pub left: u64,
}

/// One counter's request for tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransferRequest {
    /// The counter.
    pub counter: CounterId,
    /// The tokens that waiting requests lack.
    pub need: u64,
    /// The same plus everything not yet proven spent.
    pub want: u64,
    /// The total that the requester has received from this peer, so that tokens in a lost reply
    /// are not given twice.
    pub got: u64,
    /// The requester's own report.
    pub mine: CounterReport,
}

/// The reply to a transfer request, and the message in which a stopping node hands off its balance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransferReply {
    /// The counter.
    pub counter: CounterId,
    /// The total that the sender has given the receiver from this counter, between these two
    /// incarnations.
    pub given: u64,
    /// The sender's own report; `None` if it does not know the counter.
    pub mine: Option<CounterReport>,
    /// What other nodes have spent, as far as the sender knows.
    pub known: Vec<(NodeId, u64)>,
}

impl TransferReply {
    /// An empty reply: the sender does not know the counter.
    #[must_use]
    pub fn nothing(counter: CounterId) -> Self {
        Self { counter, given: 0, mine: None, known: Vec::new() }
    }

    /// Adds an empty reply for each request that `replies` leave out: a peer that was addressed in
    /// another incarnation answers none of them.
    pub fn complete(replies: &mut Vec<Self>, requests: &[TransferRequest]) {
        let answered: BTreeSet<CounterId> = replies.iter().map(|reply| reply.counter).collect();
        let missing =
            requests.iter().map(|request| request.counter).filter(|c| !answered.contains(c));
        replies.extend(missing.map(Self::nothing));
    }
}

/// One counter's report, sent without a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CounterGossip {
    /// The counter.
    pub counter: CounterId,
    /// The sender's own report.
    pub mine: CounterReport,
    /// The totals that the sender has given to the current incarnations of other nodes: they
    /// replace a lost reply, even if its receiver does not ask again.
    pub given: Vec<(NodeId, BootId, u64)>,
}
