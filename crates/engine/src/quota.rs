//! Counters: one global limit, spent locally (`docs/protocol.md`).
//!
//! Answers for: admitting from this node's balance, denying what is proven exhausted, and
//! otherwise moving tokens between nodes. The invariant: the shares of all nodes add up to the
//! budget, a transfer leaves one balance before it enters another, and a node spends only its own
//! balance. No step here waits, sends, or reads a clock; messages leave as [`Effect`]s and come
//! back through `handle_*`. Losing, repeating or reordering them costs time at most.
//!
//! A node keeps its counters in several [`Shard`]s, each behind a lock of its own. All limits of
//! one subject live in one shard, so that a request takes from all of them or from none.

mod decide;
mod gossip;
mod handoff;
mod heard;
mod incarnation;
mod joint;
mod limits;
mod messages;
mod order;
mod outbox;
mod past;
mod peer_account;
mod repeats;
mod search;
mod sources;
mod subject;
mod subject_map;
mod sweep;
mod transfer;
mod usage;
mod waiting;
mod window_counter;

use std::collections::VecDeque;
use std::sync::Arc;

use fluxgate_types::{BootId, BootNs, ClusterMs, Cost, LogIndex, NodeId, Subject};

use crate::fault::Mutation;
use crate::state::View;
use crate::state::record::LimitSpec;
use order::Order;
use subject_map::SubjectMap;
use window_counter::WindowCounter;

pub use gossip::Cursor;
pub use handoff::Handoff;
pub use incarnation::{
    CHECKPOINT_MS, CarriedBalance, Carryover, Entitlement, Incarnation, Incarnations, Peer,
    covered_by,
};
pub use joint::{Charge, Joint, Locked};
pub use limits::Which;
pub use messages::{CounterGossip, CounterId, CounterReport, TransferReply, TransferRequest};
pub use outbox::Outbox;
pub use past::WindowSpent;
pub use repeats::Repeats;
pub use sources::{LookedUp, Sources, with_context};
pub use sweep::IDLE_MS;
pub use usage::LimitUsage;

/// One counter as an observer sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// This node's share of the budget.
    pub share: u64,
    /// Whether it may use the share.
    pub usable: bool,
    /// What this incarnation has spent.
    pub spent: u64,
    /// What it may still spend.
    pub balance: i64,
    /// From when on the share map applies under which this window was opened.
    pub map_from: ClusterMs,
    /// Totals between this incarnation and the newest known ones of the other nodes.
    pub transfers: Vec<TransferTotals>,
}

impl Observed {
    /// The totals with this incarnation of a node, if it is the newest known one.
    #[must_use]
    pub fn with(&self, node: NodeId, boot: BootId) -> Option<TransferTotals> {
        let is_it = |all: &&TransferTotals| all.node == node && all.boot == Some(boot);
        self.transfers.iter().find(is_it).copied()
    }
}

/// All tokens that moved between this incarnation and one of another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransferTotals {
    /// The other node.
    pub node: NodeId,
    /// Its newest known incarnation.
    pub boot: Option<BootId>,
    /// Given to it.
    pub given: u64,
    /// Received from it.
    pub got: u64,
}

/// The node that sent a message, and its incarnation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sender {
    /// The node.
    pub node: NodeId,
    /// Its incarnation.
    pub boot: BootId,
}

/// How long requests and transfer requests wait, milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct WaitPolicy {
    /// A request waits this long for tokens; longer only while a transfer request is pending, or while
    /// every peer can be reached and no request of the search failed.
    pub transfer_wait_ms: u64,
    /// A transfer request without a reply is given up after this.
    pub transfer_timeout_ms: u64,
}

/// While every peer is reachable, a request waits for this many transfer time-outs: the tokens
/// exist, even if an overloaded machine delivers their messages late.
const PATIENCE: u64 = 4;

