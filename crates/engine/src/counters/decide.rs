//! One request: admit, deny with proof, or wait.
//!
//! The rule (`design/counters.md`): what is held is spent at once; what is proven exhausted is
//! denied at once; everything else waits in one queue per key, first in, first out, while the
//! missing tokens are asked for. The three certificates are a token, a proof and a deadline.

use fluxgate_types::{BootNs, KeyId, caps};

use super::cell::Cell;
use super::{
    Ask, Context, CounterId, DEGRADED_MS, Decision, Effect, KeyCounters, KeyLimits, LimitCounter,
    Shard, Step, Verdict, Waiter, WindowSpent,
};
use crate::mutation::Mutation;
use crate::registry::record::LimitSpec;

/// After a round in which nobody gave, the next one waits so long, doubling, milliseconds.
const RETRY_MS: (u64, u64) = (1, 8);
/// A window may be opened until so long after its end, for peers whose clock is a little behind,
/// and is forgotten only later, so that it cannot be opened twice, milliseconds.
pub(super) const OPEN_LATE_MS: u64 = 1_000;
const FORGET_AFTER_MS: u64 = 2_000;

/// What one look at all limits of a key says about a cost.
enum Look {
    /// Every limit holds enough.
    Enough,
    /// This limit is proven to have less than the cost left.
    Proven(usize),
    /// Tokens are missing here, and it is not proven that they are spent.
    Short,
}

impl Shard {
    /// Decides one request of `cost` tokens (0: look, spend nothing). `waiter` names it if it has
    /// to wait. Takes from all limits of the key or from none.
    pub fn handle_request(
        &mut self,
        context: &Context<'_>,
        key: &KeyId,
        limits: &KeyLimits,
        cost: u64,
        waiter: u64,
        out: &mut Vec<Effect>,
    ) -> Step {
        let counters = self.keys.entry(*key).or_default();
        counters.used = context.now;
        let leased = context.leased || Mutation::SpendWithoutLease.active();
        if !leased || self.draining || !counters.open_all(context, key, limits) {
            return Step::Decided(unavailable(limits));
        }
        if cost == 0 {
            return Step::Decided(counters.peek(context, limits));
        }
        // Who waits stands before who comes: else small costs would starve a large one.
        if counters.queue.is_empty() {
            match counters.look(context, limits, cost) {
                Look::Enough => {
                    counters.spend(limits, cost, key, &mut self.dirty);
                    let decision = counters.decision(context, limits, Verdict::Admitted, None);
                    return Step::Decided(decision);
                }
                Look::Proven(at) => {
                    let decision = counters.decision(context, limits, Verdict::Limited, Some(at));
                    return Step::Decided(decision);
                }
                Look::Short => {}
            }
        }
        let full = counters.queue.len() >= caps::WAITING_PER_KEY_MAX;
        if full || (context.boot < counters.degraded_until && counters.queue.is_empty()) {
            let at = counters.shortest(limits, cost);
            return Step::Decided(counters.decision(context, limits, Verdict::Degraded, Some(at)));
        }
        if !std::mem::replace(&mut counters.listed, true) {
            self.waiting.push(*key);
        }
        let deadline = context.boot.plus_ms(self.policy.transfer_wait_ms);
        let deadline_last = context.boot.plus_ms(self.policy.patience_ms());
        counters.queue.push_back(Waiter { number: waiter, cost, deadline, deadline_last });
        self.pursue(context, key, limits, out);
        Step::Waiting
    }

    /// Settles what can be settled of a key's queue, and asks for what is missing. False where
    /// nothing may be spent, and all that waited has been told so.
    pub(super) fn pursue(
        &mut self,
        context: &Context<'_>,
        key: &KeyId,
        limits: &KeyLimits,
        out: &mut Vec<Effect>,
    ) -> bool {
        let Some(counters) = self.keys.get_mut(key) else {
            return false;
        };
        let available = context.leased && !self.draining && counters.open_all(context, key, limits);
        while let Some(&Waiter { number, cost, .. }) = counters.queue.front() {
            let decision = if !available {
                unavailable(limits)
            } else {
                match counters.look(context, limits, cost) {
                    Look::Enough => {
                        counters.spend(limits, cost, key, &mut self.dirty);
                        counters.forget_degraded();
                        counters.decision(context, limits, Verdict::Admitted, None)
                    }
                    Look::Proven(at) => {
                        counters.decision(context, limits, Verdict::Limited, Some(at))
                    }
                    Look::Short => break,
                }
            };
            counters.queue.pop_front();
            out.push(Effect::Settled { waiter: number, decision });
        }
        let timeout_ms = self.policy.transfer_timeout_ms;
        if available {
            counters.ask(context, key, limits, timeout_ms, out);
        }
        available
    }

