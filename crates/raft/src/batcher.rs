//! Collects many proposals into one log entry.
//!
//! Answers for: while an entry is in flight, proposals collect; when it completes, they go into the
//! next one. An entry costs much more than a command in it, so a second one leaves before that only
//! when it is full. There is no timer, so a lone proposal is not delayed. The queue in front is
//! bounded: when it is full, callers get an error at once.

use std::sync::Arc;

use fluxgate_engine::member::{SubmitError, Submitted};
use fluxgate_engine::state::command::{Batch, Outcome as Done, Proposal};
use fluxgate_peer::process;
use fluxgate_types::{ClusterMs, LogIndex, caps};
use fluxgate_wire::{self as wire, Shaped as _};
use openraft::error::{ClientWriteError, RaftError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::disk::Disk;
use crate::machine::Raft;
use crate::types::Data;

/// Entries of proposals that may be in flight at the same time.
const PIPELINE: u32 = 2;

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

/// The proposals of the next entry.
#[derive(Default)]
struct Collected {
    batch: Vec<Proposal>,
    answers: Vec<Answer>,
    bytes: usize,
    // The first proposal of the entry after it.
    held: Option<(Proposal, Answer)>,
}

impl Collected {
    fn is_full(&self) -> bool {
        self.held.is_some() || self.batch.len() == caps::COMMANDS_PER_ENTRY_MAX
    }

    /// Adds a proposal, or holds it back if it does not fit. Call while the entry is not full.
    fn push(&mut self, (proposal, answer): (Proposal, Answer)) {
        let bytes = size(&proposal);
        if !self.batch.is_empty() && self.bytes + bytes > caps::ENTRY_BYTES_MAX {
            self.held = Some((proposal, answer));
            return;
        }
        self.bytes += bytes;
        self.batch.push(proposal);
        self.answers.push(answer);
    }

    /// The entry. What was held back is the first of the next one.
    fn take(&mut self) -> Self {
        let mut taken = std::mem::take(self);
        taken.held.take().into_iter().for_each(|first| self.push(first));
        taken
    }
}

/// Collects proposals until the entry may leave: at once while none is in flight, otherwise when it is
/// full. Returns its place in the pipeline; `None` once no proposal can come.
async fn collect(
    next: &mut Collected,
    proposals: &mut mpsc::Receiver<(Proposal, Answer)>,
    pipeline: &Arc<Semaphore>,
) -> Option<OwnedSemaphorePermit> {
    if next.batch.is_empty() {
        next.push(proposals.recv().await?);
    }
    let mut is_open = true;
    loop {
        while !next.is_full()
            && let Ok(proposal) = proposals.try_recv()
        {
            next.push(proposal);
        }
        if next.is_full() {
            return Arc::clone(pipeline).acquire_owned().await.ok();
        }
        tokio::select! {
            // All places are free: no entry is in flight.
            all = Arc::clone(pipeline).acquire_many_owned(PIPELINE) => return all.ok()?.split(1),
            more = proposals.recv(), if is_open => match more {
                Some(proposal) => next.push(proposal),
                None => is_open = false,
            },
        }
    }
}

async fn run(
    raft: Raft,
    disk: Disk,
    now: Arc<dyn Fn() -> ClusterMs + Send + Sync>,
    mut proposals: mpsc::Receiver<(Proposal, Answer)>,
) {
    let pipeline = Arc::new(Semaphore::new(PIPELINE as usize));
    let mut next = Collected::default();
    loop {
        let Some(place) = collect(&mut next, &mut proposals, &pipeline).await else { return };
        let Collected { batch, answers, .. } = next.take();
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use fluxgate_engine::state::command::{Actor, Command};
    use tokio::time::timeout;

    use super::*;

    fn proposal() -> (Proposal, Answer) {
        let command = Command::SetDefaults { limits: Vec::new() };
        let actor = Actor::Operator;
        let proposal = Proposal { request: 1, actor, presented: None, from: None, command };
        (proposal, oneshot::channel().0)
    }

    /// As many as these wait; the size of the entry that leaves, and its place.
    async fn leaves(
        next: &mut Collected,
        waiting: usize,
        pipeline: &Arc<Semaphore>,
    ) -> Option<(usize, OwnedSemaphorePermit)> {
        let (queue, mut proposals) = mpsc::channel(caps::PROPOSALS_QUEUED_MAX);
        for _ in 0..waiting {
            queue.try_send(proposal()).unwrap();
        }
        let collected = collect(next, &mut proposals, pipeline);
        // The clock is paused: this ends once nothing else can run.
        let place = timeout(Duration::from_secs(1), collected).await.ok()??;
        Some((next.take().batch.len(), place))
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_entry_leaves_before_the_first_is_done_only_when_it_is_full() {
        let (pipeline, mut next) = (Arc::new(Semaphore::new(2)), Collected::default());
        let (count, first) = leaves(&mut next, 1, &pipeline).await.unwrap();
        assert_eq!(count, 1, "a lone proposal is not delayed");
        assert!(leaves(&mut next, 5, &pipeline).await.is_none());
        assert_eq!(next.batch.len(), 5, "they collect");
        drop(first);
        let (count, first) = leaves(&mut next, 2, &pipeline).await.unwrap();
        assert_eq!(count, 7);
        let full = caps::COMMANDS_PER_ENTRY_MAX;
        let (count, second) = leaves(&mut next, full, &pipeline).await.unwrap();
        assert_eq!(count, full);
        assert!(leaves(&mut next, full, &pipeline).await.is_none(), "both places are taken");
        drop(second);
        assert_eq!(leaves(&mut next, 0, &pipeline).await.unwrap().0, full);
        drop(first);
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_fit_is_the_first_of_the_next_entry() {
        let (pipeline, mut next) = (Arc::new(Semaphore::new(2)), Collected::default());
        next.push(proposal());
        next.bytes = caps::ENTRY_BYTES_MAX;
        assert_eq!(leaves(&mut next, 3, &pipeline).await.unwrap().0, 1);
        assert_eq!(next.batch.len(), 1, "held back");
        assert_eq!(leaves(&mut next, 1, &pipeline).await.unwrap().0, 2);
    }
}
