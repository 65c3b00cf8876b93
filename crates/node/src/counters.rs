//! Drives the engine's counters: locks, waiting requests, asks to peers, gossip, time.
//!
//! One message with asks is in flight per peer; what comes up meanwhile goes into the next. No
//! lock here is held across an await.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use fluxgate_engine::counters::{
    Ask, Context, CounterId, Decision, Effect, Gift, Held, KeyLimits, LimitUsage, Reply, Sender,
    Shard, Step, Told,
};
use fluxgate_raft::CallError;
use fluxgate_types::{KeyId, NodeId, caps};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use crate::config::Config;
use crate::core::Core;
use crate::metrics::Kind;

/// Locks over all counters: a busy node's threads seldom meet.
const SHARDS: u64 = 64;
/// How often waiting requests are looked at.
const TICK: Duration = Duration::from_millis(1);
/// How often old windows are forgotten.
const SWEEP: Duration = Duration::from_secs(1);
/// Counters of a key that was not used for so long are forgotten, with its history.
const IDLE_MS: u64 = 3_600_000;

/// Asks that wait to be sent to one peer.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    pending: Mutex<Vec<Ask>>,
    filled: Notify,
}

/// All counters of this node.
#[derive(Debug)]
pub(crate) struct Counters {
    shards: Vec<Mutex<Shard>>,
    // Where the next gossip begins: what does not fit into one comes with the next.
    first_told: AtomicUsize,
    waiters: Mutex<HashMap<u64, oneshot::Sender<Decision>>>,
    next_waiter: AtomicU64,
    outboxes: RwLock<BTreeMap<NodeId, Arc<Outbox>>>,
    waiting: Notify,
}

impl Counters {
    pub(crate) fn new(config: &Config) -> Self {
        let policy = config.waits();
        Self {
            shards: (0..SHARDS).map(|_| Mutex::new(Shard::new(policy))).collect(),
            first_told: AtomicUsize::new(0),
            waiters: Mutex::default(),
            next_waiter: AtomicU64::new(0),
            outboxes: RwLock::default(),
            waiting: Notify::new(),
        }
    }

    fn shard(&self, key: &KeyId) -> &Mutex<Shard> {
        &self.shards[usize::try_from(key.mix() >> 44).unwrap_or(0) % self.shards.len()]
    }

    fn locked<R>(shard: &Mutex<Shard>, step: impl FnOnce(&mut Shard) -> R) -> R {
        step(&mut shard.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The outbox of a peer, made when it is first needed.
    pub(crate) fn outbox(&self, peer: NodeId) -> Arc<Outbox> {
        let known =
            self.outboxes.read().unwrap_or_else(PoisonError::into_inner).get(&peer).cloned();
        known.unwrap_or_else(|| {
            let mut outboxes = self.outboxes.write().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(outboxes.entry(peer).or_default())
        })
    }

    /// Carries out what a step asked for.
    fn carry_out(&self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Ask { peer, ask } => {
                    let outbox = self.outbox(peer);
                    outbox.pending.lock().unwrap_or_else(PoisonError::into_inner).push(ask);
                    outbox.filled.notify_one();
                }
                Effect::Settled { waiter, decision } => {
                    let mut waiters = self.waiters.lock().unwrap_or_else(PoisonError::into_inner);
                    if let Some(answer) = waiters.remove(&waiter) {
                        // The client may have gone away; the decision stands.
                        answer.send(decision).ok();
                    }
                }
            }
        }
    }

    /// Windows of counters in memory.
    pub(crate) fn count(&self) -> usize {
        self.shards.iter().map(|shard| Self::locked(shard, |shard| shard.counters())).sum()
    }

    /// What this node knows of a key's use.
    pub(crate) fn usage(&self, me: NodeId, key: &KeyId) -> Vec<LimitUsage> {
        Self::locked(self.shard(key), |shard| shard.usage(me, key))
    }

    /// One counter as it is, for an observer.
    #[cfg(feature = "sim")]
    pub(crate) fn observe(
        &self,
        counter: &CounterId,
    ) -> Option<fluxgate_engine::counters::Observed> {
        Self::locked(self.shard(&counter.key), |shard| shard.observe(counter))
    }

