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

use fluxgate_engine::lease::{LeaseRefusal, LeaseTerms};
use fluxgate_engine::member::{
    CallId, Effect, LeaseAnswer, LeaseRequest, Member, Settings, Step, SubmitError, Written,
};
use fluxgate_engine::quota::Incarnation;
use fluxgate_engine::state::Shared;
use fluxgate_engine::state::cluster_state::StartId;
use fluxgate_engine::state::command::Proposal;
use fluxgate_peer::process;
use fluxgate_raft::RaftHandle;
use fluxgate_types::{BootId, BootNs, LogIndex, NodeId, SubjectSeed};
use fluxgate_wire::peer::{LeaseCall, LeaseCallV2, LeaseReply, LeaseReplyV2};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinSet;
use tracing::Span;

use crate::agreement::Agreement;
use crate::calls::Calls;
use crate::clock::{Clock, boot_now};
use crate::config::Config;
use crate::health::Health;
use crate::heard::Heard;
use crate::lifecycle::Lifecycle;
use crate::metrics::Metrics;
use crate::own_start::OwnStart;
use crate::published::Published;
use crate::random::fill_random;
use crate::reason::Reason;
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
    parts: MemberParts,
    this: Weak<Self>,
}

/// The parts of the node that the member reads and acts on.
#[derive(Debug)]
pub struct MemberParts {
    pub raft: RaftHandle,
    pub shared: Arc<Shared>,
    pub clock: Arc<Clock>,
    pub start: Arc<OwnStart>,
    pub lifecycle: Arc<Lifecycle>,
    pub published: Arc<Published>,
    pub agreement: Arc<Agreement>,
    pub health: Arc<Health>,
    pub heard: Arc<Heard>,
    pub calls: Calls,
    pub metrics: Arc<Metrics>,
}

/// A caller that waits for a change, and the span in which it asked: a later attempt belongs to the
/// same trace.
#[derive(Debug)]
struct WriteWaiter {
    answer: oneshot::Sender<Result<Written, SubmitError>>,
    span: Span,
}

fn locked<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl MemberDriver {
    /// The member of a node that starts as `incarnation`.
    pub fn new(config: &Config, parts: MemberParts, incarnation: Incarnation) -> Arc<Self> {
        let mut seed = SubjectSeed([0; 16]);
        let drawn = fill_random(&mut seed.0).is_ok();
        let settings = Settings {
            terms: config.lease_terms(),
            seed: drawn.then_some(seed),
            default_limits: config.default_limits.clone(),
            look_ms: LOOK_MS,
            clock_carried: parts.clock.is_carried(),
        };
        let (start, clock) = (&parts.start, parts.clock.cluster());
        let member = Member::new(start.id(), start.dir_id, settings, clock, incarnation);
        Arc::new_cyclic(|this| Self {
            member: Mutex::new(member),
            armed: AtomicU64::new(0),
            sooner: Notify::new(),
            leases: Mutex::default(),
            writes: Mutex::default(),
            tasks: Mutex::default(),
            why: Mutex::default(),
            parts,
            this: Weak::clone(this),
        })
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
    driver: &'a MemberDriver,
    write: CallId,
}

impl Drop for WriteGuard<'_> {
    fn drop(&mut self) {
        if locked(&self.driver.writes).remove(&self.write).is_some() {
            locked(&self.driver.member).forget_write(self.write);
        }
    }
}

