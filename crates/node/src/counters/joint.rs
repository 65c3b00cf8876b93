//! Requests that are charged to several subjects: their shards are locked together.

use std::sync::{Arc, MutexGuard, PoisonError};

use fluxgate_engine::quota::{
    Charge, Effect, Joint, Locked, LookedUp, Shard, Step, SubjectLimits, WaiterId, with_context,
};
use fluxgate_types::{Cost, Subject, caps};
use smallvec::SmallVec;
use tokio::sync::oneshot;

use super::{Counters, Decided, On, Outcome};

/// As many as a request has subjects.
type Few<T> = SmallVec<[T; caps::CHARGES_MAX]>;

/// What a request is charged to, with the limits that a look-up found.
#[derive(Clone, Debug)]
pub struct Charged {
    pub subject: Subject,
    pub known: LookedUp,
    pub cost: Cost,
}

impl Counters {
    /// Decides one request that takes from all of these subjects or from none; waits for tokens if it
    /// must. Each names another subject, and there are at most `caps::CHARGES_MAX`.
    pub async fn decide_joint(&self, charged: Vec<Charged>) -> Decided {
        let subjects: Few<Subject> = charged.iter().map(|one| one.subject).collect();
        let (waiting, effects) = self.on_locked(&subjects, |locked, on| {
            let table = &self.parts.shared.table;
            let now = charged.into_iter().map(|Charged { subject, known, cost }| {
                let limits = known.now(table, &subject, on.find);
                Charge { subject, limits, cost }
            });
            let charges: Few<Charge> = now.collect();
            let waiter = self.number_of_waiter(Self::place(&subjects[0]));
            match locked.handle_joint(on.context, &charges, waiter, on.out) {
                Step::Decided(decision) => {
                    let limits = Arc::clone(&charges[decision.charge_at].limits.specs);
                    Err(Decided { decision, limits, at: on.context.now })
                }
                // Before the locks are released, as for a request over one subject.
                Step::Waiting => Ok((self.listen(waiter), Arc::clone(&charges[0].limits.specs))),
            }
        });
        self.carry_out(effects);
        self.outcome(waiting).await
    }

    /// Registers a request that waits. Call it with the lock of its shard held, or its decision could
    /// arrive before anyone listens.
    pub(super) fn listen(&self, waiter: WaiterId) -> oneshot::Receiver<Outcome> {
        let (answer, wait) = oneshot::channel();
        self.waiters.lock().unwrap_or_else(PoisonError::into_inner).insert(waiter, answer);
        wait
    }

    /// Continues with a request over several subjects; returns the effects of that. Carried out here,
    /// each request that it wakes would need a stack frame more.
    pub(super) fn again(&self, waiter: WaiterId, joint: &Arc<Joint>) -> Vec<Effect> {
        let subjects: Few<Subject> = joint.charges.iter().map(|one| one.subject).collect();
        let ((), effects) = self.on_locked(&subjects, |locked, on| {
            let limits: Few<Option<SubjectLimits>> = subjects.iter().map(on.find).collect();
            locked.handle_again(on.context, joint, &limits, waiter, on.out);
        });
        self.waiting.notify_one();
        effects
    }

    /// A step on the shards of several subjects: takes their locks in ascending order, THEN reads what
    /// the step depends on. The effects are still to be carried out.
    fn on_locked<R>(
        &self,
        subjects: &[Subject],
        step: impl FnOnce(&mut Locked<'_, '_>, &mut On<'_>) -> R,
    ) -> (R, Vec<Effect>) {
        let places: Few<usize> = subjects.iter().map(Self::place).collect();
        let mut used = places.clone();
        used.sort_unstable();
        used.dedup();
        let at: Few<usize> =
            places.iter().map(|place| used.partition_point(|other| other < place)).collect();
        let mut out: Vec<Effect> = Vec::new();
        let lock = |place: &usize| self.at(*place).lock().unwrap_or_else(PoisonError::into_inner);
        let mut guards: Few<MutexGuard<'_, Shard>> = used.iter().map(lock).collect();
        let mut shards: Few<&mut Shard> = guards.iter_mut().map(|guard| &mut **guard).collect();
        let result = with_context(&*self.parts.published, |context| {
            let find = |subject: &Subject| self.limits_of(context.view, subject);
            let mut locked = Locked { shards: &mut shards, at: &at };
            step(&mut locked, &mut On { context, find: &find, out: &mut out })
        });
        // Most requests leave no one waiting: they need no lock that all shards share.
        for (place, _) in used.iter().zip(&shards).filter(|(_, shard)| shard.has_waiting()) {
            self.busy.lock().unwrap_or_else(PoisonError::into_inner).insert(*place);
        }
        (result, out)
    }
}