impl WaitPolicy {
    /// The longest that a request waits, milliseconds. Gossip must be faster: it delivers tokens
    /// whose transfer reply was lost, and after this time they come too late.
    #[must_use]
    pub fn patience_ms(&self) -> u64 {
        self.transfer_wait_ms + PATIENCE * self.transfer_timeout_ms
    }
}

impl Default for WaitPolicy {
    fn default() -> Self {
        Self { transfer_wait_ms: 50, transfer_timeout_ms: 250 }
    }
}

/// Everything outside the counters that a step depends on.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// Boot clock, read for this step.
    pub boot: BootNs,
    /// Cluster time at that moment.
    pub now: ClusterMs,
    /// Whether the node lease is valid at that moment.
    pub leased: bool,
    /// Only windows that begin before this may be opened: from there on a share map may apply
    /// that this node does not have yet.
    pub horizon: ClusterMs,
    /// The small part of the replicated state.
    pub view: &'a View,
    /// This incarnation.
    pub incarnation: &'a Incarnation,
}

impl Context<'_> {
    /// Whether a message comes from the newest known incarnation of its sender. Messages of an
    /// ended one are ignored: other nodes count its tokens as burned.
    fn is_newest(&self, sender: &Sender) -> bool {
        self.incarnation.incarnations.of(sender.node) == Some(sender.boot)
            || Mutation::IncarnationsIgnored.active()
            || Mutation::EndedSendersHeard.active()
    }
}

/// What the counters need to know about a subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubjectLimits {
    /// Log position of its creation.
    pub created: LogIndex,
    /// The limits that govern it.
    pub specs: Arc<[LimitSpec]>,
}

/// The result of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Spent from this node's balance (a cost of 0 spends nothing).
    Admitted,
    /// It is proven that less than the cost was left.
    Limited,
    /// Not admitted, and not proven exhausted: tokens are out of reach.
    Degraded,
    /// No valid lease: nothing was counted.
    Unavailable,
}

/// A verdict with the numbers of the limit that decided it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The result.
    pub verdict: Verdict,
    /// The index of the charge that decided it, of a request over several subjects.
    pub charge_at: usize,
    /// The index of that limit among the limits of its subject.
    pub limit_at: usize,
    /// Its tokens per window.
    pub tokens: u64,
    /// What is left of them, as far as this node knows.
    pub remaining: u64,
    /// When its window ends.
    pub reset: ClusterMs,
}

impl Decision {
    /// Whether a smaller fraction of the limit is left than of the other one's.
    fn has_less_left(&self, other: &Self) -> bool {
        // remaining / tokens, compared without division.
        u128::from(self.remaining) * u128::from(other.tokens)
            < u128::from(other.remaining) * u128::from(self.tokens)
    }
}

/// The immediate outcome of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Decided.
    Decided(Decision),
    /// It waits under its number; an [`Effect::Decided`] will name that number.
    Waiting,
}

/// What the driver has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Send this request to that peer, batched with the others for it.
    TransferRequest {
        /// The receiver.
        peer: NodeId,
        /// The request.
        request: TransferRequest,
    },
    /// A waiting request is decided.
    Decided {
        /// The request.
        waiter: WaiterId,
        /// The result.
        decision: Decision,
        /// The limits that decided it; [`Decision::limit_at`] is an index into them.
        limits: Arc<[LimitSpec]>,
    },
    /// A request over several subjects can continue: lock the shards of all of them, and call
    /// [`Locked::handle_again`].
    Again {
        /// The request.
        waiter: WaiterId,
        /// What it takes.
        joint: Arc<Joint>,
    },
}

/// Names a request that may have to wait, for its driver. Unique within a node while it waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WaiterId(pub u64);

#[derive(Clone, Debug)]
struct Waiter {
    id: WaiterId,
    cost: Cost,
    deadline: BootNs,
    deadline_last: BootNs,
    // The limits in force when it arrived: it takes from all of these, even if the subject's limits
    // have changed since.
    limits: SubjectLimits,
    // If it is charged to other subjects too.
    joint: Option<Arc<Joint>>,
}

