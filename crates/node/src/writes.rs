//! Changes to the replicated state: carried to the leader, committed, and past the write barrier
//! before anybody hears of them.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use fluxgate_engine::state::audit::Action;
use fluxgate_engine::state::command::{Actor, Command, Outcome, Proposal};
use fluxgate_peer::{Call, CallError};
use fluxgate_raft::SubmitError;
use fluxgate_store::codec::Kind;
use fluxgate_types::{LogIndex, NodeId};
use fluxgate_wire::Grown as _;
use fluxgate_wire::raft::{ProposeReplyV1, ProposeV1};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::clock::boot_now;
use crate::state::NodeState;
use fluxgate_wire::peer::{AppliedCall, AppliedReply, Writes};

/// Pause before a proposal is tried again.
const RETRY: Duration = Duration::from_millis(20);
/// A barrier looks at least this often whether a lease has run out.
const LOOK: Duration = Duration::from_millis(50);
/// How long one wait for an applied entry may take at a peer.
const APPLIED_WAIT_MS: u64 = 2_000;

/// A write that every client may rely on.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    pub(crate) outcome: Outcome,
    pub(crate) applied_on: Vec<NodeId>,
    pub(crate) waited_ms: u64,
}

/// Why a write cannot be relied on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WriteError {
    /// Not made: no leader was found in time.
    NoLeader,
    /// Not made: too much is queued, or the leader's disk is full.
    Busy,
    /// It may or may not have been made.
    Unknown,
}

/// Wraps a command with a request id of its own, so that trying again repeats nothing.
pub(crate) fn proposal(actor: Actor, from: Option<Box<str>>, command: Command) -> Proposal {
    let mut id = [0u8; 16];
    // Without randomness there would be no keys either; an id of zeros is refused as a repeat.
    crate::state::fill_random(&mut id).ok();
    Proposal { request: u128::from_le_bytes(id), actor, presented: None, from, command }
}

/// How long whoever did something waits for its line in the audit trail, where the line is all that is
/// written. A cluster that takes no writes must still give a backup.
const NOTE_TIMEOUT: Duration = Duration::from_secs(2);

impl NodeState {
    /// Adds a line to the audit trail of something that changes nothing else. Where that cannot be
    /// written in time it stands in the log alone.
    pub(crate) async fn note(
        &self,
        actor: Actor,
        from: Option<Box<str>>,
        action: Action,
        details: String,
    ) {
        // An older node could not read it.
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

    /// Makes a change, wherever the leader is, and waits for the write barrier. Tries again after
    /// a change of leaders: the state machine answers a repeat with the first outcome.
    pub(crate) async fn write(
        &self,
        proposal: Proposal,
        within: Duration,
    ) -> Result<Written, WriteError> {
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
                    // A leader that hangs is given up once there is another: the request id makes
                    // the repeat harmless.
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
                // The leader hands over to a node that can write: this is worth waiting for.
                Err(SubmitError::DiskFull) => {
                    worst = if worst == WriteError::Unknown { worst } else { WriteError::Busy };
                }
                // That this try was not taken says nothing of an earlier one.
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

    /// Waits until this node knows of another leader, or of none.
    async fn leader_is_not(&self, node: NodeId) {
        let mut news = self.raft.subscribe();
        while self.raft.leader() == Some(node) && news.changed().await.is_ok() {}
    }

    /// Proposes here and waits for the barrier.
    async fn write_here(&self, proposal: Proposal) -> Result<Written, SubmitError> {
        // The stamp of the entry: a clock that nobody has set must not stamp.
        // Nor may a state that differs from the others' decide what is acknowledged.
        if !self.clock.is_synced() || self.agreement.differs() {
            return Err(SubmitError::NotLeader);
        }
        let submitted = self.raft.submit(proposal).await?;
        if matches!(submitted.outcome, Outcome::Refused(_)) {
            // Nothing changed, so there is nothing that a node could miss.
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

    /// Serves a proposal that another node carries here. It is not carried on.
    pub(crate) async fn handle_propose(&self, call: ProposeV1) -> ProposeReplyV1 {
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
    /// answer without it. Returns who has applied it, and how long that took.
    ///
    /// Only an office of the entry's term or a later one knows what was granted: this node may have
    /// led before, and others in between.
    async fn barrier(&self, index: LogIndex, term: u64) -> (Vec<NodeId>, u64) {
        let begun = Instant::now();
        let mut all_applied = true;
        loop {
            let news = self.granted.notified();
            tokio::pin!(news);
            // Listening BEFORE looking: news in between must not be missed.
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
                // Deposed before it took office: it granted nothing itself, what was granted before
                // it runs out within one lease, and what is granted after it carries the entry.
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

/// Keeps asking one peer how far it has applied, while a barrier waits for it.
pub(crate) async fn run_applied_calls(
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
                // Its lease runs out by itself; until then it may yet come back.
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
