//! The replicated state: keys, default limits, share maps, nodes and the audit trail.
//!
//! Answers for: what every committed command does, the same on every node. [`Registry::apply`]
//! never panics on what an entry says, never looks at a clock (time is the entry's stamp), and
//! is called by one thread at a time. What the validate path reads lives in [`Shared`], behind
//! locks that are held for microseconds.

mod apply;
pub mod audit;
mod census;
pub mod command;
mod idempotency;
mod put;
pub mod record;
pub mod snapshot;
pub mod table;

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use fluxgate_types::{ClusterMs, DirId, NodeId, caps};

use crate::share::ShareMap;
use audit::AuditLog;
use command::{Outcome, Remembered};
use idempotency::Idempotency;
use record::LimitSpec;
use table::KeyTable;

/// A member of the cluster, as the replicated state knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeRecord {
    /// The data directory that runs under this id; another one is refused a lease.
    pub dir_id: DirId,
    /// Removed from the cluster: kept, because its last lease may outlive its membership.
    pub removed: bool,
}

/// The small part of the state, replaced whole when it changes.
#[derive(Clone, Debug)]
pub struct View {
    /// Limits of every key without limits of its own.
    pub defaults: Arc<[LimitSpec]>,
    /// Share maps in the order in which they count; the first counts from the beginning.
    pub share_maps: Vec<ShareMap>,
    /// Nodes by id, removed ones included.
    pub nodes: BTreeMap<NodeId, NodeRecord>,
}

impl View {
    /// The map under which a window that starts at `start` is opened.
    #[must_use]
    pub fn map_at(&self, start: ClusterMs) -> Option<&ShareMap> {
        self.share_maps.iter().rev().find(|map| map.from <= start)
    }
}

/// What the rest of the node may read at any time.
#[derive(Debug)]
pub struct Shared {
    /// Every key.
    pub table: KeyTable,
    view: RwLock<Arc<View>>,
    audit: RwLock<AuditLog>,
    last_stamp_ms: AtomicU64,
}

impl Shared {
    fn new() -> Self {
        let view = View { defaults: Arc::new([]), share_maps: Vec::new(), nodes: BTreeMap::new() };
        Self {
            table: KeyTable::default(),
            view: RwLock::new(Arc::new(view)),
            audit: RwLock::new(AuditLog::default()),
            last_stamp_ms: AtomicU64::new(0),
        }
    }

    /// The newest stamp applied: a leader without a clock of its own begins there.
    #[must_use]
    pub fn last_stamp(&self) -> ClusterMs {
        ClusterMs(self.last_stamp_ms.load(Ordering::Acquire))
    }

    /// The current view.
    #[must_use]
    pub fn view(&self) -> Arc<View> {
        Arc::clone(&self.view.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the audit trail under its lock.
    pub fn with_audit<R>(&self, read: impl FnOnce(&AuditLog) -> R) -> R {
        read(&self.audit.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn change_view(&self, change: impl FnOnce(&mut View)) {
        let mut slot = self.view.write().unwrap_or_else(PoisonError::into_inner);
        let mut view = View::clone(&slot);
        change(&mut view);
        *slot = Arc::new(view);
    }

    fn change_audit<R>(&self, change: impl FnOnce(&mut AuditLog) -> R) -> R {
        change(&mut self.audit.write().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The replicated state, with what only `apply` needs.
#[derive(Debug)]
pub struct Registry {
    shared: Arc<Shared>,
    /// The newest stamp applied: time never runs backwards in the state.
    last_stamp: ClusterMs,
    idempotency: Idempotency,
    outcomes: BTreeMap<u128, Remembered>,
    outcomes_order: VecDeque<u128>,
}

impl Default for Registry {
    fn default() -> Self {
        Self {
            shared: Arc::new(Shared::new()),
            last_stamp: ClusterMs(0),
            idempotency: Idempotency::default(),
            outcomes: BTreeMap::new(),
            outcomes_order: VecDeque::new(),
        }
    }
}

impl Registry {
    /// What others may read.
    #[must_use]
    pub fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    /// The newest stamp applied.
    #[must_use]
    pub fn last_stamp(&self) -> ClusterMs {
        self.last_stamp
    }

    fn set_stamp(&mut self, stamp: ClusterMs) {
        self.last_stamp = self.last_stamp.max(stamp);
        self.shared.last_stamp_ms.store(self.last_stamp.0, Ordering::Release);
    }

    fn remember_outcome(&mut self, request: u128, outcome: &Outcome) {
        let Some(remembered) = Remembered::of(outcome) else { return };
        self.outcomes.insert(request, remembered);
        self.outcomes_order.push_back(request);
        if self.outcomes_order.len() > caps::REQUEST_IDS_MAX {
            let oldest = self.outcomes_order.pop_front();
            oldest.map(|request| self.outcomes.remove(&request));
        }
    }
}
