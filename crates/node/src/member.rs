//! Drives the member: the engine's machine for this node's part in the cluster.
//!
//! Answers for: one lock around each step, what other threads read is published before it is
//! released, and every effect is carried out afterwards and answered once, in a bounded time.

mod around;
mod effects;
mod reading;
mod why;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use fluxgate_engine::clock::ClusterClock;
use fluxgate_engine::lease::{LeaseRefusal, LeaseTerms};
use fluxgate_engine::member::{
    CallId, Effect, LeaseAnswer, LeaseRequest, Member, Settings, Step, SubmitError, Written,
};
use fluxgate_engine::quota::Incarnation;
use fluxgate_engine::state::cluster_state::StartId;
use fluxgate_engine::state::command::Proposal;
use fluxgate_peer::process;
use fluxgate_types::{BootNs, DirId, LogIndex, NodeId};
use fluxgate_wire::peer::{LeaseCall, LeaseCallV2, LeaseReply, LeaseReplyV2};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinSet;
use tracing::Span;

use crate::clock::boot_now;
use crate::config::Config;
use crate::state::NodeState;
use why::ToldWhy;

/// How often a leader looks after its duties, milliseconds.
const LOOK_MS: u64 = 200;
/// A write's caller waits this much longer than the machine, which ends the write by itself.
const WRITE_GRACE: Duration = Duration::from_secs(1);

/// The member, those that wait for its answers, and the tasks that carry out its effects.
#[derive(Debug)]
pub struct MemberDriver {
    member: Mutex<Member>,
    // The moment for which the timer of `run` is set.
    armed: AtomicU64,
    sooner: Notify,
    leases: Mutex<HashMap<CallId, oneshot::Sender<LeaseAnswer>>>,
    writes: Mutex<HashMap<CallId, WriteWaiter>>,
    // At most one for each pending call of the member.
    tasks: Mutex<JoinSet<()>>,
    why: Mutex<ToldWhy>,
    state: Weak<NodeState>,
}

/// A caller that waits for a change, and the span in which it asked: a later attempt belongs to the
/// same trace.
#[derive(Debug)]
struct WriteWaiter {
    answer: oneshot::Sender<Result<Written, SubmitError>>,
    span: Span,
}

/// What this node is when it starts.
pub struct MemberStart {
    pub start: StartId,
    pub dir_id: DirId,
    pub clock_carried: bool,
    pub clock: ClusterClock,
    pub incarnation: Incarnation,
}

fn locked<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl MemberDriver {
    pub fn new(config: &Config, start: MemberStart, state: Weak<NodeState>) -> Self {
        let settings = Settings {
            terms: config.lease_terms(),
            default_limits: config.default_limits.clone(),
            look_ms: LOOK_MS,
            clock_carried: start.clock_carried,
        };
        let MemberStart { start, dir_id, clock, incarnation, .. } = start;
        Self {
            member: Mutex::new(Member::new(start, dir_id, settings, clock, incarnation)),
            armed: AtomicU64::new(0),
            sooner: Notify::new(),
            leases: Mutex::default(),
            writes: Mutex::default(),
            tasks: Mutex::default(),
            why: Mutex::default(),
            state,
        }
    }

    /// Runs a task for an effect.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = locked(&self.tasks);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(process::bind(task));
    }

    /// The span of the caller for which an effect is carried out.
    fn span_of(&self, effect: &Effect) -> Span {
        match effect {
            Effect::Submit { write, .. } | Effect::Forward { write, .. } => {
                let writes = locked(&self.writes);
                writes.get(write).map_or_else(Span::none, |waits| waits.span.clone())
            }
            Effect::SaveStart { .. }
            | Effect::RequestLease { .. }
            | Effect::AnswerLease { .. }
            | Effect::ProveLeadership { .. }
            | Effect::AskClocks { .. }
            | Effect::Renewed(_)
            | Effect::LeaseDropped(_)
            | Effect::CountOn(_)
            | Effect::End(_)
            | Effect::Elected { .. }
            | Effect::Propose { .. }
            | Effect::EndChange
            | Effect::HandOver { .. }
            | Effect::AskApplied { .. }
            | Effect::BarrierPassed { .. }
            | Effect::AnswerWrite { .. } => Span::none(),
        }
    }

    /// Ends the tasks of all effects.
    pub fn stop(&self) {
        locked(&self.tasks).abort_all();
    }
}

/// Drops a write whose caller has gone.
struct WriteGuard<'a> {
    state: &'a NodeState,
    write: CallId,
}

impl Drop for WriteGuard<'_> {
    fn drop(&mut self) {
        if locked(&self.state.member.writes).remove(&self.write).is_some() {
            locked(&self.state.member.member).forget_write(self.write);
        }
    }
}

