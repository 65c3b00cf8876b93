//! What every part of a running node shares.
//!
//! Owns the handles; decides nothing. Locks here are held for microseconds and never across an
//! await.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use fluxgate_api::paths;
use fluxgate_engine::lease::{Granter, LeaseHolder, LeaseTerms, TermsWatch};
use fluxgate_engine::quota::{Incarnation, KeyLimits, Sources};
use fluxgate_engine::state::cluster_state::StartId;
use fluxgate_engine::state::{Shared, View};
use fluxgate_peer::Transport;
use fluxgate_raft::{RaftHandle, WriteHealth};
use fluxgate_store::DataDir;
use fluxgate_store::starts::Starts;
use fluxgate_types::{BootId, BootNs, ClusterMs, DirId, KeyId, LogIndex, NodeId};
use tokio::sync::{Notify, Semaphore, watch};

use crate::agreement::Agreement;
use crate::clock::{Clock, boot_now};
use crate::config::Config;
use crate::counters::Counters;
use crate::metrics::{HotRoute, Metrics};
use crate::node::last_uses::LastUses;
use crate::reason::Strangers;
use fluxgate_wire::peer::{LeaseRefusal, More};

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
    if let Some(process) = fluxgate_peer::process::current() {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&process.random().to_le_bytes()[..chunk.len()]);
        }
        return Ok(());
    }
    getrandom::fill(bytes)
}

/// The granter of one term of office.
#[derive(Debug)]
pub(crate) struct LeaderTerm {
    pub(crate) term: u64,
    pub(crate) granter: Granter,
}

/// A node's shared parts.
#[derive(Debug)]
pub(crate) struct NodeState {
    pub(crate) config: Config,
    pub(crate) me: NodeId,
    boot: AtomicU64,
    /// Tells two starts with the same number apart: of two copies of one directory.
    pub(crate) nonce: u64,
    pub(crate) dir_id: DirId,
    terms: Mutex<TermsWatch>,
    pub(crate) clock: Arc<Clock>,
    pub(crate) raft: RaftHandle,
    pub(crate) shared: Arc<Shared>,
    pub(crate) data: Arc<DataDir>,
    pub(crate) transport: Transport,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) validate_route: HotRoute,
    pub(crate) counters: Counters,
    pub(crate) holder: Mutex<LeaseHolder>,
    pub(crate) leadership: Mutex<Option<LeaderTerm>>,
    /// Something in `leadership` changed: barriers look again.
    pub(crate) granted: Notify,
    /// The newest entry that a barrier waits for.
    pub(crate) wanted: watch::Sender<LogIndex>,
    incarnation: RwLock<Arc<Incarnation>>,
    lease_until: AtomicU64,
    horizon: AtomicU64,
    silent: Mutex<BTreeMap<NodeId, u32>>,
    // An earlier life noted cluster time: the clock goes on from there, not from the wall clock.
    clock_noted: bool,
    may_vote: AtomicBool,
    /// Why this node must end: the cluster knows a later start of it, or another directory.
    ended: Mutex<Option<crate::node::NodeError>>,
    /// `ended` was set.
    pub(crate) must_end: Notify,
    /// The lease is to be renewed now.
    pub(crate) renew_now: Notify,
    /// Why the leader last refused a lease; none since one was granted.
    pub(crate) lease_refusal: Mutex<Option<LeaseRefusal>>,
    /// Whether this node's state is that of the other nodes.
    pub(crate) agreement: Agreement,
    // The starts that the data directory remembers. Locked while the file is written, twice in a
    // life; no request looks at it.
    starts: Mutex<Starts>,
    // Peers that know only messages of version 1.
    older: Mutex<BTreeSet<NodeId>>,
    /// Files of certificates may have changed.
    pub(crate) look_at_files: Notify,
    /// The drain of a stop is to end now.
    pub(crate) end_drain: Notify,
    /// Callers with another cluster secret.
    pub(crate) strangers: Strangers,
    /// Why no cluster is formed although enough nodes are there: their wall clocks differ.
    pub(crate) clocks_differ: Mutex<Option<String>>,
    /// When keys were last used, on the disk.
    pub(crate) last_uses: LastUses,
    /// Places for backups that are being written.
    pub(crate) backups: Arc<Semaphore>,
    leaving: AtomicBool,
    stopping: AtomicBool,
    /// What other nodes last said of themselves.
    pub(crate) heard: RwLock<BTreeMap<NodeId, fluxgate_wire::peer::About>>,
    /// What they said beyond it, where they know how to.
    pub(crate) heard_more: RwLock<BTreeMap<NodeId, More>>,
}

/// The parts that a core is made of.
pub(crate) struct NodeStateParts {
    pub(crate) config: Config,
    pub(crate) boot: BootId,
    pub(crate) nonce: u64,
    pub(crate) dir_id: DirId,
    pub(crate) clock: Arc<Clock>,
    pub(crate) raft: RaftHandle,
    pub(crate) data: Arc<DataDir>,
    pub(crate) transport: Transport,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) incarnation: Incarnation,
    pub(crate) clock_noted: bool,
    pub(crate) starts: Starts,
}

