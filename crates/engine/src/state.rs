//! The replicated state: keys, default limits, share maps, nodes and the audit trail.
//!
//! Answers for: the effect of every committed command, the same on every node. [`Registry::apply`]
//! never panics on the content of an entry, never reads a clock (time is the entry's stamp), and
//! is called by one thread at a time. The validate path reads [`Shared`], behind locks that are
//! held for microseconds.

mod actor;
mod apply;
pub mod audit;
mod census;
mod changes;
pub mod cluster_state;
pub mod command;
mod digest;
pub mod entry;
pub mod erase;
pub mod governing;
mod idempotency;
pub mod in_force;
mod kind;
mod level;
mod limits;
pub mod named;
mod nodes;
mod put;
mod put_named;
pub mod record;
mod refusal;
pub mod repeats;
mod row;
pub mod snapshot;
mod start_id;
pub mod table;
pub mod terms;

use std::collections::{BTreeMap, VecDeque};
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use arc_swap::ArcSwap;
use fluxgate_types::{ClusterMs, DirId, LogIndex, NodeId, Subject, SubjectSeed, caps};

use crate::share_map::ShareMap;
use audit::AuditLog;
use cluster_state::ClusterState;
use command::Outcome;
use digest::Digests;
use entry::KeyEntry;
use idempotency::Idempotency;
use named::{Named, NamedKind, NamedTable};
use record::LimitSpec;
use repeats::Remembered;
use table::KeyTable;

pub use digest::DIGESTS_KEPT;

/// A member of the cluster, as the replicated state knows it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NodeRecord {
    /// The data directory that runs under this id; a node with another one gets no lease.
    pub dir_id: DirId,
    /// Whether it was removed from the cluster: kept, since its last lease may outlive membership.
    pub removed: bool,
}

/// The small part of the state, replaced as a whole on change.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// The limits of every key without its own and without a plan: those of the plan `default` that
    /// deny.
    pub defaults: Arc<[LimitSpec]>,
    /// Those of the plan `default` in mode shadow.
    pub shadow: Arc<[LimitSpec]>,
    /// The subjects of the pools of the plan `default`.
    pub pools: Arc<[Subject]>,
    /// Share maps in the order in which they apply; the first applies from the beginning.
    pub share_maps: Vec<ShareMap>,
    /// Nodes by id, removed ones included.
    pub nodes: BTreeMap<NodeId, NodeRecord>,
    /// The key of the hash of subjects that have a name; none before the cluster knows such subjects.
    pub seed: Option<SubjectSeed>,
}

impl View {
    /// The map under which a window that starts at `start` is opened.
    #[must_use]
    pub fn map_at(&self, start: ClusterMs) -> Option<&ShareMap> {
        self.share_maps.iter().rev().find(|map| map.from <= start)
    }
}

/// The state that the rest of the node may read at any time.
#[derive(Debug)]
pub struct Shared {
    /// Every key.
    pub table: KeyTable,
    /// Every record with a name.
    pub named: NamedTable,
    view: ArcSwap<View>,
    cluster: RwLock<Arc<ClusterState>>,
    // The digests of the view and of the cluster state, and of the whole state after each of the
    // newest entries.
    view_digest: AtomicU64,
    cluster_digest: AtomicU64,
    digests: RwLock<Digests>,
    audit: RwLock<AuditLog>,
    last_stamp_ms: AtomicU64,
    // Counts changes of plans.
    plans_changed: AtomicU64,
}

impl Shared {
    fn new() -> Self {
        let view = View::default();
        Self {
            table: KeyTable::default(),
            named: NamedTable::default(),
            view: ArcSwap::from_pointee(view),
            cluster: RwLock::default(),
            view_digest: AtomicU64::new(0),
            cluster_digest: AtomicU64::new(0),
            digests: RwLock::default(),
            audit: RwLock::new(AuditLog::default()),
            last_stamp_ms: AtomicU64::new(0),
            plans_changed: AtomicU64::new(0),
        }
    }

