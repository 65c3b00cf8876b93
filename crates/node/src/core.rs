//! What every part of a running node shares.
//!
//! Owns the handles; decides nothing. Locks here are held for microseconds and never across an
//! await.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use fluxgate_api::paths;
use fluxgate_engine::counters::{KeyLimits, Life, Sources};
use fluxgate_engine::lease::{Granter, Holder, LeaseTerms};
use fluxgate_engine::registry::{Shared, View};
use fluxgate_raft::{Cluster, Transport};
use fluxgate_types::{BootId, BootNs, ClusterMs, DirId, KeyId, LogIndex, NodeId};
use tokio::sync::{Notify, Semaphore, watch};

use crate::clock::{Clock, boot_now};
use crate::config::Config;
use crate::counters::Counters;
use crate::metrics::{HotRoute, Metrics};

/// Backups that are written at one time: each holds the table as it was when it began.
pub(crate) const BACKUPS_MAX: usize = 2;
/// A peer that was silent so often in a row is skipped until it is heard of.
const SILENCES_MAX: u32 = 3;

/// Fills with randomness of the operating system's, or, where time is simulated, of the process'.
///
/// # Errors
/// When the system gives none.
pub(crate) fn fill_random(bytes: &mut [u8]) -> Result<(), getrandom::Error> {
    #[cfg(feature = "sim")]
    if let Some(process) = fluxgate_raft::process::current() {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&process.random().to_le_bytes()[..chunk.len()]);
        }
        return Ok(());
    }
    getrandom::fill(bytes)
}

/// The granter of one term of office.
#[derive(Debug)]
pub(crate) struct InOffice {
    pub(crate) term: u64,
    pub(crate) granter: Granter,
}

/// A node's shared parts.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) config: Config,
    pub(crate) me: NodeId,
    pub(crate) boot: BootId,
    pub(crate) dir_id: DirId,
    pub(crate) terms: LeaseTerms,
    pub(crate) clock: Arc<Clock>,
    pub(crate) cluster: Cluster,
    pub(crate) shared: Arc<Shared>,
    pub(crate) transport: Transport,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) validate_route: HotRoute,
    pub(crate) counters: Counters,
    pub(crate) holder: Mutex<Holder>,
    pub(crate) office: Mutex<Option<InOffice>>,
    /// Something in `office` changed: barriers look again.
    pub(crate) granted: Notify,
    /// The newest entry that a barrier waits for.
    pub(crate) wanted: watch::Sender<LogIndex>,
    life: RwLock<Arc<Life>>,
    lease_until: AtomicU64,
    horizon: AtomicU64,
    silent: Mutex<BTreeMap<NodeId, u32>>,
    // An earlier life noted cluster time: the clock goes on from there, not from the wall clock.
    clock_noted: bool,
    may_vote: AtomicBool,
    /// The cluster knows this node with another data directory: it must end.
    pub(crate) other_directory: Notify,
    /// Files of certificates may have changed.
    pub(crate) look_at_files: Notify,
    /// Places for backups that are being written.
    pub(crate) backups: Arc<Semaphore>,
    leaving: AtomicBool,
    stopping: AtomicBool,
    /// What other nodes last said of themselves.
    pub(crate) heard: RwLock<BTreeMap<NodeId, crate::peer::messages::About>>,
}

/// The parts that a core is made of.
pub(crate) struct Parts {
    pub(crate) config: Config,
    pub(crate) boot: BootId,
    pub(crate) dir_id: DirId,
    pub(crate) clock: Arc<Clock>,
    pub(crate) cluster: Cluster,
    pub(crate) transport: Transport,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) life: Life,
    pub(crate) clock_noted: bool,
}

impl Core {
    pub(crate) fn new(parts: Parts) -> Self {
        let config = parts.config;
        let terms =
            LeaseTerms { lease_ms: config.lease_ms, clock_error_ms_max: config.clock_error_ms_max };
        Self {
            me: config.node_id,
            boot: parts.boot,
            dir_id: parts.dir_id,
            terms,
            clock: parts.clock,
            shared: parts.cluster.shared(),
            cluster: parts.cluster,
            transport: parts.transport,
            validate_route: parts.metrics.hot_route(paths::VALIDATE, "POST"),
            metrics: parts.metrics,
            counters: Counters::new(&config),
            holder: Mutex::default(),
            office: Mutex::default(),
            granted: Notify::new(),
            wanted: watch::Sender::new(LogIndex(0)),
            life: RwLock::new(Arc::new(parts.life)),
            lease_until: AtomicU64::new(0),
            horizon: AtomicU64::new(0),
            silent: Mutex::default(),
            clock_noted: parts.clock_noted,
            may_vote: AtomicBool::new(false),
            other_directory: Notify::new(),
            look_at_files: Notify::new(),
            backups: Arc::new(Semaphore::new(BACKUPS_MAX)),
            leaving: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            heard: RwLock::default(),
            config,
        }
    }