impl NodeState {
    pub(crate) fn new(parts: NodeStateParts) -> Self {
        let config = parts.config;
        Self {
            me: config.node_id,
            boot: AtomicU64::new(parts.boot.0),
            nonce: parts.nonce,
            dir_id: parts.dir_id,
            terms: Mutex::new(TermsWatch::new(config.lease_terms())),
            clock: parts.clock,
            shared: parts.raft.shared(),
            data: parts.data,
            raft: parts.raft,
            transport: parts.transport,
            validate_route: parts.metrics.hot_route(paths::VALIDATE, "POST"),
            metrics: parts.metrics,
            counters: Counters::new(&config),
            holder: Mutex::default(),
            leadership: Mutex::default(),
            granted: Notify::new(),
            wanted: watch::Sender::new(LogIndex(0)),
            incarnation: RwLock::new(Arc::new(parts.incarnation)),
            lease_until: AtomicU64::new(0),
            horizon: AtomicU64::new(0),
            silent: Mutex::default(),
            clock_noted: parts.clock_noted,
            may_vote: AtomicBool::new(false),
            ended: Mutex::default(),
            must_end: Notify::new(),
            renew_now: Notify::new(),
            lease_refusal: Mutex::default(),
            agreement: Agreement::default(),
            starts: Mutex::new(parts.starts),
            older: Mutex::default(),
            look_at_files: Notify::new(),
            end_drain: Notify::new(),
            strangers: Strangers::default(),
            clocks_differ: Mutex::default(),
            last_uses: LastUses::default(),
            backups: Arc::new(Semaphore::new(BACKUPS_MAX)),
            leaving: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            heard: RwLock::default(),
            heard_more: RwLock::default(),
            config,
        }
    }

    /// The number of this start of the node.
    pub(crate) fn boot(&self) -> BootId {
        BootId(self.boot.load(Ordering::Acquire))
    }

    /// Counts on above the starts of an earlier directory under this id. Before anything of this
    /// start was said to anybody.
    pub(crate) fn count_on_from(&self, boot: BootId) {
        if let Err(error) = self.data.count_on(boot.0) {
            tracing::error!(%error, "the number of this start was not written");
            return;
        }
        self.boot.store(boot.0, Ordering::Release);
        self.change_incarnation(|incarnation| {
            incarnation.incarnations.note(incarnation.me, boot);
            // The earlier directory may have spent the shares of windows that are open.
            incarnation.entitlement = None;
            true
        });
    }

    /// Notes on the disk that this start is about to ask to be registered. Blocks.
    ///
    /// # Errors
    /// What the system said: a registered start that its directory does not remember would be taken
    /// for one of a copy.
    pub(crate) fn note_asking(&self) -> std::io::Result<()> {
        self.change_starts(|starts, own| starts.ask(own))
    }

    /// Notes on the disk that this start is registered. Blocks.
    ///
    /// # Errors
    /// What the system said; nothing is wrong then.
    pub(crate) fn note_registered(&self) -> std::io::Result<()> {
        self.change_starts(|starts, own| starts.confirm(own))
    }

    fn change_starts(
        &self,
        change: impl FnOnce(&mut Starts, (u64, u64)) -> bool,
    ) -> std::io::Result<()> {
        let own = (self.boot().0, self.nonce);
        let mut slot = self.starts.lock().unwrap_or_else(PoisonError::into_inner);
        let mut starts = slot.clone();
        if change(&mut starts, own) {
            self.data.write_starts(&starts)?;
            *slot = starts;
        }
        Ok(())
    }

    /// Whether the start that somebody knows as this node's newest one was made from this directory.
    pub(crate) fn made(&self, newest: StartId) -> bool {
        let starts = self.starts.lock().unwrap_or_else(PoisonError::into_inner);
        newest == self.start_id() || starts.made((newest.boot.0, newest.nonce))
    }

    /// This start of the node.
    pub(crate) fn start_id(&self) -> StartId {
        StartId { boot: self.boot(), nonce: self.nonce }
    }

    /// The lease terms that this node grants and renews by, and the longest ones whose promises may
    /// not have ended.
    pub(crate) fn terms(&self) -> (LeaseTerms, LeaseTerms) {
        let now = boot_now();
        let cluster = self.shared.cluster();
        let mut watch = self.terms.lock().unwrap_or_else(PoisonError::into_inner);
        watch.observe(now, &cluster.terms);
        (watch.in_force(), watch.cautious(now))
    }

    /// The lease terms in force.
    pub(crate) fn terms_in_force(&self) -> LeaseTerms {
        self.terms().0
    }

    /// Whether a peer may be sent messages of version 2. One that has not been asked may.
    pub(crate) fn speaks_2(&self, peer: NodeId) -> bool {
        !self.older.lock().unwrap_or_else(PoisonError::into_inner).contains(&peer)
    }

    /// Notes what an answer, or its absence, says of a peer's version.
    pub(crate) fn note_speaks_2(&self, peer: NodeId, speaks: bool) {
        let mut older = self.older.lock().unwrap_or_else(PoisonError::into_inner);
        if speaks {
            older.remove(&peer);
        } else {
            older.insert(peer);
        }
    }

