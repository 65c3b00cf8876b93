//! What nodes say to each other about counters. The shapes are frozen: they travel between versions.

use std::collections::BTreeSet;

use fluxgate_types::{BootId, KeyId, NodeId};

/// One limit of one key in one window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CounterId {
    /// The key.
    pub key: KeyId,
    /// The limit's tag.
    pub limit: u32,
    /// The window's number.
    pub window: u64,
}

/// What a node says of itself about one counter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CounterReport {
    /// What it spent in this life. Only ever grows.
    pub spent: u64,
    /// What is out of everybody's reach because a life ended: the share that it may not use since
    /// its restart, plus what it gave to a life that has ended, less what it has from one.
    /// Counts only between nodes that agree on the lives and on the limit, and then never falls.
    pub burned: i64,
    /// The limit that this is reckoned by: a share that may not be used is a part of it.
    pub limit: u64,
    /// The [`Incarnations::tag`] that this is reckoned under. Stands here and not in the message around it:
    /// more may be known by the time that it is sent.
    pub incarnations: u64,
    /// What it holds now: a hint for whom to ask.
    pub left: u64,
}

/// One counter's request for tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransferRequest {
    /// The counter.
    pub counter: CounterId,
    /// What waits.
    pub need: u64,
    /// That, and everything not yet proven spent.
    pub want: u64,
    /// The asker's total from the asked one, so that a lost answer is not given twice.
    pub got: u64,
    /// The asker's own figures.
    pub mine: CounterReport,
}

/// The answer, and the message in which a stopping node gives what it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransferReply {
    /// The counter.
    pub counter: CounterId,
    /// All that the sender ever gave the receiver from this counter, in these two lives.
    pub given: u64,
    /// The sender's own figures; `None` where it does not know the counter.
    pub mine: Option<CounterReport>,
    /// What the sender knows others to have spent.
    pub known: Vec<(NodeId, u64)>,
}

impl TransferReply {
    /// Says nothing of a counter: the sender does not know it.
    #[must_use]
    pub fn nothing(counter: CounterId) -> Self {
        Self { counter, given: 0, mine: None, known: Vec::new() }
    }

    /// Adds an answer that says nothing for each ask that `replies` leave out: a peer that was asked
    /// in another life answers none of them.
    pub fn complete(replies: &mut Vec<Self>, requests: &[TransferRequest]) {
        let answered: BTreeSet<CounterId> = replies.iter().map(|reply| reply.counter).collect();
        let missing =
            requests.iter().map(|request| request.counter).filter(|c| !answered.contains(c));
        replies.extend(missing.map(Self::nothing));
    }
}

/// One counter's figures, told without being asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CounterGossip {
    /// The counter.
    pub counter: CounterId,
    /// The sender's own figures.
    pub mine: CounterReport,
    /// All that the sender ever gave to the present lives of others: an answer that was lost is
    /// made good by this, whether or not its receiver asks again.
    pub given: Vec<(NodeId, BootId, u64)>,
}
