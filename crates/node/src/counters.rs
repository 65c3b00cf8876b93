//! Drives the engine's counters: locks, waiting requests, transfer requests, gossip, time.
//!
//! One message with transfer requests is in flight per peer; requests that arrive meanwhile go into
//! the next one. No lock here is held across an await.

mod gossip;
mod joint;
mod outbox;
mod records;
mod shadow;
mod stop;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use fluxgate_engine::quota::{
    Context, CounterGossip, Decision, Effect, IDLE_MS, LimitUsage, LookedUp, SHARDS, Sender, Shard,
    Step, SubjectLimits, TransferReply, TransferRequest, WaiterId, with_context,
};
use fluxgate_engine::state::Shared;
use fluxgate_engine::state::record::LimitSpec;
use fluxgate_types::{ClusterMs, Cost, NodeId, Subject, caps};
use outbox::Outbox;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use crate::config::Config;
use crate::last_uses::LastUses;
use crate::metrics::{Kind, Metrics};
use crate::published::Published;

pub use joint::Charged;
pub use outbox::run_asks;
pub use stop::DrainPosition;

/// How often waiting requests are checked.
const TICK: Duration = Duration::from_millis(1);
/// How often old windows are dropped.
const SWEEP: Duration = Duration::from_secs(1);
/// Shards that are swept before the task yields, when little is due.
const SWEPT_AT_ONCE: usize = 32;

/// A decision, with the limits that it was made by.
#[derive(Clone, Debug)]
pub struct Decided {
    pub decision: Decision,
    pub limits: Arc<[LimitSpec]>,
    /// Cluster time when it was made or, if the request waited, when its wait ended.
    pub at: ClusterMs,
}

/// What a step on a shard works with, read while the shard is locked.
pub struct On<'a> {
    pub context: &'a Context<'a>,
    pub find: &'a dyn Fn(&Subject) -> Option<SubjectLimits>,
    pub out: &'a mut Vec<Effect>,
}

/// What became of a request that waited.
type Outcome = (Decision, Arc<[LimitSpec]>);
/// A request that waits, and the limits that it shows if it never learns its decision.
type Waits = (oneshot::Receiver<Outcome>, Arc<[LimitSpec]>);

#[derive(Debug)]
pub struct Counters {
    shards: Vec<Mutex<Shard>>,
    // Where the next gossip message begins: what does not fit into one goes into the next.
    first_reported: AtomicUsize,
    waiters: Mutex<HashMap<WaiterId, oneshot::Sender<Outcome>>>,
    // Waiters so far, by shard. Changed only with the lock of the shard held.
    waiters_so_far: Box<[AtomicU64]>,
    outboxes: RwLock<BTreeMap<NodeId, Arc<Outbox>>>,
    // Shards with waiting requests.
    busy: Mutex<BTreeSet<usize>>,
    waiting: Notify,
    parts: CounterParts,
}

/// The parts of the node that its counters read and report to.
#[derive(Debug)]
pub struct CounterParts {
    pub shared: Arc<Shared>,
    pub published: Arc<Published>,
    pub last_uses: Arc<LastUses>,
    pub metrics: Arc<Metrics>,
}

impl Counters {
    pub fn new(config: &Config, parts: CounterParts) -> Self {
        let policy = config.waits();
        Self {
            shards: (0..SHARDS).map(|_| Mutex::new(Shard::new(policy))).collect(),
            first_reported: AtomicUsize::new(0),
            waiters: Mutex::default(),
            waiters_so_far: (0..SHARDS).map(|_| AtomicU64::new(0)).collect(),
            outboxes: RwLock::default(),
            busy: Mutex::default(),
            waiting: Notify::new(),
            parts,
        }
    }

    fn place(subject: &Subject) -> usize {
        usize::try_from(subject.mix() >> 44).unwrap_or(0) % SHARDS
    }

    /// A number for a request that may have to wait: unique, and drawn without memory that threads on
    /// other shards use. Call it with the lock of the shard held.
    fn number_of_waiter(&self, place: usize) -> WaiterId {
        let so_far = &self.waiters_so_far[place];
        let number = so_far.load(Ordering::Relaxed) + 1;
        so_far.store(number, Ordering::Relaxed);
        WaiterId(number * SHARDS as u64 + place as u64)
    }

    fn at(&self, place: usize) -> &Mutex<Shard> {
        &self.shards[place]
    }

    fn shard(&self, subject: &Subject) -> &Mutex<Shard> {
        self.at(Self::place(subject))
    }

