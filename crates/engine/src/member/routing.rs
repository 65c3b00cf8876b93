//! Where a client's change goes, and what an answer permits to conclude.
//!
//! Answers for: a change is proposed where the leader is, and tried again after a change of
//! leaders, which is harmless because the state machine answers a repeat with the first outcome;
//! that one attempt was rejected does not mean that an earlier one was; and nothing is acknowledged
//! before it is past the barrier.

use std::collections::BTreeMap;

use fluxgate_types::{BootNs, NodeId};

use super::Member;
use super::effect::{CallId, Effect, SubmitError, Submitted, Written};
use super::step::Step;
use crate::state::command::{CommandError, Outcome, Proposal};

/// Pause before a change is tried again, if no change of leaders comes first, milliseconds.
const RETRY_MS: u64 = 20;

/// Why a leader does not propose a change that some member could not read.
const LEVEL_TOO_LOW: &str = "not before every node runs a version that knows this";

/// Changes that clients of this node, or other nodes, have asked for.
#[derive(Debug, Default)]
pub(super) struct Writes {
    open: BTreeMap<CallId, Write>,
    // The change that each attempt belongs to, by the attempt's call.
    attempts: BTreeMap<CallId, CallId>,
}

#[derive(Debug)]
struct Write {
    proposal: Proposal,
    deadline: BootNs,
    // The error to report if no attempt succeeds.
    worst: SubmitError,
    may_forward: bool,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It is tried when another leader is known, or then.
    Waiting { until: BootNs, leader: Option<NodeId> },
    /// It is proposed here.
    Submitted,
    /// The leader has it.
    Forwarded { to: NodeId },
    /// It is committed, and waits for the other nodes.
    Committed,
}

impl Writes {
    pub(super) fn poll_timeout(&self) -> BootNs {
        let due = |write: &Write| match write.stage {
            Stage::Waiting { until, .. } => until.min(write.deadline),
            Stage::Submitted | Stage::Forwarded { .. } | Stage::Committed => write.deadline,
        };
        self.open.values().map(due).min().unwrap_or(BootNs(u64::MAX))
    }
}

impl Member {
    /// A client of this node wants a change, and waits for it at most this long. With `may_forward`
    /// unset another node has forwarded it, because it takes this one for the leader: it is tried
    /// once, here. The answer comes as [`Effect::AnswerWrite`] with this `write`.
    pub fn handle_write(
        &mut self,
        write: CallId,
        proposal: Proposal,
        within_ms: u64,
        may_forward: bool,
        step: &mut Step<'_>,
    ) {
        let deadline = step.now().plus_ms(within_ms);
        let stage = Stage::Waiting { until: step.now(), leader: None };
        let worst = SubmitError::NotLeader;
        let open = Write { proposal, deadline, worst, may_forward, stage };
        self.writes.open.insert(write, open);
        self.try_write(write, step);
    }

    /// The client has gone: nothing is tried for it any more.
    pub fn forget_write(&mut self, write: CallId) {
        self.writes.open.remove(&write);
        self.writes.attempts.retain(|_, of| *of != write);
        self.barriers.forget(write);
    }

    /// Gives up what is late, and tries again what waits for a leader.
    pub(super) fn look_at_writes(&mut self, step: &mut Step<'_>) {
        let (now, leader) = (step.now(), step.around.leader());
        let is_due = |write: &Write| {
            now >= write.deadline
                || match write.stage {
                    Stage::Waiting { until, leader: before } => now >= until || leader != before,
                    // Another leader is known: the old one may hang.
                    Stage::Forwarded { to } => leader != Some(to),
                    Stage::Submitted | Stage::Committed => false,
                }
        };
        let due = self.writes.open.iter().filter(|(_, write)| is_due(write));
        let due: Vec<CallId> = due.map(|(id, _)| *id).collect();
        for id in due {
            self.pursue_write(id, step);
        }
    }

    fn pursue_write(&mut self, id: CallId, step: &mut Step<'_>) {
        let Some(write) = self.writes.open.get_mut(&id) else { return };
        match write.stage {
            Stage::Waiting { .. } => self.try_write(id, step),
            // Neither a change of leaders nor the deadline says what became of it.
            Stage::Submitted | Stage::Forwarded { .. } | Stage::Committed => {
                write.worst = SubmitError::Unknown;
                self.writes.attempts.retain(|_, of| *of != id);
                self.retry_write(id, step);
            }
        }
    }

