//! Requests that wait: their time-outs.

use std::collections::VecDeque;
use std::sync::Arc;

use fluxgate_types::{Subject, caps};

use super::decide::unavailable;
use super::order::Order;
use super::subject::SubjectCounters;
use super::{Context, Effect, Shard, SubjectLimits, Verdict, Waiter};
use crate::fault::Mutation;

impl Shard {
    /// Time has passed: gives up transfer requests without a reply, begins new rounds and ends
    /// requests that waited too long, for at most [`caps::WAITING_KEYS_PER_HOLD_MAX`] subjects; the
    /// next call continues after them. `find` looks a subject up. Call about every millisecond while
    /// [`Shard::has_waiting`].
    pub fn handle_timeout(
        &mut self,
        context: &Context<'_>,
        find: &dyn Fn(&Subject) -> Option<SubjectLimits>,
        out: &mut Vec<Effect>,
    ) {
        let context = &self.follow(context);
        for _ in 0..self.waiting.len().min(caps::WAITING_KEYS_PER_HOLD_MAX) {
            let Some(subject) = self.waiting.pop_front() else { break };
            let Some(limits) = find(&subject) else {
                self.abandon(&subject, out);
                continue;
            };
            let available = self.advance_queue(context, &subject, &limits, out);
            if !available && Mutation::QueueForgotten.active() {
                continue;
            }
            let Some(counters) = self.subjects.get_mut(&subject) else {
                continue;
            };
            if available {
                counters.expire(context, &subject, &limits, &mut self.order, out);
            }
            // Unlist the subject also when a lost lease has emptied its queue: a subject that is wrongly
            // marked as listed would get no time-outs when requests wait for it again.
            let queue = counters.queue();
            queue.listed = !queue.waiters.is_empty();
            if queue.listed {
                self.waiting.push_back(subject);
            } else {
                counters.shrink();
            }
        }
        if self.waiting.is_empty() && self.waiting.capacity() > caps::QUEUE_KEPT {
            self.waiting.shrink_to(0);
        }
    }

    /// A subject was erased while requests wait for it: nothing was counted.
    fn abandon(&mut self, subject: &Subject, out: &mut Vec<Effect>) {
        let Some(queue) = self.subjects.get_mut(subject).and_then(SubjectCounters::queue_if_any)
        else {
            return;
        };
        queue.listed = false;
        // A request over several subjects leaves the queue when it is decided.
        let (joint, single) = queue.waiters.drain(..).partition(|waiter| waiter.joint.is_some());
        queue.waiters = joint;
        for waiter in &queue.waiters {
            let again = |joint| Effect::Again { waiter: waiter.id, joint };
            out.extend(waiter.joint.clone().map(again));
        }
        let single: VecDeque<Waiter> = single;
        for waiter in single {
            let decision = unavailable(&waiter.limits);
            let limits = waiter.limits.specs;
            out.push(Effect::Decided { waiter: waiter.id, decision, limits });
        }
    }
}

impl SubjectCounters {
    /// Ends requests that waited too long. A request is kept past its deadline only while tokens
    /// may still arrive: a transfer request is pending, or every peer can be reached and no request of
    /// the search failed, so that the tokens must be in flight. One over several subjects is decided
    /// with all locks; when it has ended, its step continues with those behind it.
    pub(super) fn expire(
        &mut self,
        context: &Context<'_>,
        subject: &Subject,
        limits: &SubjectLimits,
        order: &mut Order,
        out: &mut Vec<Effect>,
    ) {
        let reachable = context.incarnation.peers.iter().all(|peer| peer.reachable);
        let mut ended = false;
        while let Some(waiter) = self.first_waiter().filter(|w| w.deadline <= context.boot) {
            let (id, cost, last) = (waiter.id, waiter.cost, waiter.deadline_last);
            let mine = waiter.limits.as_now(limits);
            if let Some(joint) = waiter.joint.clone() {
                out.push(Effect::Again { waiter: id, joint });
                break;
            }
            let decision = if self.open_all(context, subject, &mine, order) {
                if context.boot < last && self.is_hopeful(context, &mine, reachable) {
                    break;
                }
                let at = self.shortest(&mine, cost);
                self.decision(context, &mine, Verdict::Degraded, Some(at))
            } else {
                unavailable(&mine)
            };
            let limits = Arc::clone(&mine.specs);
            self.pop_waiter();
            out.push(Effect::Decided { waiter: id, decision, limits });
            ended = true;
        }
        if ended {
            self.note_degraded(context.boot);
        }
    }

    pub(super) fn is_hopeful(
        &mut self,
        context: &Context<'_>,
        limits: &SubjectLimits,
        reachable: bool,
    ) -> bool {
        let mut hopeful = reachable;
        for limit in self.limits.iter_mut().take(limits.specs.len()) {
            let Some(search) = limit.now().search() else { continue };
            hopeful &= !search.failed;
            hopeful |= search.asked.is_some_and(|(_, until)| until > context.boot);
        }
        hopeful
    }
}
