//! Changes to the replicated state: forwarded to the leader, committed, and past the write barrier
//! before the caller gets the result.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use fluxgate_engine::member::SubmitError;
use fluxgate_engine::state::audit::Action;
use fluxgate_engine::state::command::{Actor, Command, Outcome, Proposal};
use fluxgate_peer::{Call, CallError};
use fluxgate_store::codec::Kind;
use fluxgate_types::{LogIndex, NodeId};
use fluxgate_wire::Grown as _;
use fluxgate_wire::peer::{AppliedCall, AppliedReply, Writes};
use fluxgate_wire::raft::{ProposeReplyV1, ProposeV1};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::clock::boot_now;
use crate::state::NodeState;

pub use fluxgate_engine::member::Written;

/// Pause before a proposal is retried.
const RETRY: Duration = Duration::from_millis(20);
/// A barrier checks at least this often whether a lease has run out.
const LOOK: Duration = Duration::from_millis(50);
/// How long a peer may take to answer one wait for an applied entry.
const APPLIED_WAIT_MS: u64 = 2_000;

/// Why a write cannot be relied on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteError {
    /// Not made: no leader was found in time.
    NoLeader,
    /// Not made: too much is queued, or the leader's disk is full.
    Busy,
    /// It may or may not have been made.
    Unknown,
}

/// Wraps a command with a request id of its own, so that a retry applies it only once.
pub fn proposal(actor: Actor, from: Option<Box<str>>, command: Command) -> Proposal {
    let mut id = [0u8; 16];
    // Without randomness there would be no keys either; an id of zeros is refused as a repeat.
    crate::state::fill_random(&mut id).ok();
    Proposal { request: u128::from_le_bytes(id), actor, presented: None, from, command }
}

/// How long an operation that writes only an audit line waits for it. A cluster that accepts no
/// writes must still give a backup.
const NOTE_TIMEOUT: Duration = Duration::from_secs(2);

impl NodeState {
    /// Adds an audit line for an operation that changes nothing else. If the line cannot be written
    /// in time, it goes to the log alone.
    pub async fn note(
        &self,
        actor: Actor,
        from: Option<Box<str>>,
        action: Action,
        details: String,
    ) {
        // An older node could not decode it.
        let written = if self.shared.cluster().level < action.level() {
            None
        } else {
            let (from, details) = (from.clone(), details.as_str().into());
            let command = Command::Note { action, details };
            self.write(proposal(actor, from, command), NOTE_TIMEOUT).await.ok()
        };
        if written.is_none_or(|written| written.outcome != Outcome::Done) {
            let from = from.as_deref().unwrap_or("-");
            tracing::warn!(
                action = action.as_str(),
                from,
                details,
                "this could not be written to the audit trail"
            );
        }
    }