    /// This life, as it is now.
    pub(crate) fn incarnation(&self) -> Arc<Incarnation> {
        Arc::clone(&self.incarnation.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces this life by a changed one; `change` says whether it changed anything.
    pub(crate) fn change_incarnation(&self, change: impl FnOnce(&mut Incarnation) -> bool) {
        let mut slot = self.incarnation.write().unwrap_or_else(PoisonError::into_inner);
        let mut incarnation = Incarnation::clone(&slot);
        if change(&mut incarnation) {
            incarnation.incarnations_tag = incarnation.incarnations.tag();
            *slot = Arc::new(incarnation);
        }
    }

    /// Notes the life of a peer. False if a newer one is known: then the message is late.
    pub(crate) fn note_incarnation(&self, node: NodeId, boot: BootId) -> bool {
        match self.incarnation().incarnations.of(node) {
            Some(known) if known == boot => true,
            Some(known) if known > boot => false,
            Some(_) | None => {
                self.change_incarnation(|incarnation| incarnation.incarnations.note(node, boot));
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
        if self.incarnation().peers.contains(&(node, !reachable)) {
            self.change_incarnation(|incarnation| {
                for peer in incarnation.peers.iter_mut().filter(|peer| peer.0 == node) {
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
    pub(crate) fn publish_lease(&self, holder: &LeaseHolder) {
        // Known BEFORE the lease counts: what this life may use follows from its first lease.
        if self.incarnation().first_lease != holder.first() {
            self.change_incarnation(|incarnation| {
                incarnation.first_lease = holder.first();
                true
            });
        }
        // A node whose state differs from the others' answers nothing, whatever it was granted.
        let until = if self.agreement.differs() { 0 } else { holder.until().0 };
        self.lease_until.store(until, Ordering::Release);
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
        self.raft.allow_elections();
        self.may_vote.store(true, Ordering::Release);
    }

    /// What runs here is not what the cluster knows under this id: it takes part in nothing any
    /// more, and ends.
    pub(crate) fn end(&self, why: crate::node::NodeError) {
        self.may_vote.store(false, Ordering::Release);
        self.begin_stopping();
        self.ended.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(why);
        self.must_end.notify_one();
    }

    /// Why this node must end.
    pub(crate) fn why_ended(&self) -> Option<crate::node::NodeError> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Whether an earlier start of this node noted cluster time.
    pub(crate) fn clock_noted(&self) -> bool {
        self.clock_noted
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

    /// Whether the current window may be opened, as far as this node has heard from a leader.
    pub(crate) fn may_open_windows(&self) -> bool {
        self.now().0 < self.horizon.load(Ordering::Acquire)
    }

    /// Notes whether the wall clocks keep the cluster from being formed.
    pub(crate) fn note_clocks(&self, differ: Option<String>) {
        *self.clocks_differ.lock().unwrap_or_else(PoisonError::into_inner) = differ;
    }

    /// Why no cluster is formed, where that is for the wall clocks.
    pub(crate) fn clocks_differ(&self) -> Option<String> {
        self.clocks_differ.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Why this node has no lease, where more is known than that.
    fn no_lease_because(&self) -> Option<&'static str> {
        if self.raft.write_health() == WriteHealth::DiskFull {
            return Some(
                "the disk is full: this node can store no new entries, and holds no lease",
            );
        }
        let refusal = self.lease_refusal.lock().unwrap_or_else(PoisonError::into_inner);
        refusal.as_ref().map(|refusal| match refusal {
            LeaseRefusal::Behind => "this node is behind: it must catch up before it gets a lease",
            LeaseRefusal::Removed(_) => "this node was removed from the cluster",
            LeaseRefusal::OtherDirectory(_) => {
                "the cluster knows this node with another data directory"
            }
            LeaseRefusal::Older { .. } => "the cluster knows a later start of this node",
            LeaseRefusal::Differs => "the leader's state differs from that of the other nodes",
            LeaseRefusal::CountOn { .. } | LeaseRefusal::Other(_) => {
                "this node holds no lease from the leader"
            }
        })
    }

    /// Why this node would not answer validates now; `None` when it would.
    pub(crate) fn not_ready(&self) -> Option<&'static str> {
        if self.is_leaving() {
            Some("this node is stopping")
        } else if self.agreement.differs() {
            Some("this node's state differs from that of the other nodes: see its log")
        } else if boot_now() >= self.lease_until()
            && let Some(why) = self.no_lease_because()
        {
            Some(why)
        } else if boot_now() >= self.lease_until() {
            Some("this node holds no lease from the leader")
        } else if !self.may_open_windows() {
            Some("this node may open no window before it hears from the leader")
        } else if self.shared.view().share_maps.is_empty() {
            Some("the cluster has no share map yet")
        } else {
            None
        }
    }
}

impl Sources for NodeState {
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

    fn incarnation(&self) -> Arc<Incarnation> {
        Self::incarnation(self)
    }
}