    pub(crate) fn begin_drain(&self) {
        self.shards.iter().for_each(|shard| Self::locked(shard, Shard::begin_drain));
    }

    /// Up to one message's worth of gifts for a peer.
    pub(crate) fn drain(
        &self,
        context: &Context<'_>,
        find: &dyn Fn(&KeyId) -> Option<KeyLimits>,
        to: &Sender,
    ) -> Vec<Gift> {
        let mut gifts = Vec::new();
        for shard in &self.shards {
            let most = caps::PEER_ITEMS_MAX - gifts.len();
            if most == 0 {
                break;
            }
            gifts.extend(Self::locked(shard, |shard| shard.drain(context, find, to, most)));
        }
        gifts
    }

    pub(crate) fn take_back(&self, to: &Sender, gift: &Gift) {
        Self::locked(self.shard(&gift.reply.counter.key), |shard| shard.take_back(to, gift));
    }

    pub(crate) fn left_over(&self) -> BTreeMap<CounterId, Held> {
        let mut left = BTreeMap::new();
        self.shards.iter().for_each(|s| Self::locked(s, |shard| shard.left_over(&mut left)));
        left
    }
}

impl Core {
    /// Decides one request for a known key, waiting for tokens where it must.
    pub(crate) async fn decide(&self, key: &KeyId, limits: &KeyLimits, cost: u64) -> Decision {
        let waiting = {
            let counters = &self.counters;
            let number = counters.next_waiter.fetch_add(1, Ordering::Relaxed);
            let mut effects = Vec::new();
            let shard = counters.shard(key);
            let waiting = self.with_context(|context| {
                let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
                match shard.handle_request(context, key, limits, cost, number, &mut effects) {
                    Step::Decided(decision) => Err(decision),
                    Step::Waiting => {
                        // Known BEFORE the lock is let go: else it could be settled unheard.
                        let (answer, wait) = oneshot::channel();
                        let mut waiters =
                            counters.waiters.lock().unwrap_or_else(PoisonError::into_inner);
                        waiters.insert(number, answer);
                        Ok(wait)
                    }
                }
            });
            counters.carry_out(effects);
            waiting
        };
        match waiting {
            Err(decision) => {
                self.metrics.decided(kind_of(&decision, Kind::Local));
                decision
            }
            Ok(wait) => {
                self.counters.waiting.notify_one();
                let begun = Instant::now();
                let decision = wait.await.unwrap_or_else(|_| unavailable());
                self.metrics.wait_seconds.observe(begun.elapsed().as_secs_f64());
                self.metrics.decided(kind_of(&decision, Kind::Waited));
                decision
            }
        }
    }

    /// One step on the shard of a key, with its effects carried out.
    fn step<R>(&self, key: &KeyId, step: impl FnOnce(&mut Shard, &mut Vec<Effect>) -> R) -> R {
        let mut effects = Vec::new();
        let result = Counters::locked(self.counters.shard(key), |shard| step(shard, &mut effects));
        self.counters.carry_out(effects);
        result
    }

    /// Answers a peer's asks.
    pub(crate) fn handle_asks(&self, sender: &Sender, asks: &[Ask]) -> Vec<Reply> {
        self.with_context(|context| {
            let find = |key: &KeyId| self.key_limits(context.view, key);
            let answer = |ask: &Ask| {
                let reply = self.step(&ask.counter.key, |shard, out| {
                    shard.handle_ask(context, &find, sender, ask, out)
                });
                self.metrics.asked(false, Some(reply.given.saturating_sub(ask.got)));
                reply
            };
            asks.iter().map(answer).collect()
        })
    }

    /// Takes replies, or gifts; says of each whether it was taken.
    pub(crate) fn handle_replies(&self, sender: &Sender, replies: &[Reply]) -> Vec<bool> {
        self.with_context(|context| {
            let find = |key: &KeyId| self.key_limits(context.view, key);
            let take = |reply: &Reply| {
                self.step(&reply.counter.key, |shard, out| {
                    shard.handle_reply(context, &find, sender, reply, out)
                })
            };
            replies.iter().map(take).collect()
        })
    }

