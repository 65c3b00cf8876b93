//! The inputs of a step, and the order in which it reads them.
//!
//! The order is part of the protocol. A lease and its horizon promise that every share map that may
//! apply before the horizon is in the state, so the view is read AFTER them: with a horizon newer
//! than the view, a window would be opened under the wrong map. The caller holds the lock of the
//! shard while it reads, so that no other step of the shard runs in between.

use std::ops::Deref;
use std::sync::Arc;

use fluxgate_types::{BootNs, ClusterMs, Scope, Subject};

use super::{Context, Incarnation, SubjectLimits, Which};
use crate::state::View;
use crate::state::table::KeyTable;

/// What a node supplies to its steps. Each call returns the newest value.
pub trait Sources {
    /// The lease is valid before this moment of the boot clock.
    fn lease_until(&self) -> BootNs;
    /// Windows that begin at or after this moment may not be opened.
    fn horizon(&self) -> ClusterMs;
    /// The boot clock.
    fn boot(&self) -> BootNs;
    /// Cluster time at a moment of the boot clock.
    fn cluster_at(&self, boot: BootNs) -> ClusterMs;
    /// The small part of the replicated state.
    fn view(&self) -> impl Deref<Target = Arc<View>>;
    /// This incarnation.
    fn incarnation(&self) -> impl Deref<Target = Arc<Incarnation>>;
}

/// Runs a step with everything that it depends on. Call it with the lock of the shard held, and
/// let the step look limits up with the context that it gets.
pub fn with_context<R>(sources: &impl Sources, step: impl FnOnce(&Context<'_>) -> R) -> R {
    let (until, horizon) = (sources.lease_until(), sources.horizon());
    let boot = sources.boot();
    let now = sources.cluster_at(boot);
    let view = sources.view();
    let incarnation = sources.incarnation();
    step(&Context {
        boot,
        now,
        leased: boot < until,
        horizon,
        view: &view,
        incarnation: &incarnation,
    })
}

/// A subject's limits as a look-up outside the lock found them.
#[derive(Clone, Debug)]
pub struct LookedUp {
    /// The limits.
    pub limits: SubjectLimits,
    /// [`KeyTable::revision`] BEFORE the look-up.
    pub revision: Option<u64>,
    /// Which of the subject's limits they are.
    pub which: Which,
}

impl LookedUp {
    /// Whether there are any, and all of them count a request that requires this scope, or none.
    #[must_use]
    pub fn counts_all(&self, required: Option<Scope>) -> bool {
        let specs = &self.limits.specs;
        !specs.is_empty() && specs.iter().all(|spec| spec.limit.counts(required))
    }

    /// Some of them.
    #[must_use]
    pub fn only(self, which: Which) -> Self {
        Self { limits: self.limits.only(which), which, ..self }
    }

    /// The current limits: these if nothing changed since the look-up, otherwise those that `find`
    /// returns. Call it in the step, AFTER all other reads.
    #[must_use]
    pub fn now(
        self,
        table: &KeyTable,
        subject: &Subject,
        find: &dyn Fn(&Subject) -> Option<SubjectLimits>,
    ) -> SubjectLimits {
        let found = if table.is_unchanged(self.revision) { None } else { find(subject) };
        // Counts on with what was looked up if the subject was erased since.
        found.map_or(self.limits, |found| found.only(self.which))
    }
}