    /// Makes a change, wherever the leader is, and waits for the write barrier. Retries after a
    /// change of leaders: the state machine answers a repeat with the first outcome.
    pub async fn write(&self, proposal: Proposal, within: Duration) -> Result<Written, WriteError> {
        let deadline = Instant::now() + within;
        let begun = Instant::now();
        let mut worst = WriteError::NoLeader;
        let result = loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break Err(worst);
            }
            let leader = self.raft.leader();
            let tried = match leader {
                Some(node) if node == self.me => {
                    let local = self.write_here(proposal.clone());
                    tokio::time::timeout(left, local).await.unwrap_or(Err(SubmitError::Unknown))
                }
                Some(node) => {
                    // Abandons a leader that hangs once there is another: the request id makes the
                    // retry harmless.
                    tokio::select! {
                        biased;
                        carried = self.forward_to_leader(node, &proposal, left) => carried,
                        () = self.leader_is_not(node) => Err(SubmitError::Unknown),
                    }
                }
                None => Err(SubmitError::NotLeader),
            };
            match tried {
                Ok(written) => break Ok(written),
                // The leader hands over to a node that can write: worth waiting for.
                Err(SubmitError::DiskFull) => {
                    worst = if worst == WriteError::Unknown { worst } else { WriteError::Busy };
                }
                // That this attempt was rejected does not mean that an earlier one was.
                Err(SubmitError::Busy) => {
                    break Err(match worst {
                        WriteError::Unknown => WriteError::Unknown,
                        WriteError::NoLeader | WriteError::Busy => WriteError::Busy,
                    });
                }
                Err(SubmitError::Unknown | SubmitError::Stopped) => worst = WriteError::Unknown,
                Err(SubmitError::NotLeader) => {}
            }
            self.raft.wait_for_change(RETRY).await;
        };
        self.metrics.proposed(match &result {
            Ok(Written { outcome: Outcome::Refused(_), .. }) => "refused",
            Ok(_) => "committed",
            Err(WriteError::NoLeader | WriteError::Busy) => "no_leader",
            Err(WriteError::Unknown) => "unknown",
        });
        self.metrics.proposal_seconds.observe(begun.elapsed().as_secs_f64());
        result
    }

    /// Waits until this node knows another leader, or none.
    async fn leader_is_not(&self, node: NodeId) {
        let mut news = self.raft.subscribe();
        while self.raft.leader() == Some(node) && news.changed().await.is_ok() {}
    }

    /// Proposes on this node and waits for the barrier.
    async fn write_here(&self, proposal: Proposal) -> Result<Written, SubmitError> {
        // The entry carries a time stamp: a clock that is not synchronized must not stamp it, and a
        // node whose state differs must not acknowledge writes.
        if !self.clock.is_synced() || self.agreement.differs() {
            return Err(SubmitError::NotLeader);
        }
        let submitted = self.raft.submit(proposal).await?;
        if matches!(submitted.outcome, Outcome::Refused(_)) {
            // Nothing changed, so no node can miss anything.
            let applied_on = Vec::new();
            return Ok(Written { outcome: submitted.outcome, applied_on, waited_ms: 0 });
        }
        let (applied_on, waited_ms) = self.barrier(submitted.index, submitted.term).await;
        Ok(Written { outcome: submitted.outcome, applied_on, waited_ms })
    }

    async fn forward_to_leader(
        &self,
        leader: NodeId,
        proposal: &Proposal,
        left: Duration,
    ) -> Result<Written, SubmitError> {
        let wait_ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
        let question = ProposeV1 { proposal: proposal.clone(), wait_ms };
        match self.propose_at(leader, &question, left).await {
            Ok(ProposeReplyV1::Done { outcome, applied_on, waited_ms, .. }) => {
                Ok(Written { outcome: *outcome, applied_on, waited_ms })
            }
            Ok(ProposeReplyV1::NotLeader)
            | Err(CallError::Unreachable { .. } | CallError::Refused { .. }) => {
                Err(SubmitError::NotLeader)
            }
            Ok(ProposeReplyV1::Busy) => {
                let able = self.more_of(leader).is_none_or(|more| more.writes == Writes::Fine);
                Err(if able { SubmitError::Busy } else { SubmitError::DiskFull })
            }
            Ok(ProposeReplyV1::Unknown)
            | Err(CallError::Timeout { .. } | CallError::Broken { .. }) => {
                Err(SubmitError::Unknown)
            }
        }
    }

    async fn propose_at(
        &self,
        leader: NodeId,
        question: &ProposeV1,
        left: Duration,
    ) -> Result<ProposeReplyV1, CallError> {
        let broken = |cause: String| CallError::Broken { node: leader, cause };
        let body = question.pack(Kind::PeerMessage).map_err(|error| broken(error.to_string()))?;
        let answer = self.transport.call(leader, Call::Propose, body, left).await?;
        let reply = ProposeReplyV1::unpack(Kind::PeerMessage, &answer);
        reply.map_err(|error| broken(error.to_string()))
    }

    /// Serves a proposal that another node forwarded. It is not forwarded again.
    pub async fn handle_propose(&self, call: ProposeV1) -> ProposeReplyV1 {
        let wait = Duration::from_millis(call.wait_ms).min(self.config.request_timeout);
        match tokio::time::timeout(wait, self.write_here(call.proposal)).await {
            Ok(Ok(written)) => ProposeReplyV1::Done {
                outcome: Box::new(written.outcome),
                applied_on: written.applied_on,
                waited_ms: written.waited_ms,
            },
            Ok(Err(SubmitError::NotLeader)) => ProposeReplyV1::NotLeader,
            Ok(Err(SubmitError::Busy | SubmitError::DiskFull)) => ProposeReplyV1::Busy,
            Ok(Err(SubmitError::Unknown | SubmitError::Stopped)) | Err(_) => {
                ProposeReplyV1::Unknown
            }
        }
    }

    /// Waits until every node has applied entry `index`, or has no lease under which it could
    /// answer without it. Returns which nodes have applied it, and the wait in milliseconds.
    ///
    /// Only a leader term equal to or later than the entry's knows every grant: this node may have
    /// led before, and others in between.
    async fn barrier(&self, index: LogIndex, term: u64) -> (Vec<NodeId>, u64) {
        let begun = Instant::now();
        let mut all_applied = true;
        loop {
            let news = self.granted.notified();
            tokio::pin!(news);
            // Listen BEFORE checking: a notification in between must not be missed.
            news.as_mut().enable();
            self.assume_leadership();
            let barrier = {
                let mut leadership = self.leadership.lock().unwrap_or_else(PoisonError::into_inner);
                leadership.as_mut().filter(|leadership| leadership.term >= term).map(|leadership| {
                    leadership.granter.handle_committed(index);
                    let now = boot_now();
                    (
                        leadership.granter.holders(index, now),
                        leadership.granter.applied_on(index),
                        now,
                    )
                })
            };
            let Some((holders, applied_on, now)) = barrier else {
                // Deposed before it could grant: this node granted nothing itself, earlier grants
                // run out within one lease, and every later grant requires the entry.
                let lease_ms = self.terms().1.lease_ms;
                if begun.elapsed() > Duration::from_millis(lease_ms) {
                    return (vec![self.me], lease_ms);
                }
                tokio::time::timeout(LOOK, news).await.ok();
                continue;
            };
            let Some(until) = holders.iter().map(|(_, until)| *until).max() else {
                let took = begun.elapsed();
                self.metrics.barrier(all_applied, took);
                return (applied_on, u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
            };
            self.wanted.send_if_modified(|wanted| {
                let more = *wanted < index;
                *wanted = (*wanted).max(index);
                more
            });
            let left = Duration::from_nanos(until.since(now)) + Duration::from_millis(1);
            if tokio::time::timeout(left.min(LOOK), news).await.is_err() && left <= LOOK {
                all_applied = false;
            }
        }
    }
}

