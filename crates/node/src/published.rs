//! What requests read without a lock of the member: the lease, the incarnation, cluster time.
//!
//! Answers for: each read returns the newest value that the member published. Must never change
//! one by itself.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::ArcSwap;
use fluxgate_engine::quota::{Incarnation, Sources, covered_by};
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
    // The end of what the last checkpoint of cluster time on disk covers.
    covered: AtomicU64,
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
            // The checkpoint of an earlier incarnation.
            covered: AtomicU64::new(incarnation.reached.0),
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

    /// Publishes that a checkpoint is on the disk, or that the disk rejected one. Call it AFTER the
    /// checkpoint is durable.
    pub(crate) fn publish_checkpoint(&self, saved: Option<ClusterMs>) {
        let covered = saved.map_or(u64::MAX, |at| covered_by(Some(at)).0);
        self.covered.store(covered, Ordering::Release);
    }

    /// Whether the lease is valid at `boot`. Read the clock at the decision itself.
    pub fn is_leased(&self, boot: BootNs) -> bool {
        boot < self.lease_until() && !self.lifecycle.is_stopping()
    }

    pub fn now(&self) -> ClusterMs {
        self.clock.now()
    }

    /// Whether the current window begins before the horizon that a leader last sent, and within what
    /// the last checkpoint covers.
    pub fn may_open_windows(&self) -> bool {
        self.now() < Sources::horizon(self)
    }
}

impl Sources for Published {
    fn lease_until(&self) -> BootNs {
        if self.lifecycle.is_stopping() { BootNs(0) } else { Self::lease_until(self) }
    }

    fn horizon(&self) -> ClusterMs {
        let covered = self.covered.load(Ordering::Acquire);
        ClusterMs(self.horizon.load(Ordering::Acquire).min(covered))
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

#[cfg(test)]
mod tests {
    use fluxgate_engine::state::Registry;
    use fluxgate_types::{BootId, NodeId};

    use super::*;

    #[test]
    fn no_window_is_opened_beyond_what_the_checkpoint_covers() {
        let started = |checkpoint| {
            let boot = BootId(2);
            let incarnation = Incarnation::at_start(NodeId(1), boot, None, checkpoint, &[], 1_000);
            let (clock, shared) = (Arc::new(Clock::new(None)), Registry::default().shared());
            let published = Published::new(clock, shared, Arc::default(), incarnation);
            published.publish_lease(BootNs(1), ClusterMs(90_000));
            published
        };
        let horizon = |published: &Published| Sources::horizon(published);
        assert_eq!(horizon(&started(None)), ClusterMs(0), "nothing is on the disk yet");
        let published = started(Some(ClusterMs(5_000)));
        assert_eq!(horizon(&published), ClusterMs(7_000), "the earlier start's checkpoint");
        published.publish_checkpoint(Some(ClusterMs(30_000)));
        assert_eq!(horizon(&published), ClusterMs(32_000));
        published.publish_checkpoint(None);
        assert_eq!(horizon(&published), ClusterMs(90_000), "the disk rejects checkpoints");
        published.publish_checkpoint(Some(ClusterMs(100_000)));
        assert_eq!(horizon(&published), ClusterMs(90_000), "the leader's horizon counts too");
    }
}