    /// Time has passed: gives up asks without an answer, begins new rounds, ends what waited too
    /// long. `find` looks a key up. Call every millisecond or so while [`Shard::has_waiting`].
    pub fn handle_timeout(
        &mut self,
        context: &Context<'_>,
        find: &dyn Fn(&KeyId) -> Option<KeyLimits>,
        out: &mut Vec<Effect>,
    ) {
        for key in std::mem::take(&mut self.waiting) {
            let Some(limits) = find(&key) else {
                self.abandon(&key, out);
                continue;
            };
            let available = self.pursue(context, &key, &limits, out);
            if !available && Mutation::QueueForgotten.active() {
                continue;
            }
            let Some(counters) = self.keys.get_mut(&key) else {
                continue;
            };
            if available {
                counters.expire(context, &limits, out);
            }
            // Off the list also where a lost lease has emptied the queue: a key that only seems to
            // be listed would not be looked after when requests wait for it again.
            counters.listed = !counters.queue.is_empty();
            if counters.listed {
                self.waiting.push(key);
            }
        }
    }

    /// A key that is gone while requests wait for it: nothing was counted.
    fn abandon(&mut self, key: &KeyId, out: &mut Vec<Effect>) {
        let Some(counters) = self.keys.get_mut(key) else {
            return;
        };
        let nothing = KeyLimits { created: fluxgate_types::LogIndex(0), limits: [].into() };
        counters.listed = false;
        for waiter in counters.queue.drain(..) {
            let decision = unavailable(&nothing);
            out.push(Effect::Settled { waiter: waiter.number, decision });
        }
    }

    /// Forgets windows that are over, and keys that were not used for `idle_ms`.
    pub fn sweep(&mut self, context: &Context<'_>, idle_ms: u64) {
        self.keys.retain(|_, counters| {
            counters.limits.iter_mut().for_each(|limit| limit.forget_old(context));
            let open = counters.limits.iter().any(|limit| !limit.cells.is_empty());
            open || !counters.queue.is_empty() || context.now - counters.used < idle_ms
        });
    }
}

fn unavailable(limits: &KeyLimits) -> Decision {
    let tokens = limits.limits.first().map_or(0, |spec| spec.limit.tokens);
    let reset = fluxgate_types::ClusterMs(0);
    Decision { verdict: Verdict::Unavailable, limit_at: 0, tokens, remaining: 0, reset }
}

impl LimitCounter {
    /// The cell of the current window; [`KeyCounters::open_all`] has opened it in this step.
    fn now(&mut self) -> &mut Cell {
        &mut self.cells[self.current]
    }

    /// The place of a window's cell, opened if it may be: the current and the next one always,
    /// the one before only shortly after its end.
    pub(super) fn cell_at(
        &mut self,
        context: &Context<'_>,
        key: &KeyId,
        limits: &KeyLimits,
        spec: &LimitSpec,
        window: u64,
    ) -> Option<usize> {
        let found = if self.cells.get(self.current).is_some_and(|cell| cell.window == window) {
            Some(self.current)
        } else {
            self.cells.iter().position(|cell| cell.window == window)
        };
        let at = if let Some(at) = found {
            at
        } else {
            self.forget_old(context);
            // The number may come from a peer: looked at before anything is computed from it.
            let latest = spec.limit.window_at(context.now + context.life.clock_error_ms_max);
            if window > latest || spec.limit.window_end(window) + OPEN_LATE_MS < context.now {
                return None;
            }
            if fluxgate_types::ClusterMs(window * spec.limit.period_ms) >= context.horizon {
                return None;
            }
            let cell = Cell::open(context, key, limits.created, spec, window)?;
            // One at a time: most keys have one open window, and a busy node has many keys.
            self.cells.reserve_exact(1);
            self.cells.push(cell);
            self.cells.len() - 1
        };
        self.cells[at].follow(context, spec);
        Some(at)
    }

    fn forget_old(&mut self, context: &Context<'_>) {
        let over = |cell: &Cell, period: u64| {
            fluxgate_types::ClusterMs((cell.window + 1) * period) + FORGET_AFTER_MS < context.now
        };
        let period = self.period_ms;
        for cell in self.cells.iter().filter(|cell| over(cell, period) && cell.spent > 0) {
            if self.history.len() == caps::USAGE_WINDOWS {
                self.history.pop_front();
            }
            self.history.push_back(WindowSpent { window: cell.window, spent: cell.spent });
        }
        self.cells.retain(|cell| !over(cell, period));
    }
}