    fn try_write(&mut self, id: CallId, step: &mut Step<'_>) {
        let Some(write) = self.writes.open.get(&id) else { return };
        if step.now() >= write.deadline {
            let worst = write.worst;
            return self.end_write(id, Err(worst), step);
        }
        let leader = step.around.leader();
        let (proposal, may_forward) = (write.proposal.clone(), write.may_forward);
        let worst = write.worst;
        let timeout_ms = write.deadline.since(step.now()) / 1_000_000;
        let stage = match leader {
            Some(node) if node == self.me => {
                // Proposing needs three things. The entry carries a time stamp, so this leader must
                // have taken the leadership over, which compares its clock. A node whose state
                // differs must not acknowledge writes. And a leader without a lease of its own may
                // have lost its majority: the caller would not learn what became of its entry.
                let is_leased = step.now() < self.holder.until();
                if self.leading_in(step).is_none() || !is_leased || step.around.own().differs {
                    return self.write_failed(id, SubmitError::NotLeader, step);
                }
                // A member of an older version could not read the entry, and would stop at it. The
                // level of a cluster never falls, so a leader that looks proposed no earlier attempt
                // either; one of an older version does not look.
                if proposal.command.level() > step.around.shared().cluster().level {
                    if worst == SubmitError::Unknown {
                        return self.end_write(id, Err(SubmitError::Unknown), step);
                    }
                    let outcome = Outcome::Refused(CommandError::Invalid(LEVEL_TOO_LOW.into()));
                    let written = Written { outcome, applied_on: Vec::new(), waited_ms: 0 };
                    return self.end_write(id, Ok(written), step);
                }
                let call = self.begin_attempt(id);
                step.push(Effect::Submit { call, write: id, proposal: Box::new(proposal) });
                Stage::Submitted
            }
            Some(to) if may_forward => {
                let call = self.begin_attempt(id);
                let proposal = Box::new(proposal);
                step.push(Effect::Forward { call, write: id, to, proposal, timeout_ms });
                Stage::Forwarded { to }
            }
            Some(_) | None => return self.write_failed(id, SubmitError::NotLeader, step),
        };
        if let Some(write) = self.writes.open.get_mut(&id) {
            write.stage = stage;
        }
    }

    fn begin_attempt(&mut self, write: CallId) -> CallId {
        let call = self.next_call();
        self.writes.attempts.insert(call, write);
        call
    }

    /// A proposal on this node has an outcome.
    pub fn handle_submitted(
        &mut self,
        call: CallId,
        result: Result<Submitted, SubmitError>,
        step: &mut Step<'_>,
    ) {
        let Some(id) = self.writes.attempts.remove(&call) else { return };
        match result {
            // Nothing changed, so no node can miss anything.
            Ok(Submitted { outcome: outcome @ Outcome::Refused(_), .. }) => {
                let written = Written { outcome, applied_on: Vec::new(), waited_ms: 0 };
                self.end_write(id, Ok(written), step);
            }
            Ok(Submitted { term, index, outcome }) => {
                if let Some(write) = self.writes.open.get_mut(&id) {
                    write.stage = Stage::Committed;
                }
                self.begin_barrier(id, index, term, outcome, step);
            }
            Err(error) => self.write_failed(id, error, step),
        }
    }

    /// The leader has answered a change that was forwarded to it.
    pub fn handle_forwarded(
        &mut self,
        call: CallId,
        result: Result<Written, SubmitError>,
        step: &mut Step<'_>,
    ) {
        let Some(id) = self.writes.attempts.remove(&call) else { return };
        match result {
            Ok(written) => self.end_write(id, Ok(written), step),
            Err(error) => self.write_failed(id, error, step),
        }
    }

    fn write_failed(&mut self, id: CallId, error: SubmitError, step: &mut Step<'_>) {
        let Some(write) = self.writes.open.get_mut(&id) else { return };
        if !write.may_forward {
            return self.end_write(id, Err(error), step);
        }
        match (error, write.worst) {
            (SubmitError::Unknown | SubmitError::Stopped, _) => {
                write.worst = SubmitError::Unknown;
            }
            // Too much is queued: a retry would make it worse. That this attempt was rejected does
            // not mean that an earlier one was.
            (SubmitError::Busy, SubmitError::Unknown) => {
                return self.end_write(id, Err(SubmitError::Unknown), step);
            }
            (SubmitError::Busy, _) => {
                return self.end_write(id, Err(SubmitError::Busy), step);
            }
            // The leader hands over to a node that can write: worth waiting for.
            (SubmitError::DiskFull, worst) if worst != SubmitError::Unknown => {
                write.worst = SubmitError::Busy;
            }
            (SubmitError::DiskFull | SubmitError::NotLeader, _) => {}
        }
        self.retry_write(id, step);
    }

    fn retry_write(&mut self, id: CallId, step: &mut Step<'_>) {
        self.barriers.forget(id);
        let Some(write) = self.writes.open.get_mut(&id) else { return };
        if step.now() >= write.deadline || !write.may_forward {
            let worst = write.worst;
            return self.end_write(id, Err(worst), step);
        }
        let (until, leader) = (step.now().plus_ms(RETRY_MS), step.around.leader());
        write.stage = Stage::Waiting { until, leader };
    }

    pub(super) fn end_write(
        &mut self,
        write: CallId,
        result: Result<Written, SubmitError>,
        step: &mut Step<'_>,
    ) {
        if self.writes.open.remove(&write).is_some() {
            self.writes.attempts.retain(|_, of| *of != write);
            step.push(Effect::AnswerWrite { write, result });
        }
    }
}
