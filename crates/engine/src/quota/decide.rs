//! One request: admit, deny with proof, or wait.
//!
//! The rule (`docs/protocol.md`): a sufficient balance is spent at once; what is proven exhausted
//! is denied at once; everything else waits in one queue per subject, first in, first out, while this
//! node requests the missing tokens from its peers. Every decision rests on one of three things:
//! a token, a proof or a deadline.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::sync::Arc;

use fluxgate_types::{ClusterMs, Cost, Subject};

use super::order::Order;
use super::subject::SubjectCounters;
use super::transfer::next_to_ask;
use super::{
    Context, CounterId, Decision, Effect, Shard, Step, SubjectLimits, TransferRequest, Verdict,
    Waiter, WaiterId,
};
use crate::fault::Mutation;
use crate::state::record::LimitSpec;

/// How a cost compares with all limits of a subject.
pub(super) enum Look {
    /// The balance suffices for every limit.
    Enough,
    /// This limit is proven to have less than the cost left. If several are, it is the one whose
    /// window ends last: no such cost passes before then.
    Proven(usize),
    /// The balance is too small, and it is not proven that the tokens are spent.
    Short,
}

impl Shard {
    /// Decides one request of `cost` tokens (0: peek, spend nothing). `waiter` names it if it has
    /// to wait. Takes from all limits of the subject or from none. `limits` are the subject's current ones.
    pub fn handle_request(
        &mut self,
        context: &Context<'_>,
        subject: &Subject,
        limits: &SubjectLimits,
        cost: Cost,
        waiter: WaiterId,
        out: &mut Vec<Effect>,
    ) -> Step {
        let context = &self.follow(context);
        let order = &mut self.order;
        let counters = self.subjects.entry(subject, context.now);
        let leased = context.leased || Mutation::SpendWithoutLease.active();
        let opened = leased && !self.draining && counters.open_all(context, subject, limits, order);
        counters.note_unopened(order);
        if !opened {
            return Step::Decided(unavailable(limits));
        }
        if cost.is_peek() {
            return Step::Decided(counters.peek(context, limits));
        }
        // Queued requests go first; otherwise cheap requests would starve an expensive one.
        if counters.is_queue_empty() {
            match counters.look(context, limits, cost) {
                Look::Enough => {
                    counters.spend(limits, cost, subject, order);
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
        if counters.is_full() || (counters.is_degraded(context.boot) && counters.is_queue_empty()) {
            let at = counters.shortest(limits, cost);
            return Step::Decided(counters.decision(context, limits, Verdict::Degraded, Some(at)));
        }
        let queue = counters.queue();
        if !std::mem::replace(&mut queue.listed, true) {
            self.waiting.push_back(*subject);
        }
        queue.waiters.push_back(Waiter {
            id: waiter,
            cost,
            deadline: context.boot.plus_ms(self.policy.transfer_wait_ms),
            deadline_last: context.boot.plus_ms(self.policy.patience_ms()),
            limits: limits.clone(),
            joint: None,
        });
        self.advance_queue(context, subject, limits, out);
        Step::Waiting
    }

    /// Decides as many requests of a subject's queue as possible, and requests the missing tokens.
    /// False if this node may not spend; then every waiting request has been decided so.
    pub(super) fn advance_queue(
        &mut self,
        context: &Context<'_>,
        subject: &Subject,
        limits: &SubjectLimits,
        out: &mut Vec<Effect>,
    ) -> bool {
        let Some(counters) = self.subjects.get_mut(subject) else {
            return false;
        };
        let (order, spends) = (&mut self.order, context.leased && !self.draining);
        let available = spends && counters.open_all(context, subject, limits, order);
        while let Some(waiter) = counters.first_waiter() {
            let (id, cost, mine) = (waiter.id, waiter.cost, waiter.limits.as_now(limits));
            let joint = waiter.joint.clone();
            let decision = if !available || !counters.open_all(context, subject, &mine, order) {
                unavailable(&mine)
            } else {
                match counters.look(context, &mine, cost) {
                    // Only with the shards of all its subjects locked is it decided.
                    Look::Enough | Look::Proven(_) if joint.is_some() => unavailable(&mine),
                    Look::Enough => {
                        counters.spend(&mine, cost, subject, order);
                        counters.forget_degraded();
                        counters.decision(context, &mine, Verdict::Admitted, None)
                    }
                    Look::Proven(at) => {
                        counters.decision(context, &mine, Verdict::Limited, Some(at))
                    }
                    Look::Short => {
                        counters.request(
                            context,
                            subject,
                            &mine,
                            self.policy.transfer_timeout_ms,
                            out,
                        );
                        break;
                    }
                }
            };
            if let Some(joint) = joint {
                out.push(Effect::Again { waiter: id, joint });
                break;
            }
            let limits = Arc::clone(&mine.specs);
            counters.pop_waiter();
            out.push(Effect::Decided { waiter: id, decision, limits });
        }
        available
    }
}

impl SubjectLimits {
    /// The limits that a request takes from which arrived under these: the same ones, with their
    /// current tokens.
    pub(super) fn as_now<'a>(&self, now: &'a Self) -> Cow<'a, Self> {
        if Arc::ptr_eq(&self.specs, &now.specs) || self.specs == now.specs {
            return Cow::Borrowed(now);
        }
        if Mutation::WaitersKeepLimits.active() {
            return Cow::Owned(self.clone());
        }
        let newest = |spec: &LimitSpec| {
            let period_ms = spec.limit.period_ms;
            let same = |s: &&LimitSpec| s.tag == spec.tag && s.limit.period_ms == period_ms;
            now.specs.iter().find(same).unwrap_or(spec).clone()
        };
        let specs = self.specs.iter().map(newest).collect();
        Cow::Owned(Self { created: self.created, specs })
    }
}

pub(super) fn unavailable(limits: &SubjectLimits) -> Decision {
    let tokens = limits.specs.first().map_or(0, |spec| spec.limit.tokens);
    let reset = ClusterMs(0);
    Decision {
        verdict: Verdict::Unavailable,
        charge_at: 0,
        limit_at: 0,
        tokens,
        remaining: 0,
        reset,
    }
}

impl SubjectCounters {
    pub(super) fn look(
        &mut self,
        context: &Context<'_>,
        limits: &SubjectLimits,
        cost: Cost,
    ) -> Look {
        let mut short = false;
        let mut proven: Option<(ClusterMs, usize)> = None;
        for (at, limit) in self.limits.iter_mut().take(limits.specs.len()).enumerate() {
            let cell = limit.now();
            let is_short = !cost.is_covered_by(cell.balance());
            if (is_short || cell.lowered) && cell.is_proven(context, cost) {
                let end = limit.current_end();
                proven = proven.filter(|(last, _)| *last >= end).or(Some((end, at)));
            }
            short |= is_short;
        }
        if let Some((_, at)) = proven {
            return Look::Proven(at);
        }
        if short && Mutation::DenyWithoutProof.active() {
            return Look::Proven(0);
        }
        if short { Look::Short } else { Look::Enough }
    }

