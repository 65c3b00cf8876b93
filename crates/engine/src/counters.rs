//! Counters: one global limit, spent locally (`design/counters.md`).
//!
//! Answers for: admitting from what this node holds, denying what is proven exhausted, and moving
//! tokens between nodes in between. The invariant: the shares of all nodes add up to the budget,
//! a transfer leaves one holding before it enters another, a node spends only what it holds. No
//! step here waits, sends, or reads a clock; messages leave as [`Effect`]s and come back through
//! `handle_*`, and losing, repeating or reordering them costs time at most.
//!
//! A node keeps its counters in several [`Shard`]s, each behind a lock of its own; all limits of
//! one key live in one shard, so that a request takes from all of them or from none.

mod cell;
mod decide;
mod drain;
mod life;
mod pursuit;
mod tally;
mod transfer;
mod usage;

use std::collections::VecDeque;
use std::sync::Arc;

use fluxgate_types::{BootId, BootNs, ClusterMs, KeyId, LogIndex, NodeId};
use serde::{Deserialize, Serialize};

use crate::mutation::Mutation;
use crate::registry::View;
use crate::registry::record::LimitSpec;
use cell::Cell;

pub use drain::Gift;
pub use life::{Held, LeftOver, Life, Lives, Untouched};
pub use usage::{LimitUsage, WindowSpent};

/// One limit of one key in one window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CounterId {
    /// The key.
    pub key: KeyId,
    /// The limit's tag.
    pub limit: u32,
    /// The window's number.
    pub window: u64,
}

/// What a node says of itself about one counter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Figure {
    /// What it spent in this life. Only ever grows.
    pub spent: u64,
    /// What is out of everybody's reach because a life ended: the share that it may not use since
    /// its restart, plus what it gave to a life that has ended, less what it has from one.
    /// Counts only between nodes that agree on the lives and on the limit, and then never falls.
    pub burned: i64,
    /// The limit that this is reckoned by: a share that may not be used is a part of it.
    pub limit: u64,
    /// The [`Lives::tag`] that this is reckoned under. Stands here and not in the message around it:
    /// more may be known by the time that it is sent.
    pub lives: u64,
    /// What it holds now: a hint for whom to ask.
    pub left: u64,
}

/// One counter's request for tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// The counter.
    pub counter: CounterId,
    /// What waits.
    pub need: u64,
    /// That, and everything not yet proven spent.
    pub want: u64,
    /// The asker's total from the asked one, so that a lost answer is not given twice.
    pub got: u64,
    /// The asker's own figures.
    pub mine: Figure,
}

/// The answer, and the message in which a stopping node gives what it holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// The counter.
    pub counter: CounterId,
    /// All that the sender ever gave the receiver from this counter, in these two lives.
    pub given: u64,
    /// The sender's own figures; `None` where it does not know the counter.
    pub mine: Option<Figure>,
    /// What the sender knows others to have spent.
    pub known: Vec<(NodeId, u64)>,
}

/// One counter's figures, told without being asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// The counter.
    pub counter: CounterId,
    /// The sender's own figures.
    pub mine: Figure,
    /// All that the sender ever gave to the present lives of others: an answer that was lost is
    /// made good by this, whether or not its receiver asks again.
    pub given: Vec<(NodeId, BootId, u64)>,
}

/// One counter as an observer sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// This node's share of the budget.
    pub share: u64,
    /// Whether it may use the share.
    pub usable: bool,
    /// What it has spent in this life.
    pub spent: u64,
    /// What it may still spend.
    pub holding: i64,
    /// What passed between this life and the newest known ones of other nodes: the node, its life,
    /// all given to it, all got from it.
    pub transfers: Vec<(NodeId, Option<BootId>, u64, u64)>,
}

/// Who sent a message, in which life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sender {
    /// The node.
    pub node: NodeId,
    /// Its life.
    pub boot: BootId,
}

/// How long requests and asks wait, milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct WaitPolicy {
    /// A request waits this long for tokens, longer only while an ask is under way.
    pub transfer_wait_ms: u64,
    /// An ask without an answer is given up after this.
    pub transfer_timeout_ms: u64,
}

/// While every peer answers, a request waits for so many time-outs of an ask: on a machine that is
/// too busy to carry a message in time the tokens are there all the same.
const PATIENCE: u64 = 4;

impl WaitPolicy {
    /// The longest that a request waits, milliseconds. Gossip must be faster: it tells of tokens
    /// whose answer was lost, and they come too late after that.
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
    /// Only windows that begin before this may be opened: from there on a share map may count
    /// that this node has not applied.
    pub horizon: ClusterMs,
    /// The replicated state's small part.
    pub view: &'a View,
    /// This life.
    pub life: &'a Life,
}

/// What the counters need to know of a key.
#[derive(Clone, Debug)]
pub struct KeyLimits {
    /// Log position of its creation.
    pub created: LogIndex,
    /// The limits that govern it.
    pub limits: Arc<[LimitSpec]>,
}

/// What came of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Spent from what this node held (or looked at, for a cost of 0).
    Admitted,
    /// Proven: less than the cost was left.
    Limited,
    /// Not admitted, and not proven exhausted: tokens are out of reach.
    Degraded,
    /// No valid lease: nothing was counted.
    Unavailable,
}

/// A verdict with the figures of the limit that decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What came of it.
    pub verdict: Verdict,
    /// The place of that limit among the key's limits.
    pub limit_at: usize,
    /// Its tokens per window.
    pub tokens: u64,
    /// What is left of them, as far as this node knows.
    pub remaining: u64,
    /// When its window ends.
    pub reset: ClusterMs,
}

