//! What a step of the counters depends on: the clock, the lease, the view and this incarnation.

use std::sync::Arc;

use fluxgate_engine::quota::{Context, KeyLimits, Shard};
use fluxgate_engine::state::{Shared, View};
use fluxgate_types::KeyId;

use super::Node;
use super::step::Step;
use super::torn::Moment;

impl Node {
    pub(crate) fn key_limits(&self, key: &KeyId) -> Option<KeyLimits> {
        limits_of(&self.shared, &self.view(), key)
    }

    /// A step of the counters, with everything that it depends on, or with a part of it as it was
    /// earlier.
    pub(super) fn count<R>(
        &mut self,
        at: &mut Step<'_>,
        step: impl FnOnce(&mut Shard, &Context<'_>, &dyn Fn(&KeyId) -> Option<KeyLimits>) -> R,
    ) -> R {
        let shared = Arc::clone(&self.shared);
        let boot = self.boot_now(at.now);
        let newest = Moment {
            at: at.now,
            now: self.member.clock().now(boot),
            horizon: self.member.holder().horizon(),
            view: shared.view(),
            incarnation: Arc::clone(self.member.incarnation()),
        };
        let Moment { now, horizon, view, incarnation, .. } = self.torn.look(newest, at);
        let horizon = horizon.min(self.covered);
        let leased = self.is_leased(at.now);
        let context =
            Context { boot, now, leased, horizon, view: &view, incarnation: &incarnation };
        let find = |key: &KeyId| limits_of(&shared, &view, key);
        step(&mut self.shard, &context, &find)
    }
}

/// What the counters need to know of a key.
fn limits_of(shared: &Shared, view: &View, key: &KeyId) -> Option<KeyLimits> {
    shared.table.with(key, |entry| KeyLimits {
        created: entry.record.created_index,
        specs: Arc::clone(entry.record.limits(&view.defaults)),
    })
}
