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
mod transfer;
mod usage;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use fluxgate_types::{BootId, BootNs, ClusterMs, KeyId, LogIndex, NodeId};
use serde::{Deserialize, Serialize};

use crate::lease::FirstLease;
use crate::registry::View;
use crate::registry::record::LimitSpec;
use cell::Cell;

pub use drain::Gift;
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
    /// Counts only between nodes that agree on the lives, and then never falls.
    pub burned: i64,
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// The counter.
    pub counter: CounterId,
    /// The sender's own figures.
    pub mine: Figure,
}

/// Who sent a message, in which life, and which lives it knew of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sender {
    /// The node.
    pub node: NodeId,
    /// Its life.
    pub boot: BootId,
    /// Its [`Lives::tag`] when it sent.
    pub lives: u64,
}

/// The newest life of every node, as far as this one has heard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lives {
    boots: BTreeMap<NodeId, BootId>,
}

impl Lives {
    /// Notes a life; true if that is news.
    pub fn note(&mut self, node: NodeId, boot: BootId) -> bool {
        let known = self.boots.get(&node).copied();
        let news = known.is_none_or(|known| known < boot);
        if news {
            self.boots.insert(node, boot);
        }
        news
    }

    /// Every life known.
    #[must_use]
    pub fn all(&self) -> Vec<(NodeId, BootId)> {
        self.boots.iter().map(|(node, boot)| (*node, *boot)).collect()
    }

    /// The newest life known of a node.
    #[must_use]
    pub fn of(&self, node: NodeId) -> Option<BootId> {
        self.boots.get(&node).copied()
    }

    /// One number for all of it: equal on two nodes that know the same lives. Never 0.
    #[must_use]
    pub fn tag(&self) -> u64 {
        let fold = |tag: u64, (node, boot): (&NodeId, &BootId)| {
            fluxgate_types::id::mix64(tag ^ node.0.rotate_left(48) ^ boot.0)
        };
        self.boots.iter().fold(1, fold).max(1)
    }
}

/// Which shares no earlier life of this node can have spent or given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Untouched {
    /// All: no process ran on this data directory before.
    All,
    /// Those of windows that begin at or after `from`, and of keys created behind `index`.
    After {
        /// Cluster time.
        from: ClusterMs,
        /// Log position.
        index: LogIndex,
    },
}

/// What was held of one counter, and when its window ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Tokens.
    pub tokens: u64,
    /// End of the window.
    pub ends: ClusterMs,
}

/// What a life that stops in good order writes down for the next one. A counter that is not
/// listed was opened by no life since `untouched`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOver {
    /// Cluster time at the stop: the next life's clock does not begin before it.
    pub at: ClusterMs,
    /// What this life itself was entitled to: the next one is to no more.
    pub untouched: Untouched,
    /// The counters that were opened, exhausted ones included.
    pub counters: BTreeMap<CounterId, Held>,
}

impl LeftOver {
    /// Puts together what `life` leaves: what it had open, and what its own predecessor left and it
    /// did not touch. `None` where a life never learnt what it was entitled to: then nothing may be
    /// written, and the next life starts as after a crash.
    #[must_use]
    pub fn of(
        life: &Life,
        opened: BTreeMap<CounterId, Held>,
        now: ClusterMs,
        synced: bool,
    ) -> Option<Self> {
        let untouched = life.untouched()?;
        let mut counters = opened;
        for (counter, held) in life.left_over.iter().flat_map(|map| map.iter()) {
            // A clock that no leader has set says nothing about which windows are over.
            if !synced || held.ends + decide::OPEN_LATE_MS >= now {
                counters.entry(*counter).or_insert(*held);
            }
        }
        Some(Self { at: now, untouched, counters })
    }
}

/// This life of this node, as far as counters depend on it. Replaced whole when it changes.
#[derive(Clone, Debug)]
pub struct Life {
    /// This node.
    pub me: NodeId,
    /// Which shares no earlier life can have touched, where that is known from the beginning: on a
    /// new data directory, or from the file of an orderly stop. After a crash it follows from the
    /// first lease.
    pub untouched: Option<Untouched>,
    /// The first lease of this life.
    pub first_lease: Option<FirstLease>,
    /// What the life before this one held of the counters that it had opened, if it stopped in
    /// good order.
    pub left_over: Option<Arc<BTreeMap<CounterId, Held>>>,
    /// Lives of all nodes.
    pub lives: Lives,
    /// [`Lives::tag`] of them.
    pub lives_tag: u64,
    /// The other nodes, and whether each can be reached.
    pub peers: Vec<(NodeId, bool)>,
    /// A node's estimate of cluster time is at most this far off, milliseconds.
    pub clock_error_ms_max: u64,
}

impl Life {
    /// Which shares no earlier life can have touched; `None` before the first lease after a crash.
    #[must_use]
    pub fn untouched(&self) -> Option<Untouched> {
        let after = |first: FirstLease| Untouched::After {
            from: first.at + self.clock_error_ms_max,
            index: first.index,
        };
        self.untouched.or(self.first_lease.map(after))
    }
}

/// How long requests and asks wait, milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct WaitPolicy {
    /// A request waits this long for tokens, longer only while an ask is under way.
    pub transfer_wait_ms: u64,
    /// An ask without an answer is given up after this.
    pub transfer_timeout_ms: u64,
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

#[derive(Debug, Default)]
struct LimitCounter {
    tag: u32,
    period_ms: u64,
    // At most the previous, the current and the next window.
    cells: Vec<Cell>,
    // The place of the current one, as the last step found it.
    current: usize,
    history: VecDeque<WindowSpent>,
}

#[derive(Debug)]
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
#[derive(Debug, Default)]
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

    /// Whether requests wait here, so that [`Shard::handle_timeout`] has work.
    #[must_use]
    pub fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// The figures that changed, at most `most` of them; the rest stays for the next call.
    pub fn take_told(&mut self, context: &Context<'_>, most: usize) -> Vec<Told> {
        let from = self.dirty.len().saturating_sub(most);
        let taken: Vec<CounterId> = self.dirty.drain(from..).collect();
        let figure = |counter: CounterId| {
            let cell = cell_of(&mut self.keys, &counter)?;
            cell.dirty = false;
            cell.reconcile(context.life);
            Some(Told { counter, mine: cell.figure() })
        };
        taken.into_iter().filter_map(figure).collect()
    }
}

fn cell_of<'a>(keys: &'a mut KeyMap, counter: &CounterId) -> Option<&'a mut Cell> {
    let limit = keys.get_mut(&counter.key)?.limits.iter_mut().find(|l| l.tag == counter.limit)?;
    limit.cells.iter_mut().find(|cell| cell.window == counter.window)
}
