//! What requests read without a lock of the member: the lease, the incarnation, cluster time.
//!
//! Answers for: each read returns the newest value that the member published. Must never change
//! one by itself.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::ArcSwap;
use fluxgate_engine::quota::{Incarnation, Sources};
use fluxgate_engine::state::{Shared, View};
use fluxgate_types::{BootNs, ClusterMs};

use crate::clock::{Clock, boot_now};
use crate::lifecycle::Lifecycle;

#[derive(Debug)]
pub struct Published {
    clock: Arc<Clock>,
    shared: Arc<Shared>,
    lifecycle: Arc<Lifecycle>,
    incarnation: ArcSwap<Incarnation>,
    lease_until: AtomicU64,
    horizon: AtomicU64,
    // Some peer has left a call unanswered since it was last heard.
    has_silences: AtomicBool,
}

impl Published {
    pub fn new(
        clock: Arc<Clock>,
        shared: Arc<Shared>,
        lifecycle: Arc<Lifecycle>,
        incarnation: Incarnation,
    ) -> Self {
        Self {
            clock,
            shared,
            lifecycle,
            incarnation: ArcSwap::from_pointee(incarnation),
            lease_until: AtomicU64::new(0),
            horizon: AtomicU64::new(0),
            has_silences: AtomicBool::new(false),
        }
    }

    /// The current incarnation of this node.
    pub fn incarnation(&self) -> Arc<Incarnation> {
        self.incarnation.load_full()
    }

    /// Publishes the incarnation, if it has changed.
    pub(crate) fn publish_incarnation(&self, incarnation: &Arc<Incarnation>) {
        if !Arc::ptr_eq(&self.incarnation(), incarnation) {
            self.incarnation.store(Arc::clone(incarnation));
        }
    }

    /// Whether some peer left a call unanswered.
    pub fn has_silences(&self) -> bool {
        self.has_silences.load(Ordering::Acquire)
    }

    /// Publishes whether some peer left a call unanswered. Call it with the member's lock held:
    /// otherwise an older answer could hide a newer silence, and the peer would stay unreachable.
    pub(crate) fn publish_silences(&self, has_silences: bool) {
        self.has_silences.store(has_silences, Ordering::Release);
    }

    /// The lease is valid before this moment.
    pub fn lease_until(&self) -> BootNs {
        BootNs(self.lease_until.load(Ordering::Acquire))
    }

    /// Publishes this node's lease for those that take no lock. Call it AFTER the incarnation and
    /// the clock are published.
    pub(crate) fn publish_lease(&self, until: BootNs, horizon: ClusterMs) {
        self.lease_until.store(until.0, Ordering::Release);
        self.horizon.store(horizon.0, Ordering::Release);
    }

    /// Whether the lease is valid at `boot`. Read the clock at the decision itself.
    pub fn is_leased(&self, boot: BootNs) -> bool {
        boot < self.lease_until() && !self.lifecycle.is_stopping()
    }

    pub fn now(&self) -> ClusterMs {
        self.clock.now()
    }

    /// Whether the current window begins before the horizon that a leader last sent.
    pub fn may_open_windows(&self) -> bool {
        self.now().0 < self.horizon.load(Ordering::Acquire)
    }
}

impl Sources for Published {
    fn lease_until(&self) -> BootNs {
        if self.lifecycle.is_stopping() { BootNs(0) } else { Self::lease_until(self) }
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

    fn view(&self) -> impl Deref<Target = Arc<View>> {
        self.shared.view_now()
    }

    fn incarnation(&self) -> impl Deref<Target = Arc<Incarnation>> {
        self.incarnation.load()
    }
}