impl KeyCounters {
    pub(super) fn limit(&mut self, at: usize, spec: &LimitSpec) -> &mut LimitCounter {
        // Counters stand in the order of the limits, but for the moments after a change.
        if self.limits.get(at).is_some_and(|limit| limit.tag == spec.tag) {
            return &mut self.limits[at];
        }
        let found = self.limits.iter().position(|limit| limit.tag == spec.tag);
        let found = found.unwrap_or_else(|| {
            let (tag, period_ms) = (spec.tag, spec.limit.period_ms);
            self.limits.reserve_exact(1);
            self.limits.push(LimitCounter { tag, period_ms, ..LimitCounter::default() });
            self.limits.len() - 1
        });
        let at = at.min(found);
        self.limits.swap(at, found);
        &mut self.limits[at]
    }

    /// Opens the current window of every limit, so that [`LimitCounter::now`] is it; false when
    /// no share map is in force.
    pub(super) fn open_all(
        &mut self,
        context: &Context<'_>,
        key: &KeyId,
        limits: &KeyLimits,
    ) -> bool {
        limits.limits.iter().enumerate().all(|(at, spec)| {
            let window = spec.limit.window_at(context.now);
            let limit = self.limit(at, spec);
            let opened = limit.cell_at(context, key, limits, spec, window);
            limit.current = opened.unwrap_or(0);
            opened.is_some()
        })
    }

    fn look(&mut self, context: &Context<'_>, limits: &KeyLimits, cost: u64) -> Look {
        let mut short = false;
        let wanted = i64::try_from(cost).unwrap_or(i64::MAX);
        for (at, limit) in self.limits.iter_mut().take(limits.limits.len()).enumerate() {
            let cell = limit.now();
            if cell.holding() < wanted {
                if cell.is_proven(context, cost) {
                    return Look::Proven(at);
                }
                short = true;
            }
        }
        if short && Mutation::DenyWithoutProof.active() {
            return Look::Proven(0);
        }
        if short { Look::Short } else { Look::Enough }
    }

    fn spend(&mut self, limits: &KeyLimits, cost: u64, key: &KeyId, dirty: &mut Vec<CounterId>) {
        for limit in self.limits.iter_mut().take(limits.limits.len()) {
            let tag = limit.tag;
            let cell = limit.now();
            cell.spent += cost + u64::from(Mutation::ChargedTwice.active());
            if !cell.dirty {
                cell.dirty = true;
                dirty.push(CounterId { key: *key, limit: tag, window: cell.window });
            }
        }
    }

    /// The first limit that holds less than a cost.
    fn shortest(&mut self, limits: &KeyLimits, cost: u64) -> usize {
        let wanted = i64::try_from(cost).unwrap_or(i64::MAX);
        let mut cells = self.limits.iter_mut().take(limits.limits.len());
        cells.position(|limit| limit.now().holding() < wanted).unwrap_or(0)
    }

    /// What a request of cost 1 would meet, spending nothing.
    fn peek(&mut self, context: &Context<'_>, limits: &KeyLimits) -> Decision {
        match self.look(context, limits, 1) {
            Look::Proven(at) => self.decision(context, limits, Verdict::Limited, Some(at)),
            Look::Enough | Look::Short => self.decision(context, limits, Verdict::Admitted, None),
        }
    }

    /// The figures of the limit at `deciding`, or of the one with the smallest part left.
    fn decision(
        &mut self,
        context: &Context<'_>,
        limits: &KeyLimits,
        verdict: Verdict,
        deciding: Option<usize>,
    ) -> Decision {
        let mut chosen: Option<Decision> = None;
        for (limit_at, spec) in limits.limits.iter().enumerate() {
            if deciding.is_some_and(|at| at != limit_at) {
                continue;
            }
            let tokens = spec.limit.tokens;
            let window = spec.limit.window_at(context.now);
            let reset = spec.limit.window_end(window);
            let remaining = self.limits[limit_at].now().remaining(context);
            // remaining / tokens, compared without division.
            let smaller = chosen.is_none_or(|c| {
                u128::from(remaining) * u128::from(c.tokens)
                    < u128::from(c.remaining) * u128::from(tokens)
            });
            if smaller {
                chosen = Some(Decision { verdict, limit_at, tokens, remaining, reset });
            }
        }
        chosen.unwrap_or_else(|| unavailable(limits))
    }