    /// A number that is another one after each change of a plan. Read it BEFORE the plans.
    fn plans_changed(&self) -> u64 {
        self.plans_changed.load(Ordering::Acquire)
    }

    /// Call it AFTER a change of a plan, or of what plans name.
    fn note_plans_changed(&self) {
        self.plans_changed.fetch_add(1, Ordering::Release);
    }

    /// How many keys and how many records name this one.
    #[must_use]
    pub fn uses(&self, kind: NamedKind, name: &str) -> (usize, usize) {
        (self.table.uses(kind, name), self.named.uses(kind, name))
    }

    /// Reads what governs a key: limits that deny, limits in mode shadow, and pools.
    pub fn with_in_force<R>(
        &self,
        view: &View,
        key: &KeyEntry,
        read: impl FnOnce(&Arc<[LimitSpec]>, &Arc<[LimitSpec]>, &[Subject]) -> R,
    ) -> R {
        match key.governing() {
            None => read(&view.defaults, &view.shadow, &view.pools),
            Some(governing) => self.in_force(governing, |in_force| {
                read(&in_force.limits, &in_force.shadow, &in_force.pools)
            }),
        }
    }

    /// The limits that govern a key, without those in mode shadow.
    #[must_use]
    pub fn limits_of(&self, view: &View, key: &KeyEntry) -> Arc<[LimitSpec]> {
        self.with_in_force(view, key, |limits, _, _| Arc::clone(limits))
    }

    /// The newest stamp applied: a leader whose clock was never set starts no earlier.
    #[must_use]
    pub fn last_stamp(&self) -> ClusterMs {
        ClusterMs(self.last_stamp_ms.load(Ordering::Acquire))
    }

    /// The current view.
    #[must_use]
    pub fn view(&self) -> Arc<View> {
        self.view.load_full()
    }

    /// The current view, for one step: cheaper than [`Shared::view`], because it writes to no memory
    /// that other threads use. Do not keep it.
    #[must_use]
    pub fn view_now(&self) -> impl Deref<Target = Arc<View>> + use<> {
        self.view.load()
    }

    /// The record of a key's owner, if there is one.
    #[must_use]
    pub fn owner_of(&self, view: &View, key: &KeyEntry) -> Option<Arc<Named>> {
        if self.named.count(NamedKind::Owner) == 0 {
            return None;
        }
        let (seed, owner) = (view.seed.as_ref()?, key.owner()?);
        self.named.get(&NamedKind::Owner.subject(seed, owner))
    }

