//! Changes to the replicated state: forwarded to the leader, committed, and past the write barrier
//! before the caller gets the result.

use std::sync::Arc;
use std::time::Duration;

use fluxgate_engine::member::SubmitError;
use fluxgate_engine::state::Shared;
use fluxgate_engine::state::audit::Action;
use fluxgate_engine::state::command::{Actor, Command, Outcome, Proposal};
use fluxgate_types::SubjectSeed;
use fluxgate_wire::raft::{ProposeReplyV1, ProposeV1};
use tokio::time::Instant;

use crate::config::Config;
use crate::member::MemberDriver;
use crate::metrics::Metrics;
use crate::proposal::proposal;
use crate::random::fill_random;

pub use fluxgate_engine::member::Written;

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

/// How long an operation that writes only an audit line waits for it. A cluster that accepts no
/// writes must still give a backup.
const NOTE_TIMEOUT: Duration = Duration::from_secs(2);

/// Changes to the replicated state, wherever the leader is.
#[derive(Debug)]
pub struct Writes {
    parts: WriteParts,
    request_timeout: Duration,
}

/// The parts of the node that its writes use.
#[derive(Debug)]
pub struct WriteParts {
    pub member: Arc<MemberDriver>,
    pub shared: Arc<Shared>,
    pub metrics: Arc<Metrics>,
}

impl Writes {
    pub fn new(config: &Config, parts: WriteParts) -> Self {
        Self { parts, request_timeout: config.request_timeout }
    }

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
        let written = if self.parts.shared.cluster().level < action.level() {
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

    /// Gives the cluster the key of its hash of names, unless it has one. Call it only if every member
    /// knows it.
    ///
    /// # Errors
    /// As for any write, and `Busy` if the operating system has no random bytes.
    pub async fn seed_names(&self, within: Duration) -> Result<(), WriteError> {
        if self.parts.shared.view().seed.is_some() {
            return Ok(());
        }
        let mut seed = SubjectSeed([0; 16]);
        if let Err(error) = fill_random(&mut seed.0) {
            tracing::warn!(%error, "no random bytes for the hash of names");
            return Err(WriteError::Busy);
        }
        // Another node may have been faster: the first seed counts.
        let command = Command::SetSeed { seed };
        self.write(proposal(Actor::System, None, command), within).await.map(|_| ())
    }

    /// Makes a change, wherever the leader is, and waits for the write barrier. Retries after a
    /// change of leaders: the state machine answers a repeat with the first outcome.
    pub async fn write(&self, proposal: Proposal, within: Duration) -> Result<Written, WriteError> {
        let begun = Instant::now();
        let result =
            self.parts.member.commit(proposal, within, true).await.map_err(|error| match error {
                SubmitError::NotLeader => WriteError::NoLeader,
                SubmitError::Busy | SubmitError::DiskFull => WriteError::Busy,
                SubmitError::Unknown | SubmitError::Stopped => WriteError::Unknown,
            });
        self.parts.metrics.proposed(match &result {
            Ok(Written { outcome: Outcome::Refused(_), .. }) => "refused",
            Ok(_) => "committed",
            Err(WriteError::NoLeader | WriteError::Busy) => "no_leader",
            Err(WriteError::Unknown) => "unknown",
        });
        self.parts.metrics.proposal_seconds.observe(begun.elapsed().as_secs_f64());
        result
    }

    /// Serves a proposal that another node forwarded. It is not forwarded again.
    pub async fn handle_propose(&self, call: ProposeV1) -> ProposeReplyV1 {
        let wait = Duration::from_millis(call.wait_ms).min(self.request_timeout);
        match self.parts.member.commit(call.proposal, wait, false).await {
            Ok(Written { outcome, applied_on, waited_ms }) => {
                ProposeReplyV1::Done { outcome: Box::new(outcome), applied_on, waited_ms }
            }
            Err(SubmitError::NotLeader) => ProposeReplyV1::NotLeader,
            Err(SubmitError::Busy | SubmitError::DiskFull) => ProposeReplyV1::Busy,
            Err(SubmitError::Unknown | SubmitError::Stopped) => ProposeReplyV1::Unknown,
        }
    }
}
