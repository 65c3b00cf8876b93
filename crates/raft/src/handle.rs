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

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fluxgate_engine::member::{SubmitError, Submitted};
use fluxgate_engine::state::Shared;
use fluxgate_engine::state::command::Proposal;
use fluxgate_engine::state::snapshot::Frozen;
use fluxgate_peer::Transport;
use fluxgate_peer::process;
use fluxgate_store::{DataDir, LogStore, Observer, OpenError, Recovered, SnapshotStore};
use fluxgate_types::{ClusterMs, LogIndex, NodeId};
use openraft::{Config, ReadPolicy, ServerState, SnapshotPolicy};
use receiving::Receiving;
use tokio::sync::watch;

use crate::batcher::Batcher;
use crate::disk::Disk;
use crate::log::{Appends, Log};
use crate::machine::{Machine, Raft};
use crate::network::Factory;
use crate::progress::{Leadership, Progress};

pub use membership::MembershipError;
pub use serve::HandleError;
#[cfg(feature = "sim")]
pub use simulated::SimulatedDisk;

/// The name of the threads on which consensus runs. A panic there leaves the node unable to answer.
pub const CONSENSUS_THREAD: &str = "raft";
/// Threads of Raft's own runtime.
const THREADS: usize = 2;
/// Entries kept before a snapshot, so that a follower slightly behind needs no snapshot.
const ENTRIES_KEPT: u64 = 5_000;
/// Bytes of the newest entries kept in memory, from which followers that keep up are served.
const TAIL_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Entries removed from the log at one time, unless snapshots are more frequent.
const PURGE_BATCH: u64 = 256;
/// Entries in one replication message, and in one append to the disk.
const APPEND_ENTRIES_MAX: u64 = 300;

/// How consensus is set up.
pub struct ClusterOptions {
    pub me: NodeId,
    pub cluster: String,
    /// Heartbeat, milliseconds.
    pub heartbeat_ms: u64,
    /// Shortest and longest election timeout, milliseconds.
    pub election_ms: (u64, u64),
    /// Number of entries after which a snapshot is made.
    pub snapshot_every: u64,
    /// Calls to the other nodes.
    pub transport: Transport,
    /// Cluster time, for the stamps of entries.
    pub now: Arc<dyn Fn() -> ClusterMs + Send + Sync>,
    /// Notified of every sync of the log.
    pub observer: Arc<dyn Observer>,
    /// A log in memory instead of on disk.
    #[cfg(feature = "sim")]
    pub simulated: Option<SimulatedDisk>,
}

/// Why consensus did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory is damaged, in use or not this node's.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Its parts do not fit together.
    #[error(
        "the data directory is damaged: {0}; nothing was changed: remove this node from the cluster, then add it with a new id and an empty directory"
    )]
    Damaged(String),
    #[error("raft settings: {0}")]
    Settings(String),
    #[error("cannot start consensus: {0}")]
    Io(#[from] io::Error),
}

/// Whether a node can write new entries to its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteHealth {
    Fine,
    DiskFull,
    /// The oldest append has waited too long for the disk.
    Stalled,
}

/// A leadership that begins within this time after the leader's request counts as handed over.
const HANDED: Duration = Duration::from_secs(5);
/// An append that the disk has not confirmed for this long counts as stalled.
const STALLED: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Leader,
    /// Follows, and votes.
    Follower,
    Candidate,
    /// Follows without a vote.
    Learner,
    Stopped,
}