/// Keeps calling one peer for how far it has applied, while a barrier waits for it.
pub async fn run_applied_calls(
    state: Arc<NodeState>,
    peer: NodeId,
    mut wanted: watch::Receiver<LogIndex>,
) {
    let timeout = Duration::from_millis(APPLIED_WAIT_MS + 500);
    let mut known = LogIndex(0);
    loop {
        let index = *wanted.borrow_and_update();
        if index <= known {
            if wanted.changed().await.is_err() {
                return;
            }
            continue;
        }
        let question = AppliedCall { index, wait_ms: APPLIED_WAIT_MS };
        match state.transport.ask(peer, &question, timeout).await {
            Ok(AppliedReply { applied }) => {
                known = known.max(applied);
                let mut leadership =
                    state.leadership.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(leadership) = leadership.as_mut() {
                    leadership.granter.handle_applied(peer, applied);
                }
                drop(leadership);
                state.granted.notify_waiters();
            }
            Err(_) => {
                // Its lease runs out by itself; until then it may come back.
                tokio::time::timeout(RETRY, wanted.changed()).await.ok();
                let barrier_waits = state
                    .leadership
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .as_ref()
                    .is_some_and(|o| {
                        o.granter.holders(index, boot_now()).iter().any(|(n, _)| *n == peer)
                    });
                if !barrier_waits {
                    known = known.max(index);
                }
            }
        }
    }
}