    fn locked<R>(shard: &Mutex<Shard>, step: impl FnOnce(&mut Shard) -> R) -> R {
        step(&mut shard.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The outbox of a peer, created on first use.
    pub fn outbox(&self, peer: NodeId) -> Arc<Outbox> {
        let known =
            self.outboxes.read().unwrap_or_else(PoisonError::into_inner).get(&peer).cloned();
        known.unwrap_or_else(|| {
            let mut outboxes = self.outboxes.write().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(outboxes.entry(peer).or_default())
        })
    }

    /// Carries out the effects of a step. Call it without any lock of a shard.
    fn carry_out(&self, effects: Vec<Effect>) {
        let mut effects = VecDeque::from(effects);
        while let Some(effect) = effects.pop_front() {
            match effect {
                Effect::Again { waiter, joint } => effects.extend(self.again(waiter, &joint)),
                Effect::TransferRequest { peer, request } => self.outbox(peer).put(request),
                Effect::Decided { waiter, decision, limits } => {
                    let mut waiters = self.waiters.lock().unwrap_or_else(PoisonError::into_inner);
                    let answer = waiters.remove(&waiter);
                    if waiters.is_empty() && waiters.capacity() > caps::WAITING_PER_KEY_MAX {
                        waiters.shrink_to(0);
                    }
                    drop(waiters);
                    // The client may have disconnected; the decision remains.
                    answer.and_then(|answer| answer.send((decision, limits)).ok());
                }
            }
        }
    }

    /// Number of window counters in memory.
    pub fn count(&self) -> usize {
        self.shards.iter().map(|shard| Self::locked(shard, |shard| shard.counters())).sum()
    }

    /// What this node knows of a subject's use.
    pub fn usage(&self, me: NodeId, subject: &Subject) -> Vec<LimitUsage> {
        Self::locked(self.shard(subject), |shard| shard.usage(me, subject))
    }

    /// The current state of one counter, for an observer.
    #[cfg(feature = "sim")]
    pub fn observe(
        &self,
        counter: &fluxgate_engine::quota::CounterId,
    ) -> Option<fluxgate_engine::quota::Observed> {
        Self::locked(self.shard(&counter.subject), |shard| shard.observe(counter))
    }

    /// Decides one request for a known subject, and waits for tokens if it must. Uses the limits that
    /// were looked up if nothing changed since, otherwise the current ones.
    pub async fn decide(&self, subject: &Subject, known: LookedUp, cost: Cost) -> Decided {
        self.outcome(self.decide_or_wait(subject, known, cost)).await
    }

    /// The same, without waiting.
    fn decide_or_wait(
        &self,
        subject: &Subject,
        known: LookedUp,
        cost: Cost,
    ) -> Result<Waits, Decided> {
        let place = Self::place(subject);
        self.on_shard(place, |shard, on| {
            let now = known.now(&self.parts.shared.table, subject, on.find);
            let waiter = self.number_of_waiter(place);
            match shard.handle_request(on.context, subject, &now, cost, waiter, on.out) {
                Step::Decided(decision) => {
                    Err(Decided { decision, limits: now.specs, at: on.context.now })
                }
                Step::Waiting => {
                    let wait = self.listen(waiter);
                    self.busy.lock().unwrap_or_else(PoisonError::into_inner).insert(place);
                    Ok((wait, now.specs))
                }
            }
        })
    }

    /// The decision of a request, once it is there.
    async fn outcome(&self, waiting: Result<Waits, Decided>) -> Decided {
        match waiting {
            Err(decided) => {
                self.parts.metrics.decided(kind_of(&decided.decision, Kind::Local));
                decided
            }
            Ok((wait, limits)) => {
                self.waiting.notify_one();
                let begun = Instant::now();
                let lost = |_| (unavailable(), limits);
                let (decision, limits) = wait.await.unwrap_or_else(lost);
                let decided = Decided { decision, limits, at: self.parts.published.now() };
                self.parts.metrics.wait_seconds.observe(begun.elapsed().as_secs_f64());
                self.parts.metrics.decided(kind_of(&decided.decision, Kind::Waited));
                decided
            }
        }
    }

    /// One step on a shard: takes the lock, THEN reads what the step depends on, then runs it, and
    /// carries out its effects after releasing the lock. A thread that is delayed in between delays
    /// others, but no step runs on a context that is older than another step's.
    fn on_shard<R>(&self, place: usize, step: impl FnOnce(&mut Shard, &mut On<'_>) -> R) -> R {
        let mut out = Vec::new();
        let result = Self::locked(self.at(place), |shard| {
            with_context(&*self.parts.published, |context| {
                let find = |subject: &Subject| self.limits_of(context.view, subject);
                step(shard, &mut On { context, find: &find, out: &mut out })
            })
        });
        self.carry_out(out);
        result
    }

    /// Runs a step for each item. Items of one shard run together, a bounded number per lock.
    /// Results are in the order of the items.
    fn on_shards<T, R>(
        &self,
        items: &[T],
        subject: impl Fn(&T) -> &Subject,
        mut step: impl FnMut(&mut Shard, &mut On<'_>, &T) -> R,
    ) -> Vec<R> {
        let place = |(at, item)| (Self::place(subject(item)), at);
        let mut places: Vec<(usize, usize)> = items.iter().enumerate().map(place).collect();
        places.sort_unstable();
        let mut results: Vec<Option<R>> = items.iter().map(|_| None).collect();
        for same in places.chunk_by(|a, b| a.0 == b.0) {
            for hold in same.chunks(caps::ITEMS_PER_HOLD_MAX) {
                self.on_shard(hold[0].0, |shard, on| {
                    for (_, at) in hold {
                        results[*at] = Some(step(shard, on, &items[*at]));
                    }
                });
            }
        }
        results.into_iter().flatten().collect()
    }

    /// Answers a peer's transfer requests.
    pub fn handle_asks(&self, sender: &Sender, asks: &[TransferRequest]) -> Vec<TransferReply> {
        let replies = self.on_shards(
            asks,
            |ask| &ask.counter.subject,
            |shard, on, ask| {
                shard.handle_transfer_request(on.context, on.find, sender, ask, on.out)
            },
        );
        for (ask, reply) in asks.iter().zip(&replies) {
            self.parts.metrics.asked(false, Some(reply.given.saturating_sub(ask.got)));
        }
        replies
    }

    /// Applies replies or handoffs; returns for each whether it was accepted.
    pub fn handle_replies(&self, sender: &Sender, replies: &[TransferReply]) -> Vec<bool> {
        self.on_shards(
            replies,
            |reply| &reply.counter.subject,
            |shard, on, reply| {
                shard.handle_transfer_reply(on.context, on.find, sender, reply, on.out)
            },
        )
    }

    /// Transfer requests got no answer: each counter tries another peer.
    fn handle_asks_failed(&self, peer: NodeId, asks: &[TransferRequest]) {
        self.on_shards(
            asks,
            |ask| &ask.counter.subject,
            |shard, on, ask| {
                self.parts.metrics.asked(true, None);
                shard.handle_transfer_failed(on.context, on.find, peer, &ask.counter, on.out);
            },
        );
    }

    /// Applies a peer's counter reports.
    pub fn handle_gossip(&self, sender: &Sender, reports: &[CounterGossip]) {
        self.on_shards(
            reports,
            |one| &one.counter.subject,
            |shard, on, one| shard.handle_gossip(on.context, on.find, sender, one, on.out),
        );
        let now = self.parts.published.now();
        for one in reports.iter().filter(|one| one.mine.spent > 0) {
            // A key that any node admits is in use.
            let Some(key) = one.counter.subject.key() else { continue };
            self.parts.shared.table.with(&key, |entry| self.parts.last_uses.used(entry, now));
        }
    }

    /// Checks waiting requests; false when none remain.
    fn tick(&self) -> bool {
        let busy = || self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        let places = std::mem::take(&mut *busy());
        for place in places {
            let waiting = self.on_shard(place, |shard, on| {
                shard.handle_timeout(on.context, on.find, on.out);
                shard.has_waiting()
            });
            if waiting {
                busy().insert(place);
            }
        }
        !busy().is_empty()
    }
}

fn unavailable() -> Decision {
    Decision {
        verdict: fluxgate_engine::quota::Verdict::Unavailable,
        charge_at: 0,
        limit_at: 0,
        tokens: 0,
        remaining: 0,
        reset: fluxgate_types::ClusterMs(0),
    }
}

fn kind_of(decision: &Decision, admitted: Kind) -> Kind {
    use fluxgate_engine::quota::Verdict;
    match decision.verdict {
        Verdict::Admitted => admitted,
        Verdict::Limited => Kind::Proven,
        Verdict::Degraded | Verdict::Unavailable => Kind::Degraded,
    }
}

/// Checks waiting requests every tick; sleeps while there are none.
pub async fn run_ticks(counters: Arc<Counters>) {
    loop {
        counters.waiting.notified().await;
        loop {
            tokio::time::sleep(TICK).await;
            if !counters.tick() {
                break;
            }
        }
    }
}

/// Drops the counters of erased keys, and old windows in the order in which they end, a bounded number
/// per lock.
pub async fn run_sweeps(counters: Arc<Counters>) {
    let mut every = tokio::time::interval(SWEEP);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        while counters.forget_erased() {
            tokio::task::yield_now().await;
        }
        for place in 0..SHARDS {
            while counters.on_shard(place, |shard, on| shard.sweep(on.context, IDLE_MS)) {
                tokio::task::yield_now().await;
            }
            if place % SWEPT_AT_ONCE == 0 {
                tokio::task::yield_now().await;
            }
        }
    }
}