impl Role {
    /// The name, as shown to people.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Leader => "leader",
            Self::Follower => "follower",
            Self::Candidate => "candidate",
            Self::Learner => "learner",
            Self::Stopped => "stopped",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeStatus {
    pub address: String,
    pub votes: bool,
    /// How far the leader has replicated to it; known on the leader only.
    pub matched: Option<LogIndex>,
}

/// What this node knows of consensus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    pub role: Role,
    pub term: u64,
    /// The leader, as far as this node knows.
    pub leader: Option<NodeId>,
    pub last_log: LogIndex,
    /// Last entry known to be committed.
    pub committed: LogIndex,
    /// Last entry applied on this node.
    pub applied: LogIndex,
    /// Last entry covered by a snapshot.
    pub snapshot: LogIndex,
    pub nodes: BTreeMap<NodeId, NodeStatus>,
    /// The voters before and after a change that is under way: until it ends, everything needs a
    /// majority of both.
    pub changing: Option<(Vec<NodeId>, Vec<NodeId>)>,
    /// Why consensus has stopped, if it has.
    pub fatal: Option<String>,
}

struct Inner {
    me: NodeId,
    raft: Raft,
    batcher: Batcher,
    progress: Arc<Progress>,
    news: Arc<watch::Sender<()>>,
    shared: Arc<Shared>,
    store: LogStore,
    transport: Transport,
    disk: Disk,
    appends: Appends,
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

fn settings(options: &ClusterOptions) -> Result<Arc<Config>, StartError> {
    let (min, max) = options.election_ms;
    let config = Config {
        cluster_name: options.cluster.clone(),
        heartbeat_interval: options.heartbeat_ms,
        heartbeat_min_interval: Some(0),
        election_timeout_min: min,
        election_timeout_max: max,
        // Not before it is known that this directory may vote: see `allow_elections`.
        enable_elect: false,
        enable_pre_vote: Some(true),
        // A restarted leader must be elected again: its knowledge may be old.
        enable_leader_restore: Some(false),
        // A leader without a quorum must not block a connected majority (openraft #2080).
        quorum_loss_probe_interval: Some(2 * max),
        max_payload_entries: APPEND_ENTRIES_MAX,
        max_append_entries: Some(4 * APPEND_ENTRIES_MAX),
        snapshot_policy: SnapshotPolicy::LogsSinceLast(options.snapshot_every),
        max_in_snapshot_log_to_keep: ENTRIES_KEPT.min(options.snapshot_every / 2),
        replication_lag_threshold: options.snapshot_every
            + ENTRIES_KEPT.min(options.snapshot_every),
        purge_batch_size: PURGE_BATCH.min(options.snapshot_every / 4).max(1),
        install_snapshot_timeout: 120_000,
        // A follower whose log is shorter than what it acknowledged is sent what it lacks. Whether
        // its directory may take part at all is checked before (`node/join`).
        allow_log_reversion: Some(true),
        ..Config::default()
    };
    let config = config.validate().map_err(|error| StartError::Settings(error.to_string()))?;
    Ok(Arc::new(config))
}

/// Opens the log, if it continues from where the newest snapshot ends.
fn open_log(
    data: &DataDir,
    options: &ClusterOptions,
    applied: Option<crate::types::LogId>,
) -> Result<(LogStore, Recovered), StartError> {
    let store_options =
        fluxgate_store::Options { tail_bytes_max: TAIL_BYTES_MAX, ..Default::default() };
    // Checked BEFORE this start is counted: a directory that is rejected stays as it is.
    let fits = |recovered: &Recovered| {
        let purged = recovered.purged.as_ref();
        if purged.is_some_and(|(index, _)| applied.is_none_or(|id| id.index < *index)) {
            return Err("it begins behind the newest sound snapshot".to_owned());
        }
        Log::decode(recovered.vote.as_deref(), recovered.committed.as_deref())
            .map(drop)
            .map_err(|error| error.to_string())
    };
    #[cfg(feature = "sim")]
    if let Some(disk) = &options.simulated {
        return Ok(simulated::open_log(data, disk, store_options, fits)?);
    }
    #[cfg(not(feature = "sim"))]
    let _ = options;
    Ok(LogStore::open_if(data, store_options, fits)?)
}

/// Reports the changes that callers wait for. openraft's own watch also reports every entry.
async fn tell_news(raft: Raft, news: Arc<watch::Sender<()>>) {
    use openraft::async_runtime::watch::WatchReceiver as _;
    let mut metrics = raft.metrics();
    let mut before = None;
    loop {
        let now = {
            let m = metrics.borrow_watched();
            let members = *m.membership_config.log_id();
            (m.state, m.current_term, m.current_leader, members, m.running_state.is_ok())
        };
        if before.as_ref() != Some(&now) {
            before = Some(now);
            news.send_replace(());
        }
        if metrics.changed().await.is_err() {
            return;
        }
    }
}

impl RaftHandle {
    /// Opens the log and the snapshots of a data directory and starts consensus on a runtime of its
    /// own. Blocks while the state is rebuilt.
    ///
    /// # Errors
    /// When the directory's content is not what was written there.
    pub fn start(data: &DataDir, options: ClusterOptions) -> Result<Self, StartError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name(CONSENSUS_THREAD)
            .enable_all()
            .build()?;
        let cluster = runtime.block_on(Self::start_here(data, options))?;
        *cluster.inner.runtime.lock().unwrap_or_else(PoisonError::into_inner) = Some(runtime);
        Ok(cluster)
    }