/// How many shards a node keeps its counters in, each with a lock of its own: a busy node's threads
/// seldom contend, and with a million subjects each shard holds some 800, so that work on a whole shard,
/// such as making its table larger, is short. Not a power of two: a table has room for 896 subjects, so
/// that with a million, or twice or four times as many, it is nearly full. Gossip visits all of them
/// ten times a second, so not many more.
pub const SHARDS: usize = 1_280;

/// The counters of some subjects.
#[derive(Clone, Debug, Default)]
pub struct Shard {
    policy: WaitPolicy,
    subjects: SubjectMap,
    order: Order,
    // Subjects with a queue, so that a tick can skip the others.
    waiting: VecDeque<Subject>,
    draining: bool,
    // The latest cluster time of any step.
    latest: ClusterMs,
}

impl Shard {
    /// An empty shard.
    #[must_use]
    pub fn new(policy: WaitPolicy) -> Self {
        Self { policy, ..Self::default() }
    }

    /// The context of a step, with a time no earlier than that of any previous step: a thread that
    /// was delayed after reading the clock must not reopen a window that another has forgotten.
    /// This holds from the first lease on: before it the clock is a guess, and no window is open.
    fn follow<'a>(&mut self, context: &Context<'a>) -> Context<'a> {
        if Mutation::ForgottenWindowsReopen.active() {
            self.latest = context.now;
        } else if context.leased || self.latest > ClusterMs(0) {
            self.latest = self.latest.max(context.now);
        }
        Context { now: self.latest.max(context.now), ..*context }
    }

    /// The cluster time of the last step: for observers and tests.
    #[must_use]
    pub fn latest(&self) -> ClusterMs {
        self.latest
    }

    /// Windows of counters that are in memory.
    #[must_use]
    pub fn counters(&self) -> usize {
        self.order.cells
    }

    /// Subjects that are in memory: for observers and tests.
    #[must_use]
    pub fn subjects(&self) -> usize {
        self.subjects.len()
    }

    /// How many reports are kept of counters that other nodes have opened and this one has not.
    #[must_use]
    pub fn reports_heard(&self) -> usize {
        self.order.heard
    }

    fn look_at(&self, counter: &CounterId) -> Option<&WindowCounter> {
        let limits = self.subjects.get(&counter.subject)?.limits.iter();
        let mut cells = limits.filter(|l| l.tag == counter.limit).flat_map(|l| &l.cells);
        cells.find(|cell| cell.window() == counter.window)
    }

    /// This node's balance of one counter, if it is in memory: for observers and tests.
    #[must_use]
    pub fn held(&self, counter: &CounterId) -> Option<u64> {
        self.look_at(counter).map(|cell| u64::try_from(cell.balance()).unwrap_or(0))
    }

    /// What this node has received from a node's current incarnation: for observers and tests.
    #[must_use]
    pub fn received(&self, counter: &CounterId, node: NodeId) -> u64 {
        self.look_at(counter).map_or(0, |cell| cell.got_from(node))
    }

    /// The full state of one counter, if it is in memory: for observers and tests.
    #[must_use]
    pub fn observe(&self, counter: &CounterId) -> Option<Observed> {
        self.look_at(counter).map(WindowCounter::observe)
    }

    /// The counter as this incarnation would open it now: for observers and tests.
    #[must_use]
    pub fn would_observe(
        context: &Context<'_>,
        limits: &SubjectLimits,
        spec: &LimitSpec,
        counter: &CounterId,
    ) -> Option<Observed> {
        let cell =
            WindowCounter::open(context, &counter.subject, limits.created, spec, counter.window)?;
        Some(cell.observe())
    }

    /// Whether requests wait here, so that [`Shard::handle_timeout`] has work.
    #[must_use]
    pub fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }
}
