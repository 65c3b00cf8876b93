//! Where a step reads what it depends on, and in which order.
//!
//! The order is part of the protocol. A lease and its horizon promise that every share map that may
//! count before the horizon is applied, so the view is read after them; a horizon that is newer than
//! the view would open a window under a map that is not its own. The caller holds the lock of the
//! shard while it reads: no other step of the shard comes between.

use std::sync::Arc;

use fluxgate_types::{BootNs, ClusterMs, KeyId};

use super::{Context, Incarnation, KeyLimits};
use crate::state::View;
use crate::state::table::KeyTable;

/// What a node offers to its steps. Each answer is the newest at the moment of the call.
pub trait Sources {
    /// The lease is valid before this moment of the boot clock.
    fn lease_until(&self) -> BootNs;
    /// Windows that begin at or after this moment may not be opened.
    fn horizon(&self) -> ClusterMs;
    /// The boot clock.
    fn boot(&self) -> BootNs;
    /// Cluster time at a moment of the boot clock.
    fn cluster_at(&self, boot: BootNs) -> ClusterMs;
    /// The replicated state's small part.
    fn view(&self) -> Arc<View>;
    /// This life.
    fn incarnation(&self) -> Arc<Incarnation>;
}

/// Runs a step with everything that it depends on. Call it with the lock of the shard held, and let
/// the step look limits up by what it is given.
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

/// A key's limits as a look-up outside of the lock found them.
#[derive(Clone, Debug)]
pub struct LookedUp {
    /// The limits.
    pub limits: KeyLimits,
    /// [`KeyTable::revision`] from before the look-up.
    pub revision: Option<u64>,
}

impl LookedUp {
    /// The limits of now: these where nothing changed since they were looked up, else those that
    /// `find` finds. Call it in the step, behind all other reads.
    #[must_use]
    pub fn now(
        &self,
        table: &KeyTable,
        key: &KeyId,
        find: &dyn Fn(&KeyId) -> Option<KeyLimits>,
    ) -> KeyLimits {
        let found = if table.is_unchanged(self.revision) { None } else { find(key) };
        // Keys are never taken out of the table.
        found.unwrap_or_else(|| self.limits.clone())
    }
}