    /// The same on the current runtime.
    ///
    /// # Errors
    /// As for [`RaftHandle::start`].
    pub async fn start_here(data: &DataDir, options: ClusterOptions) -> Result<Self, StartError> {
        let config = settings(&options)?;
        let snapshots = SnapshotStore::open(data).map_err(io::Error::other)?;
        let progress = Arc::new(Progress::default());
        let disk = Disk::new(data.path().to_path_buf());
        #[cfg(feature = "sim")]
        let disk = options.simulated.as_ref().map_or(disk, simulated::room);
        let machine = Machine::open(snapshots.clone(), disk.clone(), Arc::clone(&progress))?;
        let (store, recovered) = open_log(data, &options, machine.applied())?;
        store.set_observer(Arc::clone(&options.observer));
        let shared = machine.registry().shared();
        let appends = Appends::default();
        let log = Log::new(
            store.clone(),
            appends.clone(),
            recovered.vote.as_deref(),
            recovered.committed.as_deref(),
        )
        .map_err(|error| StartError::Damaged(error.to_string()))?;
        let factory = Factory(options.transport.clone());
        let news = Arc::new(watch::Sender::new(()));
        let raft = Raft::new(options.me.0, config, factory, log, machine).await;
        let raft = raft.map_err(|error| StartError::Damaged(error.to_string()))?;
        tokio::spawn(process::bind(tell_news(raft.clone(), Arc::clone(&news))));
        let batcher = Batcher::start(raft.clone(), disk.clone(), options.now);
        let inner = Inner {
            me: options.me,
            raft,
            batcher,
            progress,
            news,
            shared,
            store,
            transport: options.transport,
            disk,
            appends,
            incoming: Receiving::new(snapshots),
            last_append: Mutex::new(None),
            lacks_entries: AtomicBool::new(false),
            handed: Mutex::default(),
            formed_here: AtomicBool::new(false),
            runtime: Mutex::new(None),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

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

    /// When this node last heard from a leader as a follower.
    #[must_use]
    pub fn last_append(&self) -> Option<tokio::time::Instant> {
        *self.inner.last_append.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes of the log on its disk, and free bytes there, if known. Takes as long as the disk
    /// does.
    pub async fn look_at_disk(&self) -> (u64, Option<u64>) {
        self.inner.disk.has_room().await;
        let store = self.inner.store.clone();
        let log = process::blocking(move || store.size_on_disk()).await.unwrap_or(0);
        (log, self.inner.disk.free_bytes())
    }

    /// Queries the disk for room, for [`RaftHandle::write_health`]. Takes as long as the disk does.
    pub async fn look_at_room(&self) {
        if self.inner.disk.has_room().await {
            self.inner.lacks_entries.store(false, Ordering::Relaxed);
        }
    }

    /// Whether this node lacks committed entries because its disk is full. With a lease it would
    /// delay every write until the lease ends.
    #[must_use]
    pub fn lacks_entries(&self) -> bool {
        self.inner.lacks_entries.load(Ordering::Relaxed)
    }

    /// Free bytes on the disk of the data directory at the last query.
    #[must_use]
    pub fn free_bytes(&self) -> Option<u64> {
        self.inner.disk.free_bytes()
    }

    /// Whether this node can write new entries, as far as it knows.
    #[must_use]
    pub fn write_health(&self) -> WriteHealth {
        if !self.inner.disk.had_room() {
            WriteHealth::DiskFull
        } else if self.inner.appends.oldest().is_some_and(|waits| waits > STALLED) {
            WriteHealth::Stalled
        } else {
            WriteHealth::Fine
        }
    }

    /// What this node knows of consensus.
    #[must_use]
    pub fn status(&self) -> Status {
        let metrics = self.inner.raft.metrics();
        let metrics = openraft::async_runtime::watch::WatchReceiver::borrow_watched(&metrics);
        let index = |id: &Option<crate::types::LogId>| LogIndex(id.as_ref().map_or(0, |i| i.index));
        let fatal = metrics.running_state.as_ref().err().map(ToString::to_string);
        let role = match metrics.state {
            _ if fatal.is_some() => Role::Stopped,
            ServerState::Leader => Role::Leader,
            ServerState::Follower => Role::Follower,
            ServerState::Candidate => Role::Candidate,
            ServerState::Learner => Role::Learner,
            ServerState::Shutdown => Role::Stopped,
        };
        let membership = metrics.membership_config.membership();
        let voters: std::collections::BTreeSet<u64> = membership.voter_ids().collect();
        let matched = |id: &u64| {
            let at = metrics.replication.as_ref()?.get(id)?.as_ref()?;
            Some(LogIndex(at.index))
        };
        let node = |(id, node): (&u64, &openraft::BasicNode)| {
            let (address, votes) = (node.addr.clone(), voters.contains(id));
            (NodeId(*id), NodeStatus { address, votes, matched: matched(id) })
        };
        let configs = membership.get_joint_config();
        let ids = |voters: &std::collections::BTreeSet<u64>| -> Vec<NodeId> {
            voters.iter().copied().map(NodeId).collect()
        };
        let changing = match configs.as_slice() {
            [old, .., new] => Some((ids(old), ids(new))),
            _ => None,
        };
        Status {
            role,
            changing,
            term: metrics.current_term,
            leader: metrics.current_leader.map(NodeId),
            last_log: LogIndex(metrics.last_log_index.unwrap_or(0)),
            committed: index(&metrics.local_committed).max(index(&metrics.cluster_committed)),
            applied: self.applied(),
            snapshot: index(&metrics.snapshot),
            nodes: membership.nodes().map(node).collect(),
            fatal,
        }
    }

    /// The term in which this node leads, if it does.
    #[must_use]
    pub fn leads_in(&self) -> Option<u64> {
        let metrics = self.inner.raft.metrics();
        let metrics = openraft::async_runtime::watch::WatchReceiver::borrow_watched(&metrics);
        (metrics.state == ServerState::Leader).then_some(metrics.current_term)
    }

    /// The leader, as far as this node knows.
    #[must_use]
    pub fn leader(&self) -> Option<NodeId> {
        let metrics = self.inner.raft.metrics();
        openraft::async_runtime::watch::WatchReceiver::borrow_watched(&metrics)
            .current_leader
            .map(NodeId)
    }

    /// Follows changes of the leader, the term, this node's role, the members, and whether
    /// consensus runs. Sees every change after this call.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<()> {
        self.inner.news.subscribe()
    }

    /// Waits for such a change from this call on, `at_most` this long.
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