impl NodeState {
    /// One step of the member. Publishes what it changed, and carries out what it asks for.
    pub fn member<R>(&self, step: impl FnOnce(&mut Member, &mut Step<'_>) -> R) -> R {
        let mut out = Vec::new();
        let (result, due) = {
            let mut member = locked(&self.member.member);
            // Read INSIDE the lock: no step works with a clock that is older than another step's.
            let reading = reading::read();
            let result = step(&mut member, &mut Step { reading, around: self, out: &mut out });
            self.publish(&member);
            (result, member.poll_timeout())
        };
        if due.0 < self.member.armed.load(Ordering::Acquire) {
            self.member.sooner.notify_one();
        }
        out.into_iter().for_each(|effect| self.carry_out(effect));
        result
    }

    /// Compares this node's state with the digest that another node has after an entry.
    pub fn compare_state(&self, node: NodeId, index: LogIndex, digest: u64) {
        if self.agreement.compare(node, index, digest) {
            self.judge_state();
        }
    }

    /// Concludes whose state differs. Publishes the member again if that limits it from now on, or
    /// no longer.
    pub fn judge_state(&self) {
        self.agreement.judge(|| self.publish(&locked(&self.member.member)));
    }

    /// The terms that this node grants and renews by.
    pub fn terms_in_force(&self) -> LeaseTerms {
        self.member(|member, step| member.lease_terms(step)).in_force
    }

    /// Why the leader last rejected a request for a lease; `None` since it granted one.
    pub fn lease_refusal(&self) -> Option<LeaseRefusal> {
        locked(&self.member.member).lease_refusal().cloned()
    }

    /// Serves a node's request for a lease.
    pub async fn handle_lease(&self, from: NodeId, call: LeaseCallV2) -> LeaseReplyV2 {
        let LeaseCall { boot, dir_id, applied } = call.first;
        let start = StartId { boot, nonce: call.nonce };
        let (sender, answer) = oneshot::channel();
        self.member(|member, step| {
            let request = member.next_call();
            locked(&self.member.leases).insert(request, sender);
            let asks = LeaseRequest { start, dir_id, applied };
            member.handle_lease_request(from, asks, request, step);
        });
        match answer.await {
            Ok(LeaseAnswer::Granted(grant)) => LeaseReplyV2::Granted(grant),
            Ok(LeaseAnswer::Refused(why)) => LeaseReplyV2::Refused(why),
            Ok(LeaseAnswer::NotLeader | LeaseAnswer::NoAnswer(_)) | Err(_) => {
                LeaseReplyV2::NotLeader
            }
        }
    }

    /// The same for a follower of version 0.1, which sends no nonce.
    pub async fn handle_lease_v1(&self, from: NodeId, call: LeaseCall) -> LeaseReply {
        if self.shared.cluster().level >= 2 {
            // A newer node retries with a nonce in a moment; a start without a nonce is not
            // registered.
            return LeaseReply::Refused("this call has no nonce".to_owned());
        }
        match self.handle_lease(from, LeaseCallV2 { first: call, nonce: 0 }).await {
            LeaseReplyV2::Granted(grant) => LeaseReply::Granted(grant),
            LeaseReplyV2::NotLeader => LeaseReply::NotLeader,
            LeaseReplyV2::Refused(why) => LeaseReply::Refused(why.to_string()),
        }
    }

    /// Makes a change, wherever the leader is if `may_forward`, otherwise here; returns once it is
    /// past the write barrier.
    pub(crate) async fn commit(
        &self,
        proposal: Proposal,
        within: Duration,
        may_forward: bool,
    ) -> Result<Written, SubmitError> {
        let within_ms = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
        let (sender, answer) = oneshot::channel();
        let write = self.member(|member, step| {
            let write = member.next_call();
            let span = Span::current();
            locked(&self.member.writes).insert(write, WriteWaiter { answer: sender, span });
            member.handle_write(write, proposal, within_ms, may_forward, step);
            write
        });
        let _guard = WriteGuard { state: self, write };
        match tokio::time::timeout(within + WRITE_GRACE, answer).await {
            Ok(Ok(result)) => result,
            // The node is shutting down.
            Ok(Err(_)) | Err(_) => Err(SubmitError::Unknown),
        }
    }
}

/// Calls the member when something is due, and when consensus has changed or applied an entry.
pub async fn run(state: Arc<NodeState>) {
    // Listen BEFORE the first step: a change in between must not be missed.
    let mut news = state.raft.subscribe();
    let mut applied = state.raft.watch_applied();
    loop {
        let due = state.member(|member, step| {
            member.handle_timeout(step);
            member.poll_timeout()
        });
        state.member.armed.store(due.0, Ordering::Release);
        let left = sleep_until(due);
        tokio::select! {
            biased;
            changed = applied.changed() => if changed.is_err() { return },
            changed = news.changed() => if changed.is_err() { return },
            () = state.member.sooner.notified() => {}
            () = tokio::time::sleep(left) => {}
        }
    }
}

/// The longest sleep: a clock that was set must not keep the member waiting.
const SLEEP_MAX: Duration = Duration::from_secs(1);

fn sleep_until(due: BootNs) -> Duration {
    Duration::from_nanos(due.since(boot_now())).min(SLEEP_MAX)
}
