//! Collects many proposals into one log entry.
//!
//! Answers for: while the pipeline is full, proposals collect; when an entry completes, all waiting
//! proposals go into the next one. There is no timer, so a lone proposal is not delayed. The queue
//! in front is bounded: when it is full, callers get an error at once.

use std::sync::Arc;

use fluxgate_engine::member::{SubmitError, Submitted};
use fluxgate_engine::state::command::{Batch, Outcome as Done, Proposal};
use fluxgate_peer::process;
use fluxgate_types::{ClusterMs, LogIndex, caps};
use fluxgate_wire::{self as wire, Shaped as _};
use openraft::error::{ClientWriteError, RaftError};
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::disk::Disk;
use crate::machine::Raft;
use crate::types::Data;

/// Entries of proposals that may be in flight at the same time.
const PIPELINE: usize = 2;

type Answer = oneshot::Sender<Result<Submitted, SubmitError>>;

/// Queues proposals for the leader on this node.
#[derive(Clone, Debug)]
pub(crate) struct Batcher {
    queue: mpsc::Sender<(Proposal, Answer)>,
}

impl Batcher {
    /// Starts the task that forms batches; it ends with the last handle. `now` stamps them.
    pub(crate) fn start(
        raft: Raft,
        disk: Disk,
        now: Arc<dyn Fn() -> ClusterMs + Send + Sync>,
    ) -> Self {
        let (queue, proposals) = mpsc::channel(caps::PROPOSALS_QUEUED_MAX);
        tokio::spawn(process::bind(run(raft, disk, now, proposals)));
        Self { queue }
    }

    /// Proposes a command on this node, which must lead.
    pub(crate) async fn submit(&self, proposal: Proposal) -> Result<Submitted, SubmitError> {
        let (answer, wait) = oneshot::channel();
        self.queue.try_send((proposal, answer)).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => SubmitError::Busy,
            mpsc::error::TrySendError::Closed(_) => SubmitError::Stopped,
        })?;
        wait.await.unwrap_or(Err(SubmitError::Unknown))
    }
}

async fn run(
    raft: Raft,
    disk: Disk,
    now: Arc<dyn Fn() -> ClusterMs + Send + Sync>,
    mut proposals: mpsc::Receiver<(Proposal, Answer)>,
) {
    let pipeline = Arc::new(Semaphore::new(PIPELINE));
    let mut held: Option<(Proposal, Answer)> = None;
    loop {
        let Some(first) = (match held.take() {
            Some(first) => Some(first),
            None => proposals.recv().await,
        }) else {
            return;
        };
        let Ok(place) = Arc::clone(&pipeline).acquire_owned().await else {
            return;
        };
        let mut bytes = size(&first.0);
        let (mut batch, mut answers) = (vec![first.0], vec![first.1]);
        while batch.len() < caps::COMMANDS_PER_ENTRY_MAX {
            let Ok((proposal, answer)) = proposals.try_recv() else {
                break;
            };
            bytes += size(&proposal);
            if bytes > caps::ENTRY_BYTES_MAX {
                held = Some((proposal, answer));
                break;
            }
            batch.push(proposal);
            answers.push(answer);
        }
        let batch = Arc::new(Batch { at: now(), proposals: batch });
        let (raft, disk) = (raft.clone(), disk.clone());
        tokio::spawn(process::bind(async move {
            let result = if disk.has_room().await {
                write(&raft, batch).await
            } else {
                Err(SubmitError::DiskFull)
            };
            drop(place);
            share(result, answers);
        }));
    }
}

fn size(proposal: &Proposal) -> usize {
    wire::encode(&proposal.to_shape()).map_or(caps::ENTRY_BYTES_MAX, |bytes| bytes.len())
}

struct Written {
    term: u64,
    index: LogIndex,
    outcomes: Vec<Done>,
}

async fn write(raft: &Raft, batch: Arc<Batch>) -> Result<Written, SubmitError> {
    match raft.client_write(Data(batch)).await {
        Ok(written) => {
            let term = written.log_id.leader_id.term;
            let applied = written.data.0.ok_or(SubmitError::Unknown)?;
            Ok(Written { term, index: applied.index, outcomes: applied.outcomes })
        }
        Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_))) => {
            Err(SubmitError::NotLeader)
        }
        Err(RaftError::APIError(
            ClientWriteError::LogEntryDiscarded(_)
            | ClientWriteError::ChangeMembershipError(_)
            | ClientWriteError::PreconditionFailed(_),
        )) => Err(SubmitError::Unknown),
        Err(RaftError::Fatal(_)) => Err(SubmitError::Stopped),
    }
}

fn share(result: Result<Written, SubmitError>, answers: Vec<Answer>) {
    match result {
        Ok(Written { term, index, outcomes }) => {
            for (outcome, answer) in outcomes.into_iter().zip(answers) {
                // A caller that left needs no answer; its write remains.
                answer.send(Ok(Submitted { term, index, outcome })).ok();
            }
        }
        Err(error) => answers.into_iter().for_each(|answer| {
            answer.send(Err(error)).ok();
        }),
    }
}