    /// This life, as it is now.
    pub(crate) fn life(&self) -> Arc<Life> {
        Arc::clone(&self.life.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces this life by a changed one; `change` says whether it changed anything.
    pub(crate) fn change_life(&self, change: impl FnOnce(&mut Life) -> bool) {
        let mut slot = self.life.write().unwrap_or_else(PoisonError::into_inner);
        let mut life = Life::clone(&slot);
        if change(&mut life) {
            life.lives_tag = life.lives.tag();
            *slot = Arc::new(life);
        }
    }

    /// Notes the life of a peer. False if a newer one is known: then the message is late.
    pub(crate) fn note_life(&self, node: NodeId, boot: BootId) -> bool {
        match self.life().lives.of(node) {
            Some(known) if known == boot => true,
            Some(known) if known > boot => false,
            Some(_) | None => {
                self.change_life(|life| life.lives.note(node, boot));
                true
            }
        }
    }

    /// A call to a peer brought no answer. One that is slow once is not gone: it may hold tokens.
    pub(crate) fn note_silence(&self, node: NodeId, refused: bool) {
        let silences = {
            let mut silent = self.silent.lock().unwrap_or_else(PoisonError::into_inner);
            let count = silent.entry(node).or_default();
            *count = count.saturating_add(1);
            *count
        };
        if refused || silences >= SILENCES_MAX {
            self.note_reachable(node, false);
        }
    }

    /// Notes whether a peer can be reached.
    pub(crate) fn note_reachable(&self, node: NodeId, reachable: bool) {
        if reachable {
            self.silent.lock().unwrap_or_else(PoisonError::into_inner).remove(&node);
        }
        if self.life().peers.contains(&(node, !reachable)) {
            self.change_life(|life| {
                for peer in life.peers.iter_mut().filter(|peer| peer.0 == node) {
                    peer.1 = reachable;
                }
                true
            });
        }
    }

    /// The lease is valid before this moment.
    pub(crate) fn lease_until(&self) -> BootNs {
        BootNs(self.lease_until.load(Ordering::Acquire))
    }

    /// Takes the holder's word over, after any change of it.
    pub(crate) fn publish_lease(&self, holder: &Holder) {
        self.lease_until.store(holder.until().0, Ordering::Release);
        self.horizon.store(holder.horizon().0, Ordering::Release);
    }

    /// Whether the lease is valid now. Reads the clock: call it at the decision itself.
    pub(crate) fn is_leased(&self, boot: BootNs) -> bool {
        boot < self.lease_until() && !self.is_stopping()
    }

    /// This node has said that it is about to stop; it still works.
    pub(crate) fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Acquire)
    }

    pub(crate) fn begin_leaving(&self) {
        self.leaving.store(true, Ordering::Release);
    }

    /// This node is on its way out: it takes no new work.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    pub(crate) fn begin_stopping(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    /// Whether this node takes part in consensus: not before it is known that no other data
    /// directory did so under its id.
    pub(crate) fn may_vote(&self) -> bool {
        self.may_vote.load(Ordering::Acquire)
    }

    pub(crate) fn allow_votes(&self) {
        self.may_vote.store(true, Ordering::Release);
    }

    /// Another node called this one by another data directory: what runs here has forgotten what
    /// its id promised. It takes part in nothing any more.
    pub(crate) fn refuse_directory(&self) {
        self.may_vote.store(false, Ordering::Release);
        self.begin_stopping();
        self.other_directory.notify_one();
    }

    /// What cluster time has reached as far as this node knows, whatever the wall clock says,
    /// nanoseconds.
    pub(crate) fn clock_floor_ns(&self) -> u64 {
        let stamp_ns = self.shared.last_stamp().0.saturating_mul(1_000_000);
        if self.clock_noted { stamp_ns.max(self.clock.now_ns()) } else { stamp_ns }
    }

    /// What the counters need to know of a key.
    pub(crate) fn key_limits(&self, view: &View, key: &KeyId) -> Option<KeyLimits> {
        self.shared.table.with(key, |entry| KeyLimits {
            created: entry.record.created_index,
            limits: Arc::clone(entry.record.limits(&view.defaults)),
        })
    }

    pub(crate) fn now(&self) -> ClusterMs {
        self.clock.now()
    }

    /// Why this node would not answer validates now; `None` when it would.
    pub(crate) fn not_ready(&self) -> Option<&'static str> {
        if self.is_leaving() {
            Some("this node is stopping")
        } else if boot_now() >= self.lease_until() {
            Some("this node holds no lease from the leader")
        } else if self.now().0 >= self.horizon.load(Ordering::Acquire) {
            Some("this node may open no window before it hears from the leader")
        } else if self.shared.view().share_maps.is_empty() {
            Some("the cluster has no share map yet")
        } else {
            None
        }
    }
}

impl Sources for Core {
    fn lease_until(&self) -> BootNs {
        if self.is_stopping() { BootNs(0) } else { Self::lease_until(self) }
    }

    fn horizon(&self) -> ClusterMs {
        ClusterMs(self.horizon.load(Ordering::Acquire))
    }

    fn boot(&self) -> BootNs {
        boot_now()
    }

    fn cluster_at(&self, boot: BootNs) -> ClusterMs {
        self.clock.at(boot)
    }

    fn view(&self) -> Arc<View> {
        self.shared.view()
    }

    fn life(&self) -> Arc<Life> {
        Self::life(self)
    }
}