    /// Takes figures that a peer tells.
    pub(crate) fn handle_told(&self, sender: &Sender, told: &[Told]) {
        self.with_context(|context| {
            let find = |key: &KeyId| self.key_limits(context.view, key);
            for one in told {
                self.step(&one.counter.key, |shard, out| {
                    shard.handle_told(context, &find, sender, one, out)
                });
                // A key that another node admits is in use, wherever it is.
                self.shared.table.with(&one.counter.key, |entry| entry.touch(context.now));
            }
        });
    }

    /// What to tell the peers.
    pub(crate) fn take_told(&self) -> Vec<Told> {
        self.with_context(|context| {
            let mut told = Vec::new();
            let shards = &self.counters.shards;
            let first = self.counters.first_told.fetch_add(1, Ordering::Relaxed) % shards.len();
            for shard in shards[first..].iter().chain(&shards[..first]) {
                let most = caps::PEER_ITEMS_MAX - told.len();
                told.extend(Counters::locked(shard, |shard| shard.take_told(context, most)));
            }
            told
        })
    }

    fn tick(&self) -> bool {
        self.with_context(|context| {
            let find = |key: &KeyId| self.key_limits(context.view, key);
            let mut waiting = false;
            for shard in &self.counters.shards {
                let mut effects = Vec::new();
                waiting |= Counters::locked(shard, |shard| {
                    if shard.has_waiting() {
                        shard.handle_timeout(context, &find, &mut effects);
                    }
                    shard.has_waiting()
                });
                self.counters.carry_out(effects);
            }
            waiting
        })
    }
}

fn unavailable() -> Decision {
    Decision {
        verdict: fluxgate_engine::counters::Verdict::Unavailable,
        limit_at: 0,
        tokens: 0,
        remaining: 0,
        reset: fluxgate_types::ClusterMs(0),
    }
}

fn kind_of(decision: &Decision, admitted: Kind) -> Kind {
    use fluxgate_engine::counters::Verdict;
    match decision.verdict {
        Verdict::Admitted => admitted,
        Verdict::Limited => Kind::Proven,
        Verdict::Degraded | Verdict::Unavailable => Kind::Degraded,
    }
}

/// Looks after waiting requests: sleeps while there are none.
pub(crate) async fn run_ticks(core: Arc<Core>) {
    loop {
        core.counters.waiting.notified().await;
        loop {
            tokio::time::sleep(TICK).await;
            if !core.tick() {
                break;
            }
        }
    }
}

/// Forgets old windows, a shard at a time.
pub(crate) async fn run_sweeps(core: Arc<Core>) {
    let mut every = tokio::time::interval(SWEEP);
    loop {
        every.tick().await;
        core.with_context(|context| {
            for shard in &core.counters.shards {
                Counters::locked(shard, |shard| shard.sweep(context, IDLE_MS));
            }
        });
    }
}

/// Sends one peer's asks, one message at a time.
pub(crate) async fn run_asks(core: Arc<Core>, peer: NodeId) {
    let outbox = core.counters.outbox(peer);
    let timeout = Duration::from_millis(core.config.transfer_timeout_ms);
    loop {
        let asks: Vec<Ask> = {
            let mut pending = outbox.pending.lock().unwrap_or_else(PoisonError::into_inner);
            let most = pending.len().min(caps::PEER_ITEMS_MAX);
            pending.drain(..most).collect()
        };
        if asks.is_empty() {
            outbox.filled.notified().await;
            continue;
        }
        match crate::peer::ask(&core, peer, asks.clone(), timeout).await {
            Ok((sender, replies)) => {
                let got: HashMap<CounterId, u64> =
                    asks.iter().map(|a| (a.counter, a.got)).collect();
                for reply in &replies {
                    let before = got.get(&reply.counter).copied().unwrap_or(0);
                    core.metrics.asked(true, Some(reply.given.saturating_sub(before)));
                }
                core.handle_replies(&sender, &replies);
            }
            Err(error) => {
                core.note_silence(peer, matches!(error, CallError::Unreachable { .. }));
                core.with_context(|context| {
                    let find = |key: &KeyId| core.key_limits(context.view, key);
                    for ask in &asks {
                        core.metrics.asked(true, None);
                        core.step(&ask.counter.key, |shard, out| {
                            shard.handle_ask_failed(context, &find, peer, &ask.counter, out);
                        });
                    }
                });
            }
        }
    }
}