    /// What the cluster has agreed on about itself.
    #[must_use]
    pub fn cluster(&self) -> Arc<ClusterState> {
        Arc::clone(&self.cluster.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The newest applied entry, and the digest of the state after it.
    #[must_use]
    pub fn digest(&self) -> Option<(LogIndex, u64)> {
        self.digests.read().unwrap_or_else(PoisonError::into_inner).newest()
    }

    /// The digest of the state after exactly this entry; `None` if the entry is not applied or its
    /// digest is not kept. Kept are the digests of the last [`DIGESTS_KEPT`] entries with commands
    /// since the last installed snapshot.
    #[must_use]
    pub fn digest_at(&self, index: LogIndex) -> Option<u64> {
        self.digests.read().unwrap_or_else(PoisonError::into_inner).at(index)
    }

    /// Reads the audit trail under its lock.
    pub fn with_audit<R>(&self, read: impl FnOnce(&AuditLog) -> R) -> R {
        read(&self.audit.read().unwrap_or_else(PoisonError::into_inner))
    }

    // Only the one thread that applies calls this.
    fn change_view(&self, change: impl FnOnce(&mut View)) {
        // The default limits are in the view.
        self.table.change(|| {
            let mut view = View::clone(&self.view.load());
            change(&mut view);
            let maps = (&view.defaults, &view.share_maps, &view.nodes);
            // Without a seed as in earlier versions, which have none.
            let seed = view.seed.map_or(0, |seed| digest::of(4, &seed));
            let digest = digest::of(1, &maps).wrapping_add(seed);
            self.view_digest.store(digest, Ordering::Relaxed);
            self.view.store(Arc::new(view));
        });
    }

    fn change_cluster(&self, change: impl FnOnce(&mut ClusterState)) {
        let mut slot = self.cluster.write().unwrap_or_else(PoisonError::into_inner);
        let mut cluster = ClusterState::clone(&slot);
        change(&mut cluster);
        self.cluster_digest.store(digest::of(2, &cluster), Ordering::Relaxed);
        *slot = Arc::new(cluster);
    }

    fn change_digests(&self, change: impl FnOnce(&mut Digests)) {
        change(&mut self.digests.write().unwrap_or_else(PoisonError::into_inner));
    }

    /// Keeps the digest of the current state, after this entry.
    fn keep_digest(&self, index: LogIndex) {
        let digest = self
            .table
            .digest()
            .wrapping_add(self.named.digest())
            .wrapping_add(self.view_digest.load(Ordering::Relaxed))
            .wrapping_add(self.cluster_digest.load(Ordering::Relaxed));
        self.change_digests(|digests| digests.push(index, digest));
    }

    fn change_audit<R>(&self, change: impl FnOnce(&mut AuditLog) -> R) -> R {
        change(&mut self.audit.write().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The replicated state, with the data that only `apply` needs.
#[derive(Debug)]
pub struct Registry {
    shared: Arc<Shared>,
    /// The newest stamp applied: time in the state never runs backwards.
    last_stamp: ClusterMs,
    idempotency: Idempotency,
    outcomes: BTreeMap<u128, Remembered>,
    outcomes_order: VecDeque<(u128, ClusterMs)>,
}

/// An empty state at the newest level.
impl Default for Registry {
    fn default() -> Self {
        Self::at_level(cluster_state::LEVEL)
    }
}

impl Registry {
    /// An empty state at a level. A log always begins at level 1: a program that knows only that
    /// level may have written its first entries.
    #[must_use]
    pub fn at_level(level: u32) -> Self {
        let shared = Shared::new();
        shared.change_cluster(|cluster| cluster.level = level);
        // Its digest is that of an empty view, as after a snapshot of one.
        shared.change_view(|_| ());
        Self {
            shared: Arc::new(shared),
            last_stamp: ClusterMs(0),
            idempotency: Idempotency::default(),
            outcomes: BTreeMap::new(),
            outcomes_order: VecDeque::new(),
        }
    }
}

impl Registry {
    /// The part that other threads may read.
    #[must_use]
    pub fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    /// The newest stamp applied.
    #[must_use]
    pub fn last_stamp(&self) -> ClusterMs {
        self.last_stamp
    }

    /// An entry without a command was applied: the state is unchanged.
    pub fn pass(&mut self, index: LogIndex) {
        self.shared.change_digests(|digests| digests.pass(index));
    }

    fn set_stamp(&mut self, stamp: ClusterMs) {
        self.last_stamp = self.last_stamp.max(stamp);
        self.shared.last_stamp_ms.store(self.last_stamp.0, Ordering::Release);
    }

    fn remember_outcome(&mut self, request: u128, outcome: &Outcome) {
        let Some(remembered) = Remembered::of(outcome) else { return };
        self.outcomes.insert(request, remembered);
        self.outcomes_order.push_back((request, self.last_stamp));
        // Since level 2 outcomes expire by time: no node repeats a proposal for longer.
        let (most, kept_ms) = if self.shared.cluster().level < 2 {
            (caps::REQUEST_IDS_MAX_BEFORE, u64::MAX)
        } else {
            (caps::REQUEST_IDS_MAX, caps::REQUEST_IDS_TTL_MS)
        };
        while let Some((oldest, at)) = self.outcomes_order.front().copied() {
            if self.outcomes_order.len() <= most && self.last_stamp - at <= kept_ms {
                break;
            }
            self.outcomes.remove(&oldest);
            self.outcomes_order.pop_front();
        }
    }
}
