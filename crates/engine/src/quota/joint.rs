//! One request that is charged to several subjects: to all of them, or to none.
//!
//! All shards of its subjects are locked while it is decided, so that no other step runs between the
//! look at one counter and the spending from another. If tokens are missing, it waits in the queue of
//! each subject that is short of them, and lays a claim to what it needs of the others: a claim
//! stops no request here, but it counts as waiting when a peer asks. When it reaches the front of
//! a queue and the tokens are there, the step returns [`Effect::Again`], and the request is decided
//! again, with all locks.
//!
//! Queues are in the order of arrival, so that of two requests that wait for the same subjects the
//! older one is the first in both. Which of two nodes gives way that each wait for what the other has is
//! decided by a rank that is the same for all subjects at a time (`outranks` in `transfer.rs`).

use std::sync::Arc;

use fluxgate_types::{BootNs, Cost, Subject, caps};
use smallvec::SmallVec;

use super::decide::{Look, unavailable};
use super::subject::Claim;
use super::{
    Context, Decision, Effect, Shard, Step, SubjectLimits, Verdict, WaitPolicy, Waiter, WaiterId,
};
use crate::fault::Mutation;

/// What a request charges to the limits of one subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charge {
    /// The subject.
    pub subject: Subject,
    /// Its current limits.
    pub limits: SubjectLimits,
    /// What is taken from each of them; 0 takes nothing.
    pub cost: Cost,
}

/// A request over several subjects that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joint {
    /// What it takes, each of another subject.
    pub charges: Box<[Charge]>,
    pub(super) deadline: BootNs,
    pub(super) deadline_last: BootNs,
}

/// The locked shards of a request.
#[derive(Debug)]
pub struct Locked<'a, 'b> {
    /// The shards, each once.
    pub shards: &'a mut [&'b mut Shard],
    /// Which of them each charge belongs to.
    pub at: &'a [usize],
}

/// Which charges have to wait in the queue of their subject.
type Queued = SmallVec<[bool; caps::CHARGES_MAX]>;

/// What came of looking at all charges.
enum Seen {
    Decided(Decision),
    /// Tokens are missing.
    Short(Queued),
}

impl Locked<'_, '_> {
    fn shard(&mut self, charge: usize) -> &mut Shard {
        self.shards[self.at[charge]]
    }

    fn policy(&self) -> WaitPolicy {
        self.shards[0].policy
    }