    pub(super) fn spend(
        &mut self,
        limits: &SubjectLimits,
        cost: Cost,
        subject: &Subject,
        order: &mut Order,
    ) {
        for limit in self.limits.iter_mut().take(limits.specs.len()) {
            let cell = limit.now();
            cell.spend(cost.0 + u64::from(Mutation::ChargedTwice.active()));
            if !std::mem::replace(&mut cell.dirty, true) {
                let window = cell.window();
                let counter = CounterId { subject: *subject, limit: limit.tag, window };
                order.note_dirty(limit.end_of(window), counter);
            }
        }
    }

    /// The limit whose window ends last, among those with a balance below the cost.
    pub(super) fn shortest(&mut self, limits: &SubjectLimits, cost: Cost) -> usize {
        let all = self.limits.iter_mut().take(limits.specs.len()).enumerate();
        let short = all.filter_map(|(at, limit)| {
            (!cost.is_covered_by(limit.now().balance())).then(|| (limit.current_end(), Reverse(at)))
        });
        short.max().map_or(0, |(_, Reverse(at))| at)
    }

    /// Denied if it is proven that no token is left, otherwise admitted, also where a request of cost 1
    /// would have to wait. Spends nothing.
    fn peek(&mut self, context: &Context<'_>, limits: &SubjectLimits) -> Decision {
        match self.look(context, limits, Cost::ONE) {
            Look::Proven(at) => self.decision(context, limits, Verdict::Limited, Some(at)),
            Look::Enough | Look::Short => self.decision(context, limits, Verdict::Admitted, None),
        }
    }

    /// The decision by the limit at `deciding`, or by the one with the smallest fraction left.
    pub(super) fn decision(
        &mut self,
        context: &Context<'_>,
        limits: &SubjectLimits,
        verdict: Verdict,
        deciding: Option<usize>,
    ) -> Decision {
        let mut chosen: Option<Decision> = None;
        for (limit_at, spec) in limits.specs.iter().enumerate() {
            if deciding.is_some_and(|at| at != limit_at) {
                continue;
            }
            let reset = spec.limit.window_at(context.now).end();
            let cell = self.limits[limit_at].now();
            // By which the counter counts: it follows a change of the limit only once this step
            // knows the share map of the window.
            let (tokens, remaining) = (cell.tokens(), cell.remaining(context));
            let one = Decision { verdict, charge_at: 0, limit_at, tokens, remaining, reset };
            if chosen.is_none_or(|chosen| one.has_less_left(&chosen)) {
                chosen = Some(one);
            }
        }
        chosen.unwrap_or_else(|| unavailable(limits))
    }

    /// Requests tokens from one peer for each limit whose balance is below the cost that waits.
    fn request(
        &mut self,
        context: &Context<'_>,
        subject: &Subject,
        limits: &SubjectLimits,
        timeout_ms: u64,
        out: &mut Vec<Effect>,
    ) {
        let waits = self.waits();
        for (at, spec) in limits.specs.iter().enumerate() {
            let cell = self.limits[at].now();
            let counter = CounterId { subject: *subject, limit: spec.tag, window: cell.window() };
            let Some((peer, need)) = next_to_ask(context, cell, &counter, waits) else {
                continue;
            };
            let mine = cell.report();
            let open = cell
                .tokens()
                .saturating_sub(cell.spent_lower_bound(context))
                .saturating_sub(mine.left);
            let (want, got) = (need.max(open), cell.got_from(peer));
            cell.begin_search().asked = Some((peer, context.boot.plus_ms(timeout_ms)));
            out.push(Effect::TransferRequest {
                peer,
                request: TransferRequest { counter, need, want, got, mine },
            });
        }
    }
}