/// What a request comes to at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Decided.
    Decided(Decision),
    /// Waits under its number; an [`Effect::Settled`] will name it.
    Waiting,
}

/// What the driver has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Send this to that peer, together with whatever else goes there.
    Ask {
        /// To whom.
        peer: NodeId,
        /// What.
        ask: Ask,
    },
    /// A waiting request is decided.
    Settled {
        /// Its number.
        waiter: u64,
        /// What came of it.
        decision: Decision,
    },
}

#[derive(Clone, Copy, Debug)]
struct Waiter {
    number: u64,
    cost: u64,
    deadline: BootNs,
    deadline_last: BootNs,
}

#[derive(Clone, Debug, Default)]
struct LimitCounter {
    tag: u32,
    period_ms: u64,
    // At most the previous, the current and the next window.
    cells: Vec<Cell>,
    // The place of the current one, as the last step found it.
    current: usize,
    history: VecDeque<WindowSpent>,
}

#[derive(Clone, Debug)]
struct KeyCounters {
    limits: Vec<LimitCounter>,
    queue: VecDeque<Waiter>,
    // Stands in the shard's list of keys with a queue.
    listed: bool,
    // After an unproven denial: deny alike until then, for so long the next time.
    degraded_until: BootNs,
    degraded_ms: u64,
    used: ClusterMs,
}

/// First and longest time for which an unproven denial is remembered, milliseconds.
const DEGRADED_MS: (u64, u64) = (50, 1_000);

impl Default for KeyCounters {
    fn default() -> Self {
        Self {
            limits: Vec::new(),
            queue: VecDeque::new(),
            listed: false,
            degraded_until: BootNs(0),
            degraded_ms: DEGRADED_MS.0,
            used: ClusterMs(0),
        }
    }
}

type KeyMap = crate::id_map::IdMap<KeyCounters>;

/// The counters of some keys.
#[derive(Clone, Debug, Default)]
pub struct Shard {
    policy: WaitPolicy,
    keys: KeyMap,
    // Counters whose figures changed since they were last told.
    dirty: Vec<CounterId>,
    // Keys with a queue, so that a tick need not look at the others.
    waiting: Vec<KeyId>,
    draining: bool,
}

impl Shard {
    /// An empty shard.
    #[must_use]
    pub fn new(policy: WaitPolicy) -> Self {
        Self { policy, ..Self::default() }
    }

    /// Windows of counters that are in memory.
    #[must_use]
    pub fn counters(&self) -> usize {
        self.keys.values().flat_map(|key| &key.limits).map(|limit| limit.cells.len()).sum()
    }

    fn look_at(&self, counter: &CounterId) -> Option<&Cell> {
        let limits = &self.keys.get(&counter.key)?.limits;
        let limit = limits.iter().find(|limit| limit.tag == counter.limit)?;
        limit.cells.iter().find(|cell| cell.window == counter.window)
    }

    /// What this shard holds of one counter, if it is in memory: for observers and tests.
    #[must_use]
    pub fn held(&self, counter: &CounterId) -> Option<u64> {
        self.look_at(counter).map(|cell| u64::try_from(cell.holding()).unwrap_or(0))
    }

    /// What this shard has from the present life of a node: for observers and tests.
    #[must_use]
    pub fn received(&self, counter: &CounterId, node: NodeId) -> u64 {
        self.look_at(counter).map_or(0, |cell| cell.got_from(node))
    }

    /// The whole of one counter, if it is in memory: for observers and tests.
    #[must_use]
    pub fn observe(&self, counter: &CounterId) -> Option<Observed> {
        self.look_at(counter).map(Cell::observe)
    }

    /// What a node in this life would hold of a counter if it opened it now: for observers and tests.
    #[must_use]
    pub fn would_observe(
        context: &Context<'_>,
        limits: &KeyLimits,
        spec: &LimitSpec,
        counter: &CounterId,
    ) -> Option<Observed> {
        let cell = Cell::open(context, &counter.key, limits.created, spec, counter.window)?;
        Some(cell.observe())
    }

    /// Whether requests wait here, so that [`Shard::handle_timeout`] has work.
    #[must_use]
    pub fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// The figures that changed, at most `most` of them; the rest stays for the next call.
    pub fn take_told(&mut self, context: &Context<'_>, most: usize) -> Vec<Told> {
        let silent = self.draining || Mutation::ToldWithoutGifts.active();
        let from = self.dirty.len().saturating_sub(most);
        let taken: Vec<CounterId> = self.dirty.drain(from..).collect();
        let figure = |counter: CounterId| {
            let cell = cell_of(&mut self.keys, &counter)?;
            cell.dirty = false;
            cell.reconcile(context.life);
            // A gift of a node that stops may yet be taken back: it is stated in its own message only.
            let given = if silent { Vec::new() } else { cell.given_totals() };
            Some(Told { counter, mine: cell.figure(), given })
        };
        taken.into_iter().filter_map(figure).collect()
    }
}

fn cell_of<'a>(keys: &'a mut KeyMap, counter: &CounterId) -> Option<&'a mut Cell> {
    let limit = keys.get_mut(&counter.key)?.limits.iter_mut().find(|l| l.tag == counter.limit)?;
    limit.cells.iter_mut().find(|cell| cell.window == counter.window)
}