    /// Asks one peer for each limit that is short of what waits.
    fn ask(
        &mut self,
        context: &Context<'_>,
        key: &KeyId,
        limits: &KeyLimits,
        timeout_ms: u64,
        out: &mut Vec<Effect>,
    ) {
        let waits: u64 = self.queue.iter().map(|waiter| waiter.cost).sum();
        if waits == 0 {
            return;
        }
        for (at, spec) in limits.limits.iter().enumerate() {
            let period_ms = spec.limit.period_ms;
            let cell = self.limits[at].now();
            let Some((peer, need)) = next_to_ask(context, cell, period_ms, waits) else {
                continue;
            };
            let counter = CounterId { key: *key, limit: spec.tag, window: cell.window };
            let mine = cell.figure();
            let open = cell.tokens.saturating_sub(cell.gone(context)).saturating_sub(mine.left);
            let (want, got) = (need.max(open), cell.got_from(peer));
            cell.pursuit.asked = Some((peer, context.boot.plus_ms(timeout_ms)));
            out.push(Effect::Ask { peer, ask: Ask { counter, need, want, got, mine } });
        }
    }

    /// Ends what has waited too long. A request is kept past its deadline only while there is hope:
    /// an ask is under way, or every peer answers, so that the tokens must be in flight.
    fn expire(&mut self, context: &Context<'_>, limits: &KeyLimits, out: &mut Vec<Effect>) {
        let reachable = context.life.peers.iter().all(|(_, reachable)| *reachable);
        let mut hopeful = reachable;
        for limit in self.limits.iter_mut().take(limits.limits.len()) {
            let pursuit = &limit.now().pursuit;
            hopeful &= !pursuit.failed;
            hopeful |= pursuit.asked.is_some_and(|(_, until)| until > context.boot);
        }
        let over = |waiter: &Waiter| {
            waiter.deadline_last <= context.boot || (waiter.deadline <= context.boot && !hopeful)
        };
        let mut ended = false;
        while let Some(waiter) = self.queue.front().copied().filter(over) {
            self.queue.pop_front();
            let at = self.shortest(limits, waiter.cost);
            let decision = self.decision(context, limits, Verdict::Degraded, Some(at));
            out.push(Effect::Settled { waiter: waiter.number, decision });
            ended = true;
        }
        if ended {
            self.degraded_until = context.boot.plus_ms(self.degraded_ms);
            self.degraded_ms = (self.degraded_ms * 2).min(DEGRADED_MS.1);
        }
    }

    /// Something changed for the better: the next shortage is worth waiting for again.
    pub(super) fn forget_degraded(&mut self) {
        self.degraded_until = BootNs(0);
        self.degraded_ms = DEGRADED_MS.0;
    }
}

/// The peer to ask next for this counter and how much is missing; `None` while an answer is
/// awaited, nothing is missing, or the next round has not come.
fn next_to_ask(
    context: &Context<'_>,
    cell: &mut Cell,
    period_ms: u64,
    waits: u64,
) -> Option<(fluxgate_types::NodeId, u64)> {
    let missing = i64::try_from(waits).unwrap_or(i64::MAX).saturating_sub(cell.holding());
    let need = u64::try_from(missing).ok().filter(|need| *need > 0)?;
    if Mutation::NobodyAsks.active() {
        return None;
    }
    if let Some((peer, until)) = cell.pursuit.asked {
        if context.boot < until {
            return None;
        }
        cell.pursuit.asked = None;
        cell.pursuit.failed = true;
        cell.pursuit.note_tried(peer);
    }
    if context.boot < cell.pursuit.retry_at {
        return None;
    }
    let reachable = context.life.peers.iter().filter(|(_, reachable)| *reachable);
    let untried = reachable.map(|(node, _)| *node).filter(|n| !cell.pursuit.tried.contains(n));
    let best = untried
        .map(|node| (cell.believed_left(context, period_ms, node), node))
        .reduce(|a, b| if (b.0, cell.outranks(b.1, a.1)) > (a.0, false) { b } else { a });
    let Some((_, peer)) = best else {
        // Nobody gave and it is not proven: tokens are in flight, or out of reach.
        let pause_ms = (RETRY_MS.0 << cell.pursuit.rounds.min(8)).min(RETRY_MS.1);
        cell.pursuit.rounds += 1;
        cell.pursuit.retry_at = context.boot.plus_ms(pause_ms);
        cell.pursuit.tried.clear();
        return None;
    };
    Some((peer, need))
}
