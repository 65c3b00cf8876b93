//! The handle on consensus.
//!
//! Answers for: starting from a data directory, proposing on the leader, proving leadership,
//! membership, hand-over, and serving the peer calls that are Raft's own. Runs on a small runtime
//! of its own, so that a busy API cannot delay heartbeats.

mod membership;
mod receiving;
mod serve;
#[cfg(feature = "sim")]
mod simulated;
mod start;
mod status;
#[cfg(test)]
mod tests;

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fluxgate_engine::lease::LeaderId;
use fluxgate_engine::member::{SubmitError, Submitted};
use fluxgate_engine::state::Shared;
use fluxgate_engine::state::command::Proposal;
use fluxgate_engine::state::snapshot::Frozen;
use fluxgate_peer::Transport;
use fluxgate_peer::process;
use fluxgate_store::LogStore;
use fluxgate_types::{BootNs, LogIndex, NodeId};
use openraft::ReadPolicy;
use receiving::Receiving;
use tokio::sync::watch;

use crate::batcher::Batcher;
use crate::contacts::ContactWatch;
use crate::disk::Disk;
use crate::log::Appends;
use crate::machine::{Machine, Raft};
use crate::progress::{Leadership, Progress};

pub use membership::MembershipError;
pub use serve::HandleError;
#[cfg(feature = "sim")]
pub use simulated::SimulatedDisk;
pub use start::{ClusterOptions, StartError};
pub use status::{NodeStatus, Role, Status, WriteHealth};

/// The name of the threads on which consensus runs. A panic there leaves the node unable to answer.
pub const CONSENSUS_THREAD: &str = "raft";
/// A leadership that begins within this time after the leader's request counts as handed over.
const HANDED: Duration = Duration::from_secs(5);
struct Inner {
    me: NodeId,
    raft: Raft,
    batcher: Batcher,
    progress: Arc<Progress>,
    changes: Arc<watch::Sender<()>>,
    shared: Arc<Shared>,
    store: LogStore,
    transport: Transport,
    disk: Disk,
    appends: Appends,
    contacts: ContactWatch,
    incoming: Receiving,
    last_append: Mutex<Option<tokio::time::Instant>>,
    /// Committed entries were rejected for lack of room, and there has been none since.
    lacks_entries: AtomicBool,
    /// When a leader last asked this node to lead.
    handed: Mutex<Option<tokio::time::Instant>>,
    /// This incarnation of the node formed the cluster.
    formed_here: AtomicBool,
    runtime: Mutex<Option<tokio::runtime::Runtime>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        // A runtime must not be dropped where that could block; this only detaches it.
        let runtime = self.runtime.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(runtime) = runtime {
            runtime.shutdown_background();
        }
    }
}

/// A cloneable handle on consensus.
#[derive(Clone)]
pub struct RaftHandle {
    inner: Arc<Inner>,
}

impl std::fmt::Debug for RaftHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").field("me", &self.inner.me).finish_non_exhaustive()
    }
}

impl RaftHandle {
    /// From here on this node may stand for election. Before that it casts no vote for itself: its
    /// directory may be an older copy.
    pub fn allow_elections(&self) {
        self.inner.raft.runtime_config().elect(true);
    }

    /// Runs a task on the runtime of consensus.
    pub fn spawn<T: Send + 'static>(
        &self,
        tasks: &mut tokio::task::JoinSet<T>,
        task: impl Future<Output = T> + Send + 'static,
    ) {
        let runtime = self.inner.runtime.lock().unwrap_or_else(PoisonError::into_inner);
        match runtime.as_ref() {
            Some(runtime) => tasks.spawn_on(task, runtime.handle()),
            None => tasks.spawn(process::bind(task)),
        };
    }

    /// The replicated state, for reading.
    #[must_use]
    pub fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.inner.shared)
    }

    #[must_use]
    pub fn me(&self) -> NodeId {
        self.inner.me
    }

    /// Proposes on this node, which must lead. Returns once the command is committed and applied
    /// here; the write barrier is up to the caller.
    ///
    /// # Errors
    /// Says whether the command can still take effect.
    pub async fn submit(&self, proposal: Proposal) -> Result<Submitted, SubmitError> {
        self.inner.batcher.submit(proposal).await
    }

    /// Proves, with a round to a quorum, that this node leads. Returns the index up to which
    /// everything that was ever acknowledged is committed.
    ///
    /// # Errors
    /// When it does not lead, or cannot prove it.
    pub async fn confirm_leadership(&self) -> Result<LogIndex, SubmitError> {
        let read = self.inner.raft.get_read_log_id(ReadPolicy::ReadIndex).await;
        let (read, _) = read.map_err(|_| SubmitError::NotLeader)?;
        Ok(LogIndex(read.index()))
    }

    /// The state between two applies, which shares memory with the live state, and the last entry
    /// applied to it.
    ///
    /// # Errors
    /// When consensus has stopped.
    pub async fn freeze(&self) -> Result<(Frozen, LogIndex), SubmitError> {
        let frozen = self
            .inner
            .raft
            .with_state_machine(|machine: &mut Machine| {
                Box::pin(std::future::ready(machine.freeze()))
            })
            .await;
        frozen.map_err(|_| SubmitError::Stopped)
    }

    /// Last entry applied on this node.
    #[must_use]
    pub fn applied(&self) -> LogIndex {
        self.inner.progress.applied()
    }

    /// Follows the last entry applied on this node.
    #[must_use]
    pub fn watch_applied(&self) -> watch::Receiver<LogIndex> {
        self.inner.progress.watch()
    }

    /// Waits until an entry is applied on this node.
    pub async fn wait_applied(&self, index: LogIndex) {
        let mut applied = self.inner.progress.watch();
        // This handle owns the sender, so only the condition ends the wait.
        applied.wait_for(|applied| *applied >= index).await.ok();
    }

    /// The leadership of the newest entry applied here, and the one before it.
    #[must_use]
    pub fn leaderships(&self) -> (Option<Leadership>, Option<Leadership>) {
        self.inner.progress.leaderships()
    }

    /// When this node can last have acknowledged a leader before this one; `None` if it may
    /// acknowledge one yet.
    #[must_use]
    pub fn last_contact(&self, before: LeaderId) -> Option<BootNs> {
        self.inner.contacts.last_before(before)
    }

    /// When this node last heard from a leader as a follower.
    #[must_use]
    pub fn last_append(&self) -> Option<tokio::time::Instant> {
        *self.inner.last_append.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows changes of the leader, the term, this node's role, the members, and whether
    /// consensus runs. Sees every change after this call.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<()> {
        self.inner.changes.subscribe()
    }

    /// Waits until something that [`Self::subscribe`] reports changes after this call, `at_most` this
    /// long.
    pub async fn wait_for_change(&self, at_most: Duration) {
        tokio::time::timeout(at_most, self.subscribe().changed()).await.ok();
    }

    /// Stops consensus and closes the log. Everything that was acknowledged is on disk.
    pub async fn shutdown(&self) {
        if let Err(error) = self.inner.raft.shutdown().await {
            tracing::warn!(%error, "consensus did not stop cleanly");
        }
        let store = self.inner.store.clone();
        process::blocking(move || store.close()).await.ok();
    }
}
