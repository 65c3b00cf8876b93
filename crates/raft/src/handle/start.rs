//! Starts consensus from a data directory.

use std::io;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

use fluxgate_peer::{Transport, process};
use fluxgate_store::{DataDir, LogStore, Observer, OpenError, Recovered, SnapshotStore};
use fluxgate_types::{BootNs, ClusterMs, NodeId};
use openraft::{Config, SnapshotPolicy};
use tokio::sync::watch;

use super::receiving::Receiving;
#[cfg(feature = "sim")]
use super::simulated::{self, SimulatedDisk};
use super::{CONSENSUS_THREAD, Inner, RaftHandle};
use crate::batcher::Batcher;
use crate::contacts::ContactWatch;
use crate::disk::Disk;
use crate::log::{Appends, Log};
use crate::machine::{Machine, Raft};
use crate::network::Factory;
use crate::progress::Progress;

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
    /// The boot clock.
    pub boot_now: fn() -> BootNs,
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
async fn watch_changes(raft: Raft, changes: Arc<watch::Sender<()>>) {
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
            changes.send_replace(());
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
        // The directory is open: no earlier process of it acknowledges anything from here on.
        let contacts = ContactWatch::new(options.me, options.boot_now);
        let log = Log::new(
            store.clone(),
            appends.clone(),
            contacts.clone(),
            recovered.vote.as_deref(),
            recovered.committed.as_deref(),
        )
        .map_err(|error| StartError::Damaged(error.to_string()))?;
        let factory = Factory(options.transport.clone());
        let changes = Arc::new(watch::Sender::new(()));
        let raft = Raft::new(options.me.0, config, factory, log, machine).await;
        let raft = raft.map_err(|error| StartError::Damaged(error.to_string()))?;
        tokio::spawn(process::bind(watch_changes(raft.clone(), Arc::clone(&changes))));
        let batcher = Batcher::start(raft.clone(), disk.clone(), options.now);
        let inner = Inner {
            me: options.me,
            raft,
            batcher,
            progress,
            changes,
            shared,
            store,
            transport: options.transport,
            disk,
            appends,
            contacts,
            incoming: Receiving::new(snapshots),
            last_append: Mutex::new(None),
            lacks_entries: AtomicBool::new(false),
            handed: Mutex::default(),
            formed_here: AtomicBool::new(false),
            runtime: Mutex::new(None),
        };
        Ok(Self { inner: Arc::new(inner) })
    }
}