impl MemberDriver {
    /// One step of the member. Publishes what it changed, and carries out what it asks for.
    pub fn step<R>(&self, step: impl FnOnce(&mut Member, &mut Step<'_>) -> R) -> R {
        let mut out = Vec::new();
        let (result, due) = {
            let mut member = locked(&self.member);
            // Read INSIDE the lock: no step works with a clock that is older than another step's.
            let reading = reading::read();
            let result =
                step(&mut member, &mut Step { reading, around: &self.parts, out: &mut out });
            self.publish(&member);
            (result, member.poll_timeout())
        };
        if due.0 < self.armed.load(Ordering::Acquire) {
            self.sooner.notify_one();
        }
        out.into_iter().for_each(|effect| self.carry_out(effect));
        result
    }

    /// Compares this node's state with the digest that another node has after an entry.
    pub fn compare_state(&self, node: NodeId, index: LogIndex, digest: u64) {
        if self.parts.agreement.compare(node, index, digest) {
            self.judge_state();
        }
    }

    /// Concludes whose state differs. Publishes the member again if that limits it from now on, or
    /// no longer.
    pub fn judge_state(&self) {
        self.parts.agreement.judge(|| self.publish(&locked(&self.member)));
    }

    /// The terms that this node grants and renews by.
    pub fn terms_in_force(&self) -> LeaseTerms {
        self.step(|member, step| member.lease_terms(step)).in_force
    }

    /// Why the leader last rejected a request for a lease; `None` since it granted one.
    pub fn lease_refusal(&self) -> Option<LeaseRefusal> {
        locked(&self.member).lease_refusal().cloned()
    }

    /// Why this node would not answer validates now; `None` when it would.
    pub fn not_ready(&self) -> Option<&'static str> {
        self.parts.health.not_ready(|| self.lease_refusal())
    }

    /// The same as one of the closed list, for pages and the log.
    pub fn reason(&self) -> Option<Reason> {
        self.parts.health.reason(|| self.lease_refusal())
    }

    /// Continues the count of starts above those of an earlier directory under this id. Call it
    /// BEFORE this start sends any message.
    pub fn count_on_from(&self, boot: BootId) {
        if self.parts.start.count_on_from(boot) {
            self.step(|member, _| member.handle_counted_on(boot));
        }
    }

    /// Serves a node's request for a lease.
    pub async fn handle_lease(&self, from: NodeId, call: LeaseCallV2) -> LeaseReplyV2 {
        let LeaseCall { boot, dir_id, applied } = call.first;
        let start = StartId { boot, nonce: call.nonce };
        let (sender, answer) = oneshot::channel();
        self.step(|member, step| {
            let request = member.next_call();
            locked(&self.leases).insert(request, sender);
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
        if self.parts.shared.cluster().level >= 2 {
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
        let write = self.step(|member, step| {
            let write = member.next_call();
            let span = Span::current();
            locked(&self.writes).insert(write, WriteWaiter { answer: sender, span });
            member.handle_write(write, proposal, within_ms, may_forward, step);
            write
        });
        let _guard = WriteGuard { driver: self, write };
        match tokio::time::timeout(within + WRITE_GRACE, answer).await {
            Ok(Ok(result)) => result,
            // The node is shutting down.
            Ok(Err(_)) | Err(_) => Err(SubmitError::Unknown),
        }
    }
}

/// Calls the member when something is due, and when consensus has changed or applied an entry.
pub async fn run(driver: Arc<MemberDriver>) {
    // Listen BEFORE the first step: a change in between must not be missed.
    let mut news = driver.parts.raft.subscribe();
    let mut applied = driver.parts.raft.watch_applied();
    loop {
        let due = driver.step(|member, step| {
            member.handle_timeout(step);
            member.poll_timeout()
        });
        driver.armed.store(due.0, Ordering::Release);
        let left = sleep_until(due);
        tokio::select! {
            biased;
            changed = applied.changed() => if changed.is_err() { return },
            changed = news.changed() => if changed.is_err() { return },
            () = driver.sooner.notified() => {}
            () = tokio::time::sleep(left) => {}
        }
    }
}

/// The longest sleep: a clock that was set must not keep the member waiting.
const SLEEP_MAX: Duration = Duration::from_secs(1);

fn sleep_until(due: BootNs) -> Duration {
    Duration::from_nanos(due.since(boot_now())).min(SLEEP_MAX)
}