    /// The context with a time that is the same in all shards, and earlier than that of no previous
    /// step of any of them.
    fn follow<'c>(&mut self, context: &Context<'c>) -> Context<'c> {
        let now = self.shards.iter_mut().map(|shard| shard.follow(context).now).max();
        let context = Context { now: now.unwrap_or(context.now), ..*context };
        self.shards.iter_mut().for_each(|shard| {
            shard.follow(&context);
        });
        context
    }

    /// Decides a request that has just arrived. Takes from all limits of all charges or from none.
    /// `waiter` names it if it has to wait. The charges have the current limits, and each has another
    /// subject.
    ///
    /// # Panics
    /// Without a charge, or if a charge belongs to no shard.
    pub fn handle_joint(
        &mut self,
        context: &Context<'_>,
        charges: &[Charge],
        waiter: WaiterId,
        out: &mut Vec<Effect>,
    ) -> Step {
        let context = &self.follow(context);
        let policy = self.policy();
        let deadline = context.boot.plus_ms(policy.transfer_wait_ms);
        match self.look(context, deadline, charges, waiter) {
            Seen::Decided(decision) => Step::Decided(decision),
            Seen::Short(queued) => match self.refusal(context, charges, &queued) {
                Some(decision) => Step::Decided(decision),
                None => {
                    let deadline_last = context.boot.plus_ms(policy.patience_ms());
                    let joint =
                        Arc::new(Joint { charges: charges.into(), deadline, deadline_last });
                    self.wait(context, &joint, &queued, waiter);
                    let limits = joint.charges.iter().map(|charge| Some(&charge.limits));
                    self.advance(context, &joint, limits, out);
                    Step::Waiting
                }
            },
        }
    }

    /// Decides a request that waits, after [`Effect::Again`]. `limits` are the current ones of each
    /// charge, none for a subject that does not exist any more. A request that was decided meanwhile
    /// is left alone.
    pub fn handle_again(
        &mut self,
        context: &Context<'_>,
        joint: &Arc<Joint>,
        limits: &[Option<SubjectLimits>],
        waiter: WaiterId,
        out: &mut Vec<Effect>,
    ) {
        let context = &self.follow(context);
        let left: Vec<bool> =
            (0..joint.charges.len()).map(|at| self.leave(at, joint, waiter)).collect();
        if !left.contains(&true) {
            return;
        }
        // It takes from the limits in force when it arrived, with their current tokens.
        let now = joint.charges.iter().zip(limits).map(|(charge, now)| {
            let limits = charge.limits.as_now(now.as_ref()?).into_owned();
            Some(Charge { limits, ..charge.clone() })
        });
        let charges = now.collect::<Option<Vec<Charge>>>();
        let waits = match &charges {
            None => Err(unavailable(&joint.charges[0].limits)),
            Some(charges) => match self.look(context, joint.deadline, charges, waiter) {
                Seen::Decided(decision) => Err(decision),
                Seen::Short(queued) => {
                    self.ending(context, joint, charges, &queued).map_or(Ok(queued), Err)
                }
            },
        };
        let ended = waits.is_err();
        match waits {
            Ok(queued) => self.wait(context, joint, &queued, waiter),
            Err(decision) => {
                let charges = charges.as_deref().unwrap_or(&joint.charges);
                let limits = Arc::clone(&charges[decision.charge_at].limits.specs);
                out.push(Effect::Decided { waiter, decision, limits });
            }
        }
        self.advance(context, joint, limits.iter().map(Option::as_ref), out);
        if ended {
            self.expire(context, joint, limits, out);
        }
    }

    /// Ends the requests behind one that has ended which have waited too long as well: a queue of
    /// thousands would end late if each waited for the next look at the time.
    fn expire(
        &mut self,
        context: &Context<'_>,
        joint: &Joint,
        limits: &[Option<SubjectLimits>],
        out: &mut Vec<Effect>,
    ) {
        for (at, (charge, limits)) in joint.charges.iter().zip(limits).enumerate() {
            let Shard { subjects, order, .. } = self.shard(at);
            if let (Some(counters), Some(limits)) = (subjects.get_mut(&charge.subject), limits) {
                counters.expire(context, &charge.subject, limits, order, out);
            }
        }
    }

    /// Takes a request out of the queue of a charge, and its claim. Whether it was in the queue.
    fn leave(&mut self, at: usize, joint: &Joint, waiter: WaiterId) -> bool {
        let subjects = &mut self.shard(at).subjects;
        let counters = subjects.get_mut(&joint.charges[at].subject);
        counters.is_some_and(|counters| counters.leave(waiter))
    }

    /// Looks at all charges of a request with this deadline, and takes what they cost if all can pay.
    fn look(
        &mut self,
        context: &Context<'_>,
        deadline: BootNs,
        charges: &[Charge],
        waiter: WaiterId,
    ) -> Seen {
        let mut proven: Option<Decision> = None;
        let mut queued = Queued::new();
        for (at, charge) in charges.iter().enumerate() {
            let Shard { subjects, order, draining, .. } = self.shard(at);
            let leased = context.leased || Mutation::SpendWithoutLease.active();
            let counters = subjects.entry(&charge.subject, context.now);
            let opened = leased
                && !*draining
                && counters.open_all(context, &charge.subject, &charge.limits, order);
            counters.note_unopened(order);
            if !opened {
                return Seen::Decided(Decision { charge_at: at, ..unavailable(&charge.limits) });
            }
            let cost = if charge.cost.is_peek() { Cost::ONE } else { charge.cost };
            let behind = counters
                .first_waiter()
                .is_some_and(|first| (first.deadline, first.id) < (deadline, waiter));
            match counters.look(context, &charge.limits, cost) {
                Look::Proven(limit) => {
                    let decision = Decision {
                        charge_at: at,
                        ..counters.decision(context, &charge.limits, Verdict::Limited, Some(limit))
                    };
                    // No request of this cost passes before the last of them has tokens again.
                    proven = proven.filter(|last| last.reset >= decision.reset).or(Some(decision));
                    queued.push(false);
                }
                _ if charge.cost.is_peek() => queued.push(false),
                Look::Enough => queued.push(behind),
                Look::Short => queued.push(true),
            }
        }
        if let Some(decision) = proven {
            return Seen::Decided(decision);
        }
        if queued.contains(&true) {
            return Seen::Short(queued);
        }
        Seen::Decided(self.spend(context, charges))
    }

    /// Takes what all charges cost. The decision shows the limit with the smallest fraction left.
    fn spend(&mut self, context: &Context<'_>, charges: &[Charge]) -> Decision {
        let mut shown: Option<Decision> = None;
        for (at, Charge { subject, limits, cost }) in charges.iter().enumerate() {
            let Shard { subjects, order, .. } = self.shard(at);
            let counters = subjects.entry(subject, context.now);
            if !cost.is_peek() {
                counters.spend(limits, *cost, subject, order);
                counters.forget_degraded();
            }
            let admitted = counters.decision(context, limits, Verdict::Admitted, None);
            let admitted = Decision { charge_at: at, ..admitted };
            if shown.is_none_or(|shown| admitted.has_less_left(&shown)) {
                shown = Some(admitted);
            }
        }
        shown.unwrap_or_else(|| unavailable(&charges[0].limits))
    }

    /// Why a request may not wait, if it may not: a queue is full, or a request has just waited
    /// without a result.
    fn refusal(
        &mut self,
        context: &Context<'_>,
        charges: &[Charge],
        queued: &[bool],
    ) -> Option<Decision> {
        let mut refused = None;
        for (at, Charge { subject, limits, cost }) in charges.iter().enumerate() {
            let counters = self.shard(at).subjects.get_mut(subject)?;
            let full = counters.is_full();
            let degraded = counters.is_degraded(context.boot) && counters.is_queue_empty();
            if full || (queued[at] && degraded) {
                let limit = counters.shortest(limits, *cost);
                let decision = counters.decision(context, limits, Verdict::Degraded, Some(limit));
                refused = Some(Decision { charge_at: at, ..decision });
            }
        }
        refused
    }

    /// The end of a request that has waited too long, if it has: while tokens may still arrive for a
    /// charge that is short, it waits on.
    fn ending(
        &mut self,
        context: &Context<'_>,
        joint: &Joint,
        charges: &[Charge],
        queued: &[bool],
    ) -> Option<Decision> {
        if context.boot < joint.deadline {
            return None;
        }
        let reachable = context.incarnation.peers.iter().all(|peer| peer.reachable);
        let short: Vec<usize> = (0..queued.len()).filter(|at| queued[*at]).collect();
        let mut hopeful = context.boot < joint.deadline_last;
        let mut ended = None;
        for at in &short {
            let Charge { subject, limits, cost } = &charges[*at];
            let counters = self.shard(*at).subjects.get_mut(subject)?;
            hopeful &= counters.is_hopeful(context, limits, reachable);
            let limit = counters.shortest(limits, *cost);
            let decision = counters.decision(context, limits, Verdict::Degraded, Some(limit));
            ended = Some(Decision { charge_at: *at, ..decision });
        }
        if hopeful {
            return None;
        }
        for at in short {
            let subject = &joint.charges[at].subject;
            if let Some(counters) = self.shard(at).subjects.get_mut(subject) {
                counters.note_degraded(context.boot);
            }
        }
        ended
    }

    /// Puts a request into the queues of the charges that have to wait, and lays its claims to the
    /// others.
    fn wait(
        &mut self,
        context: &Context<'_>,
        joint: &Arc<Joint>,
        queued: &[bool],
        waiter: WaiterId,
    ) {
        let Joint { deadline, deadline_last, .. } = **joint;
        for (at, Charge { subject, limits, cost }) in joint.charges.iter().enumerate() {
            let Shard { subjects, waiting, .. } = self.shard(at);
            let queue = subjects.entry(subject, context.now).queue();
            if !queued[at] {
                if !cost.is_peek() && !Mutation::ClaimsForgotten.active() {
                    queue.claims.push(Claim { waiter, cost: *cost });
                }
                continue;
            }
            if !std::mem::replace(&mut queue.listed, true) {
                waiting.push_back(*subject);
            }
            let (limits, joint) = (limits.clone(), Some(Arc::clone(joint)));
            let one = Waiter { id: waiter, cost: *cost, deadline, deadline_last, limits, joint };
            let older = |other: &Waiter| (other.deadline, other.id) < (deadline, waiter);
            let place = queue.waiters.iter().rposition(older).map_or(0, |last| last + 1);
            queue.waiters.insert(place, one);
        }
    }

    /// Continues with the queues of all charges: the first in each may be another request now.
    fn advance<'l>(
        &mut self,
        context: &Context<'_>,
        joint: &Joint,
        limits: impl Iterator<Item = Option<&'l SubjectLimits>>,
        out: &mut Vec<Effect>,
    ) {
        for (at, (charge, limits)) in joint.charges.iter().zip(limits).enumerate() {
            if let Some(limits) = limits {
                self.shard(at).advance_queue(context, &charge.subject, limits, out);
            }
        }
    }
}
